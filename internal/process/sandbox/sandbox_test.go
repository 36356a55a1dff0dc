package sandbox

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"offmap/internal/process/sandbox/sandboxtest"
)

func TestJudge(t *testing.T) {
	for _, c := range []struct {
		err     error
		refused bool
	}{
		{nil, false},
		{errors.New("anything"), false},
		{unix.EINVAL, false},
		{unix.ENOSYS, true},
		{unix.EPERM, true},
		{unix.EACCES, true},
		{fmt.Errorf("wrapped: %w", unix.EPERM), true},
	} {
		err := Judge("some_call", c.err)
		if Refused(err) != c.refused || c.err != nil && !strings.HasPrefix(err.Error(), "some_call: ") {
			t.Errorf("%v: %v", c.err, err)
		}
		if errno, ok := errors.AsType[unix.Errno](c.err); ok && !errors.Is(err, errno) {
			t.Errorf("%v doesn't wrap %v", err, errno)
		}
	}
}

func TestBlame(t *testing.T) {
	const status = "Name:\tx\nCapEff:\t0000000000080000\nNoNewPrivs:\t%d\nSeccomp:\t%d\nSeccomp_filters:\t1\n"
	for _, c := range []struct {
		name      string
		state     State
		says, not string
	}{
		{"no /proc", State{}, "can't be told without /proc", "runs under"},
		{"nothing", parse(fmt.Sprintf(status, 0, 0)), "no seccomp filter: a security module", "profile of its container"},
		{"a filter", parse(fmt.Sprintf(status, 1, 2)), "a seccomp filter (NoNewPrivs 1): allow the_call in", "security module"},
		{"a label", State{Known: true, Label: "docker-default (enforce)"}, `profile "docker-default (enforce)"`, "seccomp"},
		{"both", State{Known: true, Filtered: true, Label: "x"}, "or service (systemd: SystemCallFilter=); and under a security", "Known"},
	} {
		if got := c.state.blame("the_call"); !strings.Contains(got, c.says) || strings.Contains(got, c.not) {
			t.Errorf("%s: %q", c.name, got)
		}
	}
	if s := parse(fmt.Sprintf(status, 0, 0)); s.caps != 1<<unix.CAP_SYS_PTRACE {
		t.Errorf("capabilities %#x", s.caps)
	}
}

func TestConfining(t *testing.T) {
	for label, want := range map[string]string{
		"":             "",
		"unconfined\n": "",
		"kernel\x00":   "",
		"unconfined_u:unconfined_r:unconfined_t:s0-s0:c0.c1023\x00": "",
		"docker-default (enforce)\n":                                "docker-default (enforce)",
		"system_u:system_r:container_t:s0:c1,c2\x00":                "system_u:system_r:container_t:s0:c1,c2",
	} {
		if got := confining(label); got != want {
			t.Errorf("%q: %q, want %q", label, got, want)
		}
	}
}

// confined names the environment variable that has TestConfined look at itself.
const confined = "SANDBOX_TEST_CONFINED"

// TestConfined starts this test under a filter, and compares what it sees of
// itself.
func TestConfined(t *testing.T) {
	if os.Getenv(confined) != "" {
		err := mlock2()
		fmt.Printf("%v\n%v\n%v", Read().Filtered, Judge("mlock2", err), Suspect("mlock2", err))
		os.Exit(0)
	}
	cmd := exec.Command(os.Args[0], "-test.run", "^TestConfined$")
	cmd.Env = append(os.Environ(), confined+"=1")
	var out strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &out
	sandboxtest.Start(t, cmd, sandboxtest.Rule{Call: unix.SYS_MLOCK2, Errno: unix.ENOSYS})
	if err := cmd.Wait(); err != nil {
		t.Fatalf("%v\n%s", err, out.String())
	}
	lines := strings.Split(out.String(), "\n")
	if len(lines) != 3 || lines[0] != "true" ||
		!strings.HasPrefix(lines[1], "mlock2: function not implemented, though this kernel has the call") ||
		!strings.HasPrefix(lines[2], "function not implemented (if it isn't for want of a right") {
		t.Errorf("a process under a filter says of itself:\n%s", out.String())
	}
}

func mlock2() error {
	if _, _, errno := unix.Syscall(unix.SYS_MLOCK2, 0, 0, 0); errno != 0 {
		return errno
	}
	return nil
}
