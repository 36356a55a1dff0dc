package main

import (
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"testing"
)

// TestFewDescriptors runs the program with few file descriptors. Commands that need none
// work, and the others say what they lack.
func TestFewDescriptors(t *testing.T) {
	for _, c := range []struct {
		args string
		code int
		says string
	}{
		{"--help", 0, "Usage:"},
		{"run --help", 0, "Usage:"},
		{"help doctor", 0, "Usage:"},
		{"nonsense", 2, "unknown command"},
		{"run", 4, "RLIMIT_NOFILE"},
		{"run --backend secret --attach window", 4, "RLIMIT_NOFILE"},
		{"doctor", 4, "RLIMIT_NOFILE"},
		{"limits", 4, "RLIMIT_NOFILE"},
		{"audit", 4, "RLIMIT_NOFILE"},
		{"bench --quick", 4, "RLIMIT_NOFILE"},
		{"lab -- doctor", 4, "RLIMIT_NOFILE"},
	} {
		for _, limit := range []int{4, 6, 7, 8, 9, 16, 24} {
			t.Run(fmt.Sprintf("%s/%d", c.args, limit), func(t *testing.T) {
				program := asProgram(t, strings.Fields(c.args)...)
				cmd := exec.CommandContext(t.Context(), "/bin/sh", append([]string{"-c", fmt.Sprintf(`ulimit -n %d; exec "$@"`, limit), "sh"}, program.Args...)...)
				out, err := cmd.CombinedOutput()
				if _, ended := errors.AsType[*exec.ExitError](err); err != nil && !ended {
					t.Fatal(err)
				}
				if got := cmd.ProcessState.ExitCode(); got != c.code || !strings.Contains(string(out), c.says) || strings.Contains(string(out), "goroutine ") {
					t.Errorf("exit code %d, want %d and %q:\n%.1000s", got, c.code, c.says, out)
				}
			})
		}
	}
}
