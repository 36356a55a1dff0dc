package debian

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
)

// GetPackage returns the directory in the cache that has an unpacked package. It
// fetches the package, without its dependencies, if the cache doesn't have it. The
// package is of the Debian release that the kernel series comes from.
func GetPackage(ctx context.Context, series, name string, progress Progress) (dir string, err error) {
	r, err := lookup(series)
	if err != nil {
		return "", err
	}
	cache, err := CacheDir()
	if err != nil {
		return "", err
	}
	home := filepath.Join(cache, "packages", r.series)
	dir = filepath.Join(home, name)
	if _, err := os.Stat(dir); err == nil {
		return dir, nil
	}
	a, err := newApt(ctx, filepath.Join(cache, "apt", r.series), r)
	if err != nil {
		return "", err
	}
	defer a.close()
	if _, err := os.Stat(dir); err == nil { // another process fetched it while this one waited
		return dir, nil
	}
	fail := func(err error) (string, error) {
		return "", fmt.Errorf("package %s is not in the cache (%s) and can't be fetched: %w", name, dir, err)
	}
	if err := os.MkdirAll(home, 0o755); err != nil {
		return fail(err)
	}
	tmp, err := os.MkdirTemp(home, ".unpack-")
	if err != nil {
		return fail(err)
	}
	defer os.RemoveAll(tmp)
	if err := a.update(ctx); err != nil {
		return fail(err)
	}
	if err := a.download(ctx, []string{name}, tmp, name, progress); err != nil {
		return fail(err)
	}
	root := filepath.Join(tmp, "root")
	if err := a.unpack(ctx, tmp, root, progress); err != nil {
		return fail(err)
	}
	return dir, os.Rename(root, dir)
}
