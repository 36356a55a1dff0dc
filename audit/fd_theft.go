package audit

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"offmap/audit/inject"
	"offmap/internal/process/sandbox"
)

// fdTheft takes the VMM's file descriptors.
var fdTheft = Avenue{
	Name: "fd-theft", Attack: attackFDTheft, Owner: true,
	About: "takes every open file of the VMM's with pidfd_getfd(2), maps and searches it",
}

func attackFDTheft(ctx context.Context, t Target) (Finding, error) {
	l := loot{target: t}
	err := t.stealAll(func(name string, fd int) error {
		return l.search(ctx, name, fd)
	})
	return l.finding(err)
}

// orDenied turns the error of a caller who may not attack the process into one
// that matches ErrUnavailable. ENOSYS is a seccomp filter's: every kernel that runs
// guests has these calls.
func orDenied(err error) error {
	if errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES) || errors.Is(err, unix.ENOSYS) || errors.Is(err, inject.ErrRefused) {
		return unavailable("%v: run as root, where kernel.yama.ptrace_scope allows it", sandbox.Suspect("the call", err))
	}
	return err
}

// stealAll hands every open file of the target to use, which must not keep it.
func (t Target) stealAll(use func(name string, fd int) error) error {
	files, err := t.openFiles()
	if err != nil {
		return err
	}
	pidfd, err := unix.PidfdOpen(t.PID, 0)
	if err != nil {
		return fmt.Errorf("pidfd_open of %d: %w", t.PID, err)
	}
	defer unix.Close(pidfd)
	for _, f := range files {
		fd, err := unix.PidfdGetfd(pidfd, f.fd, 0)
		if errors.Is(err, unix.EBADF) { // closed meanwhile
			continue
		}
		if err != nil {
			return orDenied(fmt.Errorf("pidfd_getfd of file %d of %d: %w", f.fd, t.PID, err))
		}
		err = use(f.name, fd)
		unix.Close(fd)
		if err != nil {
			return err
		}
	}
	return nil
}

// openFile is an open file of a process, with what /proc/PID/fd links it to.
type openFile struct {
	fd   int
	name string
}

func (t Target) openFiles() ([]openFile, error) {
	dir := fmt.Sprintf("/proc/%d/fd", t.PID)
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, orDenied(err)
	}
	var files []openFile
	for _, e := range entries {
		fd, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		if name, err := os.Readlink(filepath.Join(dir, e.Name())); err == nil {
			files = append(files, openFile{fd, name})
		}
	}
	return files, nil
}

// loot collects what is found in another process's files.
type loot struct {
	target Target
	found  Finding
	seen   []inode  // files that were searched
	from   []string // names of those with the canary
	denied []string // of those that can't be mapped, though they hold memory
	memory bool     // one of them may be guest RAM
}

type inode struct{ dev, ino uint64 }

// search maps a file and looks for the canary in those of its pages that are in
// memory: reading another page would populate it.
func (l *loot) search(ctx context.Context, name string, fd int) error {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return fmt.Errorf("fstat of the VMM's %s: %w", name, err)
	}
	regular, device := st.Mode&unix.S_IFMT == unix.S_IFREG && st.Size > 0, holdsMemory(name)
	if id := (inode{st.Dev, st.Ino}); regular {
		if slices.Contains(l.seen, id) {
			return nil
		}
		l.seen = append(l.seen, id)
	} else if !device {
		return nil
	}
	l.memory = l.memory || isMemory(name) || name == "/dev/offmap" || name == "/dev/mem"
	before := l.found.Pages
	var err error
	if regular {
		err = l.searchFile(ctx, fd, st.Size)
	} else {
		err = l.searchDevice(ctx, name, fd)
	}
	if l.found.Pages > before {
		l.from = append(l.from, name)
	}
	if errno := unix.Errno(0); errors.As(err, &errno) {
		l.found.refused(errno)
		l.denied = append(l.denied, fmt.Sprintf("%s (%s)", name, unix.ErrnoName(errno)))
		return nil
	}
	return err
}

// holdsMemory reports whether a mapping of a file without a size may show guest
// RAM, or data of the guest's.
func holdsMemory(name string) bool {
	return name == "/dev/offmap" || name == "/dev/mem" || strings.HasPrefix(name, "anon_inode:kvm-vcpu:")
}

// mapAtOnce is how much of a file is mapped at a time, in bytes.
const mapAtOnce = 64 << 20

func (l *loot) searchFile(ctx context.Context, fd int, size int64) error {
	resident := make([]byte, mapAtOnce/pageSize)
	for off := int64(0); off < size; off += mapAtOnce {
		if err := ctx.Err(); err != nil {
			return err
		}
		mem, err := unix.Mmap(fd, off, int(min(mapAtOnce, wholePages(size-off))), unix.PROT_READ, unix.MAP_SHARED)
		if err != nil {
			return fmt.Errorf("mmap: %w", err)
		}
		if isHuge(fd) { // set aside for the guest, whether it has touched them or not
			err = l.look(mem)
		} else {
			err = eachResident(mem, resident, l.look)
		}
		unix.Munmap(mem)
		if err != nil {
			return err
		}
	}
	return nil
}

// searchDevice searches mappings of a device: at the offsets at which the VMM has
// it mapped, or else the first page.
func (l *loot) searchDevice(ctx context.Context, name string, fd int) error {
	mappings, err := l.target.mappingsOf(name)
	if err != nil {
		return err
	}
	if len(mappings) == 0 {
		mappings = []fileMapping{{end: pageSize}}
	}
	for _, m := range mappings {
		mem, err := unix.Mmap(fd, m.offset, int(m.end-m.start), unix.PROT_READ, unix.MAP_SHARED)
		if err != nil {
			return fmt.Errorf("mmap: %w", err)
		}
		for p := range slices.Chunk(mem, 1<<20) {
			if err = errors.Join(ctx.Err(), l.look(p)); err != nil {
				break
			}
		}
		unix.Munmap(mem)
		if err != nil {
			return err
		}
	}
	return nil
}

// look searches mapped pages in place. A page that raises SIGBUS is EFAULT.
func (l *loot) look(p []byte) error {
	return guarded(func() { l.found.look(&l.target.Canary, p) })
}

// finding returns the result. Its error is err, or ErrInapplicable if there was
// nothing to search.
func (l *loot) finding(err error) (Finding, error) {
	f := l.found
	var say []string
	if len(l.from) > 0 {
		say = append(say, "found in "+list(l.from))
	}
	if len(l.denied) > 0 {
		say = append(say, "refused: "+list(l.denied))
	}
	f.Detail = strings.Join(say, "; ")
	if err == nil && !l.memory {
		err = fmt.Errorf("%w: no file of the VMM's is guest RAM", ErrInapplicable)
	}
	return f, err
}

// list joins names, each once.
func list(names []string) string {
	var once []string
	for _, n := range names {
		n = strings.TrimSuffix(n, " (deleted)")
		if !slices.Contains(once, n) {
			once = append(once, n)
		}
	}
	return strings.Join(once, ", ")
}
