package main

import (
	"context"
	"errors"
	"os"
	"os/signal"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// endSignals end the program in good order, with exit code 128+n. They are the signals
// whose default is to end a process, with these exceptions. SIGKILL can't be caught.
// The Go runtime reports SIGILL, SIGABRT, SIGSEGV and other signs of a broken program,
// and keeps SIGPROF and the real-time signals to itself. For SIGPIPE see withSignals.
var endSignals = []os.Signal{
	syscall.SIGHUP, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGUSR1, syscall.SIGUSR2,
	syscall.SIGALRM, syscall.SIGTERM, syscall.SIGSTKFLT, syscall.SIGXCPU, syscall.SIGXFSZ,
	syscall.SIGVTALRM, syscall.SIGIO, syscall.SIGPWR,
}

// secondSignal is the time after a signal in which further ones are ignored, because
// timeout(1) sends its signal twice, to the program and to its process group.
const secondSignal = 100 * time.Millisecond

// withSignals returns a context that a signal ends, with a *signalError as its
// cause. A second signal, after secondSignal, has its default effect. SIGHUP and
// SIGINT stay ignored if they were ignored at the start of the program (nohup).
//
// SIGPIPE ends the context if the reader of standard output or standard error has
// gone away. If it weren't caught, Go's write to these would end the program at
// once. It is caught and not ignored, so that programs that this one starts have
// its default.
//
// The returned function stops that. If a signal came before, the context has ended when
// the function returns.
func withSignals(ctx context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	ended := make(chan os.Signal, len(endSignals))
	broken := make(chan os.Signal, 1)
	for _, s := range endSignals {
		if !signal.Ignored(s) {
			signal.Notify(ended, s)
		}
	}
	signal.Notify(broken, syscall.SIGPIPE)
	done := make(chan struct{})
	go func() {
		defer close(done)
		var grace <-chan time.Time
		for ended != nil || broken != nil {
			select {
			case s, ok := <-ended:
				if !ok {
					ended = nil
					continue
				}
				cancel(&signalError{s.(syscall.Signal)})
				if grace == nil {
					grace = time.After(secondSignal)
				}
			case _, ok := <-broken:
				if !ok {
					broken = nil
					continue
				}
				if unread() {
					cancel(&signalError{syscall.SIGPIPE})
				}
			case <-grace:
				signal.Stop(ended)
			}
		}
	}()
	stop := []chan os.Signal{ended, broken}
	return ctx, func() {
		for _, c := range stop {
			signal.Stop(c) // waits for signals that are on their way
			close(c)
		}
		<-done
	}
}

// unread reports whether the reader of standard output or of standard error is
// gone.
func unread() bool {
	streams := []unix.PollFd{{Fd: 1}, {Fd: 2}}
	if _, err := unix.Poll(streams, 0); err != nil {
		return false
	}
	return (streams[0].Revents|streams[1].Revents)&(unix.POLLERR|unix.POLLHUP) != 0
}

// endedBy reports whether the signal sig ended a context.
func endedBy(ctx context.Context, sig syscall.Signal) bool {
	s, ok := errors.AsType[*signalError](context.Cause(ctx))
	return ok && s.Signal == sig
}

// forwardSignals has signals sent to the channel, for a program that runs elsewhere.
// The context that it returns ends with ctx for a signal that came before, and for
// SIGPIPE: nobody reads the program's output then. end stops that.
func forwardSignals(ctx context.Context) (_ context.Context, signals <-chan os.Signal, end func()) {
	forward := make(chan os.Signal, 8)
	for _, s := range append([]os.Signal{syscall.SIGWINCH}, endSignals...) {
		if !signal.Ignored(s) {
			signal.Notify(forward, s)
		}
	}
	inner, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	if ctx.Err() != nil {
		cancel(context.Cause(ctx))
	}
	stop := context.AfterFunc(ctx, func() {
		if _, bySignal := errors.AsType[*signalError](context.Cause(ctx)); !bySignal || endedBy(ctx, syscall.SIGPIPE) {
			cancel(context.Cause(ctx))
		}
	})
	return inner, forward, func() {
		stop()
		signal.Stop(forward)
		cancel(nil)
	}
}
