// Package trim gives memory back that only the start of a program needed.
package trim

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// Program returns a function that unmaps the code and the constants of this program. What
// the program still needs comes back, page by page, from the page cache or from the
// program's file. The rest was needed for the start only, and counted as this process's
// resident memory. Program itself reads /proc, which the function doesn't.
func Program() (unmap func() error, err error) {
	exe, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return nil, err
	}
	smaps, err := os.Open("/proc/self/smaps")
	if err != nil {
		return nil, err
	}
	defer smaps.Close()
	ranges, err := clean(smaps, exe)
	if err != nil {
		return nil, fmt.Errorf("/proc/self/smaps: %w", err)
	}
	return func() error {
		for _, r := range ranges {
			if _, _, errno := unix.Syscall(unix.SYS_MADVISE, r.start, r.end-r.start, unix.MADV_DONTNEED); errno != 0 {
				return fmt.Errorf("madvise MADV_DONTNEED: %w", errno)
			}
		}
		return nil
	}, nil
}

// span is a range of addresses.
type span struct{ start, end uintptr }

// clean returns the mappings of the file exe in smaps (proc_pid_smaps(5)) that can't be
// written and have no page that differs from the file. A dynamic linker and a debugger
// make such pages, and they would be lost.
func clean(smaps io.Reader, exe string) (ranges []span, err error) {
	lines := bufio.NewScanner(smaps)
	var now span
	ours, seen := false, false // is this a mapping that could be given back, was there one of exe
	for lines.Scan() {
		line := lines.Text()
		var next span
		var perms string
		if n, _ := fmt.Sscanf(line, "%x-%x %s", &next.start, &next.end, &perms); n == 3 {
			now = next
			of := strings.HasSuffix(line, " "+exe)
			if seen && !of {
				break // the kernel makes the rest only if somebody reads it
			}
			seen = seen || of
			ours = of && !strings.Contains(perms, "w")
		}
		if kib, ok := strings.CutPrefix(line, "Anonymous:"); ok && ours && strings.TrimSpace(kib) == "0 kB" {
			ranges = append(ranges, now)
		}
	}
	if err := lines.Err(); err != nil {
		return nil, err
	}
	if !seen {
		return nil, errors.New("no mapping of the program's file")
	}
	return ranges, nil
}
