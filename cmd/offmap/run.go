package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"offmap/internal/measure/guestrun"
	"offmap/internal/measure/probe"
	"offmap/internal/process/exitcode"
	"offmap/internal/process/terminal"
	"offmap/internal/process/trim"
	"offmap/internal/process/undumpable"
	"offmap/kvm"
	"offmap/memory"
	"offmap/memory/attach"
	"offmap/vmm"
	"offmap/vmm/jail"
)

// runFlags are the flags of offmap run.
type runFlags struct {
	guest   guestFlags
	memory  size
	cpus    int
	backend string
	attach  string
	window  windowFlags
	devices deviceFlags
	timeout time.Duration
	json    bool
	report  string
	watch   watchFlags
	gdb     gdbFlags
	jail    jailFlags
}

func newRunCmd() *cobra.Command {
	f := runFlags{memory: vmm.DefaultMemory}
	cmd := &cobra.Command{
		Use:   "run [flags]",
		Short: "Boot a guest",
		Long: `run boots a guest with its serial console on this terminal. Ctrl-a x stops the
guest, Ctrl-a Ctrl-a sends a Ctrl-a.

The guest is a Linux kernel (--kernel), or by default an embedded payload, which
needs no kernel (--payload). Its RAM is secret memory, which the host kernel can't
read. If the host can't provide it, offmap ends with exit code 4 and says what to
do; it never falls back to other memory. --backend chooses other memory, of which
only reserved is hidden too.

--disk and --share give a kernel disks, and directories of the host. What the guest
stores there is in the host's files and in its page cache, which the host can read.
offmap's own initramfs has the drivers for a debian: kernel and for one in its build
tree, and starts the system on a disk that --append 'root=/dev/vda rw' names. A comma
in the name of an image or of a directory is written twice.`,
		Example: `  offmap run
  offmap run -k debian:6.1
  offmap run -k debian:6.1 --exec 'cat /proc/meminfo'
  offmap run -k debian:6.12 --disk root.img,overlay --share data,rw
  offmap run -k ~/linux --share data --exec 'ls /mnt/data'
  offmap run -k ./bzImage -i ./initrd.img --append 'root=/dev/ram0' -m 2G -c 4`,
		Args: cobra.NoArgs,
		RunE: run(func(cmd *cobra.Command, _ []string) error {
			return runGuest(cmd.Context(), f)
		}),
	}
	fl := cmd.Flags()
	f.guest.add(fl)
	fl.IntVarP(&f.cpus, "cpus", "c", 1, "number of vCPUs")
	fl.StringVar(&f.backend, "backend", string(memory.Secret), backendUsage())
	f.addMachine(fl)
	f.devices.add(fl)
	fl.BoolVar(&f.json, "json", false, "print the report, in JSON, on stdout, and the guest's console on stderr")
	fl.StringVar(&f.report, "report", "", "write the JSON report to `FILE`; the console stays on stdout")
	f.watch.add(fl)
	return cmd
}

func backendUsage() string { return "kind of memory that holds guest RAM: " + names(memory.Backends()) }

// addMachine adds the flags that describe the machine, but for its processors, the kind
// of memory, and its devices.
func (f *runFlags) addMachine(fl *pflag.FlagSet) {
	fl.VarP(&f.memory, "memory", "m", "guest RAM: MiB, or with K, M, G")
	fl.StringVar(&f.attach, "attach", string(attach.Auto), "how the backend's pages get into KVM: "+names(attach.Methods()))
	f.window.add(fl)
	fl.DurationVar(&f.timeout, "timeout", 0, "stop the guest after this long, such as 30s (0: never)")
	f.gdb.add(fl)
	f.jail.add(fl)
}

func names[T ~string](list []T) string {
	var s []string
	for _, n := range list {
		s = append(s, string(n))
	}
	return strings.Join(s, ", ")
}

// runGuest runs the guest that the flags describe.
func runGuest(ctx context.Context, f runFlags) error {
	s, ctx, err := f.prepare(ctx, nil)
	if err != nil {
		return err
	}
	defer s.end()
	return s.run(ctx)
}

// prepare checks the flags, and opens the guest's files. outputs are further files that
// the caller writes, as for checkFiles. The context is one that --timeout ends.
func (f runFlags) prepare(ctx context.Context, outputs map[string]*string) (s *session, _ context.Context, err error) {
	pair, err := f.pair()
	if err != nil {
		return nil, nil, err
	}
	if !pair.Backend.Exposed() {
		// Before anything else, since this executes the program again.
		if err := undumpable.Self("offmap"); err != nil {
			return nil, nil, advise(pair.Backend, err)
		}
	}
	s = &session{runFlags: f}
	if s.become, err = f.jail.check(); err != nil {
		return nil, nil, err
	}
	if s.machine, err = f.config(pair); err != nil {
		return nil, nil, err
	}
	if s.report, err = openReport(f.json, f.report); err != nil {
		return nil, nil, err
	}
	if s.report != (reportTarget{}) {
		s.host = probe.ThisHost() // while it can read that
	}
	if s.view, err = f.watch.open(f.json); err != nil {
		return nil, nil, err
	}
	files := map[string]*string{"--report": &s.report.file, "--exposure": &s.view.file}
	for flag, path := range outputs {
		if *path != "" {
			if err := checkTarget(*path); err != nil {
				return nil, nil, fmt.Errorf("%s: %w", flag, err)
			}
		}
		files[flag] = path
	}
	if err := f.devices.checkFiles(files); err != nil {
		return nil, nil, err
	}
	s.outputs = files
	if s.debug, err = f.gdb.open(ctx, f.json, f.watch.live); err != nil {
		return nil, nil, err
	}
	cancel := func() {}
	if f.timeout > 0 {
		ctx, cancel = context.WithTimeoutCause(ctx, f.timeout, errTimeout)
	}
	guest, err := f.guest.open(ctx, f.devices)
	if err != nil {
		cancel()
		s.debug.close()
		return nil, nil, err
	}
	s.machine.Guest, s.kernel = guest.load, guest.kernel
	s.end = func() {
		cancel()
		s.debug.close()
		guest.Close()
	}
	return s, ctx, nil
}

// pair returns the backend and attach for guest RAM.
func (f runFlags) pair() (p attach.Pair, err error) {
	if p.Backend, err = memory.ParseBackend(f.backend); err == nil {
		p.Attach, err = attach.ParseMethod(f.attach)
	}
	if err != nil {
		err = exitWith(exitcode.Usage, err)
	}
	return p, err
}

// config checks the flags of the machine, and returns its configuration without the
// guest.
func (f runFlags) config(p attach.Pair) (cfg vmm.Config, err error) {
	if err := checkGuest(f.memory, f.cpus); err != nil {
		return cfg, err
	}
	if err := checkTimeout(f.timeout); err != nil {
		return cfg, err
	}
	if f.json && f.report != "" {
		return cfg, usage("--json and --report exclude each other")
	}
	if err := f.devices.check(f.guest); err != nil {
		return cfg, err
	}
	opts, err := f.window.options(p.Backend, p.Attach, uint64(f.memory))
	return vmm.Config{
		Memory: uint64(f.memory), CPUs: f.cpus, Backend: p.Backend, Attach: p.Attach, Options: opts, Warn: warn,
	}, err
}

// session is a guest on this terminal.
type session struct {
	runFlags
	machine vmm.Config
	devices *devices
	report  reportTarget
	host    probe.Host         // what the report says of it
	outputs map[string]*string // files that are written at the end, by flag; "" for none
	view    *watch
	debug   *debugging
	become  *jail.User // nil without --user
	kernel  bootKernel // zero without one
	end     func()     // closes what prepare has opened
}

// run runs the guest, and writes its report.
func (s *session) run(ctx context.Context) (err error) {
	tty, err := terminal.Open(os.Stdin, func(what string) { slog.Debug(what) })
	if err != nil {
		return err
	}
	defer tty.Close()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	disarm := lastResort(ctx, tty.Close)
	defer disarm()
	if s.devices, err = s.runFlags.devices.open(); err != nil {
		return err
	}
	defer s.devices.closeInput()
	m, err := s.open(ctx)
	if err != nil {
		disarm()
		return errors.Join(err, s.report.write(ctx, s.refused(err)))
	}
	defer func() { err = errors.Join(err, m.Close()) }()
	if err := s.debug.start(m); err != nil {
		disarm()
		return errors.Join(err, s.report.write(ctx, s.refused(err)))
	}

	if err := tty.Start(); err != nil {
		return err
	}
	s.view.start(ctx, m, s.runFlags, s.machine.Backend, s.machine.Options.Window, s.devices, tty)
	defer s.view.end(ctx)
	switch {
	case s.gdb.stdio():
	case tty == nil:
		go io.Copy(s.input(m), os.Stdin)
	default:
		go typeIn(tty, s.view.quitKeys(s.runFlags), s.input(m), func() { m.Stop(); stop(errStopped) })
	}
	result, err := s.runMachine(ctx, m)
	disarm()
	viewErr := s.view.end(ctx)
	tty.Close()

	end := outcome(result.Outcome, s.explainTimeout(result, err))
	if err := errors.Join(s.report.write(ctx, s.ended(m, result, end)), viewErr); err != nil {
		if ctx.Err() != nil {
			err = errors.Join(end, err) // err is the reason for the end
		}
		return err
	}
	return end
}

// runMachine runs a machine that is ready.
func (s *session) runMachine(ctx context.Context, m *vmm.Machine) (vmm.Result, error) {
	unmap, err := trim.Program()
	if err := s.enterJail(); err != nil {
		return vmm.Result{}, err
	}
	if err == nil {
		err = unmap()
	}
	if err != nil {
		slog.Debug(fmt.Sprintf("what only the start needed stays in memory: %v", err))
	}
	return m.Run(ctx)
}

// open makes the machine. Its console is on standard output, or with --json or --gdb -
// on standard error.
func (s *session) open(ctx context.Context) (*vmm.Machine, error) {
	console := &output{w: os.Stdout, stopping: ctx.Done()}
	if s.json || s.gdb.stdio() {
		console.w = os.Stderr
	}
	out := &shared{w: s.view.console(console)}
	s.machine.Console = out
	if s.runFlags.devices.console == consoleVirtio {
		if err := s.devices.addConsole(out); err != nil {
			return nil, errors.Join(err, s.devices.close())
		}
	}
	return s.machineWithDevices()
}

// machineWithDevices makes the machine with the session's devices, and says so.
func (s *session) machineWithDevices() (*vmm.Machine, error) {
	s.machine.Devices = s.devices.virtio()
	m, err := vmm.New(s.machine)
	if err != nil {
		return nil, advise(s.machine.Backend, err)
	}
	used, rejected := m.Attachment()
	announce(s.runFlags, s.machine.Backend, used, rejected, s.machine.Options)
	return m, nil
}

// input returns the guest's console, as a keyboard has it.
func (s *session) input(m *vmm.Machine) io.Writer {
	if s.devices.typed != nil {
		return s.devices.typed
	}
	return m.Input()
}

// advise adds the remedies to the error of a host that can't hide guest RAM.
func advise(b memory.Backend, err error) error {
	_, noKVM := errors.AsType[*kvm.OpenError](err)
	if b.Exposed() || noKVM || !errors.Is(err, memory.ErrUnavailable) {
		return err
	}
	return fmt.Errorf("%w\n`offmap doctor` says what this host lacks. With --backend memfd the guest's RAM is ordinary memory, which the host kernel sees", err)
}

// ended returns the report of a guest that has run.
func (s *session) ended(m *vmm.Machine, r vmm.Result, end error) guestrun.Document {
	used, rejected := m.Attachment()
	doc := s.document(rejected)
	doc.Attach = used
	doc.Populated, doc.Exposed, doc.ExposedPeak = r.Populated, r.Exposed, r.ExposedPeak
	doc.Exits = r.Exits
	if w := r.Faults; w != nil {
		doc.Window = s.machine.Options.Window
		doc.Faults = &guestrun.Faults{Count: w.Count, P50: microseconds(w.P50), P99: microseconds(w.P99)}
	}
	if t := r.ToUserland; t > 0 {
		ms := float64(t.Microseconds()) / 1000
		doc.ToUserland = &ms
	}
	doc.Exit = guestrun.Exit{Reason: r.Outcome.Reason, Code: exitCode(end), Detail: r.Outcome.Detail}
	if t, ok := errors.AsType[*timeoutError](end); ok {
		doc.Exit.Detail = t.doing
	}
	return doc
}

// warn logs an error that doesn't end the guest.
func warn(err error) {
	if errors.Is(err, syscall.EPIPE) && unread() {
		return // SIGPIPE ends this program, and nobody reads the log
	}
	slog.Warn(err.Error())
}

// document returns the part of the report that is known before the guest runs.
func (s *session) document(rejected []attach.Rejection) guestrun.Document {
	if rejected == nil {
		rejected = []attach.Rejection{} // [] in JSON, not null
	}
	return guestrun.Document{
		Schema: guestrun.Schema, Host: s.host, Backend: s.machine.Backend, AttachRejected: rejected,
		Memory: s.machine.Memory, Exits: map[string]uint64{}, Devices: s.devices.report(),
	}
}

// refused returns the report of a guest that couldn't be made.
func (s *session) refused(err error) guestrun.Document {
	var rejected []attach.Rejection
	if r, ok := errors.AsType[*attach.RefusedError](err); ok {
		rejected = r.Rejected
	}
	doc := s.document(rejected)
	doc.Exit = guestrun.Exit{Reason: guestrun.Refused, Code: exitCode(err), Detail: err.Error()}
	return doc
}

func microseconds(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1000 }

// announce logs the backend and attach of guest RAM, before the guest starts.
func announce(f runFlags, b memory.Backend, used attach.Method, rejected []attach.Rejection, opts attach.Options) {
	for _, r := range rejected {
		slog.Info(fmt.Sprintf("not %s: %s", r.Attach, r.Reason))
	}
	state := "in the host kernel's direct map"
	switch {
	case used == attach.ViaWindow:
		w := size(opts.Window)
		state = "at most " + w.String() + " of it at a time in the host kernel's direct map"
	case !b.Exposed():
		state = "off the host kernel's direct map"
	}
	slog.Info(fmt.Sprintf("%s of guest RAM in %s memory, attach %s: %s", f.memory.String(), b, used, state))
	if f.window != (windowFlags{}) && used != attach.ViaWindow {
		slog.Warn(fmt.Sprintf("--window and its like do nothing with attach %s", used))
	}
}

var errTimeout = errors.New("timeout: the guest was still running")

// outcome returns the error, with its exit code, for how a guest ended.
func outcome(o vmm.Outcome, err error) error {
	switch {
	case errors.Is(err, errTimeout) && o.Reason == vmm.Panic:
		// The text names the timeout, but the error doesn't wrap it: the guest
		// counts as panicked.
		text := "the guest's kernel panicked, and was still running when its time was over: " + quote(o.Detail)
		if t, ok := errors.AsType[*timeoutError](err); ok {
			text += ": " + t.doing
		}
		return exitWith(exitcode.Panic, errors.New(text))
	case err != nil && o.Reason == vmm.Panic:
		return fmt.Errorf("%w; the guest's kernel had panicked: %s", err, quote(o.Detail))
	case err != nil:
		return err
	}
	detail := func(what string) error {
		if o.Detail != "" {
			what += ": " + o.Detail
		}
		return errors.New(what)
	}
	switch o.Reason {
	case vmm.Halt:
		slog.Info("the guest halted")
	case vmm.PowerOff:
		if o.Code != 0 {
			return exitWith(o.Code, guestCode(o.Code))
		}
	case vmm.Reset:
		return exitWith(exitcode.Reset, detail("the guest asked for a reset"))
	case vmm.Crash:
		return exitWith(exitcode.Crash, detail("the guest crashed"))
	case vmm.Panic:
		if o.Detail != "" {
			o.Detail = quote(o.Detail)
		}
		return exitWith(exitcode.Panic, detail("the guest's kernel panicked"))
	}
	return nil
}

// reportTarget is the target of a report: none, stdout, or a file.
type reportTarget struct {
	stdout bool
	file   string
}

// openReport returns an error if the report can't be written to file.
func openReport(stdout bool, file string) (reportTarget, error) {
	if file != "" {
		if err := checkTarget(file); err != nil {
			return reportTarget{}, fmt.Errorf("report: %w", err)
		}
	}
	return reportTarget{stdout, file}, nil
}

// write writes the report. When ctx ends, it stops to wait for a reader.
func (t reportTarget) write(ctx context.Context, doc any) error {
	switch {
	case t.stdout:
		return printJSON(&output{w: os.Stdout, stopping: ctx.Done()}, doc)
	case t.file != "":
		return writeTarget(ctx, t.file, func(w io.Writer) error { return printJSON(w, doc) })
	}
	return nil
}

// printJSON prints one document.
func printJSON(w io.Writer, doc any) error {
	var text bytes.Buffer
	e := json.NewEncoder(&text)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	err := e.Encode(doc)
	if err == nil {
		_, err = w.Write(asciiControls(text.Bytes()))
	}
	if err != nil {
		return fmt.Errorf("report: %w", err)
	}
	return nil
}
