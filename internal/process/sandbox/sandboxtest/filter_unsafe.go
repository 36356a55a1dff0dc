// Package sandboxtest runs programs in tests under seccomp filters, as
// containers do.
package sandboxtest

import (
	"os/exec"
	"runtime"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Rule refuses a system call with an errno.
type Rule struct {
	Call  uintptr // unix.SYS_...
	Arg   int     // if not 0, which argument must be Value, counted from 0
	Value uint32
	Errno unix.Errno
}

// Offsets in struct seccomp_data.
const (
	dataNumber = 0
	dataArgs   = 16
)

// program is the rules in classic BPF, the first that fits.
func program(rules []Rule) []unix.SockFilter {
	load := func(at uint32) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: at}
	}
	unless := func(k uint32, skip uint8) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: k, Jf: skip}
	}
	ret := func(k uint32) unix.SockFilter { return unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: k} }
	var p []unix.SockFilter
	for _, r := range rules {
		refuse := ret(unix.SECCOMP_RET_ERRNO | uint32(r.Errno))
		if r.Arg == 0 {
			p = append(p, load(dataNumber), unless(uint32(r.Call), 1), refuse)
			continue
		}
		p = append(p, load(dataNumber), unless(uint32(r.Call), 3),
			load(dataArgs+8*uint32(r.Arg)), unless(r.Value, 1), refuse)
	}
	return append(p, ret(unix.SECCOMP_RET_ALLOW))
}

// Start starts a command under the rules. What starts a process hands on the
// filter of its thread; the thread that does so here ends with its goroutine.
func Start(t testing.TB, cmd *exec.Cmd, rules ...Rule) {
	t.Helper()
	if err := start(cmd, program(rules)); err != nil {
		t.Fatalf("start of %v under a seccomp filter: %v", cmd.Args, err)
	}
}

func start(cmd *exec.Cmd, p []unix.SockFilter) error {
	result := make(chan error)
	go func() {
		runtime.LockOSThread() // for good
		filter := unix.SockFprog{Len: uint16(len(p)), Filter: &p[0]}
		err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
		if err == nil {
			err = unix.Prctl(unix.PR_SET_SECCOMP, unix.SECCOMP_MODE_FILTER, uintptr(unsafe.Pointer(&filter)), 0, 0)
		}
		if err == nil {
			err = cmd.Start()
		}
		result <- err
	}()
	return <-result
}
