package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/spf13/pflag"

	"offmap/internal/lab/debian"
	"offmap/internal/measure/matrix"
	"offmap/internal/measure/probe"
	"offmap/internal/process/exitcode"
	"offmap/internal/render/results"
	"offmap/memory"
)

// matrixFlags are the flags of offmap exec for a command in several guests.
type matrixFlags struct {
	kernels  []string
	backends []string
	cpus     []int
	jobs     int
	junit    string
}

func (f *matrixFlags) add(fl *pflag.FlagSet, newest string) {
	fl.StringArrayVarP(&f.kernels, "kernel", "k", []string{debianPrefix + newest}, kernelUsage()+". Or all: every debian:\nseries. May be repeated")
	fl.IntSliceVarP(&f.cpus, "cpus", "c", []int{1}, "number of vCPUs. May be repeated")
	fl.StringSliceVar(&f.backends, "backend", []string{string(memory.Secret)}, backendUsage()+".\nMay be repeated")
	fl.IntVarP(&f.jobs, "jobs", "j", 0, "how many guests may run at a time (default what processors and memory allow)")
	fl.StringVar(&f.junit, "junit", "", "write the results to `FILE`, as JUnit XML")
}

// cell is one guest of several.
type cell struct {
	execFlags
	matrix.Cell
}

// cells returns a cell for each combination of the flags' values.
func (f execFlags) cells() (list []cell) {
	var kernels []string
	for _, k := range f.matrix.kernels {
		add := []string{k}
		if k == "all" {
			add = nil
			for _, s := range debian.KnownSeries() {
				add = append(add, debianPrefix+s)
			}
		}
		kernels = append(kernels, add...)
	}
	kernels = unique(kernels)
	backends, cpus := unique(f.matrix.backends), unique(f.matrix.cpus)
	labels := kernelLabels(kernels)
	for i, k := range kernels {
		for _, b := range backends {
			for _, n := range cpus {
				c := cell{execFlags: f}
				c.guest.kernel, c.backend, c.cpus = k, b, n
				var name []string
				if len(kernels) > 1 || len(backends)*len(cpus) == 1 {
					name = append(name, labels[i])
				}
				if len(backends) > 1 {
					name = append(name, b)
				}
				if len(cpus) > 1 {
					name = append(name, fmt.Sprint(n))
				}
				c.Cell = matrix.Cell{Name: strings.Join(name, "/"), Kernel: k, Backend: memory.Backend(b), CPUs: n, Result: matrix.NotRun}
				list = append(list, c)
			}
		}
	}
	return list
}

// unique returns the values of a list in its order, each once.
func unique[T comparable](list []T) (u []T) {
	for _, v := range list {
		if !slices.Contains(u, v) {
			u = append(u, v)
		}
	}
	return u
}

// kernelLabels returns a short name for each kernel, which can be the name of a directory.
func kernelLabels(kernels []string) (labels []string) {
	taken := map[string]bool{guestDir: true}
	for _, k := range kernels {
		base, stock := strings.CutPrefix(k, debianPrefix)
		if !stock {
			if abs, err := filepath.Abs(k); err == nil {
				base = filepath.Base(abs)
			}
		}
		base = strings.TrimLeft(strings.Map(func(r rune) rune {
			if r < 0x80 && (r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("._+=~-", r)) {
				return r
			}
			return '_'
		}, base), ".-")
		if base == "" {
			base = "kernel"
		}
		label := base
		for n := 2; taken[label]; n++ {
			label = fmt.Sprintf("%s-%d", base, n)
		}
		taken[label] = true
		labels = append(labels, label)
	}
	return labels
}

// checkMatrix returns an error for flags that make no sense with several guests. It
// changes names of files, as checkFiles does.
func (f *execFlags) checkMatrix(cells []cell, argv []string) error {
	several := len(cells) > 1
	switch {
	case several && f.gdb.addr != "":
		return usage("--gdb is for one guest, and these are %d", len(cells))
	case several && f.report != "":
		return usage("--report is for one guest, and these are %d: --json has the reports of all", len(cells))
	case several && f.dmesg != "":
		return usage("--dmesg is for one guest, and these are %d: --artifacts DIR has the log of each that fails", len(cells))
	case f.matrix.jobs < 0:
		return usage("--jobs %d: at least one guest has to run", f.matrix.jobs)
	case f.report != "":
		return usage("--report can't be used with --json or --junit: --json has the report")
	case f.gdb.stdio():
		return usage("--gdb -: standard output is the command's: name an address or a socket")
	}
	for i, v := range f.devices.disks.values {
		if several && !v.readOnly && !v.overlay {
			return usage("--disk %s: several guests can't write to one image: add ,ro or ,overlay", f.devices.disks.texts[i])
		}
	}
	for _, c := range cells {
		pair, err := c.pair()
		if err != nil {
			return err
		}
		if _, err := c.spec(argv); err != nil {
			return err
		}
		if _, err := c.config(pair); err != nil {
			return err
		}
		outputs := map[string]*string{"--junit": &f.matrix.junit, "--dmesg": &f.dmesg}
		if log := c.kernelLog(); log != "" {
			outputs["--artifacts"] = &log
		}
		if err := c.devices.checkFiles(outputs); err != nil {
			return err
		}
	}
	return nil
}

// atOnce is how many of the cells run at a time.
func (f execFlags) atOnce(cells []cell) int {
	if f.matrix.jobs > 0 {
		return f.matrix.jobs
	}
	cpus := 1
	for _, c := range cells {
		cpus = max(cpus, c.CPUs)
	}
	return max(1, min(runtime.NumCPU()/cpus, memory.Room(uint64(f.memory))))
}

// execMatrix runs a command in several guests, or in one that --json or --junit is about.
func (f execFlags) execMatrix(ctx context.Context, cells []cell, argv []string, given []string) error {
	if f.matrix.junit != "" {
		if err := checkTarget(f.matrix.junit); err != nil {
			return fmt.Errorf("--junit: %w", err)
		}
	}
	if err := f.checkMatrix(cells, argv); err != nil {
		return err
	}
	var mu sync.Mutex
	out, errs := &output{w: os.Stdout, stopping: ctx.Done()}, &output{w: os.Stderr, stopping: ctx.Done()}
	if f.json {
		out = errs
	}
	r := cellRunner{
		program: "/proc/self/exe",
		stdout:  func(prefix string) io.WriteCloser { return &lines{mu: &mu, to: out, prefix: prefix} },
		stderr:  func(prefix string) io.WriteCloser { return &lines{mu: &mu, to: errs, prefix: prefix} },
		keep:    f.matrix.junit != "",
	}
	doc := matrix.Document{Schema: matrix.Schema, Host: probe.ThisHost(), Command: argv}
	list := make([]*matrix.Cell, len(cells))
	for i := range cells {
		list[i] = &cells[i].Cell
	}
	start := time.Now()
	err := r.runAll(ctx, list, f.atOnce(cells), func(c *matrix.Cell) []string {
		args := append([]string{"exec"}, given...)
		args = append(args, "--kernel="+c.Kernel, "--backend="+string(c.Backend), fmt.Sprint("--cpus=", c.CPUs))
		if dir := f.artifacts; dir != "" {
			if len(cells) > 1 {
				dir = filepath.Join(dir, c.Name)
			}
			args = append(args, "--artifacts="+dir)
		}
		return append(append(args, reportFlag, "--"), argv...)
	})
	doc.Duration = milliseconds(time.Since(start))
	for _, c := range list {
		doc.Cells = append(doc.Cells, *c)
	}
	if len(cells) > 1 {
		_, writeErr := io.WriteString(errs, "\n"+terminalText(os.Stderr).Write(results.Matrix(&doc)))
		err = errors.Join(err, writeErr)
	}
	if f.matrix.junit != "" {
		err = errors.Join(err, writeTarget(ctx, f.matrix.junit, doc.WriteJUnit))
	}
	err = errors.Join(err, reportTarget{stdout: f.json}.write(ctx, doc))
	switch {
	case ctx.Err() != nil:
		return errors.Join(context.Cause(ctx), err)
	case err != nil:
		return err
	case len(cells) == 1:
		return exitWith(doc.Cells[0].Code, nil)
	case !doc.OK():
		return exitWith(exitcode.Check, nil)
	}
	return nil
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// givenFlags returns the flags of the command line as arguments, but for those that
// differ from guest to guest or are about all of them.
func givenFlags(fl *pflag.FlagSet) (args []string) {
	fl.Visit(func(f *pflag.Flag) {
		switch f.Name {
		case "kernel", "backend", "cpus", "jobs", "junit", "json", "artifacts":
			return
		}
		values := []string{f.Value.String()}
		if list, ok := f.Value.(interface{ GetSlice() []string }); ok {
			values = list.GetSlice()
		}
		for _, v := range values {
			args = append(args, "--"+f.Name+"="+v)
		}
	})
	return args
}
