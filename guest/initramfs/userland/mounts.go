package userland

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"offmap/guest/protocol"
)

// mountPoint has the arguments of one mount(2) call.
type mountPoint struct {
	source, target, fstype string
	flags                  uintptr
}

var mounts = []mountPoint{
	{"proc", "/proc", "proc", unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC},
	{"sysfs", "/sys", "sysfs", unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC},
	{"devtmpfs", "/dev", "devtmpfs", unix.MS_NOSUID | unix.MS_NOEXEC},
	{"tmpfs", "/tmp", "tmpfs", unix.MS_NOSUID | unix.MS_NODEV},
}

func mountOn(m mountPoint) error {
	if err := unix.Mount(m.source, m.target, m.fstype, m.flags, ""); err != nil {
		return fmt.Errorf("mount %s on %s: %w", m.fstype, m.target, err)
	}
	return nil
}

// mountShare mounts a share at /mnt/TAG.
func mountShare(s protocol.Share) error {
	dir := filepath.Join("/mnt", s.Tag)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	flags := uintptr(unix.MS_NOSUID | unix.MS_NODEV)
	if !s.Writable {
		flags |= unix.MS_RDONLY
	}
	return mountOn(mountPoint{s.Tag, dir, "virtiofs", flags})
}

// newRoot is where the root file system is mounted before it becomes the root.
const newRoot = "/newroot"

// enterRoot mounts a root file system and makes it the root.
func enterRoot(r protocol.Root) error {
	if err := os.Mkdir(newRoot, 0o755); err != nil {
		return err
	}
	if err := mountRoot(r); err != nil {
		return err
	}
	return switchRoot()
}

// switchRoot takes /dev, /proc and /sys along to newRoot, and makes that the root of
// this process and of all that it starts.
func switchRoot() error {
	// What the guest doesn't need any more would stay in its RAM.
	errs := []error{os.Remove("/init"), os.RemoveAll(ModulesDir)}
	for _, m := range mounts[:3] {
		// An image need not have every one of these directories.
		if err := unix.Mount(m.target, newRoot+m.target, "", unix.MS_MOVE, ""); err != nil {
			errs = append(errs, fmt.Errorf("move %s to the root file system: %w", m.target, err))
		}
	}
	complain(errors.Join(errs...))
	for _, step := range []struct {
		what string
		err  func() error
	}{
		{"enter", func() error { return unix.Chdir(newRoot) }},
		{"move", func() error { return unix.Mount(".", "/", "", unix.MS_MOVE, "") }},
		{"chroot to", func() error { return unix.Chroot(".") }},
		{"enter", func() error { return unix.Chdir("/") }},
	} {
		if err := step.err(); err != nil {
			return fmt.Errorf("%s the root file system: %w", step.what, err)
		}
	}
	return nil
}

// mountRoot mounts a root file system on newRoot. Without a type it tries all that the
// kernel knows, as the kernel does.
func mountRoot(r protocol.Root) error {
	flags := uintptr(unix.MS_RDONLY)
	if r.Writable {
		flags = 0
	}
	types := []string{r.Type}
	if r.Type == "" {
		text, err := os.ReadFile("/proc/filesystems")
		if err != nil {
			return err
		}
		types = diskTypes(string(text))
	}
	var errs []error
	for _, t := range types {
		err := unix.Mount(r.Source, newRoot, t, flags, "")
		if err == nil {
			return nil
		}
		errs = append(errs, fmt.Errorf("mount %s of type %s as the root file system: %w", r.Source, t, err))
		if err != unix.EINVAL { // which is the error of a wrong type
			break
		}
	}
	return errors.Join(errs...)
}

// diskTypes returns the types in the text of /proc/filesystems that are on a device.
func diskTypes(text string) (types []string) {
	for line := range strings.Lines(text) {
		if kind, name, ok := strings.Cut(strings.TrimSuffix(line, "\n"), "\t"); ok && kind == "" {
			types = append(types, name)
		}
	}
	return types
}

// startInit becomes the root file system's process 1. It returns only with an error.
func startInit(path string) error {
	paths := []string{"/sbin/init", "/etc/init", "/bin/init", "/bin/sh"}
	if path != "" {
		paths = []string{path}
	}
	var errs []error
	for _, p := range paths {
		err := unix.Exec(p, []string{p}, []string{"HOME=/", "TERM=linux", "PATH=" + rootShell.path})
		errs = append(errs, fmt.Errorf("start %s: %w", p, err))
	}
	return errors.Join(errs...)
}
