package main

import (
	"errors"
	"fmt"
	"syscall"

	"offmap/memory/attach"
)

// Exit codes.
const (
	exitError   = 1
	exitUsage   = 2
	exitCheck   = 3 // a check failed
	exitCannot  = 4 // this host can't do it
	exitReset   = 32
	exitCrash   = 33
	exitPanic   = 34
	exitTimeout = 124
	exitSignal  = 128 // plus the signal's number
)

// codeError is an error, or with a nil one just the end of the program, with
// an exit code of its own.
type codeError struct {
	code int
	err  error
}

func (e *codeError) Error() string {
	if e.err == nil {
		return fmt.Sprintf("exit code %d", e.code)
	}
	return e.err.Error()
}

func (e *codeError) Unwrap() error { return e.err }

// exitWith makes an error that ends the program with code; err may be nil
// where everything has been said.
func exitWith(code int, err error) error {
	if code == 0 {
		return err
	}
	return &codeError{code, err}
}

// usage makes an error of wrong usage.
func usage(format string, args ...any) error {
	return exitWith(exitUsage, fmt.Errorf(format, args...))
}

// exitCode is the exit code for an error that reached main.
func exitCode(err error) int {
	if err == nil {
		return 0
	}
	if c, ok := errors.AsType[*codeError](err); ok {
		return c.code
	}
	if errors.Is(err, errTimeout) {
		return exitTimeout
	}
	if s, ok := errors.AsType[*signalError](err); ok {
		return exitSignal + int(s.Signal)
	}
	if attach.Unavailable(err) {
		return exitCannot
	}
	return exitError
}

// guestCode is an exit code other than 0 that a guest gave itself. It may be any,
// those included that mean something else when they are offmap's.
type guestCode int

func (c guestCode) Error() string {
	return fmt.Sprintf("the guest ended with exit code %d, its own", int(c))
}

// signalError is a run that a signal ended.
type signalError struct{ syscall.Signal }

func (e *signalError) Error() string { return "stopped by signal: " + e.Signal.String() }
