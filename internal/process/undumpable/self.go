package undumpable

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// Values of PR_GET_DUMPABLE, prctl(2): who may trace this process.
const (
	dumpableNobody = 0
	dumpableUser   = 1
)

// Now makes this process undumpable from now on, which also means that it leaves
// no core dump. Who has opened its memory before keeps it open: see Self.
func Now() error {
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, dumpableNobody, 0, 0, 0); err != nil {
		return fmt.Errorf("prctl PR_SET_DUMPABLE: %w", err)
	}
	return nil
}

// Self makes this process undumpable from its first instruction on, and sets
// RLIMIT_CORE to 0. A program with secrets calls it before anything else.
//
// A process that was dumpable until now may have been looked into already, so
// Self executes the program again, with the same arguments, environment and
// process ID, from a copy that nobody may read, and then doesn't return. It
// returns in the process that this makes. Where the program file is one that
// its user may not read (mode 0711 and another's), nothing has to be done for
// that; nor for a process with CAP_SYS_PTRACE, since it takes that capability
// to look into it, dumpable or not (cap_ptrace_access_check in
// security/commoncap.c asks for all that its target has).
//
// name is what the process is called in ps and for pkill.
func Self(name string) error {
	dumpable, err := unix.PrctlRetInt(unix.PR_GET_DUMPABLE, 0, 0, 0, 0)
	if err != nil {
		return fmt.Errorf("prctl PR_GET_DUMPABLE: %w", err)
	}
	// First of all: who changes this process changes the next.
	if err := Now(); err != nil {
		return err
	}
	if dumpable == dumpableUser && !traceable() {
		if copied() {
			return fmt.Errorf("%w: it makes every process dumpable (fs.suid_dumpable=1): change that with `sysctl fs.suid_dumpable=0` as root", errHost)
		}
		return again(name)
	}
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}); err != nil {
		return fmt.Errorf("setrlimit RLIMIT_CORE to 0: %w", err)
	}
	return nil
}

// traceable reports whether this process may trace any other. Then only processes
// that may do so too can trace it.
func traceable() bool {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var caps [2]unix.CapUserData
	return unix.Capget(&header, &caps[0]) == nil && caps[0].Permitted&(1<<unix.CAP_SYS_PTRACE) != 0
}

// copyPrefix begins the name of a copy's memfd, by which a process knows that it
// runs a copy. Another process can't change that, unlike an environment variable.
const copyPrefix = "undumpable-"

const link = "/memfd:" + copyPrefix

// copied reports whether this process runs a copy.
func copied() bool {
	exe, err := os.Readlink("/proc/self/exe")
	return err == nil && strings.HasPrefix(exe, link)
}

// execve has named a copy's process by the number of a descriptor. Its name is
// that of its first thread, which only that thread can set, since an undumpable
// process's files in /proc are root's; and that is where init runs.
func init() {
	exe, _ := os.Readlink("/proc/self/exe")
	name, ok := strings.CutPrefix(exe, link)
	if !ok {
		return
	}
	_ = setName(strings.TrimSuffix(name, " (deleted)")) // a failure hurts nobody
}

// again executes this program from an unreadable copy. It returns if that
// fails.
func again(name string) error {
	self, err := os.Open("/proc/self/exe")
	if err != nil {
		return fmt.Errorf("%w: its own program: %w: is /proc mounted?", errHost, err)
	}
	defer self.Close()
	program, err := Program(copyPrefix+name, self)
	if err != nil {
		return err
	}
	defer program.Close()
	err = WithoutOverride(func() error {
		return syscall.Exec(fmt.Sprintf("/proc/self/fd/%d", program.Fd()), os.Args, os.Environ())
	})
	if errors.Is(err, unix.EACCES) || errors.Is(err, unix.EPERM) {
		return fmt.Errorf("%w: executing a copy of this program from a memfd: %w: a security module or a seccomp profile forbids it. "+
			"Allow it, or have root own the program file with mode 0711, which makes the copy needless", errHost, err)
	}
	return fmt.Errorf("executing a copy of this program: %w", err)
}
