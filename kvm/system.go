package kvm

import (
	"errors"
	"fmt"
	"io/fs"
	"sync"

	"golang.org/x/sys/unix"

	"offmap/internal/process/sandbox"
	"offmap/internal/process/unavailable"
)

// DefaultPath is KVM's device node.
const DefaultPath = "/dev/kvm"

// ErrAPIVersion is wrapped by Open's error if /dev/kvm speaks another ABI than the
// stable one, which is version 12.
var ErrAPIVersion = errors.New("unknown KVM API version")

// fd is a file descriptor that is closed once.
type fd struct {
	n    int
	once sync.Once
	err  error
}

func (f *fd) close(what string) error {
	f.once.Do(func() {
		if err := unix.Close(f.n); err != nil {
			f.err = fmt.Errorf("close %s: %w", what, err)
		}
	})
	return f.err
}

// System is an open /dev/kvm.
type System struct {
	fd       fd
	mmapSize int
}

// OpenError is the error of a device node that can't be opened. It is
// fs.ErrNotExist for errors.Is if there is no KVM, and fs.ErrPermission if this
// process may not use it.
type OpenError struct{ fs.PathError }

// Is reports that every *OpenError says that this host lacks something
// (memory.ErrUnavailable).
func (e *OpenError) Is(target error) bool { return target == unavailable.Err }

// Needs returns "KVM", for a report of what this host lacks.
func (e *OpenError) Needs() string { return "KVM" }

// Open opens KVM's device node ("" is DefaultPath) and checks that it speaks
// the stable API. It fails with an *OpenError, or wraps ErrAPIVersion.
func Open(path string) (*System, error) {
	if path == "" {
		path = DefaultPath
	}
	n, err := unix.Open(path, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &OpenError{fs.PathError{Op: "open", Path: path, Err: sandbox.Device(err)}}
	}
	s := &System{fd: fd{n: n}}
	v, err := ioctl(n, kvmGetAPIVersion, 0)
	if err != nil {
		s.Close()
		return nil, fmt.Errorf("KVM_GET_API_VERSION on %s: %w", path, err)
	}
	if v != apiVersion {
		s.Close()
		return nil, fmt.Errorf("%s: version %d, want %d: %w", path, v, apiVersion, ErrAPIVersion)
	}
	s.mmapSize, err = ioctl(n, kvmGetVCPUMmapSize, 0)
	if err == nil && s.mmapSize < runSize {
		err = fmt.Errorf("%d bytes, want %d or more", s.mmapSize, runSize)
	}
	if err != nil {
		s.Close()
		return nil, fmt.Errorf("KVM_GET_VCPU_MMAP_SIZE: %w", err)
	}
	return s, nil
}

// Close closes the device. VMs that were made from it stay open.
func (s *System) Close() error { return s.fd.close("kvm") }

// Check returns the answer of KVM_CHECK_EXTENSION for a capability: 0 if KVM lacks
// it, otherwise 1 or a value that the capability defines (api.rst 4.4).
func (s *System) Check(c Cap) (int, error) { return checkExtension(s.fd.n, c) }

func checkExtension(fd int, c Cap) (int, error) {
	v, err := ioctl(fd, kvmCheckExtension, uintptr(c))
	if err != nil {
		return 0, fmt.Errorf("KVM_CHECK_EXTENSION %d: %w", c, err)
	}
	return v, nil
}

// SupportedCPUID returns the CPUID leaves that this host and KVM can give a
// guest (api.rst 4.46).
func (s *System) SupportedCPUID() ([]CPUIDEntry, error) {
	c := cpuid2{nent: maxCPUIDEntries}
	if err := ioctlStruct(s.fd.n, kvmGetSupportedCPUID, &c); err != nil {
		return nil, fmt.Errorf("KVM_GET_SUPPORTED_CPUID: %w", err)
	}
	return append([]CPUIDEntry(nil), c.entries[:min(int(c.nent), maxCPUIDEntries)]...), nil
}

// CreateVM makes a virtual machine without memory or vCPUs (api.rst 4.2).
func (s *System) CreateVM() (*VM, error) {
	n, err := retry(func() (int, error) { return ioctl(s.fd.n, kvmCreateVM, 0) })
	if err != nil {
		return nil, fmt.Errorf("KVM_CREATE_VM: %w", err)
	}
	return &VM{fd: fd{n: n}, mmapSize: s.mmapSize}, nil
}

// retry repeats a call that a signal interrupted before it did anything.
// KVM_CREATE_VM and KVM_CREATE_VCPU start kernel threads and allocate memory, which
// a signal may interrupt, and then undo what they did.
func retry(call func() (int, error)) (int, error) {
	for {
		n, err := call()
		if !errors.Is(err, unix.EINTR) {
			return n, err
		}
	}
}
