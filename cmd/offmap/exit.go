package main

import (
	"errors"
	"fmt"
	"syscall"

	"offmap/internal/process/exitcode"
	"offmap/memory"
)

// codeError is an error with an exit code. Where err is nil, there is nothing more
// to say.
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

// exitWith returns an error that ends the program with code. err may be nil: then
// nothing more is printed.
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

// guestCode is an exit code other than 0 that a guest ended with. It may be one of
// the codes that mean something else when they are offmap's own.
type guestCode int

func (c guestCode) Error() string {
	return fmt.Sprintf("the guest ended with exit code %d, its own", int(c))
}

// signalError is a run that a signal ended.
type signalError struct{ syscall.Signal }

func (e *signalError) Error() string { return "stopped by signal: " + e.Signal.String() }
