// Package freestanding starts small programs of machine code that offmap
// carries with it, in places where a Go program can't be: a process of one
// thread and a few pages, with nothing of the parent's. Other processes of the
// user can't get into it (package undumpable).
package freestanding

import (
	"bytes"
	"fmt"
	"os"
	"syscall"

	"golang.org/x/sys/unix"

	"offmap/internal/process/undumpable"
)

// Start starts the program image, a whole ELF file, under that name, with no
// arguments, no environment, and files as its descriptors 0 and up. The errors
// say what to change where the host doesn't allow it.
func Start(name string, image []byte, files []*os.File, sys *syscall.SysProcAttr) (*os.Process, error) {
	program, err := undumpable.Program(name, bytes.NewReader(image))
	if err != nil {
		return nil, err
	}
	defer program.Close()
	return start(name, program, files, sys)
}

// start starts what is in the file program.
func start(name string, program *os.File, files []*os.File, sys *syscall.SysProcAttr) (process *os.Process, err error) {
	// The child looks its program up among its own descriptors, and on the way
	// there os.StartProcess moves files to 0 and up and its own pipe out of
	// their way, to numbers just above the highest: the program's must be none
	// of these.
	above := 0
	for _, f := range files {
		above = max(above, int(f.Fd()))
	}
	fd, err := unix.FcntlInt(program.Fd(), unix.F_DUPFD_CLOEXEC, above+len(files)+3)
	if err != nil {
		return nil, fmt.Errorf("fcntl F_DUPFD_CLOEXEC of the program %s: %w", name, err)
	}
	defer unix.Close(fd)
	err = undumpable.WithoutOverride(func() error {
		process, err = os.StartProcess(fmt.Sprintf("/proc/self/fd/%d", fd), []string{name}, &os.ProcAttr{
			Dir: "/", Env: []string{}, Files: files, Sys: sys,
		})
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("starting %s from a memfd: %w: is /proc mounted, and does a security module forbid to execute memfds?", name, err)
	}
	return process, nil
}
