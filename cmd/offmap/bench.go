package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"offmap/internal/measure/bench"
	"offmap/internal/process/exitcode"
	"offmap/internal/render/table"
	"offmap/memory"
	"offmap/memory/attach"
)

// benchFlags are the flags of offmap bench.
type benchFlags struct {
	only, skip []string
	backends   []string
	count      int
	duration   time.Duration
	quick      bool
	baseline   string
	peers      []string
	kernel     string
	initrd     string
	format     string
	json       bool
	report     string
	list       bool
}

// Values of --format.
const (
	formatTable    = "table"
	formatJSON     = "json"
	formatCSV      = "csv"
	formatBenchfmt = "benchfmt"
)

var formats = []string{formatTable, formatJSON, formatCSV, formatBenchfmt}

const (
	defaultRounds = 10
	// quickTime leaves enough of a minute to try the pairs and to build the baselines.
	quickTime = 50 * time.Second
)

func newBenchCmd() *cobra.Command {
	var f benchFlags
	cmd := &cobra.Command{
		Use:   "bench [flags]",
		Short: "Measure the cost of guest memory, in every backend that works here",
		Long: `bench measures guest memory in every backend and attach that works on this host.
It compares the figures with those of other VMMs, and with those of plain C that
does the same work (the baseline).

In each round of a scenario every subject (a backend and attach, another VMM, or
the baseline) is measured once, with a new guest. The order changes from round to
round, so that a drift of the machine affects all of them. The first round warms
up and isn't counted. Figures are medians with a 95 % interval, which takes at
least 6 rounds; the JSON document has all values. bench calls a subject better or
worse than memfd only if a Mann-Whitney test gives p < 0.05 and the difference is
wider than either interval; otherwise no difference was seen.

If the guest's instructions are emulated, bench refuses scenarios of bandwidth and
latency.

Ctrl-C ends the run; bench still prints what it has measured, marked as partial.
Exit code 1 if a measurement failed, 3 if a requested backend doesn't work here, 4
if none does.`,
		Example: `  offmap bench --quick
  offmap bench --backend memfd,secret --report secret.json
  offmap bench --only exits,populate --duration 10m --format csv > values.csv
  offmap bench --format benchfmt > a.txt; benchstat -table accel -col subject a.txt`,
		Args: cobra.NoArgs,
		RunE: run(func(cmd *cobra.Command, _ []string) error {
			if f.list {
				return listScenarios(os.Stdout)
			}
			if f.quick && !cmd.Flags().Changed("count") {
				f.count = bench.MinRounds
			}
			if f.json {
				if cmd.Flags().Changed("format") && f.format != formatJSON {
					return usage("--json and --format %s exclude each other", f.format)
				}
				f.format = formatJSON
			}
			return runBench(cmd.Context(), f)
		}),
	}
	fl := cmd.Flags()
	fl.StringSliceVar(&f.only, "only", nil, "measure only these `SCENARIOS`, separated by commas (see --list)")
	fl.StringSliceVar(&f.skip, "skip", nil, "leave these `SCENARIOS` out")
	fl.StringSliceVar(&f.backends, "backend", nil, "measure only these `BACKENDS` ("+names(memory.Backends())+"),\nor pairs such as secret+window")
	fl.IntVar(&f.count, "count", defaultRounds, fmt.Sprintf("rounds; fewer than %d give no 95 %% interval (%[1]d with --quick)", bench.MinRounds))
	fl.DurationVar(&f.duration, "duration", 0, "take more rounds than --count until the run has lasted this long, such as 10m;\nthe scenarios have equal shares of it")
	fl.BoolVar(&f.quick, "quick", false, "take less than a minute: the main scenarios, in small sizes, with fewer rounds if\ntime is short")
	fl.StringVar(&f.baseline, "baseline", "", "program `FILE` of the baseline (default: built with cc, if cc is installed)")
	fl.StringSliceVar(&f.peers, "peer", nil, "another VMM's program as `NAME=FILE`, with NAME gokvm or qemu (default: those on\nthe PATH)")
	fl.StringVarP(&f.kernel, "kernel", "k", "", "`KERNEL` for scenarios that boot Linux, as for offmap run")
	fl.StringVarP(&f.initrd, "initrd", "i", "", "initrd `FILE` for that kernel")
	fl.StringVar(&f.format, "format", formatTable, "what to print: "+strings.Join(formats, ", "))
	fl.BoolVar(&f.json, "json", false, "print JSON")
	fl.StringVar(&f.report, "report", "", "write the JSON document to `FILE` as well")
	fl.BoolVar(&f.list, "list", false, "list the scenarios and exit")
	return cmd
}

// benchScenarios are the scenarios. A test replaces them.
var benchScenarios = bench.Scenarios

func listScenarios(w io.Writer) error {
	all, indent := benchScenarios(), 0
	for _, s := range all {
		indent = max(indent, len(s.Name)+2)
	}
	var b strings.Builder
	for _, s := range all {
		about := s.About
		if s.Slow {
			about += " (not with --quick)"
		}
		fmt.Fprintf(&b, "%-*s%s\n", indent, s.Name, table.Beside(about, indent, terminalWidth()))
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func runBench(ctx context.Context, f benchFlags) (err error) {
	plan, wanted, err := f.check()
	if err != nil {
		return err
	}
	report, err := openReport(false, f.report)
	if err != nil {
		return err
	}
	env := &bench.Env{Host: bench.ThisHost(os.DirFS("/")), Quick: f.quick, Kernel: f.kernel, Initrd: f.initrd}
	plan.Env = env
	missing, remove, err := f.others(ctx, env)
	if err != nil {
		return err
	}
	defer remove()
	working, unavailable, err := tryPairs(ctx, wanted, f.backends)
	if err != nil {
		return err
	}
	plan.Working = working

	var doc *bench.Document
	withBenchProgress(func(progress func(bench.Progress)) {
		plan.Progress = progress
		doc = plan.Run(ctx)
	})
	doc.Args, doc.Unavailable = os.Args[1:], slices.Concat(doc.Unavailable, unavailable, missing)
	err = errors.Join(printBench(os.Stdout, f.format, doc), report.write(ctx, doc))
	switch {
	case err != nil:
		return err
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case doc.Failed():
		return exitWith(exitcode.Error, errors.New("some measurements failed"))
	case slices.ContainsFunc(unavailable, func(u bench.Unavailable) bool { return u.Asked }):
		return exitWith(exitcode.Check, nil)
	}
	return nil
}

// check checks the flags before anything is done. It returns the part of the plan that
// the flags set, and the requested pairs.
func (f benchFlags) check() (plan bench.Plan, wanted []attach.Pair, err error) {
	switch {
	case !slices.Contains(formats, f.format):
		return plan, nil, usage("unknown format %q: have %s", f.format, strings.Join(formats, ", "))
	case f.count < 1:
		return plan, nil, usage("--count %d: at least 1, and %d for an interval", f.count, bench.MinRounds)
	case f.duration < 0:
		return plan, nil, usage("--duration %v is negative", f.duration)
	case f.quick && f.duration > 0:
		return plan, nil, usage("--quick and --duration exclude each other")
	}
	plan = bench.Plan{Rounds: f.count, Duration: f.duration}
	if f.quick {
		plan.Duration = quickTime
	}
	if plan.Scenarios, err = chooseScenarios(f.only, f.skip, f.quick); err != nil {
		return plan, nil, err
	}
	wanted, err = choosePairs(f.backends)
	return plan, wanted, err
}

func chooseScenarios(only, skip []string, quick bool) ([]bench.Scenario, error) {
	chosen, err := choose("scenario", benchScenarios(), func(s bench.Scenario) string { return s.Name }, only, skip)
	if err != nil || !quick || len(only) > 0 {
		return chosen, err
	}
	chosen = slices.DeleteFunc(chosen, func(s bench.Scenario) bool { return s.Slow })
	if len(chosen) == 0 {
		return nil, usage("--skip and --quick leave no scenario")
	}
	return chosen, nil
}

// printBench prints the document in a format.
func printBench(w io.Writer, format string, doc *bench.Document) error {
	switch format {
	case formatJSON:
		return printJSON(w, doc)
	case formatCSV:
		return bench.WriteCSV(w, doc)
	case formatBenchfmt:
		return bench.WriteBenchfmt(w, doc)
	}
	return printBenchTable(w, doc, terminalWidth())
}
