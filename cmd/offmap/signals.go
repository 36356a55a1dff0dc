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

// endSignals end the program in order, with exit code 128+n: all whose default
// is to end a process. Missing are SIGKILL, which nobody can catch; those that
// say that a program is broken (SIGILL, SIGABRT, SIGSEGV and their like), which
// the Go runtime reports; SIGPROF and the real-time signals, which it keeps
// from programs; and SIGPIPE, for which see withSignals.
var endSignals = []os.Signal{
	syscall.SIGHUP, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGUSR1, syscall.SIGUSR2,
	syscall.SIGALRM, syscall.SIGTERM, syscall.SIGSTKFLT, syscall.SIGXCPU, syscall.SIGXFSZ,
	syscall.SIGVTALRM, syscall.SIGIO, syscall.SIGPWR,
}

// secondSignal is how long after a signal another one isn't taken for the wish
// to end at once: timeout(1) sends its signal twice, to the program and to the
// program's process group.
const secondSignal = 100 * time.Millisecond

// withSignals returns a context that a signal ends, with a *signalError as its
// cause. Another signal, a moment later, ends the program the hard way. SIGHUP
// and SIGINT stay ignored where they were when the program was started (nohup).
//
// SIGPIPE counts if it was the reader of standard output or of standard error
// who went away. Unless it is caught, Go's write to these ends the program
// itself, and skips what is to be done in the end; a program that this one
// starts has it at its default again, as it is caught and not ignored.
//
// The function that is returned ends the catching. A signal that has come
// before is in the context then.
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

// endedBy reports whether a context was ended by that signal.
func endedBy(ctx context.Context, sig syscall.Signal) bool {
	s, ok := errors.AsType[*signalError](context.Cause(ctx))
	return ok && s.Signal == sig
}
