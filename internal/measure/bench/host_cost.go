package bench

import (
	"bytes"
	"context"
	"fmt"
	"math"
	"os"
	"strconv"
	"time"

	"offmap/internal/process/exitcode"
	"offmap/internal/process/pdeathsig"
	"offmap/memory"
)

// costScenarios measure the VMM's own use of CPU time and memory.
func costScenarios() []Scenario {
	return []Scenario{{
		Name: "vmm-cost",
		Slow: true,
		About: "offmap run of the payload touch with 32 MiB of RAM, as a process of its own: its CPU time, the guest's included, from start to end; " +
			"and the peak of its own memory (Rss of /proc/PID/smaps, sampled 50 times a second, of all mappings smaller than guest RAM, its program included)",
		Metrics: []Metric{
			{Name: "elapsed", Unit: "sec"}, {Name: "cpu-user", Unit: "sec"}, {Name: "cpu-system", Unit: "sec"}, {Name: "rss", Unit: "B"},
		},
		Subjects: func(_ *Env, working []Subject) []Subject { return working },
		Sample: func(ctx context.Context, _ *Env, s Subject) ([]float64, error) {
			program, err := self()
			if err != nil {
				return nil, err
			}
			return sampleCost(ctx, program, s)
		},
	}}
}

// self returns the path of the program to run. Tests replace it.
var self = os.Executable

const (
	costSize     = memory.MinSize
	costInterval = 20 * time.Millisecond
)

func sampleCost(ctx context.Context, program string, s Subject) ([]float64, error) {
	var said bytes.Buffer
	cmd := pdeathsig.Command(ctx, program, "run", "--quiet", "--payload", "touch",
		"--memory", strconv.Itoa(costSize>>20), "--backend", string(s.Backend), "--attach", string(s.Attach))
	cmd.Stdout, cmd.Stderr = &said, &said
	start := time.Now()
	if err := pdeathsig.Start(cmd); err != nil {
		return nil, fmt.Errorf("running %s: %w", program, err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	rss, err := mostRSS(cmd.Process.Pid, ended)
	elapsed := time.Since(start)
	state := cmd.ProcessState
	switch {
	case ctx.Err() != nil:
		return nil, context.Cause(ctx)
	case state != nil && state.ExitCode() == exitcode.Cannot:
		err = fmt.Errorf("%w: %w", ErrCannot, err)
		fallthrough
	case err != nil:
		return nil, fmt.Errorf("offmap run: %w: %s", err, bytes.TrimSpace(said.Bytes()))
	}
	if rss == 0 {
		rss = math.NaN() // it ended before the first sample
	}
	return []float64{elapsed.Seconds(), state.UserTime().Seconds(), state.SystemTime().Seconds(), rss}, nil
}

// mostRSS samples a process until it has ended. It returns the peak of its own
// memory in bytes, and how it ended.
func mostRSS(pid int, ended <-chan error) (most float64, err error) {
	tick := time.NewTicker(costInterval)
	defer tick.Stop()
	for {
		select {
		case err := <-ended:
			return most, err
		case <-tick.C:
		}
		if rss := resident(pid, costSize); rss > most { // not if it is NaN: the process has just ended
			most = rss
		}
	}
}
