package debian

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// buildTools are packages with kbuild's shell commands, which the headers don't
// depend on.
var buildTools = []string{"base-files", "bash", "binutils", "coreutils", "dash", "diffutils", "findutils", "gawk", "grep", "make", "sed"}

// notNeeded are prefixes of the names of packages that the headers depend on, but
// that only a machine that boots the kernel needs.
var notNeeded = []string{"linux-image-", "linux-base", "initramfs-tools", "dracut", "systemd", "libsystemd", "udev", "klibc", "libklibc", "debconf", "kmod", "cpio"}

// buildTree returns the directory of a small Debian that has the headers of k and
// their compiler. It fetches the packages if the cache doesn't have the directory.
func buildTree(ctx context.Context, k Kernel, progress Progress) (string, error) {
	r, err := lookup(k.Series)
	if err != nil {
		return "", err
	}
	t := tree{
		dir: filepath.Join(k.dir, "tree"), what: "compiler and headers for " + k.Release, leaveOut: notNeeded,
		packages: append([]string{"linux-headers-" + k.Release + "=" + k.Version}, buildTools...),
		finish: func(root string) error {
			// gawk's name awk is an alternative, which only its scripts set up.
			if err := os.Symlink("gawk", filepath.Join(root, "usr/bin/awk")); !errors.Is(err, fs.ErrExist) {
				return err
			}
			return nil
		},
	}
	err = t.get(ctx, r, progress)
	if err != nil && errors.Is(err, errOldLists) && r.exact == "" {
		err = fmt.Errorf("%w\nIf the archive has moved on to a newer kernel, offmap lab fetch --update %s gets that one", err, k.Series)
	}
	return t.dir, err
}

// tree is a small Debian of unpacked packages, which are not configured. It is only for
// chroot.
type tree struct {
	dir      string   // where it is in the cache
	what     string   // for progress
	packages []string // which it has, with what they depend on
	leaveOut []string // prefixes of the names of dependencies that it does without
	finish   func(root string) error
}

// errOldLists is the error of packages that aren't in the archive's newest lists.
var errOldLists = errors.New("the packages aren't in the archive")

// get fetches the tree's packages unless the cache has the directory.
func (t tree) get(ctx context.Context, r release, progress Progress) error {
	if _, err := os.Stat(t.dir); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	cache, err := CacheDir()
	if err != nil {
		return err
	}
	progress.report("reading package lists", -1)
	a, err := newApt(ctx, filepath.Join(cache, "apt", r.series), r)
	if err != nil {
		return err
	}
	defer a.close()
	pkgs, err := a.closure(ctx, t.packages, t.leaveOut)
	if err != nil { // the lists may be older than the packages, or not fetched yet
		if err := a.update(ctx); err != nil {
			return err
		}
		if pkgs, err = a.closure(ctx, t.packages, t.leaveOut); err != nil {
			return fmt.Errorf("%w: %w", errOldLists, err)
		}
	}
	parent := filepath.Dir(t.dir)
	if err := os.MkdirAll(parent, 0o755); err != nil {
		return err
	}
	tmp, err := os.MkdirTemp(parent, ".unpack-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	if err := a.download(ctx, pkgs, tmp, t.what, progress); err != nil {
		return err
	}
	root := filepath.Join(tmp, "root")
	if err := a.unpack(ctx, tmp, root, progress); err != nil {
		return err
	}
	if t.finish != nil {
		if err := t.finish(root); err != nil {
			return err
		}
	}
	if err := os.Chmod(root, 0o755); err != nil {
		return err
	}
	return os.Rename(root, t.dir)
}

// closure lists names and all of their dependencies, each as name=version, as apt
// would install them on a machine on which nothing is installed, but for those whose name
// has a prefix of leaveOut.
func (a *apt) closure(ctx context.Context, names, leaveOut []string) ([]string, error) {
	out, err := a.run(ctx, a.dir, "apt-get", append([]string{"--simulate", "install"}, names...)...)
	if err != nil {
		return nil, err
	}
	pkgs := parseInstall(string(out), leaveOut)
	if len(pkgs) == 0 {
		return nil, fmt.Errorf("apt-get --simulate install %s: nothing to install", strings.Join(names, " "))
	}
	return pkgs, nil
}

// parseInstall reads the lines of apt-get --simulate such as
// "Inst make (4.4.1-2 Debian:13.7/stable [amd64])".
func parseInstall(out string, leaveOut []string) []string {
	var pkgs []string
lines:
	for line := range strings.Lines(out) {
		f := strings.Fields(line)
		if len(f) < 3 || f[0] != "Inst" {
			continue
		}
		for _, prefix := range leaveOut {
			if strings.HasPrefix(f[1], prefix) {
				continue lines
			}
		}
		pkgs = append(pkgs, f[1]+"="+strings.TrimPrefix(f[2], "("))
	}
	return pkgs
}
