package debian

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"offmap/internal/kernel"
)

// A Kernel is a stock Debian cloud kernel, unpacked in the cache.
type Kernel struct {
	// Series is the name that it was requested by, such as "6.1", or
	// "6.1=6.1.176-1" for exactly that version.
	Series string `json:"series"`
	// Release is the output of uname -r in this kernel.
	Release string `json:"release"`
	// Version is the exact version of Debian's package.
	Version string `json:"version"`
	// Packages are the packages that it was unpacked from.
	Packages []string `json:"packages"`
	// Image is the path of the bzImage.
	Image string `json:"-"`
	// ModulesDir is the path of lib/modules/Release.
	ModulesDir string `json:"-"`

	dir string // holds the kernel, and what is built for it
}

// Modules reads the lists of the kernel's modules.
func (k Kernel) Modules() (*kernel.Modules, error) { return kernel.Installed(k.ModulesDir) }

// Progress is a function that is called with a description of the current step and
// with the share of it that is done, from 0 to 1, or negative if unknown. It may be
// nil.
type Progress func(what string, done float64)

func (p Progress) report(what string, done float64) {
	if p != nil {
		p(what, done)
	}
}

// CacheDir is where kernels, build trees and modules are kept:
// $OFFMAP_CACHE, or offmap below the user's cache directory.
func CacheDir() (string, error) {
	dir := os.Getenv("OFFMAP_CACHE")
	if dir == "" {
		base, err := os.UserCacheDir()
		if err != nil {
			return "", fmt.Errorf("no place for the cache: %w; set OFFMAP_CACHE to a directory", err)
		}
		dir = filepath.Join(base, "offmap")
	}
	return filepath.Abs(dir)
}

// metaPackage depends on the current kernel of a suite.
const metaPackage = "linux-image-cloud-amd64"

// Cached returns the kernel of series from the cache. If the cache has none, the
// error is fs.ErrNotExist.
func Cached(series string) (Kernel, error) {
	if _, err := lookup(series); err != nil {
		return Kernel{}, err
	}
	cache, err := CacheDir()
	if err != nil {
		return Kernel{}, err
	}
	dir, err := filepath.EvalSymlinks(filepath.Join(cache, "kernels", series, "current"))
	if err != nil {
		return Kernel{}, err
	}
	return load(dir)
}

// load reads the description of the kernel in dir, and checks that its files exist.
func load(dir string) (Kernel, error) {
	var k Kernel
	text, err := os.ReadFile(filepath.Join(dir, "kernel.json"))
	if err != nil {
		return k, err
	}
	if err := json.Unmarshal(text, &k); err != nil {
		return k, fmt.Errorf("%s/kernel.json: %w", dir, err)
	}
	k.dir = dir
	k.Image = filepath.Join(dir, "vmlinuz")
	k.ModulesDir = filepath.Join(dir, "lib/modules", k.Release)
	for _, p := range []string{k.Image, k.ModulesDir} {
		if _, err := os.Stat(p); err != nil {
			return k, err
		}
	}
	return k, nil
}

// GetKernel returns the kernel of series from the cache. It uses the network only if
// the cache doesn't have the kernel.
func GetKernel(ctx context.Context, series string, progress Progress) (Kernel, error) {
	k, err := Cached(series)
	if !errors.Is(err, fs.ErrNotExist) {
		return k, err
	}
	return fetch(ctx, series, progress, false)
}

// UpdateKernel replaces the kernel in the cache if the archive has a newer one. The
// older kernel is removed, with what was built for it. A kernel of an exact version
// stays as it is.
func UpdateKernel(ctx context.Context, series string, progress Progress) (Kernel, error) {
	return fetch(ctx, series, progress, true)
}

func fetch(ctx context.Context, series string, progress Progress, refresh bool) (Kernel, error) {
	r, err := lookup(series)
	if err != nil {
		return Kernel{}, err
	}
	cache, err := CacheDir()
	if err != nil {
		return Kernel{}, err
	}
	kernels := filepath.Join(cache, "kernels")
	if err := os.MkdirAll(kernels, 0o755); err != nil {
		return Kernel{}, fmt.Errorf("the cache: %w", err)
	}
	unlock, err := lock(ctx, filepath.Join(kernels, r.series+".lock"))
	if err != nil {
		return Kernel{}, err
	}
	defer unlock()
	home := filepath.Join(kernels, series)
	if !refresh || r.exact != "" { // another process may have fetched it while this one waited
		if k, err := Cached(series); err == nil {
			return k, nil
		}
	}
	k, err := fetchLocked(ctx, r, cache, home, progress)
	switch {
	case err == nil, ctx.Err() != nil:
	case refresh:
		err = fmt.Errorf("kernel debian:%s can't be brought up to date: %w", series, err)
	default:
		err = fmt.Errorf("kernel debian:%s is not in the cache (%s) and can't be fetched: %w", series, home, err)
	}
	return k, err
}

func fetchLocked(ctx context.Context, r release, cache, home string, progress Progress) (Kernel, error) {
	progress.report("reading package lists", -1)
	a, err := newApt(ctx, filepath.Join(cache, "apt", r.series), r)
	if err != nil {
		return Kernel{}, err
	}
	defer a.close()
	if err := a.update(ctx); err != nil {
		return Kernel{}, err
	}
	pkgs, version, err := a.kernelPackages(ctx, r)
	if err != nil {
		return Kernel{}, err
	}
	dest := filepath.Join(home, strings.ReplaceAll(version, ":", "_"))
	if k, err := load(dest); err == nil {
		return k, publish(home, dest)
	}
	if err := os.MkdirAll(home, 0o755); err != nil {
		return Kernel{}, err
	}
	tmp, err := os.MkdirTemp(home, ".unpack-")
	if err != nil {
		return Kernel{}, err
	}
	defer os.RemoveAll(tmp)
	if err := os.Chmod(tmp, 0o755); err != nil {
		return Kernel{}, err
	}
	if err := a.download(ctx, pkgs, tmp, "kernel "+version, progress); err != nil {
		return Kernel{}, err
	}
	if err := a.unpack(ctx, tmp, filepath.Join(tmp, "root"), progress); err != nil {
		return Kernel{}, err
	}
	if err := decompressModules(ctx, filepath.Join(tmp, "root")); err != nil {
		return Kernel{}, err
	}
	k := Kernel{Series: r.name(), Version: version, Packages: pkgs}
	if err := assemble(filepath.Join(tmp, "root"), filepath.Join(tmp, "kernel"), &k); err != nil {
		return Kernel{}, fmt.Errorf("%s: %w", strings.Join(pkgs, " "), err)
	}
	if err := os.RemoveAll(dest); err != nil {
		return Kernel{}, err
	}
	if err := os.Rename(filepath.Join(tmp, "kernel"), dest); err != nil {
		return Kernel{}, err
	}
	if err := publish(home, dest); err != nil {
		return Kernel{}, err
	}
	if err := prune(home, dest); err != nil {
		return Kernel{}, err
	}
	return load(dest)
}

// kernelPackages lists the packages of a kernel, each as name=version. The kernel is
// the one of r's exact version, or else the one that the metapackage depends on now.
func (a *apt) kernelPackages(ctx context.Context, r release) (pkgs []string, version string, err error) {
	first, version := metaPackage, r.exact
	if version != "" {
		if first, err = a.imagePackage(ctx, r); err != nil {
			return nil, "", err
		}
	}
	queue := []string{first}
	seen := map[string]bool{}
	for len(queue) > 0 {
		name := queue[0]
		queue = queue[1:]
		if seen[name] {
			continue
		}
		seen[name] = true
		which := name
		if version != "" {
			which += "=" + version
		}
		out, err := a.run(ctx, a.dir, "apt-cache", "show", "--no-all-versions", which)
		if err != nil {
			return nil, "", err
		}
		all := parseStanzas(string(out))
		if len(all) == 0 {
			return nil, "", fmt.Errorf("the archive has no package %s", which)
		}
		s := all[0]
		if version == "" {
			version = s["version"]
			if !strings.HasPrefix(version, r.version) {
				return nil, "", fmt.Errorf("%s now has %s %s, which is not of the %s series",
					r.suites[len(r.suites)-1], name, version, r.series)
			}
		}
		if !strings.HasSuffix(name, "-cloud-amd64") || name == metaPackage {
			queue = append(queue, s.sameVersionDeps()...)
			continue
		}
		pkgs = append(pkgs, name+"="+version)
		queue = append(queue, s.sameVersionDeps()...)
	}
	return pkgs, version, nil
}

// assemble takes the parts of a kernel from the unpacked packages in root.
func assemble(root, dest string, k *Kernel) error {
	dirs, err := filepath.Glob(filepath.Join(root, "lib/modules/*/kernel"))
	if err != nil {
		return err
	}
	if len(dirs) != 1 {
		return fmt.Errorf("%d modules directories in the packages, want one", len(dirs))
	}
	mods := filepath.Dir(dirs[0])
	k.Release = filepath.Base(mods)
	image := ""
	for _, p := range []string{
		filepath.Join(root, "boot", "vmlinuz-"+k.Release),
		filepath.Join(mods, "vmlinuz"), // where 7.x keeps it
	} {
		if _, err := os.Stat(p); err == nil {
			image = p
			break
		}
	}
	if image == "" {
		return errors.New("no kernel image in the packages")
	}
	if err := os.MkdirAll(filepath.Join(dest, "lib/modules"), 0o755); err != nil {
		return err
	}
	if err := os.Rename(image, filepath.Join(dest, "vmlinuz")); err != nil {
		return err
	}
	if err := os.Rename(mods, filepath.Join(dest, "lib/modules", k.Release)); err != nil {
		return err
	}
	text, err := json.MarshalIndent(k, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dest, "kernel.json"), append(text, '\n'), 0o644)
}

// publish makes dest the current kernel of home's series, in one step.
func publish(home, dest string) error {
	tmp := filepath.Join(home, ".current")
	if err := os.Remove(tmp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.Symlink(filepath.Base(dest), tmp); err != nil {
		return err
	}
	return os.Rename(tmp, filepath.Join(home, "current"))
}

// prune removes everything else in home: older kernels, and the files that a killed
// process left. The lock keeps other processes out. A running machine has already
// read its kernel.
func prune(home, keep string) error {
	entries, err := os.ReadDir(home)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if !e.IsDir() || e.Name() == filepath.Base(keep) {
			continue
		}
		if err := os.RemoveAll(filepath.Join(home, e.Name())); err != nil {
			return err
		}
	}
	return nil
}
