// Package undumpable starts programs whose processes are protected from the other
// processes of the same user. Those can't trace them with ptrace(2), nor use the
// files in /proc/PID that need the same right, such as mem and fd (ptrace(2),
// "Ptrace access mode checking").
//
// A process can make itself undumpable (PR_SET_DUMPABLE, prctl(2)). But execve
// makes a process dumpable again, and the kernel checks only at open: a process
// that opens /proc/PID/mem in the first moments of another keeps it open. execve
// doesn't make a process dumpable if it may not read its program file (would_dump
// in fs/exec.c). So this package starts programs from files that nobody may read,
// their owner included.
package undumpable

import (
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"

	"offmap/internal/process/sandbox"
	"offmap/internal/process/unavailable"
)

// Errors wrap errHost or errNoExec if this host doesn't allow to start a program
// undumpable. They say what to change.
const refusal = "this host doesn't let offmap start a program that its user can't look into"

var (
	errHost   = unavailable.New(refusal, "")
	errNoExec = unavailable.New(refusal, "sysctl vm.memfd_noexec=1")
)

// Program copies a program's image into a memfd called name. Nobody can open the
// memfd to read it, and nobody can change it any more. It can be executed under
// WithoutOverride.
func Program(name string, image io.Reader) (_ *os.File, err error) {
	const flags = unix.MFD_CLOEXEC | unix.MFD_ALLOW_SEALING
	fd, err := unix.MemfdCreate(name, flags|unix.MFD_EXEC)
	if errors.Is(err, unix.EINVAL) {
		fd, err = unix.MemfdCreate(name, flags) // before 6.3 every memfd is executable
	}
	if err != nil {
		return nil, fmt.Errorf("program %s: %w", name, refused(err))
	}
	file := os.NewFile(uintptr(fd), name)
	defer func() {
		if err != nil {
			file.Close()
		}
	}()
	if _, err := io.Copy(file, image); err != nil {
		return nil, fmt.Errorf("write of the program %s: %w", name, err)
	}
	if err := unix.Fchmod(fd, 0o111); err != nil {
		return nil, fmt.Errorf("fchmod of the program %s: %w", name, err)
	}
	const seals = unix.F_SEAL_WRITE | unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_SEAL
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, seals); err != nil {
		return nil, fmt.Errorf("fcntl F_ADD_SEALS on the program %s: %w", name, err)
	}
	return file, nil
}

// refused returns the error for a failed memfd_create. It finds out whether the host
// forbids executable memfds, and then names the remedy
// (Documentation/admin-guide/sysctl/vm.rst, memfd_noexec), or whether a sandbox
// confines this process.
func refused(err error) error {
	setting, _ := os.ReadFile("/proc/sys/vm/memfd_noexec")
	if errors.Is(err, unix.EACCES) && strings.TrimSpace(string(setting)) == "2" {
		return fmt.Errorf("%w: memfd_create: %w: this host forbids executable memfds (vm.memfd_noexec=2): allow them with `sysctl vm.memfd_noexec=1` as root", errNoExec, err)
	}
	return sandbox.Judge("memfd_create", err)
}

// WithoutOverride calls f on a thread without CAP_DAC_OVERRIDE and
// CAP_DAC_READ_SEARCH. f executes a Program or starts a process that does. With one
// of these capabilities it could read every file, and the new process would be
// dumpable. execve gives a root process all of its capabilities again.
func WithoutOverride(f func() error) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var old [2]unix.CapUserData // 64 bits; the two capabilities are in the first 32
	if err := unix.Capget(&header, &old[0]); err != nil {
		return fmt.Errorf("capget: %w", err)
	}
	lowered := old
	lowered[0].Effective &^= 1<<unix.CAP_DAC_OVERRIDE | 1<<unix.CAP_DAC_READ_SEARCH
	if lowered == old {
		return f()
	}
	if err := unix.Capset(&header, &lowered[0]); err != nil {
		return fmt.Errorf("capset without CAP_DAC_OVERRIDE: %w", err)
	}
	err := f()
	if back := unix.Capset(&header, &old[0]); back != nil {
		runtime.LockOSThread() // the thread ends with its goroutine
		err = errors.Join(err, fmt.Errorf("capset back: %w", back))
	}
	return err
}
