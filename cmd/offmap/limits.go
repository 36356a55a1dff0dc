package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"offmap/internal/lab/debian"
	"offmap/internal/measure/limits"
	"offmap/internal/measure/probe"
)

func newLimitsCmd() *cobra.Command {
	var (
		only   []string
		asJSON bool
	)
	cmd := &cobra.Command{
		Use:   "limits [flags]",
		Short: "Show the known limits of secret guest RAM, and how they stand here",
		Long: `limits checks, one by one, what is known to be limited about memory that the
kernel doesn't see: each limit has a source that says what to expect, and a check
that does it on this host and says what came of it. A limit "holds" where this
kernel does as the source says, which is good news for some and bad for others.

Without --only there is a line or two for each; --only prints all that there is to
say of a limit. As root more of them can be checked; the checks change nothing
that outlasts them, but for the direct map, which secret memory splits for good.

A limit that doesn't hold is a result: the exit code is 0 all the same.`,
		Example: `  sudo offmap limits
  offmap limits --only memlock,memlock-touch
  offmap lab --kernel all -- limits --json`,
		Args: cobra.NoArgs,
		RunE: run(func(cmd *cobra.Command, _ []string) error {
			chosen, err := choose("limit", limits.All(), func(l limits.Limit) string { return l.ID }, only, nil)
			if err != nil {
				return err
			}
			doc := limits.Document{Schema: limits.Schema, Host: probe.ThisHost()}
			if doc.Limits, err = checkLimits(cmd.Context(), chosen); err != nil {
				return err
			}
			if asJSON {
				return printJSON(os.Stdout, doc)
			}
			return printLimits(os.Stdout, doc, len(only) > 0, terminalWidth())
		}),
	}
	cmd.Flags().StringSliceVar(&only, "only", nil, "check the limits with these `IDs`, separated by commas, and print them in full")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

// newLimitsChildCmd is what the checks' children run.
func newLimitsChildCmd() *cobra.Command {
	return &cobra.Command{
		Use: limits.Command, Hidden: true, DisableFlagParsing: true,
		RunE: run(func(_ *cobra.Command, args []string) error { return exitWith(limits.ChildMain(args), nil) }),
	}
}

// checkLimits makes the checks, and says on stderr how far it has come.
func checkLimits(ctx context.Context, chosen []limits.Limit) (results []limits.Result, err error) {
	err = withProgress("limits", func(progress debian.Progress) error {
		for i, l := range chosen {
			if slog.Default().Enabled(ctx, slog.LevelInfo) {
				progress(l.ID, float64(i)/float64(len(chosen)))
			}
			r := l.Check(ctx)
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			results = append(results, r)
		}
		return nil
	})
	return results, err
}

// terminalWidth is the width of stdout in characters, and 0 where that is no
// terminal: as wide as it gets. Lines of more than 100 are hard to read.
func terminalWidth() int {
	cols, _, err := term.GetSize(1)
	if err != nil {
		return 0
	}
	return min(cols, 100)
}

// state says in a word how a limit stands.
func state(r limits.Result) string {
	switch {
	case r.Holds == nil:
		return "?"
	case *r.Holds:
		return "holds"
	}
	return "NOT"
}

// printLimits prints the limits for people: at a glance, or in full.
func printLimits(w io.Writer, doc limits.Document, full bool, width int) error {
	const indent = 7 // behind the widest state
	var b strings.Builder
	fmt.Fprintf(&b, "Linux %s, %d CPUs, KVM %s (%s)\n\n", doc.Host.Kernel, doc.Host.CPUs, doc.Host.KVM, doc.Host.Accel)
	var count [3]int
	for _, r := range doc.Limits {
		switch state(r) {
		case "holds":
			count[0]++
		case "NOT":
			count[1]++
		default:
			count[2]++
		}
		if full {
			printLimit(&b, r, width)
			continue
		}
		fmt.Fprintf(&b, "%-*s%s\n", indent, state(r), beside(r.Title+" ("+r.ID+")", indent, width))
		fmt.Fprintf(&b, "%*s%s\n", indent, "", beside(r.Observed, indent, width))
	}
	if !full {
		fmt.Fprintf(&b, "\n%s\n", beside(fmt.Sprintf("%d hold, %d don't hold on this kernel (NOT), %d couldn't be checked (?). `offmap limits --only ID` says all about one.",
			count[0], count[1], count[2]), 0, width))
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// printLimit prints all that there is to say of a limit.
func printLimit(w io.Writer, r limits.Result, width int) {
	const indent = 11
	fmt.Fprintf(w, "%s\n", beside(r.Title, 0, width))
	holds := map[string]string{"holds": "yes", "NOT": "no", "?": "couldn't be checked"}[state(r)]
	for _, line := range []struct{ name, text string }{
		{"ID", r.ID}, {"source", r.Source}, {"", r.Link}, {"how", r.How}, {"expected", r.Expected},
		{"observed", r.Observed}, {"holds", holds}, {"means", r.Means},
	} {
		fmt.Fprintf(w, "  %-*s%s\n", indent-2, line.name, beside(line.text, indent, width))
	}
	fmt.Fprintln(w)
}

// beside wraps a text that stands behind indent characters.
func beside(text string, indent, width int) string {
	return strings.Join(wrap(oneLine(text), width-indent), fmt.Sprintf("\n%*s", indent, ""))
}
