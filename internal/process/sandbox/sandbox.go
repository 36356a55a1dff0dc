// Package sandbox tells whether a seccomp filter or a security module refused a
// system call, and not the kernel because it lacks the feature or this process lacks
// a privilege.
//
// A seccomp filter answers in the kernel's place with an errno that its author chose
// (seccomp(2), SECCOMP_RET_ERRNO). That is usually ENOSYS or EPERM, with which the
// kernel also answers if it lacks the call or the process lacks a privilege. Security
// modules answer EPERM or EACCES. The errno alone therefore doesn't tell: the caller
// has to know whether the kernel has the call, and whether it needs a privilege.
package sandbox

import (
	"errors"
	"fmt"
	"offmap/internal/process/unavailable"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"
)

// Error is the error of a system call that a seccomp filter or a security module
// refused. It wraps the errno.
type Error struct {
	Call  string
	Errno syscall.Errno
	State State // of this process, at that time
}

func (e *Error) Error() string {
	return fmt.Sprintf("%s: %v, though this kernel has the call and this process the right to it: %s", e.Call, e.Errno, e.State.blame(e.Call))
}

// Unwrap returns the errno.
func (e *Error) Unwrap() error { return e.Errno }

// Is reports that every *Error is unavailable.Err.
func (e *Error) Is(target error) bool { return target == unavailable.Err }

// Needs returns what would allow the call.
func (e *Error) Needs() string { return "a seccomp profile that allows " + e.Call }

// Judge returns err with the name of the call that failed. It is for calls of which
// the caller knows that this kernel has them and that they need no privilege which
// this process may lack. An errno that refuses such a call becomes an *Error.
func Judge(call string, err error) error {
	errno, ok := errors.AsType[syscall.Errno](err)
	switch {
	case err == nil:
		return nil
	case !ok || !refusal(errno):
		return fmt.Errorf("%s: %w", call, err)
	}
	return &Error{call, errno, Read()}
}

// Suspect is for a call that the kernel may have refused itself. If this process is
// confined, the error it returns says that the confinement may be the cause. It
// never returns an *Error.
func Suspect(call string, err error) error {
	errno, ok := errors.AsType[syscall.Errno](err)
	if s := Read(); ok && refusal(errno) && s.confined() {
		return fmt.Errorf("%w (if it isn't for want of a right or of the feature: %s)", err, s.blame(call))
	}
	return err
}

// Device returns the error of an open of a device node. If something else than the
// node's mode refused it, the error says so.
func Device(err error) error {
	switch {
	case errors.Is(err, unix.EPERM):
		return fmt.Errorf("%w (this container or service isn't given the device: docker and podman: --device; systemd: DeviceAllow=)", err)
	case errors.Is(err, unix.EACCES) && Capable(unix.CAP_DAC_OVERRIDE):
		return fmt.Errorf("%w (though its mode binds not this user: a security module refuses it, or its file system is mounted nodev)", err)
	}
	return err
}

// refusal reports whether an errno is one of those that filters and security
// modules refuse with.
func refusal(errno syscall.Errno) bool {
	return errno == unix.ENOSYS || errno == unix.EPERM || errno == unix.EACCES
}

// Refused reports whether err is, or wraps, an *Error.
func Refused(err error) bool {
	_, ok := errors.AsType[*Error](err)
	return ok
}

// State is the confinement of the calling thread.
type State struct {
	// Known says that /proc could be read. Otherwise all else is zero.
	Known      bool
	Filtered   bool   // by seccomp
	NoNewPrivs bool   // exec gives no rights (prctl(2), PR_SET_NO_NEW_PRIVS)
	Label      string // of the security module, "" if it confines nothing
	caps       uint64
}

// kept is what Read returns from now on, if it isn't nil.
var kept atomic.Pointer[State]

// Keep has Read return the state of now from now on. It is for a process that is about to
// confine itself, so that it isn't told of its own filter, and can't read /proc any more.
func Keep() {
	s := Read()
	kept.Store(&s)
}

// Read reads the state from /proc (proc_pid_status(5), proc_pid_attr(5)).
func Read() State {
	if s := kept.Load(); s != nil {
		return *s
	}
	status, err := os.ReadFile("/proc/thread-self/status")
	if err != nil {
		return State{}
	}
	s := parse(string(status))
	if label, err := os.ReadFile("/proc/thread-self/attr/current"); err == nil {
		s.Label = confining(string(label))
	}
	return s
}

func parse(status string) State {
	s := State{Known: true}
	for line := range strings.Lines(status) {
		key, value, _ := strings.Cut(line, ":")
		switch value = strings.TrimSpace(value); key {
		case "Seccomp":
			s.Filtered = value != "0"
		case "NoNewPrivs":
			s.NoNewPrivs = value == "1"
		case "CapEff":
			s.caps, _ = strconv.ParseUint(value, 16, 64)
		}
	}
	return s
}

// confining returns a label without white space around it, or "" if AppArmor or
// SELinux doesn't confine processes with it.
func confining(label string) string {
	label = strings.Trim(label, " \n\x00")
	if label == "unconfined" || label == "kernel" || strings.Contains(label, ":unconfined_t:") {
		return ""
	}
	return label
}

func (s State) confined() bool { return s.Filtered || s.Label != "" }

// blame says what refuses the call, as far as that is known, and what to change.
func (s State) blame(call string) string {
	var who []string
	if s.Filtered {
		who = append(who, fmt.Sprintf("a seccomp filter (NoNewPrivs %d): allow %s in the seccomp profile of its container "+
			"(docker and podman: --security-opt seccomp=PROFILE.json, or seccomp=unconfined; Kubernetes: seccompProfile) "+
			"or service (systemd: SystemCallFilter=)", map[bool]int{true: 1}[s.NoNewPrivs], call))
	}
	if s.Label != "" {
		who = append(who, fmt.Sprintf("a security module's profile %q: its denials are in the kernel's log (`sudo dmesg | grep -i denied`)", s.Label))
	}
	switch {
	case !s.Known:
		return "what refuses it can't be told without /proc: a seccomp profile (docker and podman: --security-opt seccomp=unconfined) or a security module"
	case who == nil:
		return "this process runs under no seccomp filter: a security module refuses it; its denials are in the kernel's log (`sudo dmesg | grep -i denied`)"
	}
	return "this process runs under " + strings.Join(who, "; and under ")
}

// Capable reports whether this process has a capability in the initial user
// namespace.
func Capable(capability int) bool {
	users, err := os.ReadFile("/proc/self/uid_map")
	whole := err == nil && strings.Join(strings.Fields(string(users)), " ") == "0 0 4294967295"
	return whole && Read().caps&(1<<capability) != 0
}
