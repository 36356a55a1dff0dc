package inside

import (
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"

	"offmap/guest/agent"
	"offmap/internal/lab/wire"
)

// requestMax is more than the largest FUSE message: a write of maxWrite and
// its headers (include/uapi/linux/fuse.h, FUSE_MIN_READ_BUFFER).
const requestMax = 1<<20 + 64<<10

// mountShares mounts the directories that the host serves, each at its own
// path. The host runs the file server; here FUSE's messages are only carried
// between /dev/fuse and the port, since Debian's cloud kernels have no 9p.
func mountShares(dirs []string) error {
	fuse, err := unix.Open("/dev/fuse", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return &os.PathError{Op: "open", Path: "/dev/fuse", Err: err}
	}
	port, err := unix.Open(agent.PortDevice(wire.FilesPort), unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return &os.PathError{Op: "open", Path: wire.FilesPort, Err: err}
	}
	const root = "/lab/host"
	if err := os.MkdirAll(root, 0o755); err != nil {
		return err
	}
	opts := fmt.Sprintf("fd=%d,rootmode=40000,user_id=0,group_id=0,default_permissions,allow_other", fuse)
	if err := unix.Mount("host", root, "fuse.offmap", unix.MS_NOSUID|unix.MS_NODEV, opts); err != nil {
		return fmt.Errorf("mount the host's directories: %w", err)
	}
	go carryRequests(fuse, port)
	go carryReplies(port, fuse)
	for i, dir := range dirs {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
		src := root + "/" + strconv.Itoa(i)
		if err := unix.Mount(src, dir, "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("mount the host's %s: %w", dir, err)
		}
	}
	return nil
}
