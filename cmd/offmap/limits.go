package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"offmap/internal/lab/debian"
	"offmap/internal/measure/limits"
	"offmap/internal/measure/probe"
	"offmap/internal/render/results"
	"offmap/internal/render/table"
)

func newLimitsCmd() *cobra.Command {
	var (
		only   []string
		asJSON bool
	)
	cmd := &cobra.Command{
		Use:   "limits [flags]",
		Short: "Check the known limits of secret guest RAM on this host",
		Long: `limits checks the known limits of memory that is not in the kernel's direct map.
Each limit has a source that says what to expect, and a check that tries it on
this host. A limit "holds" if this kernel does what the source says, which is good
for some limits and bad for others.

limits prints a line or two for each limit, or with --only the limits in full. As
root it can check more of them. The checks undo their changes, except that secret
memory splits the direct map's large pages for good.

A limit that doesn't hold is no failure: the exit code is still 0.`,
		Example: `  sudo offmap limits
  offmap limits --only memlock,memlock-touch
  offmap lab --kernel all -- limits --json`,
		Args: cobra.NoArgs,
		RunE: run(func(cmd *cobra.Command, _ []string) error {
			chosen, err := choose("limit", limits.All(), func(l limits.Limit) string { return l.ID }, only, nil)
			if err != nil {
				return err
			}
			doc := &limits.Document{Schema: limits.Schema, Host: probe.ThisHost()}
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

// newLimitsChildCmd is the command that the checks' child processes run.
func newLimitsChildCmd() *cobra.Command {
	return &cobra.Command{
		Use: limits.Command, Hidden: true, DisableFlagParsing: true,
		RunE: run(func(_ *cobra.Command, args []string) error { return exitWith(limits.ChildMain(args), nil) }),
	}
}

// checkLimits makes the checks, and prints its progress on stderr.
func checkLimits(ctx context.Context, chosen []limits.Limit) (results []limits.Result, err error) {
	err = withProgress(ctx, "limits", func(progress debian.Progress) error {
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

// terminalWidth is the width of stdout in characters, at most 100, because longer lines
// are hard to read. If stdout is no terminal it is 0, for no limit.
func terminalWidth() int {
	cols, _, err := term.GetSize(1)
	if err != nil {
		return 0
	}
	return min(cols, 100)
}

// printLimits prints the limits as text: a table, or each in full.
func printLimits(w io.Writer, doc *limits.Document, full bool, width int) error {
	text := fmt.Sprintf("Linux %s, %d CPUs, KVM %s (%s)\n\n", doc.Host.Kernel, doc.Host.CPUs, doc.Host.KVM, doc.Host.Accel)
	if full {
		text += table.Text{Width: width, Indent: "  "}.Write(results.LimitsInFull(doc))
	} else {
		count := map[string]int{}
		for _, r := range doc.Limits {
			count[results.State(r).Text]++
		}
		text += table.Text{Width: width, More: true}.Write(results.Limits(results.Of[limits.Document]{Doc: doc})) + "\n" +
			table.Beside(fmt.Sprintf("%d hold, %d don't hold on this kernel (%s), %d couldn't be checked (%s). `offmap limits --only ID` prints one in full.",
				count[results.Holds], count[results.HoldsNot], results.HoldsNot, count[results.Unknown], results.Unknown), 0, width) + "\n"
	}
	_, err := io.WriteString(w, text)
	return err
}
