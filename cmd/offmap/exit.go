package main

import (
	"errors"
	"fmt"
	"syscall"

	"offmap/internal/process/exitcode"
	"offmap/memory"
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
	return exitWith(exitcode.Usage, fmt.Errorf(format, args...))
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

// guestCode is an exit code other than 0 that a guest gave itself. It may be any,
// those included that mean something else when they are offmap's.
type guestCode int

func (c guestCode) Error() string {
	return fmt.Sprintf("the guest ended with exit code %d, its own", int(c))
}

// signalError is a run that a signal ended.
type signalError struct{ syscall.Signal }

func (e *signalError) Error() string { return "stopped by signal: " + e.Signal.String() }
