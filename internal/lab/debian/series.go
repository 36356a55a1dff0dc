// Package debian takes what offmap needs from Debian's archive: stock cloud
// kernels to boot, and per kernel a tree with its headers and the compiler
// it was built with. apt does the downloading and the verifying, with lists
// and caches of our own, so that nothing is installed, nothing of the
// machine's package state is touched, and no privileges are needed.
package debian

import (
	"fmt"
	"slices"
	"strings"
)

// A release is where in Debian's archive a kernel series comes from.
type release struct {
	series string
	// version is what the kernel's version must begin with: a suite moves
	// on (backports does so every few weeks), and a kernel of another
	// series under the asked-for name would make every result a lie.
	version string
	// suites of the main archive, the one to take kernels from last.
	suites []string
	// security is the suite of the security archive.
	security string
	// pin says that linux packages must come from the last of suites,
	// which apt would not choose by itself (backports).
	pin bool
	// exact is the version of Debian's package, where not the current one is
	// wanted.
	exact string
}

// name is what r is asked for by.
func (r release) name() string {
	if r.exact != "" {
		return r.series + "=" + r.exact
	}
	return r.series
}

// releases in ascending order; the last one is the newest.
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

// KnownSeries lists the kernel series that can be had, oldest first.
func KnownSeries() []string {
	var names []string
	for _, r := range releases {
		names = append(names, r.series)
	}
	return names
}

// lookup finds what name, SERIES or SERIES=VERSION, stands for.
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
