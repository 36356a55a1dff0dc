package debian

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/ulikunitz/xz"
)

// The archive of these tests is a directory of tar files in place of packages, with
// scripts in place of apt's tools.
const (
	fakeAptGet = `#!/bin/sh
case "$*" in
*indextargets*) exit 0 ;;
*update*) echo update >>"$ARCHIVE/log"; test -e "$ARCHIVE/offline" && { echo "E: no route to the mirror" >&2; exit 100; }; exit 0 ;;
*download*) echo download >>"$ARCHIVE/log"; cp "$ARCHIVE"/*.deb . ;;
esac
`
	fakeAptCache = `#!/bin/sh
for name; do :; done
case "$*" in
*pkgnames*) cd "$ARCHIVE" && ls | sed -n 's/[.]control$//p' ;;
*madison*) cat "$ARCHIVE/madison" ;;
*)
	control="$ARCHIVE/${name%%=*}.control"
	case "$name" in
	*=*) grep -qxF "Version: ${name#*=}" "$control" || exit 0 ;;
	linux-image-cloud-amd64) ;;
	*) exit 0 ;; # of any other, the newest may be another kernel's
	esac
	cat "$control"
	;;
esac
`
	fakeDpkgDeb = `#!/bin/sh
cat "$2"
`
)

// fakeArchive holds one kernel, version, with a module, plain or compressed.
func fakeArchive(t *testing.T, version string, compressed bool) (dir string) {
	t.Helper()
	dir = t.TempDir()
	release := strings.TrimSuffix(version, "-1") + "-cloud-amd64"
	image := "linux-image-" + release
	write := func(name, text string, mode fs.FileMode) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), mode); err != nil {
			t.Fatal(err)
		}
	}
	write("linux-image-cloud-amd64.control",
		fmt.Sprintf("Package: linux-image-cloud-amd64\nVersion: %s\nDepends: %s (= %s)\n", version, image, version), 0o644)
	write(image+".control", fmt.Sprintf("Package: %s\nVersion: %s\nDepends: kmod, linux-base (>= 4.3~)\n", image, version), 0o644)
	write("madison", fmt.Sprintf("%s | %s | an archive\n", image, version), 0o644)
	write("apt-get", fakeAptGet, 0o755)
	write("apt-cache", fakeAptCache, 0o755)
	write("dpkg-deb", fakeDpkgDeb, 0o755)

	module, moduleName := []byte("module text"), "kernel/m.ko"
	if compressed {
		var b bytes.Buffer
		w, err := xz.NewWriter(&b)
		if err != nil {
			t.Fatal(err)
		}
		w.Write(module)
		w.Close()
		module, moduleName = b.Bytes(), moduleName+".xz"
	}
	var deb bytes.Buffer
	w := tar.NewWriter(&deb)
	for _, f := range []struct{ name, text string }{
		{"boot/vmlinuz-" + release, "kernel image"},
		{"lib/modules/" + release + "/" + moduleName, string(module)},
		{"usr/share/doc/" + image + "/copyright", "not wanted"},
	} {
		if err := w.WriteHeader(&tar.Header{Name: "./" + f.name, Mode: 0o644, Size: int64(len(f.text))}); err != nil {
			t.Fatal(err)
		}
		w.Write([]byte(f.text))
	}
	w.Close()
	write("image.deb", deb.String(), 0o644)
	use(t, dir)
	return dir
}

// use puts the archive's tools before this machine's own in PATH.
func use(t *testing.T, dir string) {
	t.Helper()
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	t.Setenv("ARCHIVE", dir)
}

func newCache(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "cache")
	t.Setenv("OFFMAP_CACHE", dir)
	return dir
}

func TestGetKernel(t *testing.T) {
	for _, compressed := range []bool{false, true} {
		newCache(t)
		fakeArchive(t, "6.1.7-1", compressed)
		if _, err := Cached("6.1"); !errors.Is(err, fs.ErrNotExist) {
			t.Fatalf("Cached on an empty cache: %v, want ErrNotExist", err)
		}
		k, err := GetKernel(t.Context(), "6.1", nil)
		if err != nil {
			t.Fatal(err)
		}
		if k.Series != "6.1" || k.Release != "6.1.7-cloud-amd64" || k.Version != "6.1.7-1" ||
			strings.Join(k.Packages, " ") != "linux-image-6.1.7-cloud-amd64=6.1.7-1" {
			t.Errorf("got %+v", k)
		}
		for path, want := range map[string]string{k.Image: "kernel image", k.ModulesDir + "/kernel/m.ko": "module text"} {
			if text, err := os.ReadFile(path); err != nil || string(text) != want {
				t.Errorf("%s: %q, %v, want %q", path, text, err, want)
			}
		}
		// From now on without any tool.
		t.Setenv("PATH", "")
		again, err := GetKernel(t.Context(), "6.1", nil)
		if err != nil || again.Image != k.Image {
			t.Errorf("the second time %+v, %v", again, err)
		}
		t.Setenv("PATH", os.Getenv("ARCHIVE")+":/usr/bin:/bin")
	}
}

func TestUpdateKernel(t *testing.T) {
	cache := newCache(t)
	fakeArchive(t, "6.1.7-1", false)
	if _, err := GetKernel(t.Context(), "6.1", nil); err != nil {
		t.Fatal(err)
	}
	fakeArchive(t, "6.1.8-1", true)
	if k, err := GetKernel(t.Context(), "6.1", nil); err != nil || k.Version != "6.1.7-1" {
		t.Errorf("GetKernel with a newer one in the archive: %s, %v, want 6.1.7-1", k.Version, err)
	}
	for range 2 {
		if k, err := UpdateKernel(t.Context(), "6.1", nil); err != nil || k.Version != "6.1.8-1" {
			t.Errorf("UpdateKernel: %s, %v, want 6.1.8-1", k.Version, err)
		}
	}
	checkCache(t, cache, "6.1.8-1", "current")
}

// checkCache checks that the cache has nothing else of kernel 6.1.
func checkCache(t *testing.T, cache string, want ...string) {
	t.Helper()
	entries, err := os.ReadDir(filepath.Join(cache, "kernels/6.1"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	if strings.Join(names, " ") != strings.Join(want, " ") {
		t.Errorf("in the cache: %q, want %q", names, want)
	}
}

func TestGetKernelFails(t *testing.T) {
	tests := []struct {
		name  string
		spoil func(dir string) error
		want  string
	}{
		{"offline", func(dir string) error {
			return os.WriteFile(filepath.Join(dir, "offline"), nil, 0o644)
		}, "no route to the mirror"},
		{"another series", func(dir string) error {
			return os.WriteFile(filepath.Join(dir, "linux-image-cloud-amd64.control"),
				[]byte("Package: linux-image-cloud-amd64\nVersion: 6.12.1-1\n"), 0o644)
		}, "not of the 6.1 series"},
		{"no such package", func(dir string) error {
			return os.WriteFile(filepath.Join(dir, "linux-image-cloud-amd64.control"), nil, 0o644)
		}, "no package linux-image-cloud-amd64"},
		{"not a package", func(dir string) error {
			return os.WriteFile(filepath.Join(dir, "image.deb"), []byte("rubbish"), 0o644)
		}, "image.deb"},
		{"nothing downloaded", func(dir string) error {
			return os.Remove(filepath.Join(dir, "image.deb"))
		}, "download"},
		{"no kernel in it", func(dir string) error {
			var b bytes.Buffer
			if err := tar.NewWriter(&b).Close(); err != nil {
				return err
			}
			return os.WriteFile(filepath.Join(dir, "image.deb"), b.Bytes(), 0o644)
		}, "modules directories"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			cache := newCache(t)
			if err := tt.spoil(fakeArchive(t, "6.1.7-1", false)); err != nil {
				t.Fatal(err)
			}
			_, err := GetKernel(t.Context(), "6.1", nil)
			if err == nil || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), "debian:6.1") {
				t.Errorf("error %v, want one with debian:6.1 and %q", err, tt.want)
			}
			checkCache(t, cache)
		})
	}
}

// TestGetKernelOnce requests a kernel many times at once, as several commands would.
func TestGetKernelOnce(t *testing.T) {
	newCache(t)
	dir := fakeArchive(t, "6.1.7-1", false)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			if _, err := GetKernel(t.Context(), "6.1", nil); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if log, _ := os.ReadFile(filepath.Join(dir, "log")); string(log) != "update\ndownload\n" {
		t.Errorf("asked the archive for %q, want update and download, once", log)
	}
}

func TestGetKernelCancelled(t *testing.T) {
	cache := newCache(t)
	fakeArchive(t, "6.1.7-1", false)
	ctx, cancel := context.WithCancel(t.Context())
	_, err := GetKernel(ctx, "6.1", func(what string, _ float64) {
		if what == "unpacking" {
			cancel()
		}
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want context.Canceled", err)
	}
	checkCache(t, cache)
}

// TestModulesOfCache asks for modules of the stock kernels in the cache.
func TestModulesOfCache(t *testing.T) {
	for _, series := range KnownSeries() {
		k, err := Cached(series)
		if err != nil {
			t.Logf("skipped %s: %v", series, err)
			continue
		}
		have, err := k.Modules()
		if err != nil {
			t.Fatal(err)
		}
		files, err := have.Files("virtio_pci", "virtio_blk", "virtiofs", "virtio_console", "virtio_rng", "pvpanic_mmio")
		if err != nil {
			t.Errorf("%s: %v", series, err)
		}
		for _, f := range files {
			if _, err := os.Stat(f); err != nil {
				t.Errorf("%s: %v", series, err)
			}
		}
		for _, name := range []string{"virtio_blk.ko", "virtio-rng.ko", "pvpanic.ko", "pvpanic-mmio.ko"} {
			if !slices.ContainsFunc(files, func(f string) bool { return filepath.Base(f) == name }) {
				t.Errorf("%s: no %s in %q", series, name, files)
			}
		}
	}
}
