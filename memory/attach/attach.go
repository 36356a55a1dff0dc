package attach

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"offmap/kvm"
	"offmap/memory"
)

// Rejection is an attach that was not used, and why. Reason also says what to do, if
// anything can be done.
type Rejection struct {
	Attach Method `json:"attach"`
	Reason string `json:"reason"`
	Err    error  `json:"-"` // what Reason is made of, if it was an error
}

// RefusedError is Open's error if no attach that may be used works. It
// is memory.ErrUnavailable, and wraps the errors of all rejections.
type RefusedError struct {
	Backend  memory.Backend
	Rejected []Rejection
}

func (e *RefusedError) Error() string {
	var why strings.Builder
	for _, r := range e.Rejected {
		fmt.Fprintf(&why, "\n  %s: %s", r.Attach, r.Reason)
	}
	return fmt.Sprintf("backend %s: this host can't run a guest this way:%s", e.Backend, why.String())
}

// Is reports that every RefusedError is memory.ErrUnavailable.
func (e *RefusedError) Is(target error) bool { return target == memory.ErrUnavailable }

// Unwrap returns the errors of the rejections.
func (e *RefusedError) Unwrap() []error {
	var errs []error
	for _, r := range e.Rejected {
		if r.Err != nil {
			errs = append(errs, r.Err)
		}
	}
	return errs
}

// Options are for attaches that can be set up.
type Options struct {
	// Window is the most guest RAM in bytes that ViaWindow may have in
	// ordinary frames at a time, whole pages; 0 is DefaultWindow.
	Window uint64
	// WindowAge, if not 0, is for how long a page stays there unused.
	WindowAge time.Duration
	// CPUs is the number of vCPUs.
	CPUs int
}

// Attachment is RAM that is in the slots of a VM, or is ready to be put there.
type Attachment struct {
	Method   Method
	Rejected []Rejection // the stronger attaches that don't work here
	via      attachment
}

// attachment is RAM as one attach holds it: direct, bridge or windowed. The
// methods are as those of Attachment.
type attachment interface {
	slots() []kvm.Slot
	guest() memory.Guest
	usage() (Usage, error)
	// residency also returns the most bytes that were ever exposed, or 0.
	residency(pages []memory.PageState) (peak uint64, err error)
	faults() *Faults
	Failed() <-chan struct{}
	Err() error
	Close() error
}

// Slots returns the memory slots of the VM, one for each region of RAM.
func (a *Attachment) Slots() []kvm.Slot { return a.via.slots() }

// Guest returns guest RAM for devices and loaders to use while it is attached.
func (a *Attachment) Guest() memory.Guest { return a.via.guest() }

// Usage returns how much of guest RAM is populated and exposed now.
func (a *Attachment) Usage() (Usage, error) { return a.via.usage() }

// Faults returns what the window's pager has answered, and nil for an attach
// without a pager.
func (a *Attachment) Faults() *Faults { return a.via.faults() }

// Failed returns a channel that is closed once the attach can't serve the guest
// any more. It is nil where that can't happen.
func (a *Attachment) Failed() <-chan struct{} { return a.via.Failed() }

// Err returns why the attach failed, or nil.
func (a *Attachment) Err() error { return a.via.Err() }

// Close frees what the attach holds, but not the RAM. The caller has closed the
// VM and its vCPUs before.
func (a *Attachment) Close() error { return a.via.Close() }

// Open chooses how ram gets into KVM and prepares it: want itself, or with
// Auto the strongest attach that works here. It tries direct on a VM of its
// own, so that a refusal comes before any guest runs; the error of a refusal
// is a *RefusedError. A secret backend is never replaced by an ordinary one.
func Open(sys *kvm.System, ram *memory.RAM, want Method, opts Options) (*Attachment, error) {
	if _, err := ParseMethod(want.String()); err != nil {
		return nil, err
	}
	pairs, err := Pair{ram.Backend(), want}.Pairs()
	if err != nil {
		return nil, &RefusedError{ram.Backend(), []Rejection{{Attach: want, Reason: err.Error(), Err: err}}}
	}
	var rejected []Rejection
	for _, p := range pairs {
		a, err := open(sys, ram, p.Attach, opts)
		if err == nil {
			return &Attachment{p.Attach, rejected, a}, nil
		}
		no, ok := errors.AsType[*refusal](err)
		if !ok {
			return nil, err
		}
		rejected = append(rejected, Rejection{Attach: p.Attach, Reason: no.reason, Err: no.err})
	}
	return nil, &RefusedError{ram.Backend(), rejected}
}

func open(sys *kvm.System, ram *memory.RAM, m Method, opts Options) (attachment, error) {
	switch m {
	case ViaBridge:
		return openBridge(ram)
	case ViaWindow:
		return openWindow(ram, opts)
	}
	return openDirect(sys, ram)
}

// refusal is an attach that can't work here, as against a try that failed.
type refusal struct {
	reason string
	err    error // behind it, or nil
}

func (r *refusal) Error() string { return r.reason }
func (r *refusal) Unwrap() error { return r.err }
