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

// How long after it was told to stop a guest may still be there.
const (
	// stopPatience is for this program, which then ends as it would have, but
	// without closing anything: the kernel does that, and a window's scrubber
	// and the terminal's keeper do what it doesn't. It leaves time to say why
	// before killPatience is over, to a reader who may not read.
	stopPatience = killPatience - outputPatience - 100*time.Millisecond
	// killPatience is for the kernel, where this program doesn't get to it: a
	// few hundred vCPUs can keep all processors from it.
	killPatience = time.Second
)

// errStopped is the end of a guest by a key.
var errStopped = errors.New("stopped")

// lastResort has the end of ctx, which tells a guest to stop, end this process
// in a second, come what may: a vCPU that doesn't leave the guest, output that
// nobody takes, or no processor time. A second signal doesn't wait for that.
//
// disarm is called when the guest is gone: what follows may take its time, such
// as wiping memory.
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

// endBySignals has the kernel end this process by the next signal, without any
// of its threads.
func endBySignals() {
	for _, s := range endSignals {
		if _, err := signals.Default(s.(syscall.Signal)); err != nil {
			slog.Debug(err.Error())
		}
	}
}

// stopCode is the exit code of a guest that was stopped for that cause.
func stopCode(cause error) int {
	if errors.Is(cause, errStopped) {
		return 0
	}
	return exitCode(cause)
}
