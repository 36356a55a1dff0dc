package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
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
			// A signal that comes before the program handles it ends the program at
			// once. A slow machine takes longer to get there.
			for wait := 500 * time.Millisecond; ; wait *= 4 {
				cmd, _ := start(t, slices.Clone(args)...)
				time.Sleep(wait)
				cmd.Process.Signal(unix.SIGTERM)
				status := awaitEnd(t, cmd, patience)
				if status.Signaled() && wait < patience/4 {
					continue
				}
				if status.ExitStatus() != 128+int(unix.SIGTERM) {
					t.Errorf("%v, want exit code 143", cmd.ProcessState)
				}
				break
			}
		})
	}
	t.Run("--timeout", func(t *testing.T) {
		cmd, _ := start(t, append(hello, "--timeout", "1s", "--report", "FIFO")...)
		(&ending{code: 124}).check(t, cmd, patience)
	})
}
