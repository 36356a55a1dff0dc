package audit

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"offmap/audit/inject"
	"offmap/memory"
)

// directIO has a disk's driver read guest RAM: a write with O_DIRECT hands it the
// pages themselves.
var directIO = Avenue{
	Name: "o-direct", Attack: attackDirectIO,
	About: "has the VMM write(2) its memory with O_DIRECT to a file that the attacker reads",
}

func attackDirectIO(ctx context.Context, t Target) (Finding, error) {
	d, err := openDirect()
	if err != nil {
		return Finding{}, err
	}
	defer d.close()
	f, err := t.inject(ctx, func(th *inject.Thread) (Finding, error) {
		theirs, err := th.Give(d.fd)
		if err != nil {
			return Finding{}, err
		}
		return t.sweep(ctx, directSize, func(p []byte, addr uint64) (int, error) {
			n, err := th.Call(unix.SYS_PWRITE64, uint64(theirs), addr, uint64(len(p)), 0)
			if err != nil {
				return 0, err
			}
			return d.read(p[:n])
		})
	})
	f.Detail = "a file in " + d.dir
	return f, err
}

// directFile is a file without a name on a file system that writes straight from
// the writer's pages.
type directFile struct {
	dir string
	fd  int    // O_DIRECT
	buf []byte // aligned, as reading takes
}

// directSize is its size in bytes, and the size of the largest write.
const directSize = 1 << 20

// openDirect finds a place for it.
func openDirect() (*directFile, error) {
	var reasons []string
	for _, dir := range directPlaces() {
		d, err := directIn(dir)
		if err == nil {
			return d, nil
		}
		reasons = append(reasons, fmt.Sprintf("%s: %v", dir, err))
	}
	return nil, unavailable("no file system that writes straight from a program's pages: %s (set TMPDIR to a directory on a disk)", strings.Join(reasons, "; "))
}

func directPlaces() []string {
	places := []string{os.TempDir(), "/var/tmp"}
	if cwd, err := os.Getwd(); err == nil {
		places = append(places, cwd)
	}
	slices.Sort(places)
	return slices.Compact(places)
}

func directIn(dir string) (_ *directFile, err error) {
	named, err := os.CreateTemp(dir, "offmap-audit-")
	if err != nil {
		return nil, err
	}
	defer named.Close()
	if err := os.Remove(named.Name()); err != nil {
		return nil, err
	}
	fd, err := unix.FcntlInt(named.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("fcntl F_DUPFD_CLOEXEC: %w", err)
	}
	d := &directFile{dir: dir, fd: fd}
	defer func() {
		if err != nil {
			d.close()
		}
	}()
	// Not when it is opened: a FUSE server would then open its file with O_DIRECT
	// too, and may not have aligned buffers.
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_SETFL, unix.O_DIRECT); err != nil {
		return nil, fmt.Errorf("fcntl F_SETFL to O_DIRECT: %w", err)
	}
	d.buf, err = unix.Mmap(-1, 0, directSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return nil, fmt.Errorf("mmap of a buffer: %w", err)
	}
	if err := d.zero(); err != nil {
		return nil, err
	}
	return d, d.probe()
}

// probe returns an error if the file system accepts O_DIRECT and copies all the
// same, as tmpfs does: there a success says nothing of direct I/O. Secret memory
// tells: the kernel can copy from it, and not do direct I/O from it.
func (d *directFile) probe() error {
	page, err := secretPage()
	if err != nil {
		return fmt.Errorf("can't be told from a copy: %w", err)
	}
	defer unix.Munmap(page)
	_, err = unix.Pwrite(d.fd, page, 0)
	if err == nil {
		return errors.New("it copies")
	}
	if err != unix.EFAULT {
		return fmt.Errorf("write: %w", err)
	}
	return nil
}

// secretPage maps a page of secret memory and touches it. It lifts RLIMIT_MEMLOCK
// for that, which a guest's RAM may have used up.
func secretPage() (_ []byte, err error) {
	var old unix.Rlimit
	if err := unix.Prlimit(0, unix.RLIMIT_MEMLOCK, &unix.Rlimit{Cur: unix.RLIM_INFINITY, Max: unix.RLIM_INFINITY}, &old); err == nil {
		defer unix.Prlimit(0, unix.RLIMIT_MEMLOCK, &old, nil)
	}
	page, err := memory.MapSecret(pageSize)
	if err != nil {
		return nil, err
	}
	null, err := unix.MemfdCreate("offmap-audit", unix.MFD_CLOEXEC)
	if err == nil {
		_, err = unix.Write(null, page) // touches it, in the kernel, where that can fail
		unix.Close(null)
	}
	if err != nil {
		unix.Munmap(page)
		return nil, fmt.Errorf("write of secret memory: %w", err)
	}
	return page, nil
}

// read reads the start of the file into p, whole pages, without the page cache,
// in which a copy would stay.
func (d *directFile) read(p []byte) (int, error) {
	n, err := unix.Pread(d.fd, d.buf[:len(p)], 0)
	if err != nil {
		return 0, fmt.Errorf("read of a file in %s: %w", d.dir, err)
	}
	return copy(p, d.buf[:n]), nil
}

// zero overwrites the file and the buffer.
func (d *directFile) zero() error {
	clear(d.buf)
	if _, err := unix.Pwrite(d.fd, d.buf, 0); err != nil {
		return fmt.Errorf("write with O_DIRECT: %w", err)
	}
	return nil
}

func (d *directFile) close() {
	if d.buf != nil {
		d.zero()
		unix.Munmap(d.buf)
	}
	unix.Close(d.fd)
}
