package audit

import (
	"context"
	"errors"
	"fmt"
	"syscall"

	"offmap/audit/canary"
)

// Target is what an attack is made on: a process, such as the one that runs a
// guest, and the canary that is planted in its memory.
type Target struct {
	PID    int
	Canary canary.Canary
}

// Finding is the result of an attack.
type Finding struct {
	// Pages counts the pages of 4 KiB in which the attack found the canary. A
	// slow attack stops after a few.
	Pages int
	// Bytes is how much of the target's memory it read and searched.
	Bytes int64
	// Errno is the first refusal by the kernel, 0 if there was none.
	Errno syscall.Errno
	// Detail says more, for people; it may be empty.
	Detail string
}

// refused keeps the first refusal.
func (f *Finding) refused(err error) {
	if errno := syscall.Errno(0); f.Errno == 0 && errors.As(err, &errno) {
		f.Errno = errno
	}
}

// ErrUnavailable matches the error of an attack that can't be made on this host,
// whatever the target: the kernel lacks the feature, there is no swap, the
// caller lacks the right. The error is a *canary.UnavailableError.
var ErrUnavailable = canary.ErrUnavailable

func unavailable(format string, args ...any) error {
	return &canary.UnavailableError{Reason: fmt.Errorf(format, args...)}
}

// ErrInapplicable matches the error of an attack that has nothing to work on in
// this target: no file of the VMM's is guest RAM, say.
var ErrInapplicable = errors.New("not for this guest")

// Moment is a moment at which all RAM is searched for the canary.
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
// With Scan it is a search of all RAM through the direct map, which Run makes
// for many guests at once. With Attack it is an attack on one process. Attack
// reports what it found and doesn't judge it: a refusal by the kernel is a
// Finding and not an error.
type Avenue struct {
	Name  string
	About string // what is done, one line for people
	// Owner says that the attack uses the VMM's own rights to its memory. No
	// backend withstands that.
	Owner bool
	// Ends says that the attack ends the process.
	Ends bool
	// Flags are further flags of offmap run, for the process that an attack ends.
	Flags []string
	// Halts says that all processes and devices of the host stop for about a
	// second.
	Halts bool

	Scan   Moment
	Attack func(context.Context, Target) (Finding, error)
}

// Lookup returns the avenue of that name.
func Lookup(name string) (Avenue, error) {
	for _, a := range Avenues() {
		if a.Name == name {
			return a, nil
		}
	}
	return Avenue{}, fmt.Errorf("no avenue %q", name)
}

// Avenues returns all avenues, in the order in which they are shown.
func Avenues() []Avenue {
	return []Avenue{
		directMap, residueExit, residueKill, residueReset,
		processVM,
		procMem, ptracePeek, procFD, fdTheft,
		devMem, kernelRead, userRead, swap, ksm, migration, hibernation, vhost,
		directIO, vmsplice, ioUring, zerocopy, futex, forkChild, ptraceSyscall, coreDump,
	}
}
