// Package freestanding starts small programs of machine code that offmap
// carries with it, in places where a Go program can't be: a process of one
// thread and a few pages, with nothing of the parent's.
package freestanding

import (
	"errors"
	"fmt"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// Start starts the program image, a whole ELF file, under that name, with no
// arguments, no environment, and files as its descriptors 0 and up. The errors
// say what to change where the host doesn't allow it.
func Start(name string, image []byte, files []*os.File, sys *syscall.SysProcAttr) (*os.Process, error) {
	program, err := load(name, image)
	if err != nil {
		return nil, err
	}
	defer program.Close()
	return start(name, program, files, sys)
}

// start starts what is in the file program.
func start(name string, program *os.File, files []*os.File, sys *syscall.SysProcAttr) (*os.Process, error) {
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
	process, err := os.StartProcess(fmt.Sprintf("/proc/self/fd/%d", fd), []string{name}, &os.ProcAttr{
		Dir: "/", Env: []string{}, Files: files, Sys: sys,
	})
	if err != nil {
		return nil, fmt.Errorf("starting %s from a memfd: %w: is /proc mounted, and does a security module forbid to execute memfds?", name, err)
	}
	return process, nil
}

// load puts the program into a memfd that nobody can change any more and that
// can be executed.
func load(name string, image []byte) (_ *os.File, err error) {
	const flags = unix.MFD_CLOEXEC | unix.MFD_ALLOW_SEALING
	fd, err := unix.MemfdCreate(name, flags|unix.MFD_EXEC)
	if errors.Is(err, unix.EINVAL) {
		fd, err = unix.MemfdCreate(name, flags) // before 6.3 they all can
	}
	if err != nil {
		return nil, noexec(fmt.Errorf("memfd_create of the program %s: %w", name, err))
	}
	file := os.NewFile(uintptr(fd), name)
	defer func() {
		if err != nil {
			file.Close()
		}
	}()
	if _, err := file.Write(image); err != nil {
		return nil, fmt.Errorf("write of the program %s: %w", name, err)
	}
	const seals = unix.F_SEAL_WRITE | unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_SEAL
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, seals); err != nil {
		return nil, fmt.Errorf("fcntl F_ADD_SEALS on the program %s: %w", name, err)
	}
	return file, nil
}

// noexec adds the remedy where the host forbids executable memfds
// (Documentation/admin-guide/sysctl/vm.rst, memfd_noexec).
func noexec(err error) error {
	if !errors.Is(err, unix.EACCES) && !errors.Is(err, unix.EPERM) {
		return err
	}
	return fmt.Errorf("%w: this host forbids executable memfds (vm.memfd_noexec=2): allow them with `sysctl vm.memfd_noexec=1` as root", err)
}
