// Package jailtest has what code that has taken over a VMM would try, for tests that try it
// in the jail and outside of it.
package jailtest

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// Attempt is what code that has taken over a VMM would try.
type Attempt struct {
	// Prepare opens what the VMM has open. It is called before the process is confined.
	Prepare func() (fd int, err error)
	call    func(fd int) error
	refused string // the error, or "call " and what the filter's message names
}

// Make makes the attempt, and prints how it ended. It ends the process.
func (a Attempt) Make(fd int) {
	fmt.Fprintln(os.Stderr, result, a.call(fd))
	os.Exit(0)
}

// Check reports whether a process that made the attempt with nothing to hinder it, and
// one in the jail, ended as they should. These are what they printed, and how they ended.
func (a Attempt) Check(free string, freeErr error, jailed string, jailedErr error) error {
	if freeErr != nil || !strings.Contains(free, result) {
		return fmt.Errorf("outside of the jail: %q, %v", free, freeErr)
	}
	want, status := result+" "+a.refused, "<nil>"
	if call, ends := strings.CutPrefix(a.refused, "call "); ends {
		want, status = "offmap: the jail ended this process at a system call that no guest needs: "+call+"\n", "signal: bad system call"
	}
	if !strings.Contains(jailed+"\n", want) || !strings.HasPrefix(fmt.Sprint(jailedErr), status) {
		return fmt.Errorf("in the jail: %q, %v; want %q, %s", jailed, jailedErr, want, status)
	}
	return nil
}

const result = "attempt:"

// Environment is the variable with the directory that the jail lets the process read, which
// has a file named file.
const Environment = "OFFMAP_TEST_DIRECTORY"

func nothing() (int, error) { return -1, nil }

func open(path string) func() (int, error) {
	return func() (int, error) { return unix.Open(path, unix.O_RDWR|unix.O_CLOEXEC, 0) }
}

func pipe() (int, error) {
	var p [2]int
	err := unix.Pipe2(p[:], unix.O_CLOEXEC)
	return p[0], err
}

// setOwner has the kernel send signals of the file fd to a process.
func setOwner(fd, process int) error {
	_, err := unix.FcntlInt(uintptr(fd), unix.F_SETOWN, process)
	return err
}

func raw(number uintptr, args ...uintptr) func(int) error {
	return func(int) error {
		var a [6]uintptr
		copy(a[:], args)
		if _, _, errno := unix.Syscall6(number, a[0], a[1], a[2], a[3], a[4], a[5]); errno != 0 {
			return errno
		}
		return nil
	}
}

func opens(path string) func(int) error {
	return func(int) error { _, err := unix.Open(path, unix.O_RDONLY, 0); return err }
}

func request(n uintptr) func(int) error {
	return func(fd int) error { return raw(unix.SYS_IOCTL, uintptr(fd), n)(fd) }
}

const (
	kvmCreateVM = 0xae01
	someProcess = 1
)

// All returns the attempts, by name.
func All() map[string]Attempt {
	return map[string]Attempt{
		"open /etc/passwd": {nothing, opens("/etc/passwd"), "permission denied"}, // by Landlock
		"open /dev/kvm":    {nothing, opens("/dev/kvm"), "permission denied"},
		"write a file of Read": {nothing, func(int) error {
			_, err := unix.Open(filepath.Join(os.Getenv(Environment), "file"), unix.O_WRONLY, 0)
			return err
		}, "permission denied"},
		"unlink":                     {nothing, func(int) error { return unix.Unlinkat(unix.AT_FDCWD, "/nothing", 0) }, "call unlinkat"},
		"KVM_CREATE_VM":              {open("/dev/kvm"), request(kvmCreateVM), "call ioctl"},
		"KVM_CREATE_VCPU":            {nothing, request(0xae41), "call ioctl"},
		"KVM_SET_USER_MEMORY_REGION": {nothing, request(0x4020ae46), "call ioctl"},
		"TIOCSTI":                    {nothing, request(unix.TIOCSTI), "call ioctl"},
		"UFFDIO_COPY":                {nothing, request(0xc028aa03), "call ioctl"},
		"socket":                     {nothing, raw(unix.SYS_SOCKET, unix.AF_INET, unix.SOCK_STREAM), "call socket"},
		"execve":                     {nothing, raw(unix.SYS_EXECVE), "call execve"},
		"execveat":                   {nothing, raw(unix.SYS_EXECVEAT), "call execveat"},
		// Outside of the jail, the kernel refuses these flags. A real child would be a Go
		// program without its other threads, which might never end.
		"fork":                          {nothing, raw(unix.SYS_CLONE, uintptr(unix.SIGCHLD)|unix.CLONE_SIGHAND), "call clone"},
		"a process with this memory":    {nothing, raw(unix.SYS_CLONE, unix.CLONE_VM|unix.CLONE_PIDFD|unix.CLONE_PARENT_SETTID), "call clone"},
		"a thread in another namespace": {nothing, raw(unix.SYS_CLONE, unix.CLONE_THREAD|unix.CLONE_SIGHAND|unix.CLONE_VM|unix.CLONE_NEWUSER), "call clone"},
		"clone3":                        {nothing, raw(unix.SYS_CLONE3), "function not implemented"},
		"ptrace":                        {nothing, raw(unix.SYS_PTRACE, unix.PTRACE_SEIZE, someProcess), "call ptrace"},
		"process_vm_readv":              {nothing, raw(unix.SYS_PROCESS_VM_READV, someProcess), "call process_vm_readv"},
		"mount":                         {nothing, raw(unix.SYS_MOUNT), "call mount"},
		"unshare":                       {nothing, raw(unix.SYS_UNSHARE, unix.CLONE_NEWUSER), "call unshare"},
		"bpf":                           {nothing, raw(unix.SYS_BPF), "call bpf"},
		"perf_event_open":               {nothing, raw(unix.SYS_PERF_EVENT_OPEN), "call perf_event_open"},
		"userfaultfd":                   {nothing, raw(unix.SYS_USERFAULTFD, unix.O_CLOEXEC), "call userfaultfd"},
		"io_uring_setup":                {nothing, raw(unix.SYS_IO_URING_SETUP, 1), "call io_uring_setup"},
		"finit_module":                  {nothing, raw(unix.SYS_FINIT_MODULE, ^uintptr(0)), "call finit_module"},
		"kexec_load":                    {nothing, raw(unix.SYS_KEXEC_LOAD, 0, 17), "call kexec_load"},
		"setuid":                        {nothing, raw(unix.SYS_SETUID, 0), "call setuid"},
		"kill":                          {nothing, raw(unix.SYS_KILL, someProcess, 0), "call kill"},
		"tgkill":                        {nothing, raw(unix.SYS_TGKILL, someProcess, someProcess, 0), "call tgkill"},
		"prctl":                         {nothing, raw(unix.SYS_PRCTL, unix.PR_GET_DUMPABLE), "call prctl"},
		"limits of another process":     {nothing, raw(unix.SYS_PRLIMIT64, someProcess), "call prlimit64"},
		// A share of / has such directories, and the call takes them.
		"a signal by a directory of proc": {
			func() (int, error) {
				return unix.Open(fmt.Sprint("/proc/", someProcess), unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
			},
			func(fd int) error { return raw(unix.SYS_PIDFD_SEND_SIGNAL, uintptr(fd), 0)(fd) }, "call pidfd_send_signal",
		},
		"a signal by a pipe":     {pipe, func(fd int) error { return setOwner(fd, someProcess) }, "call fcntl"},
		"memory to execute":      {nothing, raw(unix.SYS_MMAP, 0, 4096, unix.PROT_EXEC, unix.MAP_PRIVATE|unix.MAP_ANON, ^uintptr(0)), "call mmap"},
		"make memory executable": {nothing, raw(unix.SYS_MPROTECT, 0, 0, unix.PROT_EXEC), "call mprotect"},
		"an x32 call":            {nothing, raw(0x40000000 + unix.SYS_GETPID), "function not implemented"},
		"a call of the future":   {nothing, raw(9999), "call of an unknown number"},
		// What stays.
		"read a file of Read": {nothing, func(int) error { _, err := os.ReadFile(filepath.Join(os.Getenv(Environment), "file")); return err }, "<nil>"},
		"a new thread": {nothing, func(int) error {
			done := make(chan error)
			go func() { // a thread of its own, as the other one is locked
				_, err := unix.Read(-1, nil)
				done <- err
			}()
			return <-done
		}, "bad file descriptor"},
	}
}
