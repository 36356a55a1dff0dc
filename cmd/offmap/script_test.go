package main

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"offmap/internal/measure/probe"
	"offmap/kvm"
	"offmap/memory"
	"offmap/memory/attach"
)

func TestMain(m *testing.M) {
	programs := map[string]func(){
		"offmap":      func() { breakLater(); os.Exit(Main(os.Args[1:])) },
		"offmapfake":  fakeBench,
		"offmapstuck": stuck,
	}
	if programs[filepath.Base(os.Args[0])] == nil {
		// nohup starts a program with SIGHUP ignored, and its children would have that
		// too. Children don't ignore a signal that is caught here.
		signal.Notify(make(chan os.Signal, 1), syscall.SIGHUP)
	}
	testscript.Main(m, programs)
}

// endsWith is the script command "exitcode N PROGRAM [ARG]...". The program must end
// with exit code N.
func endsWith(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exitcode N PROGRAM [ARG]...")
	}
	got := 0
	err := ts.Exec(args[1], args[2:]...)
	if e, ok := errors.AsType[*exec.ExitError](err); ok {
		got = e.ExitCode()
	} else if err != nil {
		ts.Fatalf("%v", err)
	}
	if args[0] != strconv.Itoa(got) {
		ts.Fatalf("exit code %d, want %s", got, args[0])
	}
}

// TestScripts runs the command line as a user does. Conditions: [kvm] for a
// usable /dev/kvm, [root], [bridge] for a usable bridge, [window] for the right to
// userfaultfd and secret memory.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		Cmds:                map[string]func(*testscript.TestScript, bool, []string){"exitcode": endsWith},
		Condition: func(cond string) (bool, error) {
			switch cond {
			case "kvm":
				sys, err := kvm.Open("")
				if err == nil {
					sys.Close()
				}
				return err == nil, nil
			case "root":
				return os.Geteuid() == 0, nil
			case "bridge":
				return attach.CheckBridge() == nil, nil
			case "window":
				return probe.Try(context.Background(), attach.Pair{Backend: memory.Secret, Attach: attach.ViaWindow}, "").Works, nil
			}
			return false, nil
		},
	})
}
