package main

import (
	"errors"
	"fmt"
	"syscall"

	"offmap/internal/process/exitcode"
	"offmap/memory"
)

// codeError is an error with an exit code. If err is nil, there is no message to print.
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

// exitWith returns an error that ends the program with code. If err is nil, the program
// prints nothing more.
func exitWith(code int, err error) error {
	if code == 0 {
		return err
	}
	return &codeError{code, err}
}

// usage returns an error for wrong usage.
func usage(format string, args ...any) error {
	return exitWith(exitcode.Usage, fmt.Errorf(format, args...))
}

// exitCode returns the exit code for an error that reached main.
func exitCode(err error) int {
	if err == nil {
		return 0
	}
	if c, ok := errors.AsType[*codeError](err); ok {
		return c.code
	}
	if errors.Is(err, errTimeout) {
		return exitcode.Timeout
	}
	if s, ok := errors.AsType[*signalError](err); ok {
		return exitcode.Signal + int(s.Signal)
	}
	if errors.Is(err, memory.ErrUnavailable) {
		return exitcode.Cannot
	}
	return exitcode.Error
}

// guestCode is a guest's exit code other than 0. It may be equal to one of offmap's own
// codes.
type guestCode int

func (c guestCode) Error() string {
	return fmt.Sprintf("the guest ended with exit code %d, its own", int(c))
}

// signalError says that a signal ended a run.
type signalError struct{ syscall.Signal }

func (e *signalError) Error() string { return "stopped by signal: " + e.Signal.String() }
