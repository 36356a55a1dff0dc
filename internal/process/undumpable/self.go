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

// Now makes this process undumpable, so that it also leaves no core dump. A process
// that has opened its memory before keeps it open: see Self.
func Now() error {
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, dumpableNobody, 0, 0, 0); err != nil {
		return fmt.Errorf("prctl PR_SET_DUMPABLE: %w", err)
	}
	return nil
}

// Self makes this process undumpable from its first instruction on, and sets
// RLIMIT_CORE to 0. A program with secrets calls it before anything else.
//
// If the process has been dumpable until now, another process may have its memory
// open already. So Self executes the program again, from a copy that nobody may
// read, with the same arguments, environment and process ID. That call doesn't
// return; the call of Self in the new program returns.
//
// Two kinds of process need no copy. A process that may not read its program file
// (mode 0711 and owned by another user) has never been dumpable. A process with
// CAP_SYS_PTRACE, dumpable or not, can be traced only by one that has
// CAP_SYS_PTRACE too: cap_ptrace_access_check in security/commoncap.c asks for all
// capabilities of the target.
//
// name is the name of the process in ps and for pkill.
func Self(name string) error {
	dumpable, err := unix.PrctlRetInt(unix.PR_GET_DUMPABLE, 0, 0, 0, 0)
	if err != nil {
		return fmt.Errorf("prctl PR_GET_DUMPABLE: %w", err)
	}
	// First of all, since a process that could change this one could change
	// the program that it executes.
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

// traceable reports whether this process has CAP_SYS_PTRACE. Then only processes
// that have it too can trace this one.
func traceable() bool {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var caps [2]unix.CapUserData
	return unix.Capget(&header, &caps[0]) == nil && caps[0].Permitted&(1<<unix.CAP_SYS_PTRACE) != 0
}

// copyPrefix begins the name of a copy's memfd, so that a process knows that it runs
// a copy. Unlike an environment variable, another process can't change that name.
const copyPrefix = "undumpable-"

const link = "/memfd:" + copyPrefix

// copied reports whether this process runs a copy.
func copied() bool {
	exe, err := os.Readlink("/proc/self/exe")
	return err == nil && strings.HasPrefix(exe, link)
}

// init names the process of a copy, which execve has named after the number of a
// descriptor. A process has the name of its first thread. Only that thread can set
// it, because the files in /proc of an undumpable process belong to root. init runs
// on that thread.
func init() {
	exe, _ := os.Readlink("/proc/self/exe")
	name, ok := strings.CutPrefix(exe, link)
	if !ok {
		return
	}
	_ = setName(strings.TrimSuffix(name, " (deleted)")) // a failure only leaves the other name
}

// again executes this program from an unreadable copy. It returns only if that
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
