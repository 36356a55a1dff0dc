package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// A target is a file that is replaced as a whole: a reader finds either the old content
// or all of the new content. Pipes and devices are written to directly.

// checkTarget returns an error if the target can't be written. It changes no file.
func checkTarget(path string) error {
	info, err := os.Stat(path)
	switch {
	case err == nil && info.IsDir():
		return fmt.Errorf("%s is a directory", path)
	case err == nil && !info.Mode().IsRegular():
		return nil
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return err
	}
	f, err := createBeside(path)
	if err != nil {
		return err
	}
	return errors.Join(f.Close(), os.Remove(f.Name()))
}

// writeTarget calls write to write a target. When ctx ends, it stops to wait for the
// reader of a pipe, but it still writes a file.
func writeTarget(ctx context.Context, path string, write func(io.Writer) error) error {
	if info, err := os.Stat(path); err == nil && !info.Mode().IsRegular() {
		f, err := openStream(ctx, path)
		if err != nil {
			return err
		}
		err = write(&output{w: f, stopping: ctx.Done()})
		return errors.Join(err, f.Close())
	}
	if to, err := filepath.EvalSymlinks(path); err == nil {
		path = to
	}
	f, err := createBeside(path)
	if err != nil {
		return err
	}
	if err = errors.Join(write(f), f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return nil
}

// readerInterval is how often openStream looks for the reader of a pipe.
const readerInterval = 20 * time.Millisecond

// openStream opens a pipe or a device for writing. It waits for a pipe's reader
// until the end of ctx. A plain open would wait for ever, since Go repeats it after
// a signal.
func openStream(ctx context.Context, path string) (*os.File, error) {
	for {
		// O_NONBLOCK: fifo(7). The file itself blocks, to its writer.
		f, err := os.OpenFile(path, os.O_WRONLY|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
		if info, serr := os.Stat(path); !errors.Is(err, unix.ENXIO) || serr != nil || info.Mode()&fs.ModeNamedPipe == 0 {
			return f, err
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("%s: nobody reads this pipe: %w", path, context.Cause(ctx))
		case <-time.After(readerInterval):
		}
	}
}

// waitFor calls f. It returns when f does or when ctx ends.
func waitFor[T any](ctx context.Context, f func() (T, error)) (T, error) {
	type result struct {
		t   T
		err error
	}
	done := make(chan result, 1)
	go func() {
		t, err := f()
		done <- result{t, err}
	}()
	select {
	case r := <-done:
		return r.t, r.err
	case <-ctx.Done():
		var none T
		return none, context.Cause(ctx)
	}
}

// createBeside creates a file in the directory of path, so that it can be renamed
// to path.
func createBeside(path string) (*os.File, error) {
	dir, base := filepath.Split(path)
	name := filepath.Join(dir, fmt.Sprintf(".%s.%d", base, os.Getpid()))
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
	if e, ok := errors.AsType[*fs.PathError](err); ok {
		e.Path = path // the name that the user gave
	}
	return f, err
}
