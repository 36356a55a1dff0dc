package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"offmap/guest/initramfs"
	"offmap/internal/lab/debian"
	"offmap/internal/measure/guestrun"
	"offmap/kvm"
)

func linuxBootScenarios() []Scenario {
	return []Scenario{{
		Name: "linux-boot",
		About: "Linux boots to userland and measures port writes there: the same kernel, initrd and command line on all VMMs, 512 MiB, 1 vCPU; " +
			"but peers' guests have no ACPI, gokvm's no APIC, and microvm's no PCI",
		Metrics: []Metric{
			// From the start of the VMM's process to the guest's first line.
			{Name: "to-userland", Unit: "sec"},
			// The same from the creation of the machine.
			{Name: "machine-to-userland", Unit: "sec"},
			// The CPU time of all of the VMM's threads until then, the guest's included.
			{Name: "cpu-to-userland", Unit: "sec"},
			// The VMM's resident memory without guest RAM, at that time.
			{Name: "resident", Unit: "B"},
			{Name: "port-write", Unit: "ns/op"},
		},
		Slow: true,
		Subjects: func(e *Env, working []Subject) []Subject {
			s := slices.Clone(working)
			for _, p := range []Peer{Gokvm, MicroVM, Q35} {
				if e.Peers[p] != "" {
					s = append(s, Subject{Peer: p})
				}
			}
			return s
		},
		Sample: bootLinux,
	}}
}

const (
	linuxMemory = 512 << 20
	// defaultKernel is the oldest that offmap knows, which boots fastest.
	defaultKernel = "debian:6.1"
	// linuxTimeout is the most time for a boot, which takes about 10 s under TCG.
	linuxTimeout = 2 * time.Minute
)

// portWrites is the number of port writes to measure: at most half a second of them.
func (h Host) portWrites() int {
	if h.Accel == "tcg" {
		return 20_000
	}
	return 200_000
}

// bootLinux boots a subject's guest once.
func bootLinux(ctx context.Context, e *Env, s Subject) (values []float64, err error) {
	if e.Host.KVM == "pvm" {
		return nil, fmt.Errorf("%w: a Linux kernel is ring-0 code, which this KVM interprets: it would take an hour to boot", ErrCannot)
	}
	dir, err := os.MkdirTemp("", "offmap-bench-")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	g, err := e.linux(ctx, dir)
	if err != nil {
		return nil, err
	}
	v, err := g.vmmFor(e, s)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, linuxTimeout, fmt.Errorf("still running after %v", linuxTimeout))
	defer cancel()
	b, err := v.boot(ctx, g.writes)
	if err != nil {
		return nil, err
	}
	machine := math.NaN()
	if s.Peer == "" {
		if machine, err = readToUserland(g.report); err != nil {
			return nil, err
		}
	}
	return []float64{
		b.userland.Seconds(), machine, b.cpu.Seconds(), b.resident,
		float64(b.writes.Nanoseconds()) / float64(g.writes),
	}, nil
}

// linuxGuest is the guest to boot, as files.
type linuxGuest struct {
	kernel, initrd string
	tscKHz, writes int
	report         string // where offmap writes its report
}

// linux prepares a guest. It creates files in dir.
func (e *Env) linux(ctx context.Context, dir string) (g linuxGuest, err error) {
	g = linuxGuest{kernel: e.Kernel, initrd: e.Initrd, writes: e.Host.portWrites(), report: filepath.Join(dir, "report.json")}
	if g.kernel == "" {
		g.kernel = defaultKernel
	}
	if series, ok := strings.CutPrefix(g.kernel, "debian:"); ok {
		k, err := debian.GetKernel(ctx, series, nil)
		if err != nil {
			return g, fmt.Errorf("%w: %w", ErrCannot, err)
		}
		g.kernel = k.Image
	}
	if g.initrd == "" {
		g.initrd = filepath.Join(dir, "initrd")
		if err := writeInitrd(g.initrd); err != nil {
			return g, err
		}
	}
	g.tscKHz, err = TSCKHz()
	return g, err
}

func writeInitrd(path string) (err error) {
	from, err := initramfs.New(initramfs.Options{})
	if err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, from)
	return errors.Join(err, f.Close())
}

// TSCKHz returns the frequency of a guest's TSC, which is passed to the guests of
// all VMMs. If a guest measured it with an emulated PIT, it would be wrong on a busy
// machine.
func TSCKHz() (khz int, err error) {
	sys, err := kvm.Open("")
	if err != nil {
		return 0, cannot(err)
	}
	defer func() { err = errors.Join(err, sys.Close()) }()
	vm, err := sys.CreateVM()
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, vm.Close()) }()
	cpu, err := vm.CreateVCPU(0)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, cpu.Close()) }()
	return cpu.TSCKHz()
}

// readToUserland returns the seconds to userland from a report of offmap run.
func readToUserland(path string) (float64, error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	doc, err := guestrun.Read(f)
	if err != nil {
		return 0, fmt.Errorf("report of offmap run: %w", err)
	}
	if doc.ToUserland == nil {
		return 0, errors.New("report of offmap run: the guest didn't signal that its userland runs")
	}
	return *doc.ToUserland / 1000, nil
}
