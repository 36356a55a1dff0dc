package debian

import (
	"context"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// versionSyntax is what a version may be made of (Debian Policy 5.6.12),
// without an epoch, which kernels don't have. It becomes the name of a
// directory and an argument of apt's.
var versionSyntax = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`^[0-9][A-Za-z0-9.+~-]*$`)
})

// CheckSeries says what is wrong with the name of a kernel: one of KnownSeries,
// which is the current kernel of that series, or SERIES=VERSION, which is
// Debian's package of exactly that version, such as "6.1=6.1.176-1".
func CheckSeries(name string) error {
	_, err := lookup(name)
	return err
}

// CachedExact lists the kernels in the cache that were asked for by their
// exact versions, as SERIES=VERSION. They stay until their directories are
// removed.
func CachedExact() ([]string, error) {
	cache, err := CacheDir()
	if err != nil {
		return nil, err
	}
	found, err := fs.Glob(os.DirFS(cache), "kernels/*=*/current")
	var names []string
	for _, f := range found {
		if name := path.Base(path.Dir(f)); CheckSeries(name) == nil {
			names = append(names, name)
		}
	}
	return names, err
}

// imagePackage is the package of the kernel of r's exact version. The archive
// keeps several: each has a package with a name of its own, and the
// metapackage stands for the newest of a suite only.
func (a *apt) imagePackage(ctx context.Context, r release) (string, error) {
	out, err := a.run(ctx, a.dir, "apt-cache", "pkgnames", "linux-image-")
	if err != nil {
		return "", err
	}
	names := slices.DeleteFunc(strings.Fields(string(out)), func(name string) bool {
		return !strings.HasSuffix(name, "-cloud-amd64")
	})
	out, err = a.run(ctx, a.dir, "apt-cache", append([]string{"madison"}, names...)...)
	if err != nil {
		return "", err
	}
	packages := parseMadison(string(out))
	if name, ok := packages[r.exact]; ok {
		return name, nil
	}
	maps.DeleteFunc(packages, func(version, _ string) bool { return !strings.HasPrefix(version, r.version) })
	return "", fmt.Errorf("the archive has no version %s; of series %s it has %s", r.exact, r.series,
		strings.Join(slices.SortedFunc(maps.Keys(packages), compareVersions), ", "))
}

// parseMadison reads what apt-cache madison prints, such as
// "linux-image-6.1.0-50-cloud-amd64 |  6.1.176-1 | http://... Packages", into
// names of packages by version.
func parseMadison(out string) map[string]string {
	packages := map[string]string{}
	for line := range strings.Lines(out) {
		f := strings.Split(line, "|")
		if len(f) == 3 {
			packages[strings.TrimSpace(f[1])] = strings.TrimSpace(f[0])
		}
	}
	return packages
}

// compareVersions orders versions by the numbers in them, which is how those of
// one series of kernels differ.
func compareVersions(a, b string) int {
	if c := slices.Compare(numbers(a), numbers(b)); c != 0 {
		return c
	}
	return strings.Compare(a, b)
}

func numbers(s string) []int {
	var list []int
	for f := range strings.FieldsFuncSeq(s, func(r rune) bool { return r < '0' || r > '9' }) {
		n, _ := strconv.Atoi(f) // out of range it is the largest
		list = append(list, n)
	}
	return list
}
