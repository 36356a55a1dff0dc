package userland

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// artifactsDir is where the share for what a failed test leaves is mounted. The name is
// short, since core_pattern takes 127 bytes.
const artifactsDir = "/run/offmap-artifacts"

// mountArtifacts mounts the share in the new root.
func mountArtifacts(tag string) error {
	if err := os.MkdirAll(newRoot+artifactsDir, 0o755); err != nil {
		return err
	}
	return mountOn(mountPoint{tag, newRoot + artifactsDir, "virtiofs", unix.MS_NOSUID | unix.MS_NODEV})
}

// dumpCores has the kernel write a core dump of each program that crashes into the share:
// core.NAME.PID (core(5)).
func dumpCores() error {
	const pattern = artifactsDir + "/core.%e.%p"
	if err := os.WriteFile("/proc/sys/kernel/core_pattern", []byte(pattern), 0); err != nil {
		return fmt.Errorf("core dumps: %w", err)
	}
	unlimited := unix.Rlimit{Cur: unix.RLIM_INFINITY, Max: unix.RLIM_INFINITY}
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &unlimited); err != nil {
		return fmt.Errorf("RLIMIT_CORE: %w", err)
	}
	return nil
}

// copyCoverage copies the coverage data of a kernel with CONFIG_GCOV_KERNEL into the
// share (Documentation/dev-tools/gcov.rst). Other kernels have none.
func copyCoverage() error {
	err := copyTree("/sys/kernel/debug/gcov", artifactsDir+"/gcov")
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("copy the kernel's coverage data: %w", err)
	}
	return nil
}

// copyTree copies directories, regular files and symbolic links below from to to. It
// skips other files. Regular files are read until their end, since those in debugfs have
// a size of 0.
func copyTree(from, to string) error {
	return filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		target := filepath.Join(to, rel)
		switch {
		case d.IsDir():
			return os.MkdirAll(target, 0o755)
		case d.Type()&fs.ModeSymlink != 0:
			name, err := os.Readlink(path)
			if err != nil {
				return err
			}
			return replace(target, func() error { return os.Symlink(name, target) })
		case d.Type().IsRegular():
			return replace(target, func() error { return copyFile(path, target) })
		}
		return nil
	})
}

// replace has create make a file, in place of one that is there from an earlier run.
func replace(target string, create func() error) error {
	if err := os.Remove(target); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return create()
}

func copyFile(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}
