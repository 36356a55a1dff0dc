// Command offmap runs KVM guests whose RAM the host kernel can't see.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
)

func main() {
	os.Exit(Main(os.Args[1:]))
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
		if exitCode(err) == exitUsage {
			fmt.Fprintln(os.Stderr, "Run 'offmap --help' or 'offmap COMMAND --help' for usage.")
		}
	}
	return exitCode(err)
}
