package main

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"offmap/vmm/jail/jailtest"
)

// TestJailed holds that each thread of a VMM is confined when its guest runs, and that none
// is with --jail=off.
func TestJailed(t *testing.T) {
	needKVM(t)
	for _, tt := range []struct {
		args []string
		user string // number of the user and of the only group; "": not looked at
		want string // no_new_privs, capabilities, and the mode of seccomp
	}{
		{nil, "", "1 0000000000004000 2"}, // CAP_IPC_LOCK
		{[]string{"--jail=strict"}, "", "1 0000000000004000 2"},
		{[]string{"--user=65534"}, "65534", "1 0000000000004000 2"},
		{[]string{"--jail=off"}, "", ""},
	} {
		t.Run(fmt.Sprint(tt.args), func(t *testing.T) {
			if os.Geteuid() != 0 {
				t.Skip("SKIPPED: it takes root, whose rights are taken away")
			}
			args := append([]string{"run", "-q", "--backend", "memfd", "--rng", "-k", testKernel(t, chat)}, tt.args...)
			cmd := asProgram(t, args...)
			startGuest(t, cmd)
			files, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", cmd.Process.Pid))
			if len(files) < 3 {
				t.Fatalf("%d threads", len(files))
			}
			for _, file := range files {
				ids, got := confinement(t, file)
				if want := strings.Repeat(tt.user+"\t", 8) + tt.user; tt.user != "" && ids != want {
					t.Errorf("%s: users, groups and further groups %q, want %q", file, ids, want)
				}
				switch {
				case tt.want == "" && strings.Contains(got, " 0000000000004000 "):
					t.Errorf("%s: %s, as in the jail", file, got)
				case tt.want != "" && got != tt.want:
					t.Errorf("%s: %s, want %s", file, got, tt.want)
				}
			}
		})
	}
}

// TestTakenOver has the process of a running guest make each attempt, with the jail and
// without it.
func TestTakenOver(t *testing.T) {
	needKVM(t)
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	kernel := testKernel(t, chat)
	for name, a := range jailtest.All() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			try := func(mode string) (string, error) {
				var messages bytes.Buffer
				cmd := asProgram(t, "run", "-q", "--backend", "memfd", "--share", dir, "-k", kernel, "--jail", mode)
				cmd.Env = append(cmd.Env, breakEnv+"="+name, jailtest.Environment+"="+dir)
				cmd.Stderr = &messages
				startGuest(t, cmd)
				if err := cmd.Process.Signal(unix.SIGWINCH); err != nil {
					t.Fatal(err)
				}
				err := cmd.Wait()
				return messages.String(), err
			}
			free, freeErr := try("off")
			jailed, jailedErr := try("strict")
			if err := a.Check(free, freeErr, jailed, jailedErr); err != nil {
				t.Error(err)
			}
		})
	}
}

// startGuest starts a program whose guest prints at once, and waits for that.
func startGuest(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	if _, err := bufio.NewReader(out).ReadByte(); err != nil {
		t.Fatal(err)
	}
}

// confinement is what a thread's status says of its users and groups, and of what it may
// do (proc(5)).
func confinement(t *testing.T, file string) (ids, rights string) {
	t.Helper()
	status, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	fields := map[string]string{}
	for line := range strings.Lines(string(status)) {
		name, value, _ := strings.Cut(line, ":")
		fields[name] = strings.TrimSpace(value)
	}
	return strings.Join([]string{fields["Uid"], fields["Gid"], fields["Groups"]}, "\t"),
		strings.Join([]string{fields["NoNewPrivs"], fields["CapEff"], fields["Seccomp"]}, " ")
}
