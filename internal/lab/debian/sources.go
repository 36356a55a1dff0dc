package debian

import (
	"fmt"
	"strings"
)

// An archive is where Debian's packages are fetched from.
type archive struct {
	main     string // URI of the main archive
	security string // URI of the security archive
	keyring  string // file for signed-by; empty for the machine's trusted keys
}

// defaultArchive is for machines whose own sources aren't Debian's.
var defaultArchive = archive{
	main:     "http://deb.debian.org/debian",
	security: "http://deb.debian.org/debian-security",
}

// indexTargetFormat is the output format of apt-get indextargets that
// parseIndexTargets reads. ORIGIN is known only after the lists have been fetched.
const indexTargetFormat = "$(IDENTIFIER)|$(REPO_URI)|$(RELEASE)|$(ORIGIN)"

// codenames are the names of Debian releases in the archive that also has those of
// releases. They tell Debian's sources from a derivative's before lists are fetched.
var codenames = []string{"bullseye", "bookworm", "trixie", "forky", "sid", "stable", "oldstable", "testing", "unstable"}

// parseIndexTargets finds the machine's own Debian mirrors in the output of apt-get
// indextargets. What it doesn't find is as in defaultArchive.
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

// preferences is the apt_preferences of one release. Kernels come from the suite
// that r names, and everything else from the Debian release itself.
func (r release) preferences() string {
	if !r.pin {
		return ""
	}
	return fmt.Sprintf("Package: linux-*\nPin: release n=%s\nPin-Priority: 990\n",
		r.suites[len(r.suites)-1])
}
