package userland

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
	"mvdan.cc/sh/v3/interp"
	"mvdan.cc/sh/v3/syntax"
)

// shell is sh: -c COMMAND [NAME [ARGUMENT]...], or FILE [ARGUMENT].... Without
// arguments it runs standard input, with a prompt if that is a terminal.
func shell(args []string) error {
	var script io.Reader = os.Stdin
	name := "sh"
	switch {
	case len(args) > 0 && args[0] == "-c":
		if len(args) < 2 {
			return usage("sh [-c COMMAND | FILE] [ARGUMENT]...")
		}
		script = strings.NewReader(args[1])
		args = args[2:]
		if len(args) > 0 {
			name, args = args[0], args[1:]
		}
	case len(args) > 0:
		f, err := os.Open(args[0])
		if err != nil {
			return err
		}
		defer f.Close()
		script, name, args = f, args[0], args[1:]
	}
	interactive := script == os.Stdin && isTerminal(os.Stdin)
	r, err := interp.New(
		interp.StdIO(os.Stdin, os.Stdout, os.Stderr),
		interp.Params(append([]string{"--"}, args...)...),
		interp.Interactive(interactive),
		interp.CallHandler(ownKill),
	)
	if err != nil {
		return err
	}
	if interactive {
		return converse(r)
	}
	prog, err := syntax.NewParser().Parse(script, name)
	if err != nil {
		return err
	}
	return status(r.Run(context.Background(), prog))
}

// ownKill replaces the name kill by the path of the applet. The interpreter takes
// the bare name for a builtin, but has no such builtin.
func ownKill(ctx context.Context, args []string) ([]string, error) {
	if args[0] != "kill" {
		return args, nil
	}
	hc := interp.HandlerCtx(ctx)
	path, err := interp.LookPathDir(hc.Dir, hc.Env, "kill")
	if err != nil {
		return args, nil
	}
	return append([]string{path}, args[1:]...), nil
}

func isTerminal(f *os.File) bool {
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}

// status turns an exit status of the interpreter into an exitStatus.
func status(err error) error {
	var s interp.ExitStatus
	if errors.As(err, &s) {
		return exitStatus(s)
	}
	return err
}

// converse reads commands from the terminal, with a prompt, until exit or the end
// of input. The terminal itself edits the line. Ctrl-C ends the running command and
// not the shell.
func converse(r *interp.Runner) error {
	running := interrupts()
	var last error
	for {
		parser := syntax.NewParser()
		fmt.Print("# ")
		bad := false
		for stmts, err := range parser.InteractiveSeq(os.Stdin) {
			if err != nil {
				fmt.Fprintln(os.Stderr, "sh:", err)
				bad = true // the parser's state is bad too
				break
			}
			if parser.Incomplete() {
				fmt.Print("> ")
				continue
			}
			for _, stmt := range stmts {
				ctx, done := running()
				last = status(r.Run(ctx, stmt))
				stopped := ctx.Err() != nil
				done()
				if stopped {
					last = exitStatus(128 + int(unix.SIGINT))
					break
				}
				if r.Exited() {
					return last
				}
			}
			fmt.Print("# ")
		}
		if !bad {
			fmt.Println()
			return last
		}
	}
}

// interrupts catches SIGINT. It returns a function that makes a context for one
// command, which the next SIGINT cancels. While no command runs, SIGINT only starts
// a new line.
func interrupts() func() (context.Context, context.CancelFunc) {
	var mu sync.Mutex
	var cancel context.CancelFunc
	ints := make(chan os.Signal, 1)
	signal.Notify(ints, unix.SIGINT)
	go func() {
		for range ints {
			mu.Lock()
			fmt.Println()
			if cancel != nil {
				cancel()
			} else {
				fmt.Print("# ")
			}
			mu.Unlock()
		}
	}()
	set := func(c context.CancelFunc) {
		mu.Lock()
		defer mu.Unlock()
		cancel = c
	}
	return func() (context.Context, context.CancelFunc) {
		ctx, c := context.WithCancel(context.Background())
		set(c)
		return ctx, func() { set(nil); c() }
	}
}
