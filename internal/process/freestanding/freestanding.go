// Package freestanding starts small programs of machine code that are embedded in
// offmap, where a Go program can't run. Such a program is a process of one thread
// and a few pages, and inherits nothing but the descriptors that it is given. The
// user's other processes can't read its memory (package undumpable).
package freestanding

import (
	"bytes"
	"fmt"
	"os"
	"syscall"

	"golang.org/x/sys/unix"

	"offmap/internal/process/undumpable"
)

// Start starts a program. image is a whole ELF file, name is its name in ps, and
// files are its descriptors from 0 on. It has no arguments and no environment. If
// the host doesn't allow it, the error says what to change.
func Start(name string, image []byte, files []*os.File, sys *syscall.SysProcAttr) (*os.Process, error) {
	program, err := undumpable.Program(name, bytes.NewReader(image))
	if err != nil {
		return nil, err
	}
	defer program.Close()
	return start(name, program, files, sys)
}

// start starts the program in the file program.
func start(name string, program *os.File, files []*os.File, sys *syscall.SysProcAttr) (process *os.Process, err error) {
	// The child opens its program through one of its own descriptors. Before
	// that, os.StartProcess moves files to 0 and up, and its own pipe and files
	// in the way to numbers just above the highest. The program's descriptor
	// must be none of these.
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
