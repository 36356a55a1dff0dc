package uffd

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"offmap/internal/process/sandbox"
	"offmap/internal/process/unavailable"
)

// Device hands out descriptors to every process that may open it (Linux 6.1).
const Device = "/dev/userfaultfd"

// Errors that Open wraps. If a seccomp filter or a security module refuses the
// call, the error is a *sandbox.Error.
var (
	// ErrDenied: no right to the faults that the kernel takes itself, which
	// KVM's are.
	ErrDenied error = unavailable.New("no right to use userfaultfd for the kernel's own faults",
		"sysctl vm.unprivileged_userfaultfd=1, or rights to "+Device)
	// ErrUnsupported: the kernel has no userfaultfd, or not for minor
	// faults on shared memory (Linux 5.14).
	ErrUnsupported error = unavailable.New("this kernel's userfaultfd can't do what is needed (it takes Linux 5.14 or newer, built with CONFIG_USERFAULTFD)",
		"Linux 5.14 with CONFIG_USERFAULTFD")
)

// FixDenied says how to get the right that is missing with ErrDenied.
const FixDenied = "run as root (CAP_SYS_PTRACE), or let your group have " + Device +
	" (sudo chgrp kvm " + Device + " && sudo chmod 660 " + Device + "), or `sudo sysctl vm.unprivileged_userfaultfd=1`"

// Range is memory whose faults come to this process.
type Range struct {
	fd   int
	base uintptr
	size uint64
}

// Open makes a descriptor for faults and registers memory with it, size bytes
// at base: a shared mapping of a memfd, page-aligned, that stays mapped until
// the Range is closed. base is not Go memory.
func Open(base uintptr, size uint64) (*Range, error) {
	fd, err := open()
	if err != nil {
		return nil, err
	}
	r := &Range{fd: fd, base: base, size: size}
	if err := r.register(); err != nil {
		return nil, errors.Join(err, r.Close())
	}
	return r, nil
}

// open tries the system call, which needs CAP_SYS_PTRACE or the sysctl, and then
// the device, which needs the right to open it.
func open() (int, error) {
	const flags = unix.O_CLOEXEC | unix.O_NONBLOCK
	fd, err := userfaultfd(flags)
	if err == nil {
		return fd, nil
	}
	dev, derr := unix.Open(Device, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if derr != nil {
		return -1, refused(err, derr)
	}
	defer unix.Close(dev)
	if fd, err = ioctl(dev, ioctlNew, flags); err != nil {
		return -1, fmt.Errorf("USERFAULTFD_IOC_NEW on %s: %w", Device, sandbox.Judge("ioctl", err))
	}
	return fd, nil
}

// refused returns the error for the refusals of the system call and of the device.
func refused(call, device error) error {
	const sysctl = "/proc/sys/vm/unprivileged_userfaultfd"
	setting, err := os.ReadFile(sysctl) // there is none without CONFIG_USERFAULTFD
	has := err == nil || !errors.Is(device, unix.ENOENT)
	may := strings.TrimSpace(string(setting)) == "1" || sandbox.Capable(unix.CAP_SYS_PTRACE)
	switch {
	case errors.Is(call, unix.ENOSYS) && !has:
		return fmt.Errorf("userfaultfd: %w: %w", ErrUnsupported, sandbox.Suspect("userfaultfd", call))
	case errors.Is(call, unix.ENOSYS), errors.Is(call, unix.EPERM) && may, errors.Is(call, unix.EACCES):
		return fmt.Errorf("%w; nor can %s be opened: %w", sandbox.Judge("userfaultfd", call), Device, sandbox.Device(device))
	}
	return fmt.Errorf("%w: userfaultfd: %w; open %s: %w", ErrDenied, sandbox.Suspect("userfaultfd", call), Device, sandbox.Device(device))
}

// agree agrees on the API version and features, without which a descriptor does
// nothing.
func (r *Range) agree() error {
	api := apiArg{api: apiVersion, features: featureMissingShmem | featureMinorShmem}
	if err := ioctlStruct(r.fd, ioctlAPI, &api); err != nil {
		return fmt.Errorf("UFFDIO_API: %w: %w", ErrUnsupported, err)
	}
	return nil
}

// register agrees on the API and puts the range under it.
func (r *Range) register() error {
	if err := r.agree(); err != nil {
		return err
	}
	reg := registerArg{start: uint64(r.base), len: r.size, mode: modeMissing | modeMinor}
	if err := ioctlStruct(r.fd, ioctlRegister, &reg); err != nil {
		return fmt.Errorf("UFFDIO_REGISTER of %d bytes: %w", r.size, err)
	}
	const need = 1<<numContinue | 1<<numZeropage | 1<<numWake
	if reg.ioctls&need != need {
		return fmt.Errorf("UFFDIO_REGISTER: %w: it offers ioctls 0x%x", ErrUnsupported, reg.ioctls)
	}
	return nil
}

// Close unregisters the range. Threads that wait for an answer fault again, on the
// memory as it then is. A caller that has no page for them unmaps it first.
func (r *Range) Close() error {
	if r.fd < 0 {
		return nil
	}
	err := os.NewSyscallError("close", unix.Close(r.fd))
	r.fd = -1
	return err
}

// Continue maps the file's pages for n bytes at off and wakes the threads that wait
// for them. It skips pages that are mapped already. n is a multiple of the page size.
func (r *Range) Continue(off, n uint64) error {
	return r.each(ioctlContinue, "UFFDIO_CONTINUE", off, n)
}

// Zero allocates pages of zeros for n bytes at off, where the file has none, and
// maps them as Continue does.
func (r *Range) Zero(off, n uint64) error {
	return r.each(ioctlZeropage, "UFFDIO_ZEROPAGE", off, n)
}

// each makes a request that maps pages until it has mapped all of them.
func (r *Range) each(req uintptr, name string, off, n uint64) error {
	for n > 0 {
		m := mapArg{start: uint64(r.base) + off, len: n}
		err := ioctlStruct(r.fd, req, &m)
		var done uint64
		switch {
		case m.mapped > 0: // all, or up to a page that couldn't be
			done = uint64(m.mapped)
		case errors.Is(err, unix.EEXIST):
			if err := r.Wake(off, pageSize); err != nil {
				return err
			}
			done = pageSize
		case errors.Is(err, unix.EAGAIN): // the address space is being changed
		case err != nil:
			return fmt.Errorf("%s of %d bytes at 0x%x: %w", name, n, off, err)
		}
		off, n = off+done, n-min(done, n)
	}
	return nil
}

// Wake lets threads that wait for n bytes at off fault again.
func (r *Range) Wake(off, n uint64) error {
	w := rangeArg{start: uint64(r.base) + off, len: n}
	if err := ioctlStruct(r.fd, ioctlWake, &w); err != nil {
		return fmt.Errorf("UFFDIO_WAKE of %d bytes at 0x%x: %w", n, off, err)
	}
	return nil
}

// Faults are the offsets of faults, in whole pages.
type Faults struct {
	msgs [16]message
	n    int
}

// Len returns the number of faults.
func (f *Faults) Len() int { return f.n }

// Wait waits until there are faults to read or the descriptor stop is readable. It
// reports whether stop is.
func (r *Range) Wait(stop int) (stopped bool, err error) {
	fds := [2]unix.PollFd{{Fd: int32(r.fd), Events: unix.POLLIN}, {Fd: int32(stop), Events: unix.POLLIN}}
	for {
		_, err := unix.Poll(fds[:], -1)
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return false, fmt.Errorf("poll of userfaultfd: %w", err)
		case fds[1].Revents != 0:
			return true, nil
		case fds[0].Revents&unix.POLLIN == 0:
			return false, fmt.Errorf("poll of userfaultfd: events 0x%x", fds[0].Revents)
		default:
			return false, nil
		}
	}
}

// Read takes faults that nobody has answered, as many as there are and fit. It
// doesn't wait: there may be none.
func (r *Range) Read(f *Faults) error {
	f.n = 0
	n, err := r.read(f)
	switch {
	case errors.Is(err, unix.EAGAIN), errors.Is(err, unix.EINTR):
		return nil
	case err != nil:
		return fmt.Errorf("read of userfaultfd: %w", err)
	}
	f.n = n / messageSize
	return nil
}

// At is the offset of fault i of those that Read took. ok is false for an
// event that is no fault in the range.
func (r *Range) At(f *Faults, i int) (off uint64, ok bool) {
	m := &f.msgs[i]
	off = (m.address - uint64(r.base)) &^ (pageSize - 1)
	return off, m.event == eventPagefault && off < r.size
}

// Probe reports whether userfaultfd can be used here as Open needs it.
func Probe() error {
	fd, err := open()
	if err != nil {
		return err
	}
	r := &Range{fd: fd}
	return errors.Join(r.agree(), r.Close())
}
