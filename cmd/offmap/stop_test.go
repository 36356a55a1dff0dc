package main

import (
	"context"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// stuck is a program whose guest doesn't end when it is stopped. With the argument
// "deaf" no goroutine can run any more either.
func stuck() {
	ctx, uncatch := withSignals(context.Background())
	defer uncatch()
	disarm := lastResort(ctx, func() {})
	os.Stdout.WriteString("ready\n")
	<-ctx.Done()
	switch os.Args[1] {
	case "gone":
		disarm()
		time.Sleep(killPatience + time.Second)
		os.Exit(9)
	case "deaf":
		time.Sleep(50 * time.Millisecond) // armed by then
		for {                             // with GOMAXPROCS=1, set by the test
			_, _, _ = syscall.RawSyscall(syscall.SYS_PAUSE, 0, 0, 0)
		}
	}
	select {}
}

// TestLastResort stops programs that don't end by themselves.
func TestLastResort(t *testing.T) {
	for _, c := range []struct {
		name, how string
		second    time.Duration // until a second signal, 0 for none
		end       ending
		says      string
	}{
		{"stuck vCPU", "", 0, ending{code: 143}, "offmap: stopped by signal: terminated\n"},
		{"stuck vCPU, second signal", "", 300 * time.Millisecond, ending{died: unix.SIGTERM}, ""},
		{"no processor for Go", "deaf", 0, ending{died: unix.SIGKILL}, ""},
		{"guest gone", "gone", 0, ending{code: 9}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			cmd := exec.Command("/proc/self/exe")
			cmd.Args = []string{"offmapstuck", c.how}
			cmd.Env = append(os.Environ(), "GOMAXPROCS=1")
			var said strings.Builder
			out, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			cmd.Stderr = &said
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { cmd.Process.Kill() })
			if _, err := out.Read(make([]byte, 16)); err != nil {
				t.Fatal(err)
			}
			start := time.Now()
			cmd.Process.Signal(unix.SIGTERM)
			if c.second > 0 {
				time.Sleep(c.second)
				cmd.Process.Signal(unix.SIGTERM)
			}
			c.end.check(t, cmd, patience)
			t.Logf("%v after %v", cmd.ProcessState, time.Since(start).Round(time.Millisecond))
			if said.String() != c.says {
				t.Errorf("it said %q, want %q", said.String(), c.says)
			}
		})
	}
}
