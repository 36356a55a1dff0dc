// Command offmap runs KVM guests whose RAM the host kernel can't see.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"offmap/guest/initramfs/userland"
	"offmap/internal/lab/inside"
	"offmap/internal/measure/probe"
	"offmap/internal/process/exitcode"
	"offmap/internal/process/terminal"
	"offmap/kvm"
)

func main() {
	os.Exit(program()())
}

// program returns the program that this process was started as: process 1 or a
// command of a guest's userland, the lab's process 1, or offmap.
func program() func() int {
	lab := len(os.Args) > 1 && os.Args[1] == inside.Command
	if p := userland.Program(os.Args); p != nil && !lab {
		return p
	}
	return func() int { return Main(os.Args[1:]) }
}

// Main runs the program, for main and for the tests. It returns the exit code.
func Main(args []string) int {
	ctx, uncatch := withSignals(context.Background())
	root := newRootCmd()
	root.SetArgs(args)
	if len(args) > 0 && strings.HasPrefix(args[0], cobra.ShellCompRequestCmd) {
		addCompletions(root)
	}
	err := root.ExecuteContext(ctx)
	uncatch()
	if endedBy(ctx, syscall.SIGPIPE) {
		return exitcode.Signal + int(syscall.SIGPIPE) // nobody reads a message
	}
	if err == nil {
		return 0
	}
	// run wraps the errors of commands, so any other is cobra's, for wrong usage.
	if _, ran := errors.AsType[*commandError](err); !ran {
		err = exitWith(exitcode.Usage, err)
	}
	if c, ok := errors.AsType[*codeError](err); !ok || c.err != nil {
		explain(ctx, err)
	}
	return exitCode(err)
}

// explain prints the error with which the program ends.
func explain(ctx context.Context, err error) {
	text := fmt.Sprintf("offmap: %s\n", terminal.Printable(err.Error()))
	if noKVM, ok := errors.AsType[*kvm.OpenError](err); ok {
		text += fmt.Sprintf("To fix it: %s.\n", probe.FixKVM(noKVM))
	}
	if _, guests := errors.AsType[guestCode](err); exitCode(err) == exitcode.Usage && !guests {
		text += "Run 'offmap --help' or 'offmap COMMAND --help' for usage.\n"
	}
	ctx, hurry := context.WithCancel(ctx)
	defer hurry()
	if errors.Is(err, errTimeout) {
		hurry()
	}
	_, _ = (&output{w: os.Stderr, stopping: ctx.Done()}).Write([]byte(text)) // there is nowhere to report an error
}
