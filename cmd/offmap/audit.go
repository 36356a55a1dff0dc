package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"slices"

	"github.com/spf13/cobra"

	"offmap/audit"
	"offmap/audit/canary"
	"offmap/internal/measure/probe"
	"offmap/internal/process/exitcode"
	"offmap/internal/render/results"
	"offmap/internal/render/table"
	"offmap/kvm"
	"offmap/memory"
	"offmap/memory/attach"
)

// auditFlags are the flags of offmap audit.
type auditFlags struct {
	kernel  string
	memory  size
	backend string
	attach  string
	window  windowFlags
	all     bool
	only    []string
	skip    []string
	pid     int
	canary  string
	freeze  bool
	failOn  string
	json    bool
	list    bool
}

// RAM of a guest that has nothing but a canary in it, and of one that boots
// Linux first.
const (
	auditMemory      = size(32 << 20)
	auditLinuxMemory = size(512 << 20)
)

func newAuditCmd() *cobra.Command {
	var f auditFlags
	cmd := &cobra.Command{
		Use:   "audit [flags]",
		Short: "Attack a guest's RAM in every known way, and judge the results",
		Long: `audit runs guests that plant a random canary all over their RAM. It attacks
that RAM by every avenue; an avenue is a way by which a host could read it. It
reads through the kernel's direct map and from other processes, makes the kernel
use guest pages for I/O, searches freed memory, and uses the VMM's own rights.

audit makes each attack on controls too: the same guest in ordinary memory (anon
and memfd). An attack is blocked only if it found the control's canary in the
same run, and the guest's own canary was still in its RAM. Otherwise it is
inconclusive, or skipped if this host can't make it.

Most attacks need root. Some change settings of the host (KSM, zswap, huge pages
of shared memory) and restore them; only SIGKILL leaves them changed. In the lab
audit also searches the machine's RAM from outside, to show that the canary is
there. Exit code 3 if the guest's RAM was exposed, other than to its owner, or if
an attack was inconclusive (--fail-on).`,
		Example: `  offmap audit
  offmap audit --all
  offmap audit -k debian:6.1 --only direct-map,residue-exit
  offmap audit --pid 4242 --canary HEX   # a running guest: canary -hold`,
		Args: cobra.NoArgs,
		RunE: run(func(cmd *cobra.Command, _ []string) error {
			if f.list {
				return listAvenues(os.Stdout)
			}
			if !cmd.Flags().Changed("memory") && f.kernel != "" {
				f.memory = auditLinuxMemory
			}
			return runAudit(cmd, f)
		}),
	}
	fl := cmd.Flags()
	f.memory = auditMemory
	fl.StringVarP(&f.kernel, "kernel", "k", "", "`KERNEL` of the guests, as for offmap run (default: the embedded payload canary)")
	fl.VarP(&f.memory, "memory", "m", "guest RAM: MiB, or with K, M, G (512M with --kernel)")
	fl.StringVar(&f.backend, "backend", string(memory.Secret), "kind of memory that holds the guest's RAM: "+names(memory.Backends()))
	fl.StringVar(&f.attach, "attach", string(attach.Auto), "how the backend's pages get into KVM: "+names(attach.Methods()))
	f.window.addSize(fl)
	fl.BoolVar(&f.all, "all", false, "attack every backend and attach that this host offers")
	fl.StringSliceVar(&f.only, "only", nil, "make only these attacks, such as direct-map,o-direct (see --list)")
	fl.StringSliceVar(&f.skip, "skip", nil, "leave these attacks out")
	fl.IntVar(&f.pid, "pid", 0, "attack the guest of the `offmap run` with this process ID; needs --canary")
	fl.StringVar(&f.canary, "canary", "", "that guest's canary, as the command canary in the guest printed it (`HEX`)")
	fl.BoolVar(&f.freeze, "freeze-host", false, "also make the attack that stops all processes and devices of this host for about a second: hibernation")
	fl.StringVar(&f.failOn, "fail-on", failInconclusive, "when to exit with 3: exposed (an attack was), inconclusive (or exposed), or never")
	fl.BoolVar(&f.json, "json", false, "print JSON")
	fl.BoolVar(&f.list, "list", false, "list the avenues and exit")
	return cmd
}

// Values of --fail-on.
const (
	failExposed      = "exposed"
	failInconclusive = "inconclusive"
	failNever        = "never"
)

func listAvenues(w io.Writer) error {
	var rows [][]table.Cell
	for _, a := range audit.Avenues() {
		about := a.About
		if a.Owner {
			about += " (in the VMM's own name: nothing keeps that out)"
		}
		rows = append(rows, table.Row(a.Name, about))
	}
	list := &table.Table{Columns: []table.Column{{}, {Wide: true}}, Groups: []table.Group{{Rows: rows}}}
	_, err := io.WriteString(w, table.Text{Width: terminalWidth()}.Write(list))
	return err
}

func runAudit(cmd *cobra.Command, f auditFlags) error {
	c := audit.Config{
		Kernel: f.kernel, Memory: uint64(f.memory), Freeze: f.freeze, Outside: outsideScan(),
		Progress: func(what string) { slog.Info(what) },
	}
	if !slices.Contains([]string{failExposed, failInconclusive, failNever}, f.failOn) {
		return usage("unknown --fail-on %q: have %s, %s, %s", f.failOn, failExposed, failInconclusive, failNever)
	}
	if err := checkRAM(f.memory); err != nil {
		return err
	}
	var err error
	if c.Avenues, err = choose("avenue", audit.Avenues(), func(a audit.Avenue) string { return a.Name }, f.only, f.skip); err != nil {
		return err
	}
	if err := checkFreeze(f.freeze); err != nil {
		return err
	}
	chief, err := f.columns(cmd.Context(), &c)
	if err != nil {
		return err
	}
	r, err := audit.Run(cmd.Context(), c)
	if guest, ok := errors.AsType[*exec.ExitError](err); ok && guest.ExitCode() == exitcode.Cannot {
		err = exitWith(exitcode.Cannot, err) // as the guest's own run would
	}
	if err != nil {
		return err
	}
	doc := r.Document(c.Memory, chief)
	if f.json {
		err = printJSON(os.Stdout, doc)
	} else {
		err = printAudit(os.Stdout, doc)
	}
	if err == nil && failed(doc.Avenues, f.failOn) {
		err = exitWith(exitcode.Check, nil)
	}
	return err
}

// columns fills in c.Columns, controls first, and returns the index of the guest that
// the flags name.
func (f auditFlags) columns(ctx context.Context, c *audit.Config) (chief int, err error) {
	backend, err1 := memory.ParseBackend(f.backend)
	method, err2 := attach.ParseMethod(f.attach)
	if err := errors.Join(err1, err2); err != nil {
		return 0, exitWith(exitcode.Usage, err)
	}
	opts, err := f.window.options(backend, method, c.Memory)
	if err != nil {
		return 0, err
	}
	c.Columns = []audit.Column{
		{Pair: attach.Pair{Backend: memory.Anon, Attach: attach.Direct}},
		{Pair: attach.Pair{Backend: memory.Memfd, Attach: attach.Direct}},
	}
	switch {
	case (f.pid != 0) != (f.canary != ""):
		return 0, usage("--pid and --canary go together: run `canary -hold` in the guest, and give what it prints")
	case f.pid != 0 && f.all:
		return 0, usage("--all starts new guests and --pid attacks a running one: use one")
	case f.pid != 0:
		return f.running(c)
	}
	wanted, err := attach.Pair{Backend: backend, Attach: method}.Pairs()
	if err != nil {
		return 0, exitWith(exitcode.Usage, err)
	}
	sys, err := kvm.Open("")
	if err != nil {
		return 0, err
	}
	defer sys.Close()
	chief = slices.IndexFunc(c.Columns, func(col audit.Column) bool { return slices.Contains(wanted, col.Pair) })
	var refused []attach.Rejection
	for _, p := range attach.Pairs() {
		col := audit.Column{Pair: p}
		candidate := slices.Contains(wanted, p)
		if slices.Contains(c.Columns, col) || !f.all && (!candidate || chief >= 0) {
			continue
		}
		if t := probe.Try(ctx, p, ""); !t.Works {
			slog.Info(fmt.Sprintf("not %s: %s", col, t.Reason))
			if candidate {
				refused = append(refused, attach.Rejection{Attach: p.Attach, Reason: t.Reason})
			}
			continue
		}
		if p.Attach == attach.ViaWindow {
			col.Window = opts.Window
		}
		c.Columns = append(c.Columns, col)
		if candidate && chief < 0 { // the preferred attach comes first
			chief = len(c.Columns) - 1
		}
	}
	if chief < 0 {
		return 0, &attach.RefusedError{Backend: backend, Rejected: refused}
	}
	return chief, nil
}

// running adds a running guest.
func (f auditFlags) running(c *audit.Config) (int, error) {
	canary, err := canary.Parse(f.canary)
	if err != nil {
		return 0, exitWith(exitcode.Usage, fmt.Errorf("--canary: %w", err))
	}
	col, err := audit.Identify(f.pid)
	if err != nil {
		return 0, err
	}
	col.Running = &audit.Target{PID: f.pid, Canary: canary}
	c.Columns = append(c.Columns, col)
	return len(c.Columns) - 1, nil
}

// failed reports whether the verdicts on a guest make the exit code a failure, as
// --fail-on says. Attacks with the owner's rights don't count.
func failed(avenues []audit.Outcome, failOn string) bool {
	blocked := false
	for _, a := range avenues {
		switch {
		case a.Verdict == audit.Blocked:
			blocked = true
		case failOn == failNever:
		case a.Verdict == audit.Exposed && !a.Owner:
			return true
		case a.Verdict == audit.Inconclusive && failOn == failInconclusive:
			return true
		}
	}
	// An audit that made no attack proves nothing.
	return failOn == failInconclusive && !blocked
}

// printAudit prints the matrix: avenues down, guests across.
func printAudit(w io.Writer, doc *audit.Document) error {
	matrix := table.Text{Indent: "  "}.Write(results.Audit(results.Of[audit.Document]{Doc: doc}))
	_, err := fmt.Fprintf(w, "Attacks on guest RAM (Linux %s, KVM %s, %s), and the pages with the guest's canary that they found:\n\n%s",
		doc.Host.Kernel, doc.Host.KVM, doc.Host.Accel, matrix)
	return err
}
