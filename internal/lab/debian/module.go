package debian

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"

	"offmap/internal/kernel"
)

// ModulePath is the path in the cache of the module offmap.ko that is built for k
// from sources. The file may not exist yet.
func ModulePath(k Kernel, sources fs.FS) (string, error) {
	h := sha256.New()
	err := fs.WalkDir(sources, ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := fs.ReadFile(sources, path)
		fmt.Fprintf(h, "%s %d\n", path, len(text))
		h.Write(text)
		return err
	})
	if err != nil {
		return "", err
	}
	name := hex.EncodeToString(h.Sum(nil))[:16]
	return filepath.Join(k.dir, "modules", name, "offmap.ko"), nil
}

// BuildModule returns the path of offmap.ko for k. It builds the module from sources,
// a kbuild directory, unless the cache has it.
func BuildModule(ctx context.Context, k Kernel, sources fs.FS, progress Progress) (string, error) {
	path, err := ModulePath(k, sources)
	if err != nil {
		return "", err
	}
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		return path, err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return "", fmt.Errorf("the cache: %w", err)
	}
	unlock, err := lock(ctx, filepath.Join(k.dir, "build.lock"))
	if err != nil {
		return "", err
	}
	defer unlock()
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		return path, err
	}
	tree, err := buildTree(ctx, k, progress)
	if err != nil {
		return "", fmt.Errorf("no compiler and headers to build offmap.ko for %s with: %w", k.Release, err)
	}
	progress.report("building offmap.ko for "+k.Release, -1)
	err = build(ctx, tree, path, k.Release, sources, func(dir string) (*exec.Cmd, error) {
		return inTree(ctx, tree, "make", "-C", "/usr/src/linux-headers-"+k.Release, "M=/"+filepath.Base(dir), "modules")
	})
	return path, err
}

// BuildModuleFor returns the path of offmap.ko for a kernel's build tree. Each call builds
// it, from sources and with this machine's compiler: the tree may have changed.
func BuildModuleFor(ctx context.Context, t kernel.Tree, sources fs.FS, progress Progress) (string, error) {
	cache, err := CacheDir()
	if err != nil {
		return "", err
	}
	tree, err := filepath.Abs(t.Dir)
	if err != nil {
		return "", err
	}
	name := sha256.Sum256([]byte(tree))
	home := filepath.Join(cache, "trees", hex.EncodeToString(name[:])[:16])
	if err := os.MkdirAll(home, 0o755); err != nil {
		return "", fmt.Errorf("the cache: %w", err)
	}
	progress.report("building offmap.ko for "+t.Release, -1)
	path := filepath.Join(home, "offmap.ko")
	err = build(ctx, home, path, t.Release, sources, func(dir string) (*exec.Cmd, error) {
		return exec.CommandContext(ctx, "make", "-C", tree, "M="+dir, "modules"), nil
	})
	return path, err
}

// build puts offmap.ko for a kernel's release at path. It copies sources to a new directory
// in parent, and command returns what runs kbuild there.
func build(ctx context.Context, parent, path, release string, sources fs.FS, command func(dir string) (*exec.Cmd, error)) error {
	dir, err := os.MkdirTemp(parent, "build-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if err := os.CopyFS(dir, sources); err != nil {
		return err
	}
	cmd, err := command(dir)
	if err != nil {
		return err
	}
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	stopWithContext(cmd)
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return fmt.Errorf("build offmap.ko for %s: %w", release, runError("make", err, said.Bytes()))
	}
	return os.Rename(filepath.Join(dir, "offmap.ko"), path)
}

// inTree makes a command whose root directory is tree. Compilers and shell scripts
// need a /dev/null there. Root makes the device. Other users, and a root that may
// not make devices, bind the machine's /dev/null in a user and mount namespace.
//
// In a container it may be forbidden to mount a /proc. Only 7.x's objtool reads a
// file of it: /proc/self/maps, to find its stack, which it needs for a message if it
// crashes. A copy of this process's file is enough for that.
func inTree(ctx context.Context, tree string, argv ...string) (*exec.Cmd, error) {
	null := filepath.Join(tree, "dev/null")
	for _, dir := range []string{"dev", "proc/self", "tmp"} {
		if err := os.MkdirAll(filepath.Join(tree, dir), 0o755); err != nil {
			return nil, err
		}
	}
	maps, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(filepath.Join(tree, "proc/self/maps"), maps, 0o644); err != nil {
		return nil, err
	}
	const path = "PATH=/usr/sbin:/usr/bin"
	err = unix.Mknod(null, unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3)))
	if (err == nil || err == unix.EEXIST) && os.Geteuid() == 0 && isDevice(null) {
		if err := os.Chmod(null, 0o666); err != nil { // the umask may have cleared bits
			return nil, err
		}
		cmd := exec.CommandContext(ctx, "/usr/bin/env", append([]string{"-i", path, "LC_ALL=C"}, argv...)...)
		cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: tree}
		cmd.Dir = "/"
		return cmd, nil
	}
	if f, err := os.OpenFile(null, os.O_CREATE, 0o666); err == nil { // to mount over
		f.Close()
	}
	const script = `mount --bind /dev/null "$0/dev/null" && cd / && exec chroot "$0" /usr/bin/env -i "$@"`
	args := append([]string{"--user", "--map-root-user", "--mount", "sh", "-c", script, tree, path, "LC_ALL=C"}, argv...)
	return exec.CommandContext(ctx, "unshare", args...), nil
}

func isDevice(path string) bool {
	st, err := os.Stat(path)
	return err == nil && st.Mode()&fs.ModeCharDevice != 0
}
