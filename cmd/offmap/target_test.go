package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A pipe as a file of results waits for its reader, but not once the program is to end.
func TestPipes(t *testing.T) {
	needKVM(t)
	start := func(t *testing.T, args ...string) (*exec.Cmd, string) {
		t.Helper()
		fifo := filepath.Join(t.TempDir(), "fifo")
		if err := unix.Mkfifo(fifo, 0o600); err != nil {
			t.Fatal(err)
		}
		for i, a := range args {
			if a == "FIFO" {
				args[i] = fifo
			}
		}
		cmd := exec.Command("/proc/self/exe")
		cmd.Args = append([]string{"offmap"}, args...)
		cmd.Stderr = os.Stderr
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { cmd.Process.Kill() })
		return cmd, fifo
	}
	hello := []string{"run", "-q", "-m", "32", "--backend", "memfd"}
	for _, flag := range []string{"--report", "--exposure"} {
		t.Run(flag, func(t *testing.T) {
			cmd, fifo := start(t, append(hello, flag, "FIFO")...)
			time.Sleep(500 * time.Millisecond) // the guest has ended
			text, err := os.ReadFile(fifo)
			if err != nil || !json.Valid(text) {
				t.Errorf("%v, read %q", err, text)
			}
			(&ending{}).check(t, cmd, patience)
		})
	}
	for _, args := range [][]string{
		append(hello, "--report", "FIFO"),
		append(hello, "--exposure", "FIFO"),
		{"report", "FIFO"},
	} {
		t.Run("SIGTERM "+args[len(args)-2], func(t *testing.T) {
			cmd, _ := start(t, args...)
			time.Sleep(500 * time.Millisecond)
			cmd.Process.Signal(unix.SIGTERM)
			(&ending{code: 143}).check(t, cmd, patience)
		})
	}
	t.Run("--timeout", func(t *testing.T) {
		cmd, _ := start(t, append(hello, "--timeout", "1s", "--report", "FIFO")...)
		(&ending{code: 124}).check(t, cmd, patience)
	})
}
