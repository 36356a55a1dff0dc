package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"
	"golang.org/x/term"

	"offmap/guest/agent"
	"offmap/internal/kernel"
	"offmap/internal/lab"
	"offmap/internal/lab/debian"
	"offmap/internal/lab/inside"
	"offmap/internal/process/exitcode"
	"offmap/internal/process/terminal"
	"offmap/memory/kmod"
)

// labFlags are the flags of offmap lab.
type labFlags struct {
	kernels  []string
	memory   size
	swap     size
	cpus     int
	program  string
	append   string
	modules  []string
	noModule bool
	plain    bool
	machine  string
	timeout  time.Duration
}

func newLabCmd() *cobra.Command {
	f := labFlags{memory: lab.DefaultMemory, cpus: lab.DefaultCPUs}
	cmd := &cobra.Command{
		Use:   "lab [flags] -- COMMAND [ARG]...",
		Short: "Run an offmap command inside a stock Debian kernel",
		Long: `lab boots a stock Debian cloud kernel in QEMU, which emulates a processor with
SVM and nested paging. It runs an offmap command in it, with a real kvm_amd and
the bridge's module, whatever this machine has. The command's stdout, stderr and
exit code are those of lab. The command sees this machine's current directory, its
cache and the directories of paths on the command line. With --machine=vmx, Bochs
emulates a processor with Intel's VMX, and the command sees only files that the
command line names by absolute paths. With --kernel=DIR, the lab runs the kernel that
make has built in DIR, and builds the module for it with this machine's compiler: see
docs/kernel-trees.md.

Afterwards the lab kernel's log is checked. If the kernel complained (oops,
BUG, WARNING, stall, lockup...) or the module can't be unloaded, the exit code
is 3, whatever the command's was.`,
		Example: `  offmap lab -- doctor
  offmap lab --kernel 7.x -- run -k debian:6.1 --json
  offmap lab --kernel all --program ./attach.test -- -test.v
  offmap lab --machine vmx -k 6.12 -m 768 -- run --payload touch -m 32
  offmap lab fetch && offmap lab shell`,
		Args: cobra.ArbitraryArgs,
		RunE: run(func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 && f.program == "" {
				return usage("lab: which offmap command? Write it after --, such as: offmap lab -- doctor")
			}
			if len(args) > 0 && cmd.ArgsLenAtDash() != 0 {
				return usage("lab: put the command to run inside after --, such as: offmap lab -- %s", strings.Join(args, " "))
			}
			return runLab(cmd.Context(), f, args)
		}),
	}
	f.addMachine(cmd)
	cmd.Flags().StringVar(&f.program, "program", "", "run `FILE`, a static executable, instead of offmap")
	cmd.AddCommand(newLabListCmd(), newLabFetchCmd(), newLabShellCmd())
	return cmd
}

// addMachine adds the flags that describe the machine.
func (f *labFlags) addMachine(cmd *cobra.Command) {
	fl := cmd.Flags()
	fl.StringArrayVarP(&f.kernels, "kernel", "k", nil, "kernel to run in: a `SERIES` of Debian's ("+strings.Join(debian.KnownSeries(), ", ")+"), one of\nthese with an exact version of the package such as 6.1=6.1.176-1, all of them, or the\ndirectory in which make has built a kernel (repeatable; default the newest series)")
	fl.VarP(&f.memory, "memory", "m", "RAM of the lab machine: MiB, or with K, M, G")
	fl.Var(&f.swap, "swap", "add a swap disk of `SIZE` to the lab machine (default none)")
	fl.IntVarP(&f.cpus, "cpus", "c", f.cpus, "processors of the lab machine")
	fl.StringVar(&f.append, "append", "", "words for the end of the lab kernel's command line; MODULE.PARAMETER=VALUE is for a module, too")
	fl.StringArrayVar(&f.modules, "module", nil, "also load module `NAME` of the lab's kernel, with its dependencies (repeatable)")
	fl.BoolVar(&f.noModule, "no-module", false, "don't build and load offmap.ko")
	fl.BoolVar(&f.plain, "plain", false, "don't add secretmem.enable=1 to the lab kernel's command line")
	fl.StringVar(&f.machine, "machine", machineSVM, "what emulates the machine: QEMU one with AMD's svm, or Bochs one with Intel's vmx,\nwhich is slower and sees only the files that the command names")
	fl.DurationVar(&f.timeout, "timeout", 0, "stop a machine after this long, such as 10m (0: never)")
}

// Values of --machine.
const (
	machineSVM = "svm"
	machineVMX = "vmx"
)

// newLabInitCmd is process 1 of a lab machine.
func newLabInitCmd() *cobra.Command {
	return &cobra.Command{
		Use: inside.Command, Hidden: true, Args: cobra.ArbitraryArgs, // words that the kernel doesn't know
		Run: func(*cobra.Command, []string) { inside.Main() },
	}
}

// chosenSeries returns the kernel series that list names, or the newest if it is empty.
func chosenSeries(list []string) ([]string, error) {
	known := debian.KnownSeries()
	if len(list) == 0 {
		return known[len(known)-1:], nil
	}
	if slices.Contains(list, "all") {
		return known, nil
	}
	var chosen []string
	for _, s := range list {
		if err := debian.CheckSeries(s); err != nil {
			return nil, usage("%v", err)
		}
		if !slices.Contains(chosen, s) {
			chosen = append(chosen, s)
		}
	}
	return chosen, nil
}

// chosenKernels returns the series and the build trees that list names, or the newest
// series if it is empty.
func chosenKernels(list []string) (kernels []string, err error) {
	if len(list) == 0 {
		return chosenSeries(nil)
	}
	for _, k := range list {
		named := []string{k}
		if !isTree(k) {
			if named, err = chosenSeries(named); err != nil {
				return nil, err
			}
		}
		for _, k := range named {
			if !slices.Contains(kernels, k) {
				kernels = append(kernels, k)
			}
		}
	}
	return kernels, nil
}

// isTree reports whether a value of --kernel names a directory, and no series.
func isTree(value string) bool {
	info, err := os.Stat(value)
	return err == nil && info.IsDir() && value != "all" && debian.CheckSeries(value) != nil
}

// runLab runs args, or f.program with args, in each of the chosen kernels.
func runLab(ctx context.Context, f labFlags, args []string) error {
	kernels, err := chosenKernels(f.kernels)
	if err != nil {
		return err
	}
	cfgs, err := prepareLabs(ctx, f, kernels, args)
	if err != nil {
		return err
	}
	if len(cfgs) == 1 {
		return runHere(ctx, f, cfgs[0])
	}
	return runSideBySide(ctx, f, cfgs)
}

// prepareLabs gets everything that the machines need, before it starts any of them.
func prepareLabs(ctx context.Context, f labFlags, kernels, args []string) ([]lab.Config, error) {
	if err := checkTimeout(f.timeout); err != nil {
		return nil, err
	}
	if f.cpus < 1 || f.memory == 0 { // in lab.Config 0 means the default
		return nil, usage("lab: a machine needs processors and memory")
	}
	switch f.machine {
	case machineSVM:
		if err := lab.Check(ctx); err != nil {
			return nil, exitWith(exitcode.Cannot, err)
		}
	case machineVMX:
	default:
		return nil, usage("lab: --machine=%s: it is %s or %s", f.machine, machineSVM, machineVMX)
	}
	cache, err := debian.CacheDir()
	if err != nil {
		return nil, err
	}
	dir, err := os.Getwd()
	if err != nil {
		return nil, err
	}
	base := lab.Config{
		Program: f.program, Args: args, Dir: dir,
		Shares: append([]string{cache}, lab.NeededDirs(dir, args)...),
		Env:    lab.Environment(os.Environ(), cache),
		Memory: int64(f.memory), Swap: int64(f.swap), CPUs: f.cpus, Append: f.append, Plain: f.plain, Modules: f.modules,
	}
	if f.machine == machineVMX {
		if base.Bochs, err = getBochs(ctx); err != nil {
			return nil, err
		}
	}
	if err := base.Complete(); err != nil {
		return nil, exitWith(exitcode.Usage, err)
	}
	for _, s := range lab.NeededSeries(args) {
		if debian.CheckSeries(s) != nil {
			continue // the command inside reports it
		}
		k, _, err := getKernel(ctx, s, false)
		if err != nil {
			return nil, err
		}
		if base.Bochs != "" { // it has no cache
			base.Args = replaced(base.Args, "debian:"+s, k.Image)
		}
	}
	if base.Bochs != "" {
		base.Carry = lab.NeededFiles(base.Args)
	}
	var cfgs []lab.Config
	for _, k := range kernels {
		cfg := base
		if cfg.Kernel, cfg.Module, err = labKernel(ctx, k, !f.noModule); err != nil {
			return nil, err
		}
		cfgs = append(cfgs, cfg)
	}
	return cfgs, nil
}

// labKernel gets the kernel that a value of --kernel names, and builds its module.
func labKernel(ctx context.Context, value string, withModule bool) (k lab.Kernel, module string, err error) {
	if !isTree(value) {
		stock, module, err := getKernel(ctx, value, withModule)
		if err != nil {
			return k, "", err
		}
		k, err = lab.Stock(stock)
		return k, module, err
	}
	tree, err := kernel.OpenTree(value)
	if err != nil {
		return k, "", usage("lab: --kernel: %v", err)
	}
	if withModule {
		err = withProgress(ctx, value, func(p debian.Progress) (err error) {
			module, err = debian.BuildModuleFor(ctx, tree, kmod.Sources, p)
			return err
		})
		if err != nil {
			return k, "", err
		}
	}
	k, err = lab.Built(tree)
	return k, module, err
}

// getKernel gets a kernel from the cache or else from Debian, and builds its module.
func getKernel(ctx context.Context, series string, withModule bool) (k debian.Kernel, module string, err error) {
	err = withProgress(ctx, "debian:"+series, func(p debian.Progress) (err error) {
		if k, err = debian.GetKernel(ctx, series, p); err == nil && withModule {
			module, err = debian.BuildModule(ctx, k, kmod.Sources, p)
		}
		return err
	})
	return k, module, err
}

// getBochs gets Bochs from the cache or else from Debian.
func getBochs(ctx context.Context) (dir string, err error) {
	err = withProgress(ctx, "Bochs", func(p debian.Progress) (err error) {
		dir, err = debian.Bochs(ctx, p)
		return err
	})
	return dir, err
}

// replaced returns args with each one that is from as to.
func replaced(args []string, from, to string) []string {
	out := slices.Clone(args)
	for i, a := range out {
		if a == from {
			out[i] = to
		}
	}
	return out
}

// runHere runs one machine on offmap's own standard streams.
func runHere(ctx context.Context, f labFlags, cfg lab.Config) error {
	own, tty, err := ownStreams()
	if err != nil {
		return err
	}
	defer tty.Close()
	cfg.Stdin, cfg.Stdout, cfg.Stderr, cfg.Terminal, cfg.Ready = own.Stdin, own.Stdout, own.Stderr, own.Terminal, own.Ready
	return oneLab(ctx, f, cfg)
}

// describeTerminal describes offmap's terminal to a machine.
func describeTerminal() agent.Terminal {
	cols, rows, err := term.GetSize(1)
	if err != nil {
		cols, rows = 80, 24
	}
	return agent.Terminal{Rows: uint16(rows), Cols: uint16(cols), StderrPipe: !term.IsTerminal(2)}
}

// runSideBySide runs several machines, as many at a time as processors and memory allow.
// It prints their output one after the other, in the order of --kernel. The exit code
// is the first one that isn't 0.
func runSideBySide(ctx context.Context, f labFlags, cfgs []lab.Config) error {
	atOnce := max(1, min(runtime.NumCPU()/f.cpus, lab.Room(int64(f.memory))))
	outputs := newInOrder(len(cfgs))
	var g errgroup.Group
	g.SetLimit(atOnce)
	errs := make([]error, len(cfgs))
	for i, cfg := range cfgs {
		g.Go(func() error {
			defer outputs.done(i)
			fmt.Fprintf(outputs.writer(i, os.Stderr), "offmap: lab: kernel %s\n", cfg.Kernel.Name)
			cfg.Stdout, cfg.Stderr = outputs.writer(i, os.Stdout), outputs.writer(i, os.Stderr)
			if errs[i] = oneLab(ctx, f, cfg); errs[i] != nil {
				errs[i] = fmt.Errorf("kernel %s: %w", cfg.Kernel.Name, errs[i])
				fmt.Fprintf(outputs.writer(i, os.Stderr), "offmap: lab: %s\n", terminal.Printable(errs[i].Error()))
			}
			return nil
		})
	}
	g.Wait()
	for _, err := range errs {
		if err != nil {
			return exitWith(exitCode(err), nil) // the errors have been printed
		}
	}
	return nil
}

// oneLab runs one machine. The program's exit code comes back as an error.
func oneLab(ctx context.Context, f labFlags, cfg lab.Config) error {
	ctx, signals, end := forwardSignals(ctx)
	defer end()
	if ctx.Err() != nil { // a signal came before
		return context.Cause(ctx)
	}
	cfg.Signals = signals
	if f.timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, f.timeout, fmt.Errorf("%w after %s", errLabTimeout, f.timeout))
		defer cancel()
	}
	res, err := lab.Run(ctx, cfg)
	switch stop, _ := errors.AsType[*agent.SignalError](err); {
	case stop != nil:
		return &signalError{stop.Signal}
	case errors.Is(err, errLabTimeout):
		return exitWith(exitcode.Timeout, err)
	case errors.Is(err, lab.ErrKernel):
		return exitWith(exitcode.Check, err)
	case err != nil:
		return err
	}
	slog.Debug("lab", "kernel", cfg.Kernel.Release, "package", cfg.Kernel.Version, "emulator", res.Emulator,
		"cpu", res.CPU, "cpus", cfg.CPUs, "module", res.Module, "up_ms", res.Started.Milliseconds())
	if err := res.Verdict(); err != nil {
		return exitWith(exitcode.Check, err)
	}
	return exitWith(res.Code, nil)
}

var errLabTimeout = errors.New("not done")
