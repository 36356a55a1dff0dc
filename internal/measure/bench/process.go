package bench

import (
	"bufio"
	"fmt"
	"io"
	"math"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// cpuTime returns the CPU time of all threads of a process, guest code included.
func cpuTime(pid int) (time.Duration, error) {
	// As clock_getcpuclockid(3): CPUCLOCK_SCHED of a process ID.
	const sched = 2
	var ts unix.Timespec
	if err := unix.ClockGettime(int32(^pid<<3|sched), &ts); err != nil {
		return 0, fmt.Errorf("clock_gettime of the CPU time of process %d: %w", pid, err)
	}
	return time.Duration(ts.Nano()), nil
}

// resident returns the resident memory of a process in bytes, without its mappings
// of size bytes and more, or NaN if that can't be read. Those mappings are guest RAM:
// a Go program of this size has no resident ones of its own that are as large.
func resident(pid int, size uint64) float64 {
	f, err := os.Open("/proc/" + strconv.Itoa(pid) + "/smaps")
	if err != nil {
		return math.NaN()
	}
	defer f.Close()
	n, err := sumResident(f, size)
	if err != nil {
		return math.NaN()
	}
	return float64(n)
}

// sumResident returns the sum of Rss in bytes of the mappings smaller than size in
// the text of /proc/PID/smaps, proc_pid_smaps(5).
func sumResident(smaps io.Reader, size uint64) (sum uint64, err error) {
	var small bool
	lines := bufio.NewScanner(smaps)
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) == 0 {
			continue
		}
		if !strings.HasSuffix(fields[0], ":") { // START-END PERMISSIONS...
			from, to, _ := strings.Cut(fields[0], "-")
			start, err1 := strconv.ParseUint(from, 16, 64)
			end, err2 := strconv.ParseUint(to, 16, 64)
			if err1 != nil || err2 != nil || end < start {
				return 0, fmt.Errorf("smaps: no mapping: %q", lines.Text())
			}
			small = end-start < size
			continue
		}
		if fields[0] != "Rss:" || !small {
			continue
		}
		if len(fields) != 3 || fields[2] != "kB" {
			return 0, fmt.Errorf("smaps: no size: %q", lines.Text())
		}
		kib, err := strconv.ParseUint(fields[1], 10, 54)
		if err != nil {
			return 0, fmt.Errorf("smaps: no size: %q", lines.Text())
		}
		sum += kib << 10
	}
	return sum, lines.Err()
}
