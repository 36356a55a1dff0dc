// Package lab runs offmap, or another static program, inside a stock Debian
// kernel in QEMU as if it ran on the host: QEMU's TCG emulates a processor
// with SVM and nested paging, so that there is a real kvm_amd inside, whatever
// the host has.
//
// The machine holds nothing of a distribution but the kernel and its modules:
// the offmap binary is process 1 (package inside). Standard streams, signals
// and the exit code travel over a virtio-serial port (package wire), and
// directories of the host through a file server here. Its RAM is a file that
// can be searched from outside. When the program is done the kernel's log is
// checked, and a complaint in it fails the run whatever the program said.
package lab

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"offmap/internal/debian"
	"offmap/internal/lab/inside"
	"offmap/internal/lab/wire"
)

const initCommand = inside.Command

// Config says what to run, and in what machine.
type Config struct {
	Kernel debian.Kernel
	// Module is the path of the offmap.ko built for Kernel; empty: none.
	Module string
	// Init is the offmap binary, or another one that calls inside.Main when
	// its argument is inside.Command; empty: this program.
	Init string
	// Program is a static executable to run instead of offmap.
	Program string
	Args    []string
	// Dir is the directory to run in; empty: the current one. It is visible
	// inside under the same path, and so are Shares.
	Dir    string
	Shares []string
	// Env is the program's environment beyond PATH, HOME and TMPDIR.
	Env []string

	Memory int64 // bytes; 0: DefaultMemory
	CPUs   int   // 0: DefaultCPUs
	Append string

	Stdin          io.Reader
	Stdout, Stderr io.Writer
	// Signals are passed on to the program; the first one before the program
	// runs, and a second one after it, end the machine.
	Signals <-chan os.Signal
	// ScanOutside answers a request that a program sent to wire.ScanPort; ram
	// is the machine's RAM. Nil: the request is answered with an error.
	ScanOutside func(ram *os.File, request []byte) []byte
}

// Defaults of a lab machine.
const (
	DefaultMemory = 2 << 30 // room for a 512 MiB guest, twice over
	DefaultCPUs   = 2
)

// A Result says how a run went.
type Result struct {
	Code     int // the program's exit code, 128+n after signal n
	Findings []Finding
	Unload   string // why offmap.ko could not be unloaded; empty: it could
	LostLog  uint64 // kernel log records that were lost before the check

	KernelLog string
	QEMU      string        // version
	CPU       string        // model
	Started   time.Duration // from nothing to the program's start
}

// Run boots a machine, runs the program in it and takes the machine down.
// Result is valid if the error is nil; the program's own failure is no error.
func Run(ctx context.Context, cfg Config) (*Result, error) {
	start := time.Now()
	if err := cfg.complete(); err != nil {
		return nil, err
	}
	qemu, version, err := findQEMU(ctx)
	if err != nil {
		return nil, err
	}
	m, err := startMachine(qemu, &cfg)
	if err != nil {
		return nil, err
	}
	defer m.close()
	res := &Result{QEMU: version, CPU: cpuModel}
	report, err := m.converse(ctx, &cfg, func() { res.Started = time.Since(start) })
	res.KernelLog = m.log()
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

// complete fills in the defaults and checks what can be checked before a
// machine is started.
func (cfg *Config) complete() error {
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
	if cfg.Stdout == nil {
		cfg.Stdout = io.Discard
	}
	if cfg.Stderr == nil {
		cfg.Stderr = io.Discard
	}
	for _, path := range []string{cfg.Init, cfg.Program} {
		if path == "" {
			continue
		}
		if err := checkStatic(path); err != nil {
			return err
		}
	}
	return nil
}

// spec is what the inside gets to know.
func (cfg *Config) spec() wire.Spec {
	argv := append([]string{"/bin/offmap"}, cfg.Args...)
	if cfg.Program != "" {
		argv[0] = programPath(cfg.Program)
	}
	env := append([]string{"PATH=/bin", "HOME=/root", "TMPDIR=/tmp"}, cfg.Env...)
	return wire.Spec{
		Shares: cfg.shares(), Argv: argv, Env: env, Dir: cfg.Dir,
		Time: time.Now().UnixNano(),
	}
}

// shares lists the directories to show inside, none below another.
func (cfg *Config) shares() []string {
	var list []string
	for _, dir := range append([]string{cfg.Dir}, cfg.Shares...) {
		dir = filepath.Clean(dir)
		covered := dir == "/"
		for _, have := range list {
			covered = covered || dir == have || strings.HasPrefix(dir, have+"/")
		}
		if !covered {
			list = append(list, dir)
		}
	}
	return list
}
