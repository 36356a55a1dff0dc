// Command offmap runs KVM guests whose RAM the host kernel can't see.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"offmap/guest/initramfs/userland"
	"offmap/internal/lab/inside"
	"offmap/internal/probe"
	"offmap/kvm"
)

func main() {
	os.Exit(program()())
}

// program is what this process was started as: a command of our guests'
// userland or its process 1, the lab's process 1, or offmap.
func program() func() int {
	lab := len(os.Args) > 1 && os.Args[1] == inside.Command
	if p := userland.Program(os.Args); p != nil && !lab {
		return p
	}
	return func() int { return Main(os.Args[1:]) }
}

// Main is the program, for main and for the tests. It returns the exit code.
func Main(args []string) int {
	ctx, stop := withSignals(context.Background())
	defer stop()
	root := newRootCmd()
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return 0
	}
	// An error of cobra's own is wrong usage: RunE's are wrapped by run.
	if _, ran := errors.AsType[*commandError](err); !ran {
		err = exitWith(exitUsage, err)
	}
	if c, ok := errors.AsType[*codeError](err); !ok || c.err != nil {
		fmt.Fprintf(os.Stderr, "offmap: %v\n", err)
		if noKVM, ok := errors.AsType[*kvm.OpenError](err); ok {
			fmt.Fprintf(os.Stderr, "To fix it: %s.\n", probe.FixKVM(noKVM))
		}
		if exitCode(err) == exitUsage {
			fmt.Fprintln(os.Stderr, "Run 'offmap --help' or 'offmap COMMAND --help' for usage.")
		}
	}
	return exitCode(err)
}
