package memory

import (
	"errors"
	"fmt"
	"offmap/internal/process/unavailable"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// KeepMemlock has New leave RLIMIT_MEMLOCK to the caller, and fail with ErrMemlock
// where it is too low. It is set before New is called.
var KeepMemlock bool

// ErrMemlock is wrapped by New's error if RLIMIT_MEMLOCK is too low and New can't
// raise it.
var ErrMemlock error = unavailable.New("RLIMIT_MEMLOCK is too low", "a higher RLIMIT_MEMLOCK")

// raiseMemlock makes room for size more bytes of secret memory in this process's
// RLIMIT_MEMLOCK. All processes of the user share the charge, so that a limit of
// just size would not do beside another guest: it raises the limit as far as it
// may, and does not lower it again.
func raiseMemlock(size uint64) error {
	var lim unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_MEMLOCK, &lim); err != nil {
		return fmt.Errorf("getrlimit RLIMIT_MEMLOCK: %w", err)
	}
	if lim.Cur == unix.RLIM_INFINITY {
		return nil
	}
	if !KeepMemlock {
		// Raising the hard limit takes CAP_SYS_RESOURCE; without it the soft
		// limit may still go up to the hard one.
		unlimited := unix.Rlimit{Cur: unix.RLIM_INFINITY, Max: unix.RLIM_INFINITY}
		if unix.Setrlimit(unix.RLIMIT_MEMLOCK, &unlimited) == nil {
			return nil
		}
		lim.Cur = lim.Max
		if err := unix.Setrlimit(unix.RLIMIT_MEMLOCK, &lim); err != nil {
			return fmt.Errorf("setrlimit RLIMIT_MEMLOCK to %d: %w", lim.Max, err)
		}
	}
	if lim.Cur >= size {
		return nil
	}
	if charged, err := chargedAtTouch(lim); err != nil || !charged {
		return err // the kernel checks at mmap, and CAP_IPC_LOCK passes there
	}
	return memlockError(size, lim.Cur)
}

// memlockLimit is the soft limit in bytes.
func memlockLimit() uint64 {
	var lim unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_MEMLOCK, &lim) != nil {
		return 0
	}
	return lim.Cur
}

func memlockError(size, limit uint64) error {
	return fmt.Errorf("%w: secret memory of this size needs %d KiB and the limit is %d KiB: raise it (`ulimit -l %d` as root, memlock in /etc/security/limits.conf, or LimitMEMLOCK= of the service)",
		ErrMemlock, size>>10, limit>>10, size>>10)
}

// touchProbe serializes chargedAtTouch.
var touchProbe sync.Mutex

// chargedAtTouch reports whether this kernel charges a secret page to
// RLIMIT_MEMLOCK when it is touched, CAP_IPC_LOCK or not, instead of when it
// is mapped. Mainline does since 97d34aa65c29 (and stable kernels with it),
// and a touch past the limit is a SIGBUS.
//
// It tries with one page: it sets the soft limit of the process to 0, reads into
// the page with read(2), which fails where a store would raise SIGBUS, and sets
// the limit back. Other threads that lock memory meanwhile may be refused.
func chargedAtTouch(lim unix.Rlimit) (bool, error) {
	touchProbe.Lock()
	defer touchProbe.Unlock()
	page, err := MapSecret(PageSize)
	if errors.Is(err, unix.EAGAIN) {
		return false, nil // it checks when it maps, and this process may have none
	}
	if err != nil {
		return false, err
	}
	defer unix.Munmap(page)
	zero, err := unix.Open("/dev/zero", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return false, &os.PathError{Op: "open", Path: "/dev/zero", Err: err}
	}
	defer unix.Close(zero)

	none := unix.Rlimit{Cur: 0, Max: lim.Max}
	if err := unix.Setrlimit(unix.RLIMIT_MEMLOCK, &none); err != nil {
		return false, fmt.Errorf("setrlimit RLIMIT_MEMLOCK to 0: %w", err)
	}
	_, touch := unix.Read(zero, page)
	if err := unix.Setrlimit(unix.RLIMIT_MEMLOCK, &lim); err != nil {
		return false, fmt.Errorf("setrlimit RLIMIT_MEMLOCK to %d: %w", lim.Cur, err)
	}
	return touch != nil, nil
}

// ErrTooLarge is wrapped by New's error if the host hasn't got that much memory.
var ErrTooLarge error = unavailable.New("more memory than this host has", "more free memory")

// Fields of /proc/meminfo that limit a size: all RAM, or for memory that can't be
// swapped what is available now (Documentation/filesystems/proc.rst).
const (
	memTotal     = "MemTotal"
	memAvailable = "MemAvailable"
)

// checkHost refuses a size that the host can't hold. It reserves nothing: it is
// there for a clear error. A buffer of up to 1 MiB isn't worth reading a file for, which a
// VMM can't do any more while its guest runs.
func checkHost(size uint64, b backend) error {
	if b.room == "" || size <= 1<<20 {
		return nil
	}
	info, err := ReadMeminfo()
	if err != nil {
		return nil // without /proc, the kernel refuses later
	}
	what := "RAM"
	if b.room == memAvailable {
		what = fmt.Sprintf("RAM available, and %s memory can't be swapped", b.name)
	}
	have, ok := info[b.room]
	if ok && size > have {
		return fmt.Errorf("%w: %d MiB wanted, %d MiB of %s", ErrTooLarge, size>>20, have>>20, what)
	}
	return nil
}
