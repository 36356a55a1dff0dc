package memory

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// What memfd_secret(2) can be refused with. The kernel answers ENOSYS to both.
var (
	ErrSecretDisabled = errors.New("memfd_secret is switched off on this kernel: boot it with secretmem.enable=1 on the command line")
	ErrSecretAbsent   = errors.New("this kernel has no memfd_secret (it needs Linux 5.14 or newer, built with CONFIG_SECRETMEM)")
)

// openSecret makes the file of a secret memory area. The close-on-exec flag of
// memfd_secret is O_CLOEXEC; FD_CLOEXEC, as its man page has it, is EINVAL.
func openSecret(size uint64) (file, error) {
	fd, err := unix.MemfdSecret(unix.O_CLOEXEC)
	if errors.Is(err, unix.ENOSYS) {
		return file{}, secretMissing()
	}
	if err != nil {
		return file{}, fmt.Errorf("memfd_secret: %w", err)
	}
	return sized(fd, size)
}

// secretMissing tells a kernel that has memfd_secret switched off from one
// that doesn't have it: only the first has the parameter.
func secretMissing() error {
	if unix.Access("/sys/module/secretmem/parameters/enable", unix.F_OK) == nil {
		return ErrSecretDisabled
	}
	return ErrSecretAbsent
}

// secretRefused explains the EAGAIN of kernels that check RLIMIT_MEMLOCK in
// mmap.
func secretRefused(size uint64, err error) error {
	if errors.Is(err, unix.EAGAIN) {
		return memlockError(size, memlockLimit())
	}
	return err
}
