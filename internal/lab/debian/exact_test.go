package debian

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestExact fetches a kernel of an exact version beside the current one of its series.
// Neither changes when the other does.
func TestExact(t *testing.T) {
	const exact = "6.1=6.1.7-1"
	cache := newCache(t)
	fakeArchive(t, "6.1.8-1", false)
	if _, err := GetKernel(t.Context(), "6.1", nil); err != nil {
		t.Fatal(err)
	}
	archive := fakeArchive(t, "6.1.7-1", false)
	// The metapackage has moved on.
	meta := filepath.Join(archive, metaPackage+".control")
	if err := os.WriteFile(meta, []byte("Package: "+metaPackage+"\nVersion: 6.1.9-1\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	k, err := GetKernel(t.Context(), exact, nil)
	if err != nil || k.Series != exact || k.Version != "6.1.7-1" || k.Release != "6.1.7-cloud-amd64" {
		t.Fatalf("GetKernel: %+v, %v", k, err)
	}
	if k, err := Cached("6.1"); err != nil || k.Version != "6.1.8-1" {
		t.Errorf("the series is now %s, %v, want 6.1.8-1", k.Version, err)
	}

	fakeArchive(t, "6.1.9-1", false)
	if k, err := UpdateKernel(t.Context(), "6.1", nil); err != nil || k.Version != "6.1.9-1" {
		t.Errorf("UpdateKernel of the series: %s, %v, want 6.1.9-1", k.Version, err)
	}
	checkCache(t, cache, "6.1.9-1", "current")
	// It is no longer in the archive.
	if again, err := UpdateKernel(t.Context(), exact, nil); err != nil || again.Image != k.Image {
		t.Errorf("UpdateKernel of the exact version: %+v, %v", again, err)
	}
	if names, err := CachedExact(); err != nil || !slices.Equal(names, []string{exact}) {
		t.Errorf("CachedExact: %q, %v", names, err)
	}
}

// TestExactUnknown asks for a version that the archive doesn't have: the error
// lists those that it has, and nothing is left.
func TestExactUnknown(t *testing.T) {
	cache := newCache(t)
	archive := fakeArchive(t, "6.1.8-1", false)
	const madison = `linux-image-6.1.8-cloud-amd64 | 6.1.8-1 | an archive
linux-image-6.1.8-cloud-amd64 | 6.1.8-1 | another
linux-image-6.1.176-cloud-amd64 | 6.1.176-1 | an archive
linux-image-cloud-amd64 | 6.12.7-1 | an archive
`
	if err := os.WriteFile(filepath.Join(archive, "madison"), []byte(madison), 0o644); err != nil {
		t.Fatal(err)
	}
	_, err := GetKernel(t.Context(), "6.1=6.1.9-1", nil)
	if want := "no version 6.1.9-1; of series 6.1 it has 6.1.8-1, 6.1.176-1"; err == nil || !strings.HasSuffix(err.Error(), want) {
		t.Errorf("error %v, want one that ends with %q", err, want)
	}
	if left, _ := filepath.Glob(filepath.Join(cache, "kernels/*=*")); len(left) > 0 {
		t.Errorf("left in the cache: %q", left)
	}
	if _, err := Cached("6.1=6.1.9-1"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Cached: %v, want ErrNotExist", err)
	}
}

func TestCompareVersions(t *testing.T) {
	want := []string{"6.1.8-1", "6.1.176-1", "6.1.192-1", "6.1.192-2", "7.2.6-1~bpo13+1", "7.10.1-1~bpo13+1"}
	got := slices.Clone(want)
	slices.Reverse(got)
	slices.SortFunc(got, compareVersions)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

// FuzzCheckSeries checks that every accepted name is a good file name, and that its
// part after = is a good argument of apt.
func FuzzCheckSeries(f *testing.F) {
	for _, s := range []string{"6.1", "6.1=6.1.176-1", "7.x=7.3.4-1~bpo13+1", "6.1=6.1./../..", "6.1=-o", "6.1=6.1.1 x"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, name string) {
		if CheckSeries(name) != nil {
			return
		}
		if filepath.Base(name) != name || !filepath.IsLocal(name) || strings.ContainsAny(name, " \t\n,:*?[\\\x00") {
			t.Errorf("%q is no name for a directory", name)
		}
		if _, version, _ := strings.Cut(name, "="); strings.HasPrefix(version, "-") || strings.Contains(version, "=") {
			t.Errorf("%q is no version for apt", version)
		}
	})
}

func FuzzParseMadison(f *testing.F) {
	f.Add("linux-image-6.1.0-50-cloud-amd64 |  6.1.176-1 | http://deb.debian.org/debian bookworm/main amd64 Packages\n")
	f.Add("||\n|\na|b|c|d")
	f.Fuzz(func(t *testing.T, out string) {
		for version, name := range parseMadison(out) {
			if strings.TrimSpace(version) != version || strings.ContainsAny(version+name, "|\n") {
				t.Errorf("%q: %q", version, name)
			}
			compareVersions(version, "6.1.176-1")
		}
	})
}
