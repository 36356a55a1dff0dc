package jail

import (
	"os"

	seccomp "github.com/elastic/go-seccomp-bpf"
	"golang.org/x/sys/unix"

	"offmap/kvm"
	"offmap/memory/uffd"
)

// calls are the system calls of a machine that runs, and of its end. The kernel knows
// without running the filter that they pass (Linux 5.11), as they have no condition.
var calls = []string{
	// Go's runtime. Threads and mappings have conditions.
	"clock_gettime", "clock_nanosleep", "epoll_create1", "epoll_ctl", "epoll_pwait", "eventfd2", "exit", "exit_group", "futex",
	"getegid", "geteuid", "getgid", "getpgid", "getpgrp", "getpid", "getrandom", "gettid", "getuid", "madvise", "mincore", "munmap", "nanosleep", "restart_syscall", "rt_sigaction",
	"rseq", "rt_sigprocmask", "rt_sigreturn", "sched_getaffinity", "set_robust_list", "sched_yield", "sigaltstack", "timer_create", "timer_delete", "timer_settime", "uname",
	// What is open already.
	"close", "dup3", "fadvise64", "fallocate", "fdatasync", "fstat", "fstatfs", "fsync", "ftruncate", "getrlimit", "getsockopt", "lseek", "pipe2", "poll", "ppoll",
	"pread64", "preadv", "preadv2", "pwrite64", "pwritev", "pwritev2", "read", "readv", "shutdown", "sync_file_range", "write", "writev",
	// Which pages the guest has in memory (--exposure, --live).
	"cachestat",
	// Devices' buffers: of secret memory at a window, and those of cache=none.
	"memfd_create", "memfd_secret", "mlock",
	// The scrubber and the terminal's keeper, which end by themselves.
	"wait4", "waitid",
}

// reading are the calls that open files, and tell about them.
var reading = []string{"faccessat", "faccessat2", "getdents64", "newfstatat", "openat", "openat2", "readlinkat", "statfs", "statx"}

// writing are those that make, change and remove files.
var writing = []string{
	"copy_file_range", "fchmod", "fchmodat", "fchmodat2", "fchown", "fchownat", "linkat", "mkdirat", "mknodat", "renameat", "renameat2",
	"symlinkat", "umask", "unlinkat", "utimensat",
}

// accepting are those of a debugger's connection.
var accepting = []string{"accept4", "getpeername", "getsockname", "setsockopt"}

// terminal are requests for the terminal of the guest's console. TIOCSTI, which types, is
// not among them.
var terminal = []uint64{unix.TCGETS, unix.TCSETS, unix.TCSETSW, unix.TCSETSF, unix.TIOCGWINSZ, unix.TIOCGPGRP, unix.TIOCSPGRP}

// policy is the filter for some rights.
func policy(r Rights) seccomp.Policy {
	requests := append(kvm.GuestRequests(), uffd.Requests()...)
	p := seccomp.Policy{DefaultAction: seccomp.ActionTrap}
	group := func(action seccomp.Action, names ...string) {
		p.Syscalls = append(p.Syscalls, seccomp.SyscallGroup{Names: names, Action: action})
	}
	add := func(names []string) { group(seccomp.ActionAllow, names...) }
	fail := func(name string, errno unix.Errno) { group(seccomp.ActionErrno|seccomp.Action(errno), name) }
	// A C library (of a program that is built with cgo) does without these. It starts
	// threads by clone3, whose flags are in memory, where no filter sees them.
	fail("clone3", unix.ENOSYS)
	if len(r.Read)+len(r.Write) > 0 {
		add(reading)
	} else {
		fail("openat", unix.EACCES) // /sys/devices/system/cpu/online, to allocate memory
	}
	if len(r.Write) > 0 {
		add(writing)
	}
	if len(r.Remove) > 0 {
		add([]string{"unlinkat"})
	}
	if r.Accept {
		add(accepting)
	}
	add(calls)
	var conditional []seccomp.NameWithConditions
	when := func(name string, c ...seccomp.Condition) {
		conditional = append(conditional, seccomp.NameWithConditions{Name: name, Conditions: c})
	}
	is := func(arg uint32, v uint64) seccomp.Condition {
		return seccomp.Condition{Argument: arg, Operation: seccomp.Equal, Value: v}
	}
	for _, n := range append(requests, terminal...) {
		when("ioctl", is(1, n))
	}
	// Not F_SETOWN and F_SETSIG, by which a pipe sends any signal to any process of the user.
	for _, n := range []uint64{unix.F_DUPFD_CLOEXEC, unix.F_GETFD, unix.F_SETFD, unix.F_GETFL, unix.F_SETFL, unix.F_OFD_GETLK, unix.F_OFD_SETLK, unix.F_ADD_SEALS, unix.F_GET_SEALS} {
		when("fcntl", is(1, n))
	}
	// No memory is to be executed that isn't already.
	for _, name := range []string{"mmap", "mprotect"} {
		when(name, seccomp.Condition{Argument: 2, Operation: seccomp.BitsNotSet, Value: unix.PROT_EXEC})
	}
	// Only threads, and in the namespaces of this process. BitsSet is true if any bit is set.
	const namespaces = unix.CLONE_NEWNS | unix.CLONE_NEWCGROUP | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC | unix.CLONE_NEWUSER | unix.CLONE_NEWPID | unix.CLONE_NEWNET
	when("clone", seccomp.Condition{Argument: 0, Operation: seccomp.BitsSet, Value: unix.CLONE_THREAD},
		seccomp.Condition{Argument: 0, Operation: seccomp.BitsNotSet, Value: namespaces})
	for _, name := range []string{"kill", "tgkill"} {
		when(name, is(0, uint64(os.Getpid())))
	}
	when("prctl", is(0, unix.PR_SET_VMA)) // names of Go's mappings
	when("prlimit64", is(0, 0))           // of this process
	p.Syscalls = append(p.Syscalls, seccomp.SyscallGroup{NamesWithCondtions: conditional, Action: seccomp.ActionAllow})
	return p
}
