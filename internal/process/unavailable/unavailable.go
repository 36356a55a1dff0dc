// Package unavailable marks the errors by which a host, as it is set up now,
// says that it lacks what was asked for: KVM, a backend, an attach, a right. All
// other errors say that something went wrong.
//
// Every such error is Err for errors.Is, whichever package it is from.
package unavailable

import "errors"

// Err is what all of them are.
var Err = errors.New("not available on this host")

// Error is such an error with what would help.
type Error interface {
	error
	// Needs names in a few words what is missing: a boot parameter, a module,
	// a sysctl, a kernel; "" where that isn't known.
	Needs() string
}

// New returns an error for others to wrap.
func New(text, needs string) Error { return &lack{text, needs} }

type lack struct{ text, needs string }

func (l *lack) Error() string        { return l.text }
func (l *lack) Needs() string        { return l.needs }
func (l *lack) Is(target error) bool { return target == Err }

// Needs returns what err says is missing, or "".
func Needs(err error) string {
	if e, ok := errors.AsType[Error](err); ok {
		return e.Needs()
	}
	return ""
}
