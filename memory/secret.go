package memory

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"offmap/internal/process/sandbox"
	"offmap/internal/process/unavailable"
)

// Reasons for which the kernel refuses memfd_secret(2), both with ENOSYS. If a
// seccomp filter or a security module refuses it, the error is a *sandbox.Error.
var (
	ErrSecretDisabled error = unavailable.New("memfd_secret is switched off on this kernel: boot it with secretmem.enable=1 on the command line",
		"boot parameter secretmem.enable=1")
	ErrSecretAbsent error = unavailable.New("this kernel has no memfd_secret (it needs Linux 5.14 or newer, built with CONFIG_SECRETMEM)",
		"Linux 5.14 with CONFIG_SECRETMEM")
)

// openSecret makes the file of a secret memory area. memfd_secret takes O_CLOEXEC;
// it fails with EINVAL for FD_CLOEXEC, which its man page names.
func openSecret(size uint64) (file, error) {
	fd, err := MemfdSecret(unix.O_CLOEXEC)
	if err != nil {
		return file{}, err
	}
	return sized(fd, size)
}

// MemfdSecret calls memfd_secret(2), which needs no privilege. Its error says why
// the call was refused.
func MemfdSecret(flags int) (int, error) {
	fd, err := unix.MemfdSecret(flags)
	if err == nil {
		return fd, nil
	}
	return -1, secretError(os.DirFS("/sys"), sandbox.Read().Filtered, err)
}

// secretError finds out why there is no secret memory. Each kernel with
// memfd_secret has the module's parameter in sysfs, which only root can read. It
// also matters whether this process runs under a seccomp filter.
func secretError(sys fs.FS, filtered bool, err error) error {
	if !errors.Is(err, unix.ENOSYS) {
		return sandbox.Judge("memfd_secret", err)
	}
	enable, no := fs.ReadFile(sys, "module/secretmem/parameters/enable")
	switch {
	case no == nil && strings.TrimSpace(string(enable)) == "N":
		return ErrSecretDisabled
	case no == nil:
		return sandbox.Judge("memfd_secret", err)
	case errors.Is(no, fs.ErrPermission) && !filtered:
		return ErrSecretDisabled // nothing else can have refused it
	case errors.Is(no, fs.ErrPermission):
		return secretUnknown("the kernel has it", "only root can tell", err)
	}
	if _, no := fs.Stat(sys, "kernel"); no != nil {
		return secretUnknown("the kernel lacks it or has it", "without /sys it can't be told", err)
	}
	return ErrSecretAbsent
}

// secretUnknown returns the error for an ENOSYS that the kernel or a filter may have
// returned.
func secretUnknown(kernel, who string, err error) error {
	return fmt.Errorf("%w: memfd_secret: %w: %s whether %s switched off (secretmem.enable=1 on its command line switches it on) or a container's seccomp profile refuses it",
		lacking("boot parameter secretmem.enable=1, or a seccomp profile that allows memfd_secret"), err, who, kernel)
}

// secretRefused explains the EAGAIN of kernels that check RLIMIT_MEMLOCK in
// mmap.
func secretRefused(size uint64, err error) error {
	if errors.Is(err, unix.EAGAIN) {
		return memlockError(size, memlockLimit())
	}
	return err
}
