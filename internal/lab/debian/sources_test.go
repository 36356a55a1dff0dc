package debian

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParseIndexTargets(t *testing.T) {
	tests := []struct {
		name string
		out  string
		want archive
	}{
		{"nothing", "", defaultArchive},
		{"Debian's own", `Packages|http://deb.debian.org/debian/|bookworm|Debian
DEP-11|http://deb.debian.org/debian/|bookworm|Debian
Packages|http://deb.debian.org/debian-security/|bookworm-security|Debian
`, archive{main: "http://deb.debian.org/debian", security: "http://deb.debian.org/debian-security"}},
		{"a mirror", `Packages|https://mirror.example/debian/|trixie|Debian
Packages|https://mirror.example/debian/|trixie-updates|Debian
Packages|https://sec.example/|trixie-security|Debian
`, archive{main: "https://mirror.example/debian", security: "https://sec.example"}},
		{"only updates are a hint, too", "Packages|https://mirror.example/debian/|trixie-updates|Debian\n",
			archive{main: "https://mirror.example/debian", security: defaultArchive.security}},
		{"others come first", `Packages|https://apt.example/node/|nodistro|example
Packages|https://mirror.example/debian/|bookworm|Debian
`, archive{main: "https://mirror.example/debian", security: defaultArchive.security}},
		{"lists not fetched yet", `Packages|https://mirror.example/debian/|bookworm|$(ORIGIN)
Packages|https://pkgs.example/|stretch-pgdg|$(ORIGIN)
`, archive{main: "https://mirror.example/debian", security: defaultArchive.security}},
		{"a derivative", `Packages|http://archive.ubuntu.com/ubuntu/|noble|Ubuntu
Packages|http://security.ubuntu.com/ubuntu/|noble-security|Ubuntu
`, defaultArchive},
		{"a third party's suite named as ours", "Packages|https://download.example/linux/debian/|bookworm|Docker\n", defaultArchive},
		{"a DVD", "Packages|cdrom:[Debian GNU-Linux 12]/|bookworm|Debian\n", defaultArchive},
		{"an odd line", "Packages\n|||\nPackages|x\n", defaultArchive},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, parseIndexTargets(tt.out), cmp.AllowUnexported(archive{})); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
}

func TestSourcesList(t *testing.T) {
	r, err := lookup("7.x")
	if err != nil {
		t.Fatal(err)
	}
	got := r.sourcesList(archive{main: "http://m/debian", security: "http://s/sec", keyring: "/k.gpg"})
	want := `deb [signed-by=/k.gpg] http://m/debian trixie main
deb [signed-by=/k.gpg] http://m/debian trixie-updates main
deb [signed-by=/k.gpg] http://m/debian trixie-backports main
deb [signed-by=/k.gpg] http://s/sec trixie-security main
`
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	// Without a pin apt takes the kernel of trixie itself, which is 6.12.
	if p := r.preferences(); !strings.Contains(p, "Package: linux-*\nPin: release n=trixie-backports\n") {
		t.Errorf("preferences of 7.x: %q", p)
	}
	r, _ = lookup("6.1")
	if p := r.preferences(); p != "" {
		t.Errorf("preferences of 6.1: %q, want none", p)
	}
}

func TestLookup(t *testing.T) {
	for _, s := range KnownSeries() {
		if r, err := lookup(s); err != nil || r.series != s {
			t.Errorf("lookup(%q) = %q, %v", s, r.series, err)
		}
	}
	for name, want := range map[string]string{"6.1=6.1.176-1": "6.1.176-1", "7.x=7.2.6-1~bpo13+1": "7.2.6-1~bpo13+1", "6.12": ""} {
		if r, err := lookup(name); err != nil || r.exact != want || r.name() != name {
			t.Errorf("lookup(%q): version %q, name %q, %v", name, r.exact, r.name(), err)
		}
	}
	for _, s := range []string{
		"", "6", "6.10", "7", "all", "../6.1",
		"6.1=", "6.1=6.12.107-1", "5.10=5.10.1-1", "all=6.1.1-1", "=6.1.1-1", "6.1=-o", "6.1=6.1./../x", "6.1=6.1.1-1 x", "6.1=6.1.1-1\n", "6.1=6.1.1,2", "6.1=1:6.1.1-1", "6.1=6.1.1-1=6.1.1-1",
	} {
		if _, err := lookup(s); err == nil {
			t.Errorf("lookup(%q) succeeds", s)
		}
	}
}
