package main

import (
	"log/slog"
	"os"

	"github.com/spf13/cobra"
)

// globals are the flags that every command has.
type globals struct {
	verbose   bool
	quiet     bool
	logFormat string
}

// newRootCmd builds the command tree. Each test builds a new one.
func newRootCmd() *cobra.Command {
	var g globals
	root := &cobra.Command{
		Use:   "offmap",
		Short: "Run KVM guests whose RAM the host kernel can't see",
		Long: `offmap runs KVM guests on stock kernels. Guest RAM is memfd_secret(2) memory, which
is not in the host kernel's direct map.

Results go to stdout, logs and progress to stderr. Exit codes: 0 success, or the
guest's own code; 1 error; 2 wrong usage; 3 a check failed; 4 this host can't do
it; 32 guest reset; 33 guest crash; 34 guest kernel panic; 124 timeout; 125 exec
failed; 128+n ended by signal n.`,
		SilenceUsage:  true,
		SilenceErrors: true,
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error {
			level := slog.LevelInfo
			if _, ok := cmd.Annotations[terse]; ok {
				level = levelNotice
			}
			return setLog(g, level)
		},
	}
	fl := root.PersistentFlags()
	fl.BoolVarP(&g.verbose, "verbose", "v", false, "log more")
	fl.BoolVarP(&g.quiet, "quiet", "q", false, "log only errors")
	fl.StringVar(&g.logFormat, "log-format", "text", "format of the log on stderr: text or json")
	root.Version = "-" // for the flag --version; its text is made when it is asked for
	cobra.AddTemplateFunc("version", func() string { return thisVersion().String() })
	root.SetVersionTemplate("{{version}}")
	root.AddCommand(newRunCmd(), newExecCmd(), newDoctorCmd(), newAuditCmd(), newLimitsCmd(), newLimitsChildCmd(), newBenchCmd(), newLabCmd(), newLabInitCmd(), newReportCmd(), newCompletionCmd(), newVersionCmd(), newManCmd())
	return root
}

// commandError marks an error from a command. Other errors are wrong usage.
type commandError struct{ error }

func (e *commandError) Unwrap() error { return e.error }

// run wraps a command's function for RunE.
func run(f func(cmd *cobra.Command, args []string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		if err := enoughDescriptors(); err != nil {
			return &commandError{err}
		}
		if err := f(cmd, args); err != nil {
			return &commandError{err}
		}
		return nil
	}
}

// terse is the annotation of a command that logs from levelNotice on.
const terse = "terse"

// levelNotice is above what describes a normal run.
const levelNotice = slog.LevelInfo + 2

// setLog sets up the log, from level on by default.
func setLog(g globals, level slog.Level) error {
	switch {
	case g.verbose && g.quiet:
		return usage("--verbose and --quiet exclude each other")
	case g.verbose:
		level = slog.LevelDebug
	case g.quiet:
		level = slog.LevelError
	}
	switch g.logFormat {
	case "text":
		slog.SetDefault(slog.New(&textLog{w: os.Stderr, level: level}))
	case "json":
		slog.SetDefault(slog.New(slog.NewJSONHandler(os.Stderr, &slog.HandlerOptions{Level: level})))
	default:
		return usage("unknown log format %q: have text and json", g.logFormat)
	}
	return nil
}
