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

// versionSyntax matches a version (Debian Policy 5.6.12) without an epoch, which
// kernels don't have. A version becomes the name of a directory and an argument of
// apt.
var versionSyntax = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`^[0-9][A-Za-z0-9.+~-]*$`)
})

// CheckSeries returns an error if name isn't the name of a kernel. A name is one of
// KnownSeries, for the current kernel of that series, or SERIES=VERSION, for Debian's
// package of exactly that version, such as "6.1=6.1.176-1".
func CheckSeries(name string) error {
	_, err := lookup(name)
	return err
}

// CachedExact lists the kernels in the cache that were fetched by their exact
// versions, as SERIES=VERSION. They stay until somebody removes their directories.
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

// imagePackage returns the name of the package with the kernel of r's exact version.
// The archive keeps several versions, each in a package with a name of its own; the
// metapackage leads only to the newest of a suite.
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

// parseMadison reads the output of apt-cache madison, such as
// "linux-image-6.1.0-50-cloud-amd64 |  6.1.176-1 | http://... Packages". It returns
// the names of packages by version.
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

// compareVersions orders versions by the numbers in them. That is enough for the
// versions of one series.
func compareVersions(a, b string) int {
	if c := slices.Compare(numbers(a), numbers(b)); c != 0 {
		return c
	}
	return strings.Compare(a, b)
}

func numbers(s string) []int {
	var list []int
	for f := range strings.FieldsFuncSeq(s, func(r rune) bool { return r < '0' || r > '9' }) {
		n, _ := strconv.Atoi(f) // if out of range, n is the largest int
		list = append(list, n)
	}
	return list
}
