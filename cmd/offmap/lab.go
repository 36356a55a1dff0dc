package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"offmap/internal/debian"
	"offmap/internal/lab"
	"offmap/internal/lab/inside"
)

// labFlags are the flags of offmap lab.
type labFlags struct {
	kernels  []string
	memory   int64
	cpus     int
	program  string
	append   string
	noModule bool
	timeout  time.Duration
	verbose  bool
}

func newLabCmd() *cobra.Command {
	var f labFlags
	cmd := &cobra.Command{
		Use:   "lab [flags] -- COMMAND [ARG]...",
		Short: "Run an offmap command inside a stock kernel",
		Args:  cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return runLab(cmd.Context(), f, args)
		},
	}
	fl := cmd.Flags()
	fl.StringArrayVarP(&f.kernels, "kernel", "k", nil, "kernel series to run in: "+strings.Join(debian.KnownSeries(), ", ")+" or all (repeatable; default the newest)")
	fl.Int64Var(&f.memory, "memory", lab.DefaultMemory>>20, "RAM of the lab machine in MiB")
	fl.IntVar(&f.cpus, "cpus", lab.DefaultCPUs, "processors of the lab machine")
	fl.StringVar(&f.program, "program", "", "run this static executable instead of offmap")
	fl.StringVar(&f.append, "append", "", "words for the end of the lab kernel's command line")
	fl.BoolVar(&f.noModule, "no-module", false, "don't load offmap.ko")
	fl.DurationVar(&f.timeout, "timeout", 10*time.Minute, "give up after this long")
	fl.BoolVarP(&f.verbose, "verbose", "v", false, "say what exactly it ran on")
	return cmd
}

// newLabInitCmd is what the lab machine's kernel starts as its process 1.
func newLabInitCmd() *cobra.Command {
	return &cobra.Command{
		Use: inside.Command, Hidden: true,
		Run: func(*cobra.Command, []string) { inside.Main() },
	}
}

func runLab(ctx context.Context, f labFlags, args []string) error {
	series := f.kernels
	if len(series) == 0 {
		all := debian.KnownSeries()
		series = all[len(all)-1:]
	}
	if slices.Contains(series, "all") {
		series = debian.KnownSeries()
	}
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT)
	defer signal.Stop(signals)
	ctx, cancel := context.WithTimeout(ctx, f.timeout)
	defer cancel()
	cache, err := debian.CacheDir()
	if err != nil {
		return err
	}
	worst := 0
	for _, s := range series {
		kernel, err := debian.GetKernel(ctx, s, func(what string, _ float64) {
			fmt.Fprintf(os.Stderr, "debian:%s: %s\n", s, what)
		})
		if err != nil {
			return err
		}
		cfg := lab.Config{
			Kernel: kernel, Program: f.program, Args: args,
			Memory: f.memory << 20, CPUs: f.cpus, Append: f.append,
			Shares: []string{cache}, Env: []string{"OFFMAP_CACHE=" + cache},
			Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr, Signals: signals,
		}
		res, err := lab.Run(ctx, cfg)
		if se, ok := errors.AsType[*lab.SignalError](err); ok {
			os.Exit(128 + int(se.Signal))
		}
		if err != nil {
			return err
		}
		if f.verbose {
			fmt.Fprintf(os.Stderr, "lab: kernel %s (%s), QEMU %s, %s, up in %.1f s\n", kernel.Release, kernel.Version, res.QEMU, res.CPU, res.Started.Seconds())
		}
		if len(res.Findings) > 0 {
			for _, x := range res.Findings {
				fmt.Fprintf(os.Stderr, "lab: kernel log line %d: %s: %s\n", x.Line, x.What, x.Text)
			}
			res.Code = 3
		}
		if worst == 0 {
			worst = res.Code
		}
	}
	if worst != 0 {
		os.Exit(worst)
	}
	return nil
}
