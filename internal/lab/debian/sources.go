package debian

import (
	"fmt"
	"strings"
)

// An archive says where Debian's packages are fetched from.
type archive struct {
	main     string // URI of the main archive
	security string // URI of the security archive
	keyring  string // file for signed-by; empty: the machine's trusted keys
}

// defaultArchive serves machines that aren't pointed at Debian themselves.
var defaultArchive = archive{
	main:     "http://deb.debian.org/debian",
	security: "http://deb.debian.org/debian-security",
}

// indexTargetFormat makes apt-get indextargets print what parseIndexTargets
// reads. ORIGIN is only known once the lists have been fetched.
const indexTargetFormat = "$(IDENTIFIER)|$(REPO_URI)|$(RELEASE)|$(ORIGIN)"

// codenames of the Debian releases whose archive also carries ours. They
// tell a Debian source from that of a derivative before its lists are there.
var codenames = []string{"bullseye", "bookworm", "trixie", "forky", "sid", "stable", "oldstable", "testing", "unstable"}

// parseIndexTargets finds the machine's own Debian mirrors in the output of
// apt-get indextargets, and fills what it doesn't find from defaultArchive.
func parseIndexTargets(out string) archive {
	var a archive
	for line := range strings.Lines(out) {
		f := strings.Split(strings.TrimSpace(line), "|")
		if len(f) != 4 || f[0] != "Packages" {
			continue
		}
		uri, suite, origin := strings.TrimSuffix(f[1], "/"), f[2], f[3]
		if strings.HasPrefix(uri, "cdrom:") {
			continue
		}
		base, rest, _ := strings.Cut(suite, "-")
		if origin != "Debian" && !(strings.HasPrefix(origin, "$(") && known(base)) {
			continue
		}
		switch {
		case rest == "security":
			a.security = first(a.security, uri)
		case known(base):
			a.main = first(a.main, uri)
		}
	}
	a.main = first(a.main, defaultArchive.main)
	a.security = first(a.security, defaultArchive.security)
	return a
}

func known(codename string) bool {
	for _, c := range codenames {
		if c == codename {
			return true
		}
	}
	return false
}

func first(s ...string) string {
	for _, v := range s {
		if v != "" {
			return v
		}
	}
	return ""
}

// sourcesList is the apt sources.list of one release.
func (r release) sourcesList(a archive) string {
	var b strings.Builder
	opts := ""
	if a.keyring != "" {
		opts = "[signed-by=" + a.keyring + "] "
	}
	for _, s := range r.suites {
		fmt.Fprintf(&b, "deb %s%s %s main\n", opts, a.main, s)
	}
	fmt.Fprintf(&b, "deb %s%s %s main\n", opts, a.security, r.security)
	return b.String()
}

// preferences is the apt_preferences of one release: kernels come from the
// suite that was asked for, everything else from the release itself.
func (r release) preferences() string {
	if !r.pin {
		return ""
	}
	return fmt.Sprintf("Package: linux-*\nPin: release n=%s\nPin-Priority: 990\n",
		r.suites[len(r.suites)-1])
}
