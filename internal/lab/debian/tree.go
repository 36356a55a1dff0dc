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
// The packages are unpacked and not configured; the tree is only for chroot.
func buildTree(ctx context.Context, k Kernel, progress Progress) (string, error) {
	r, err := lookup(k.Series)
	if err != nil {
		return "", err
	}
	cache, err := CacheDir()
	if err != nil {
		return "", err
	}
	dir := filepath.Join(k.dir, "tree")
	if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		return dir, err
	}
	progress.report("reading package lists", -1)
	a, err := newApt(ctx, filepath.Join(cache, "apt", r.series), r)
	if err != nil {
		return "", err
	}
	defer a.close()
	headers := "linux-headers-" + k.Release + "=" + k.Version
	pkgs, err := a.closure(ctx, append([]string{headers}, buildTools...))
	if err != nil { // the lists may be older than the kernel, or not fetched yet
		if err := a.update(ctx); err != nil {
			return "", err
		}
		if pkgs, err = a.closure(ctx, append([]string{headers}, buildTools...)); err != nil {
			if r.exact != "" {
				return "", err
			}
			return "", fmt.Errorf("%w\nIf the archive has moved on to a newer kernel, offmap lab fetch --update %s gets that one", err, k.Series)
		}
	}
	tmp, err := os.MkdirTemp(k.dir, ".unpack-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(tmp)
	if err := a.download(ctx, pkgs, tmp, "compiler and headers for "+k.Release, progress); err != nil {
		return "", err
	}
	root := filepath.Join(tmp, "root")
	if err := a.unpack(ctx, tmp, root, progress); err != nil {
		return "", err
	}
	// gawk's name awk is an alternative, which only its scripts set up.
	awk := filepath.Join(root, "usr/bin/awk")
	if err := os.Symlink("gawk", awk); err != nil && !errors.Is(err, fs.ErrExist) {
		return "", err
	}
	if err := os.Chmod(root, 0o755); err != nil {
		return "", err
	}
	return dir, os.Rename(root, dir)
}

// closure lists names and all of their dependencies, each as name=version, as apt
// would install them on a machine on which nothing is installed.
func (a *apt) closure(ctx context.Context, names []string) ([]string, error) {
	out, err := a.run(ctx, a.dir, "apt-get", append([]string{"--simulate", "install"}, names...)...)
	if err != nil {
		return nil, err
	}
	pkgs := parseInstall(string(out))
	if len(pkgs) == 0 {
		return nil, fmt.Errorf("apt-get --simulate install %s: nothing to install", strings.Join(names, " "))
	}
	return pkgs, nil
}

// parseInstall reads the lines of apt-get --simulate such as
// "Inst make (4.4.1-2 Debian:13.7/stable [amd64])".
func parseInstall(out string) []string {
	var pkgs []string
lines:
	for line := range strings.Lines(out) {
		f := strings.Fields(line)
		if len(f) < 3 || f[0] != "Inst" {
			continue
		}
		for _, prefix := range notNeeded {
			if strings.HasPrefix(f[1], prefix) {
				continue lines
			}
		}
		pkgs = append(pkgs, f[1]+"="+strings.TrimPrefix(f[2], "("))
	}
	return pkgs
}
