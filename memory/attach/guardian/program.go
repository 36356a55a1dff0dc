package guardian

import (
	_ "embed"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// name is the process's in ps. "pkill offmap" must not find it, so that
// killing the VMM that way leaves it its work.
const name = "window-guardian"

//go:generate sh asm/build.sh

//go:embed asm/guardian.bin
var image []byte

// load puts the program into a memfd that nobody can change any more and that
// can be executed.
func load() (_ *os.File, err error) {
	const flags = unix.MFD_CLOEXEC | unix.MFD_ALLOW_SEALING
	fd, err := unix.MemfdCreate(name, flags|unix.MFD_EXEC)
	if errors.Is(err, unix.EINVAL) {
		fd, err = unix.MemfdCreate(name, flags) // before 6.3 they all can
	}
	if err != nil {
		return nil, noexec(fmt.Errorf("memfd_create of the guardian's program: %w", err))
	}
	file := os.NewFile(uintptr(fd), name)
	defer func() {
		if err != nil {
			file.Close()
		}
	}()
	if _, err := file.Write(image); err != nil {
		return nil, fmt.Errorf("write of the guardian's program: %w", err)
	}
	const seals = unix.F_SEAL_WRITE | unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_SEAL
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, seals); err != nil {
		return nil, fmt.Errorf("fcntl F_ADD_SEALS on the guardian's program: %w", err)
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
