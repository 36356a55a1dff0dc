package debian

import (
	"context"
	"os/exec"
	"path/filepath"
)

// Bochs returns the directory of a small Debian that has Bochs, which emulates Intel CPUs
// with VMX, and what makes an ISO image that it boots. It fetches the packages if the
// cache doesn't have the directory.
func Bochs(ctx context.Context, progress Progress) (dir string, err error) {
	cache, err := CacheDir()
	if err != nil {
		return "", err
	}
	r, err := lookup(bochsRelease)
	if err != nil {
		return "", err
	}
	t := tree{
		dir: filepath.Join(cache, "bochs", "tree"), what: "Bochs",
		packages: []string{"bochs", "bochs-term", "bochsbios", "vgabios", "ncurses-base", "grub-common", "grub-pc-bin", "xorriso", "mtools", "coreutils", "dash"},
	}
	unlock, err := lock(ctx, filepath.Join(cache, "bochs.lock"))
	if err != nil {
		return "", err
	}
	defer unlock()
	return t.dir, t.get(ctx, r, progress)
}

// bochsRelease is the kernel series of the release that has Bochs 3.0. Older versions were
// not tried.
const bochsRelease = "6.12"

// InTree makes a command whose root directory is a tree's.
func InTree(ctx context.Context, tree string, argv ...string) (*exec.Cmd, error) {
	return inTree(ctx, tree, argv...)
}
