// Package attach puts a backend's pages into KVM's memory slots. How that is
// done is called the attach:
//
//   - Direct: the backend's own mapping is the slot. KVM finds its pages with
//     GUP (get_user_pages), or without it those of a guest_memfd and of
//     PFNMAP mappings such as reserved memory's. Stock KVM refuses secret
//     memory that way, at the guest's first access.
//   - ViaBridge: the slot is a PFNMAP view of the secret pages, made by the
//     kernel module in memory/kmod. KVM follows PFNMAP mappings without GUP.
//   - ViaWindow: the slot is ordinary memory that holds copies of a bounded
//     number of the secret pages at a time. It needs no module; see package
//     window.
//
// Which one works here is found by trying (see probe.go), never from a kernel
// version, and before the guest starts.
package attach

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"offmap/internal/process/undumpable"
	"offmap/kvm"
	"offmap/memory"
	"offmap/memory/attach/window"
)

// Rejection is an attach that was not used, and why. Reason says what to do
// where something can be done.
type Rejection struct {
	Attach Method `json:"attach"`
	Reason string `json:"reason"`
	Err    error  `json:"-"` // what Reason is made of, if it was an error
}

// ErrUnavailable is what Open wraps where this host can't attach the backend
// as asked.
var ErrUnavailable = errors.New("this host can't run a guest this way")

// Unavailable reports whether err says that this host lacks what a guest takes,
// rather than that something went wrong: KVM (kvm.OpenError), the memory (see
// memory.Unavailable), an attach for it (ErrUnavailable), or the means to keep
// others out of its process (undumpable.ErrHost).
func Unavailable(err error) bool {
	_, noKVM := errors.AsType[*kvm.OpenError](err)
	return noKVM || errors.Is(err, ErrUnavailable) || errors.Is(err, undumpable.ErrHost) || memory.Unavailable(err)
}

// RefusedError is Open's answer where no attach that may be used works. It
// wraps ErrUnavailable and the errors of all rejections.
type RefusedError struct {
	Backend  memory.Backend
	Rejected []Rejection
}

func (e *RefusedError) Error() string {
	var why strings.Builder
	for _, r := range e.Rejected {
		fmt.Fprintf(&why, "\n  %s: %s", r.Attach, r.Reason)
	}
	return fmt.Sprintf("backend %s: %v:%s", e.Backend, ErrUnavailable, why.String())
}

// Unwrap is for errors.Is and errors.As.
func (e *RefusedError) Unwrap() []error {
	errs := []error{ErrUnavailable}
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

// Attachment is RAM that is in the slots of a VM.
type Attachment struct {
	Method   Method
	Rejected []Rejection

	ram    *memory.RAM
	view   *Bridge        // of ViaBridge
	window *window.Window // of ViaWindow
}

// Open chooses how ram gets into KVM and prepares it: want itself, or with
// Auto the strongest that works here, in the order of the constants. It tries
// on a machine of its own, so that a refusal comes before any guest runs. A
// secret backend is never replaced by an ordinary one.
func Open(sys *kvm.System, ram *memory.RAM, want Method, opts Options) (*Attachment, error) {
	if _, err := ParseMethod(want.String()); err != nil {
		return nil, err
	}
	a := &Attachment{ram: ram}
	pairs, err := Pair{ram.Backend(), want}.Pairs()
	if err != nil {
		return nil, &RefusedError{ram.Backend(), []Rejection{{Attach: want, Reason: err.Error(), Err: err}}}
	}
	for _, p := range pairs {
		err := a.try(sys, p.Attach, opts)
		if err == nil {
			a.Method = p.Attach
			return a, nil
		}
		var no *refusal
		if !errors.As(err, &no) {
			return nil, err
		}
		a.Rejected = append(a.Rejected, Rejection{Attach: p.Attach, Reason: no.reason, Err: no.err})
	}
	return nil, &RefusedError{ram.Backend(), a.Rejected}
}

// refusal is an attach that can't work here, as against a try that failed.
type refusal struct {
	reason string
	err    error // behind it, or nil
}

func (r *refusal) Error() string { return r.reason }
func (r *refusal) Unwrap() error { return r.err }

func (a *Attachment) try(sys *kvm.System, m Method, opts Options) error {
	switch m {
	case ViaBridge:
		view, err := openView(a.ram)
		if err != nil {
			return &refusal{err.Error(), err}
		}
		a.view = view
		return nil
	case ViaWindow:
		return a.openWindow(opts)
	}
	if a.ram.Backend() == memory.Secret {
		return ProbeDirect(sys, a.ram.Backend())
	}
	return nil
}

// CheckBridge reports whether the bridge's device is there, may be used and
// speaks the ABI that this program does.
func CheckBridge() error {
	fd, err := openBridgeDevice("")
	if err != nil {
		return err
	}
	return unix.Close(fd)
}

// Slots returns the memory slots of the VM, one for each region of RAM.
func (a *Attachment) Slots() []kvm.Slot {
	switch {
	case a.view != nil:
		return slots(a.ram, a.view.Pointer())
	case a.window != nil:
		return slots(a.ram, a.window.Pointer())
	}
	return slots(a.ram, a.ram.Pointer())
}

// Guest is guest RAM as devices and loaders get at it while it is attached.
func (a *Attachment) Guest() memory.Guest {
	if a.window != nil {
		return a.window
	}
	return a.ram
}

// Close gives the view back. The VM and its vCPUs are closed before.
func (a *Attachment) Close() error {
	switch {
	case a.view != nil:
		return a.view.Close()
	case a.window != nil:
		return a.window.Close()
	}
	return nil
}
