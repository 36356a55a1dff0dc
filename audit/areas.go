package audit

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"offmap/audit/canary"
	"offmap/memory"
)

// area is a mapping of a process, proc_pid_maps(5).
type area struct {
	Start, End uint64
	Perms      string // such as rw-s
	Path       string // what is mapped; empty for anonymous memory
}

// Size is its length in bytes.
func (a area) Size() uint64 { return a.End - a.Start }

// areas lists the mappings of the target that can hold guest RAM or a copy of
// it: those that it can read and write. It leaves out mappings larger than the
// host's RAM, which only reserve address space, as a sanitizer's do.
func (t Target) areas() ([]area, error) {
	f, err := os.Open(fmt.Sprintf("/proc/%d/maps", t.PID))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	areas, err := parseAreas(f)
	if err != nil {
		return nil, err
	}
	info, err := memory.ReadMeminfo()
	return slices.DeleteFunc(areas, func(a area) bool { return a.Size() > info["MemTotal"] }), err
}

func parseAreas(r io.Reader) ([]area, error) {
	var areas []area
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		var a area
		var offset, device, inode string
		line := lines.Text()
		n, err := fmt.Sscanf(line, "%x-%x %s %s %s %s", &a.Start, &a.End, &a.Perms, &offset, &device, &inode)
		if n < 6 || a.Start >= a.End || (a.Start|a.End)%pageSize != 0 {
			return nil, fmt.Errorf("line %q of a process's maps: %v", line, err)
		}
		// The path follows the five fields; it may have spaces.
		path := line
		for range 5 {
			_, path, _ = strings.Cut(strings.TrimLeft(path, " "), " ")
		}
		a.Path = strings.TrimSpace(path)
		if strings.HasPrefix(a.Perms, "rw") {
			areas = append(areas, a)
		}
	}
	return areas, lines.Err()
}

const pageSize = 4096

// reader reads the target's memory at addr into p. It returns how many bytes it
// read, with an error if they are fewer than p has.
type reader func(p []byte, addr uint64) (int, error)

// sweep searches all areas of the target for its canary, up to chunk bytes (a
// multiple of the page size) at a time. It steps over memory that the kernel
// refuses, in steps that grow to a chunk: the kernel refuses mappings, not pages.
func (t Target) sweep(ctx context.Context, chunk int, read reader) (Finding, error) {
	areas, err := t.areas()
	if err != nil {
		return Finding{}, err
	}
	var f Finding
	// Canaries never cross pages, and neither do chunks.
	buf := make([]byte, chunk)
	defer clear(buf)
	for _, a := range areas {
		skip := uint64(pageSize)
		for addr := a.Start; addr < a.End; {
			if err := ctx.Err(); err != nil {
				return f, err
			}
			p := buf[:min(uint64(chunk), a.End-addr)]
			n, err := read(p, addr)
			n = max(n, 0) &^ (pageSize - 1) // system calls say -1
			f.look(&t.Canary, p[:n])
			addr += uint64(n)
			if n > 0 {
				skip = pageSize
			}
			if n == len(p) {
				continue
			}
			if err != nil && !refusal(err) {
				return f, err
			}
			f.refused(err)
			addr += skip
			skip = min(2*skip, uint64(chunk))
		}
	}
	return f, nil
}

// refusal reports whether an error is a refusal of this memory. Other errors say
// nothing of the memory: no right to attack this process, a file that is full, a
// thread that has ended.
func refusal(err error) bool {
	errno := syscall.Errno(0)
	return errors.As(err, &errno) && slices.Contains([]syscall.Errno{unix.EFAULT, unix.EIO, unix.ENXIO, unix.EINVAL, unix.EOPNOTSUPP}, errno)
}

// look searches whole pages that an attack read, and counts those with the
// canary.
func (f *Finding) look(c *canary.Canary, p []byte) {
	last := -1
	for _, at := range c.Find(p, nil) {
		if page := at / pageSize; page != last {
			f.Pages++
			last = page
		}
	}
	f.Bytes += int64(len(p))
}
