package audit

import (
	"context"
	"errors"
	"fmt"
	"syscall"

	"offmap/audit/canary"
)

// Target is a guest under attack: the process that runs it, and the canary
// that the guest planted in its RAM.
type Target struct {
	PID    int
	Canary canary.Canary
}

// Finding is what an attack brought to light.
type Finding struct {
	// Pages is in how many 4 KiB pages of what the attack got it found the
	// canary. An attack that is slow may stop after a few.
	Pages int
	// Bytes is how much memory of the target's it got to see and searched.
	Bytes int64
	// Errno is the first refusal by the kernel, 0 if there was none.
	Errno syscall.Errno
	// Detail is what else there is to say, half a sentence for people.
	Detail string
}

// refused keeps the first refusal.
func (f *Finding) refused(err error) {
	if errno := syscall.Errno(0); f.Errno == 0 && errors.As(err, &errno) {
		f.Errno = errno
	}
}

// ErrUnavailable is what an attack wraps that can't be made on this host,
// whatever the target: a kernel without the feature, no swap, no right.
var ErrUnavailable = canary.ErrUnavailable

// unavailable makes such an error, in words for people.
func unavailable(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrUnavailable, fmt.Sprintf(format, args...))
}

// ErrInapplicable is what an attack wraps that has nothing to attack in this
// guest, though it may have in others: no file of the VMM's that is guest RAM.
var ErrInapplicable = errors.New("not for this guest")

// Moment is when all of RAM is searched for the canary.
type Moment int

// The moments. At all but the first, the guest's process is gone.
const (
	Never      Moment = iota
	Alive             // while the guest runs
	AfterExit         // when the VMM has ended in its own way
	AfterKill         // when it was killed
	AfterReset        // when the guest reset itself, and the VMM ended for it
)

// Avenue is one way by which a host could read a guest's RAM.
//
// It is either a search of all RAM through the direct map at some moment,
// which one scan makes for many guests at once, or an attack on the process
// that runs the guest. An attack says what it found and never what that means:
// a refusal by the kernel is a Finding, and means something only if the same
// attack reads another guest's ordinary memory.
type Avenue struct {
	Name  string
	About string // what is done, one line for people
	// Owner says that it takes the VMM's own rights to its memory, or code
	// that runs in its place. No backend is proof against its owner.
	Owner bool
	// Ends says that the attack ends the process.
	Ends bool
	// Halts says that all of the host stands still for about a second.
	Halts bool

	Scan   Moment
	Attack func(context.Context, Target) (Finding, error)
}

// Avenues returns all of them, in the order in which they are shown.
func Avenues() []Avenue {
	return []Avenue{
		directMap, residueExit, residueKill, residueReset,
		processVM,
		procMem, ptracePeek, procFD, fdTheft,
		devMem, kernelRead, userRead, swap, ksm, migration, hibernation, vhost,
		directIO, vmsplice, ioUring, zerocopy, futex, forkChild, ptraceSyscall, coreDump,
	}
}
