package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"offmap/internal/process/sandbox/sandboxtest"
)

// asProgram returns a command that runs the program with arguments.
func asProgram(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "offmap") // what TestMain takes for the program
	if err := os.Symlink(self, path); err != nil {
		t.Fatal(err)
	}
	return exec.CommandContext(t.Context(), path, args...)
}

// TestConfined runs the program under seccomp filters, like a container's profile. The
// program says that a filter refused a call, names the call, and proposes nothing else.
func TestConfined(t *testing.T) {
	needKVM(t)
	ioctl := func(request uint32) []sandboxtest.Rule {
		return []sandboxtest.Rule{{Call: unix.SYS_IOCTL, Arg: 1, Value: request}}
	}
	call := func(numbers ...uintptr) (rules []sandboxtest.Rule) {
		for _, n := range numbers {
			rules = append(rules, sandboxtest.Rule{Call: n})
		}
		return rules
	}
	const (
		createVM = 0xae01 // KVM_CREATE_VM
		runVCPU  = 0xae80 // KVM_RUN
		newUFFD  = 0xaa00 // USERFAULTFD_IOC_NEW
		program  = unix.MFD_CLOEXEC | unix.MFD_ALLOW_SEALING | unix.MFD_EXEC
	)
	window := []string{"run", "--attach", "window"}
	// An audit that could make no attack proves nothing: code 3.
	audit := func(avenue string) []string {
		return []string{"audit", "--backend", "memfd", "--only", avenue}
	}
	only := func(errnos ...unix.Errno) []unix.Errno { return errnos }
	for _, c := range []struct {
		name   string
		rules  []sandboxtest.Rule
		errnos []unix.Errno
		args   []string
		code   int
		says   string
	}{
		{"memfd_secret", call(unix.SYS_MEMFD_SECRET), nil, []string{"run"}, 4, "memfd_secret: "},
		{"memfd_secret", call(unix.SYS_MEMFD_SECRET), nil, []string{"doctor"}, 3, "memfd_secret: "},
		{"memfd_secret", call(unix.SYS_MEMFD_SECRET), nil, []string{"audit"}, 4, "memfd_secret: "},
		{"memfd_secret", call(unix.SYS_MEMFD_SECRET), nil, []string{"limits", "--only", "off-by-default"}, 0, "memfd_secret: "},
		{"memfd_secret", call(unix.SYS_MEMFD_SECRET), nil, []string{"limits", "--only", "no-opt-in,cloexec,mlock"}, 0, "memfd_secret: "},
		{"memfd_create", call(unix.SYS_MEMFD_CREATE), nil, []string{"run", "--backend", "memfd"}, 4, "memfd_create: "},
		{"memfd_create", call(unix.SYS_MEMFD_CREATE), nil, window, 4, "memfd_create: "},
		{"memfd_create of the scrubber", []sandboxtest.Rule{{Call: unix.SYS_MEMFD_CREATE, Arg: 1, Value: program}}, nil, window, 4, "memfd_create: "},
		{"userfaultfd", append(call(unix.SYS_USERFAULTFD), ioctl(newUFFD)...), nil, window, 4, "userfaultfd: "},
		{"userfaultfd", append(call(unix.SYS_USERFAULTFD), ioctl(newUFFD)...), nil, []string{"doctor"}, 3, "userfaultfd: "},
		{"KVM_CREATE_VM", ioctl(createVM), nil, []string{"run", "--backend", "memfd"}, 4, "KVM_CREATE_VM: ioctl: "},
		{"KVM_CREATE_VM", ioctl(createVM), nil, []string{"doctor"}, 3, "KVM_CREATE_VM: ioctl: "},
		{"KVM_RUN", ioctl(runVCPU), nil, []string{"run", "--backend", "memfd"}, 4, "KVM_RUN of vCPU 0: ioctl: "},
		{"pidfd_getfd", call(unix.SYS_PIDFD_GETFD), nil, []string{"limits", "--only", "owner-rights"}, 0, "pidfd_getfd of file "},
		{"pidfd_getfd", call(unix.SYS_PIDFD_GETFD), only(unix.ENOSYS), audit("fd-theft"), 3, "skipped"},
		{"process_vm_readv", call(unix.SYS_PROCESS_VM_READV), only(unix.EPERM), audit("process-vm-readv"), 3, "skipped"},
		{"ptrace", call(unix.SYS_PTRACE), only(unix.EACCES), audit("ptrace-peek"), 3, "skipped"},
		{"bpf", call(unix.SYS_BPF), only(unix.ENOSYS), audit("bpf-user-read"), 3, "skipped"},
		{"unshare", call(unix.SYS_UNSHARE), only(unix.EPERM), audit("msg-zerocopy"), 3, "skipped"},
	} {
		if c.errnos == nil {
			c.errnos = []unix.Errno{unix.ENOSYS, unix.EPERM, unix.EACCES}
		}
		for _, errno := range c.errnos {
			t.Run(fmt.Sprintf("%s/%s/%s", c.name, unix.ErrnoName(errno), strings.Join(c.args, " ")), func(t *testing.T) {
				rules := make([]sandboxtest.Rule, len(c.rules))
				for i, r := range c.rules {
					r.Errno = errno
					rules[i] = r
				}
				cmd := asProgram(t, c.args...)
				var out bytes.Buffer
				cmd.Stdout, cmd.Stderr = &out, &out
				sandboxtest.Start(t, cmd, rules...)
				err := cmd.Wait()
				if _, ended := errors.AsType[*exec.ExitError](err); err != nil && !ended {
					t.Fatal(err)
				}
				said := strings.Join(strings.Fields(out.String()), " ") // doctor breaks lines
				if cmd.ProcessState.ExitCode() != c.code || !strings.Contains(said, c.says) || !strings.Contains(said, "seccomp") {
					t.Errorf("exit code %d, want %d and %q", cmd.ProcessState.ExitCode(), c.code, c.says)
				}
				if c.args[0] != "limits" && (strings.Contains(said, "secretmem.enable") || strings.Contains(said, "CONFIG_SECRETMEM") || strings.Contains(said, "requires")) {
					t.Error("it proposes what doesn't help")
				}
				if t.Failed() {
					t.Log(out.String())
				}
			})
		}
	}
}
