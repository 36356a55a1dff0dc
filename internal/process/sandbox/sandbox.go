// Package sandbox tells whether a system call was refused by what confines this
// process, a container's seccomp profile for one, and not by the kernel for
// want of the feature or of a right.
//
// A seccomp filter answers in the kernel's place with any errno that its author
// chose: ENOSYS and EPERM by custom, which a kernel without the call and a
// process without a right get too (seccomp(2), SECCOMP_RET_ERRNO). Security
// modules answer EPERM or EACCES. So the errno alone doesn't tell; the caller
// has to know whether the kernel has the call, and whether it takes a right.
package sandbox

import (
	"errors"
	"fmt"
	"offmap/internal/process/unavailable"
	"os"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// Error is a system call that what confines this process refused. It wraps the
// errno.
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

// Judge names the call that err is of. An error that the kernel itself doesn't
// have for it becomes an *Error: the caller knows that this kernel has the call,
// and that it takes no right that this process may lack.
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

// Suspect is for a call that the kernel may have refused for want of a right or
// of the feature: where this process is confined too, it has err say so. It
// makes no *Error.
func Suspect(call string, err error) error {
	errno, ok := errors.AsType[syscall.Errno](err)
	if s := Read(); ok && refusal(errno) && s.confined() {
		return fmt.Errorf("%w (if it isn't for want of a right or of the feature: %s)", err, s.blame(call))
	}
	return err
}

// Device is the error of an open of a device node, and says so where it isn't the
// node's mode that refuses.
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

// State is what confines the calling thread.
type State struct {
	// Known says that /proc tells. The rest is zero otherwise.
	Known      bool
	Filtered   bool   // by seccomp
	NoNewPrivs bool   // exec gives no rights (prctl(2), PR_SET_NO_NEW_PRIVS)
	Label      string // of the security module, "" if it confines nothing
	caps       uint64
}

// Read looks into /proc (proc_pid_status(5), proc_pid_attr(5)).
func Read() State {
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

// confining returns a label without white space around it, or "" if it is that
// of a process that AppArmor or SELinux leaves alone.
func confining(label string) string {
	label = strings.Trim(label, " \n\x00")
	if label == "unconfined" || label == "kernel" || strings.Contains(label, ":unconfined_t:") {
		return ""
	}
	return label
}

func (s State) confined() bool { return s.Filtered || s.Label != "" }

// blame says what it is that refuses call, as far as that can be told, and what
// to change.
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

// Capable reports whether this process has a capability that the kernel grants:
// one of the initial user namespace.
func Capable(capability int) bool {
	users, err := os.ReadFile("/proc/self/uid_map")
	whole := err == nil && strings.Join(strings.Fields(string(users)), " ") == "0 0 4294967295"
	return whole && Read().caps&(1<<capability) != 0
}
