package audit

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// devMem reads guest RAM by its physical addresses.
var devMem = Avenue{
	Name: "dev-mem", Attack: attackDevMem,
	About: "finds the page frames of guest RAM in /proc/PID/pagemap and reads them through /dev/mem, by read(2) and mmap(2)",
}

const devMemPath = "/dev/mem"

func attackDevMem(ctx context.Context, t Target) (Finding, error) {
	f, err := os.Open(devMemPath)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return Finding{}, unavailable("there is no /dev/mem: this kernel is built without CONFIG_DEVMEM, or /dev lacks it")
	case errors.Is(err, unix.EACCES):
		return Finding{}, unavailable("%v: run as root", err)
	case errors.Is(err, unix.EPERM):
		return Finding{}, unavailable("%v: needs CAP_SYS_RAWIO and a kernel that isn't locked down", err)
	case err != nil:
		return Finding{}, err
	}
	defer f.Close()
	frames, err := t.physical(ctx)
	if err != nil {
		return Finding{}, err
	}
	var found Finding
	buf := make([]byte, pageSize)
	defer clear(buf)
	for _, frame := range frames {
		if err := ctx.Err(); err != nil {
			return found, err
		}
		err := readFrame(f, frame, buf, func(p []byte) { found.look(&t.Canary, p) })
		if err != nil {
			found.refused(err)
		}
	}
	if found.Bytes == 0 && found.Errno == unix.EPERM {
		if err := ownPage(func(frame uint64, _ []byte) error { return readFrame(f, frame, buf, func([]byte) {}) }); errors.Is(err, unix.EPERM) {
			return found, unavailable("/dev/mem gives no RAM away, not even this process's own: CONFIG_STRICT_DEVMEM")
		}
	}
	return found, nil
}

// readFrame hands the content of a page frame to use: by read(2), or else by
// mmap(2), which needs no direct map.
func readFrame(devMem *os.File, frame uint64, buf []byte, use func([]byte)) error {
	addr := int64(frame * pageSize)
	n, err := devMem.ReadAt(buf, addr)
	if n == pageSize {
		use(buf)
		return nil
	}
	mem, mapErr := unix.Mmap(int(devMem.Fd()), addr, pageSize, unix.PROT_READ, unix.MAP_SHARED)
	if mapErr != nil {
		return fmt.Errorf("%w; mmap: %w", err, mapErr)
	}
	defer unix.Munmap(mem)
	return guarded(func() { use(mem) })
}

// physical lists the page frames of the target's memory. What the kernel was
// booted without has none that it shows: where the VMM has it from /dev/mem,
// its mappings say what physical addresses it has.
func (t Target) physical(ctx context.Context) ([]uint64, error) {
	frames, err := t.frames(ctx)
	if err != nil {
		return nil, err
	}
	mappings, err := t.mappingsOf(devMemPath)
	if err != nil {
		return nil, err
	}
	list := distinct(frames)
	for _, m := range mappings {
		for at := uint64(m.offset); at < uint64(m.offset)+m.end-m.start; at += pageSize {
			list = append(list, at/pageSize)
		}
	}
	return list, nil
}
