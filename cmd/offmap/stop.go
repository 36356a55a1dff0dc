package main

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"sync"
	"syscall"
	"time"

	"offmap/internal/process/signals"
)

// How long a guest may take to stop.
const (
	// After stopPatience this program exits without closing anything. The kernel
	// does that, and the window's scrubber and the terminal's keeper do the rest.
	// It first prints why, even if the reader of its output is stuck.
	stopPatience = 600 * time.Millisecond
	// After killPatience the kernel kills this program, and the exit code doesn't tell
	// why. On a busy host, or with a few hundred running vCPUs, it may not have had a
	// processor to exit before.
	killPatience = 5 * time.Second
)

// errStopped is the cause if a key stopped the guest.
var errStopped = errors.New("stopped")

// lastResort ends this process soon after the end of ctx, which stops the guest, and
// after killPatience at the latest: even if a vCPU doesn't leave the guest, nobody
// takes the output, or there is no processor time. A second signal ends it at once.
//
// disarm is called when the guest is gone. What follows may take long, such as
// wiping memory.
func lastResort(ctx context.Context, restore func()) (disarm func()) {
	var (
		mu     sync.Mutex
		over   bool
		undo   []func()
		locked = func(f func()) func() {
			return func() {
				mu.Lock()
				defer mu.Unlock()
				if !over {
					f()
				}
			}
		}
		after = func(d time.Duration, f func()) {
			t := time.AfterFunc(d, locked(f))
			undo = append(undo, func() { t.Stop() })
		}
	)
	unwatch := context.AfterFunc(ctx, locked(func() {
		cancel, err := signals.KillAfter(killPatience)
		if err == nil {
			undo = append(undo, func() { err = cancel() })
		}
		if err != nil {
			slog.Debug(err.Error())
		}
		after(secondSignal, endBySignals)
		after(stopPatience, func() {
			restore()
			cause := context.Cause(ctx)
			if !errors.Is(cause, errStopped) && !endedBy(ctx, syscall.SIGPIPE) {
				explain(ctx, cause)
			}
			os.Exit(stopCode(cause))
		})
	}))
	return func() {
		unwatch()
		mu.Lock()
		defer mu.Unlock()
		over = true
		for _, f := range undo {
			f()
		}
	}
}

// endBySignals has the kernel end this process at the next signal. None of its
// threads has to run for that.
func endBySignals() {
	for _, s := range endSignals {
		if _, err := signals.Default(s.(syscall.Signal)); err != nil {
			slog.Debug(err.Error())
		}
	}
}

// stopCode is the exit code if a guest was stopped for this cause.
func stopCode(cause error) int {
	if errors.Is(cause, errStopped) {
		return 0
	}
	return exitCode(cause)
}
