// Package lab runs offmap, or another static program, inside a stock Debian
// kernel in QEMU as if it ran on the host: QEMU's TCG emulates a processor
// with SVM and nested paging, so that there is a real kvm_amd inside, whatever
// the host has. Or Bochs emulates one with Intel's VMX (Config.Bochs).
//
// The machine holds nothing of a distribution but the kernel and its modules:
// the offmap binary is process 1 (package inside). Standard streams, signals
// and the exit code travel over a virtio-serial port (package wire), and
// directories of the host through a file server here. Its RAM is a file that
// can be searched from outside. When the program is done the kernel's log is
// checked, and a complaint in it fails the run even if the program succeeded.
package lab

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"offmap/guest/agent"
	"offmap/internal/lab/inside"
	"offmap/internal/lab/wire"
)

const initCommand = inside.Command

// Config says what to run, and in what machine.
type Config struct {
	Kernel Kernel
	// Module is the path of the offmap.ko built for Kernel; empty: none.
	Module string
	// Modules are the names of further modules of Kernel's to load.
	Modules []string
	// Init is the offmap binary, or another one that calls inside.Main when
	// its argument is inside.Command; empty: this program.
	Init string
	// Name is what Init is started as: one of the userland's commands;
	// empty: offmap.
	Name string
	// Program is a static executable to run instead.
	Program string
	Args    []string
	// Dir is the directory to run in; empty: the current one. It is visible
	// inside under the same path, and so are Shares.
	Dir    string
	Shares []string
	// Env is the program's environment beyond PATH, HOME and TMPDIR.
	Env []string

	// Bochs is debian.Bochs's directory for a machine with VMX; empty: QEMU emulates one
	// with SVM. The one with VMX has one processor, no disk, and no directories of the host:
	// Carry are files that are copied into it, to the same path.
	Bochs string
	Carry []string

	Memory int64 // bytes; 0: DefaultMemory
	// Swap is the size of a disk for the kernel to swap to, in bytes, of which
	// it uses whole pages; 0: none.
	Swap   int64
	CPUs   int // 0: DefaultCPUs
	Append string
	// Plain leaves the kernel its own defaults: memfd_secret is off before
	// 6.5.
	Plain bool

	Stdin          io.Reader
	Stdout, Stderr io.Writer
	// Terminal gives the program a terminal of the size that it returns;
	// nil: pipes. It is asked again when SIGWINCH comes through Signals.
	Terminal func() agent.Terminal
	// Ready is called when the program starts, if it is there.
	Ready func()
	// Signals are passed on to the program. One that comes before the program
	// runs, and any second one, end the machine.
	Signals <-chan os.Signal
}

// Defaults of a lab machine.
const (
	DefaultMemory = 2 << 30 // room for a 512 MiB guest, twice over
	// With more than one processor, a machine sometimes dies of "Oops: int3".
	// The kernel patches its own code by way of an int3, and an emulated
	// processor executes it after the kernel has replaced it. Seen in
	// 6.12's __schedule, once in about 40 nested boots.
	// http://www.uwsg.indiana.edu/hypermail/linux/kernel/2307.0/03869.html,
	// https://bugzilla.redhat.com/show_bug.cgi?id=2216496
	// One is faster, too: no other TLB has to be flushed for a secret page.
	DefaultCPUs = 1

	minMemory = 256 << 20 // below that the kernel can't unpack its initramfs
	minSwap   = 40 << 10  // mkswap(8)'s ten pages
	maxCPUs   = 16
)

// ErrKernel means that the kernel under the program complained, hung or ended,
// so that nothing the program printed can be relied on.
var ErrKernel = errors.New("the lab's kernel is not well")

// A Result says how a run went.
type Result struct {
	Code     int // the program's exit code, 128+n after signal n
	Findings []Finding
	Unload   string // why offmap.ko could not be unloaded; empty: it could
	LostLog  uint64 // kernel log records that were lost before the check

	KernelLog string
	Emulator  string        // QEMU's version, or Bochs
	CPU       string        // model
	Module    string        // SHA-256 of offmap.ko, hexadecimal; empty: none
	Started   time.Duration // from nothing to the program's start
}

// Run boots a machine, runs the program in it and takes the machine down.
// Result is valid if the error is nil; the program's own failure is no error.
func Run(ctx context.Context, cfg Config) (*Result, error) {
	start := time.Now()
	if err := cfg.Complete(); err != nil {
		return nil, err
	}
	m, res, err := startMachine(ctx, &cfg)
	if err != nil {
		return nil, err
	}
	defer m.close()
	if cfg.Module != "" {
		if res.Module, err = hash(cfg.Module); err != nil {
			return nil, err
		}
	}
	var report wire.Report
	report, res.KernelLog, err = m.converse(ctx, &cfg, func() {
		res.Started = time.Since(start)
		if cfg.Ready != nil {
			cfg.Ready()
		}
	})
	if err != nil {
		return nil, err
	}
	if report.Failure != "" {
		return nil, fmt.Errorf("lab machine with kernel %s: %s%s", cfg.Kernel.Release, report.Failure, tail(m.log(), 12))
	}
	res.Code, res.Unload, res.LostLog = report.Code, report.Unload, report.LostLog
	res.Findings = CheckLog(res.KernelLog)
	return res, nil
}

// Complete fills in the defaults and checks the configuration as far as that
// is possible without a machine. Run calls it too.
func (cfg *Config) Complete() error {
	if cfg.Memory == 0 {
		cfg.Memory = DefaultMemory
	}
	if cfg.CPUs == 0 {
		cfg.CPUs = DefaultCPUs
	}
	var err error
	if cfg.Init == "" {
		if cfg.Init, err = os.Executable(); err != nil {
			return err
		}
	}
	if cfg.Dir == "" {
		if cfg.Dir, err = os.Getwd(); err != nil {
			return err
		}
	}
	if cfg.Name == "" {
		cfg.Name = "offmap"
	}
	if cfg.Stdout == nil {
		cfg.Stdout = io.Discard
	}
	if cfg.Stderr == nil {
		cfg.Stderr = io.Discard
	}
	switch {
	case cfg.Memory < minMemory:
		return fmt.Errorf("a lab machine of %d MiB: it needs %d at least", cfg.Memory>>20, minMemory>>20)
	case cfg.Swap != 0 && cfg.Swap < minSwap:
		return fmt.Errorf("a swap disk of %d KiB: Linux wants %d at least", cfg.Swap>>10, minSwap>>10)
	case cfg.Bochs != "" && (cfg.Swap != 0 || cfg.CPUs != 1):
		return errors.New("a lab machine with VMX has one processor, and no swap disk")
	case cfg.CPUs < 1 || cfg.CPUs > maxCPUs:
		return fmt.Errorf("a lab machine with %d processors: it can have 1 to %d", cfg.CPUs, maxCPUs)
	}
	for _, path := range []string{cfg.Program, cfg.Init} {
		if path == "" {
			continue
		}
		if err := checkStatic(path); err != nil {
			return err
		}
	}
	return nil
}

// Verdict returns nil if the kernel's log is complete and clean and the module
// was unloaded, and otherwise why the run can't be trusted.
func (r *Result) Verdict() error {
	var said []string
	for _, f := range r.Findings {
		said = append(said, fmt.Sprintf("%s: %s", f.What, f.Text))
	}
	if r.LostLog > 0 {
		said = append(said, fmt.Sprintf("%d records of the kernel log were overwritten before they could be checked", r.LostLog))
	}
	if r.Unload != "" {
		said = append(said, "offmap.ko could not be unloaded afterwards: "+r.Unload)
	}
	if len(said) == 0 {
		return nil
	}
	const most = 20
	if n := len(said) - most; n > 0 {
		said = append(said[:most], fmt.Sprintf("and %d more", n))
	}
	return fmt.Errorf("%w:\n  %s", ErrKernel, strings.Join(said, "\n  "))
}

// hash is the SHA-256 of a file, in hexadecimal.
func hash(path string) (string, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:]), nil
}

// spec describes the run for package inside.
func (cfg *Config) spec() wire.Spec {
	spec := wire.Spec{
		Swap:   cfg.Swap > 0,
		Shares: cfg.shares(),
		Command: agent.Command{
			Path: inside.BinDir + "/" + cfg.Name,
			Argv: append([]string{cfg.Name}, cfg.Args...),
			Env:  append([]string{"PATH=" + inside.BinDir, "HOME=/root", "TMPDIR=" + inside.TempDir}, cfg.Env...),
			Dir:  cfg.Dir,
		},
	}
	if cfg.Program != "" {
		spec.Path = programPath(cfg.Program)
		spec.Argv[0] = filepath.Base(cfg.Program)
	}
	if cfg.Terminal != nil {
		t := cfg.Terminal()
		spec.Terminal = &t
	}
	if cfg.Bochs != "" {
		spec.Control, spec.Shares, spec.Dir = controlTTY, nil, "/"
	}
	return spec
}

// shares lists the directories to show inside, none below another.
func (cfg *Config) shares() []string {
	var list []string
	for _, dir := range append([]string{cfg.Dir}, cfg.Shares...) {
		dir = filepath.Clean(dir)
		covered := !shareable(dir)
		for _, have := range list {
			covered = covered || within(dir, have)
		}
		if !covered {
			list = append(list, dir)
		}
	}
	return list
}
