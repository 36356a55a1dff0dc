// Package debian gets what offmap needs from Debian's archive: stock cloud kernels to
// boot, and for each kernel a tree with its headers and the compiler that built it.
// apt downloads and verifies them, with lists and caches of offmap's own. So nothing
// is installed, the machine's package state stays as it is, and no privileges are
// needed.
package debian

import (
	"fmt"
	"slices"
	"strings"
)

// A release is the place in Debian's archive that a kernel series comes from.
type release struct {
	series string
	// version is the beginning that the kernel's version must have. A suite
	// moves on to other series (backports every few weeks), and results from a
	// kernel of another series would be under the wrong name.
	version string
	// suites are those of the main archive. Kernels come from the last one.
	suites []string
	// security is the suite in the security archive.
	security string
	// pin says that linux packages must come from the last of suites, which
	// apt doesn't choose by itself (backports).
	pin bool
	// exact is the version of Debian's package, or empty for the current one.
	exact string
}

// name is the name by which r is requested.
func (r release) name() string {
	if r.exact != "" {
		return r.series + "=" + r.exact
	}
	return r.series
}

// releases are in ascending order; the last one is the newest.
var releases = []release{
	{
		series: "6.1", version: "6.1.",
		suites: []string{"bookworm", "bookworm-updates"}, security: "bookworm-security",
	},
	{
		series: "6.12", version: "6.12.",
		suites: []string{"trixie", "trixie-updates"}, security: "trixie-security",
	},
	{
		series: "7.x", version: "7.",
		suites:   []string{"trixie", "trixie-updates", "trixie-backports"},
		security: "trixie-security", pin: true,
	},
}

// KnownSeries lists the kernel series that offmap can fetch, oldest first.
func KnownSeries() []string {
	var names []string
	for _, r := range releases {
		names = append(names, r.series)
	}
	return names
}

// lookup finds the release for name, which is SERIES or SERIES=VERSION.
func lookup(name string) (release, error) {
	series, version, exact := strings.Cut(name, "=")
	i := slices.IndexFunc(releases, func(r release) bool { return r.series == series })
	if i < 0 {
		return release{}, fmt.Errorf("no Debian kernel series %q; there are %s, and SERIES=VERSION for an exact package",
			series, strings.Join(KnownSeries(), ", "))
	}
	r := releases[i]
	if exact && (!strings.HasPrefix(version, r.version) || !versionSyntax().MatchString(version)) {
		return release{}, fmt.Errorf("%q is no version of Debian's kernel %s: those begin with %q and have only letters, digits and .+~-", version, series, r.version)
	}
	r.exact = version
	return r, nil
}
