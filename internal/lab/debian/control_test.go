package debian

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParseStanzas(t *testing.T) {
	got := parseStanzas(`Package: a
Version: 1-1
Description: one
 more of it
 .
 and more
Depends: b (= 1-1), c

# a comment
Package:d
no colon
`)
	want := []stanza{
		{"package": "a", "version": "1-1", "description": "one\nmore of it\n.\nand more", "depends": "b (= 1-1), c"},
		{"package": "d"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

func FuzzParseStanzas(f *testing.F) {
	f.Add("Package: a\nDepends: b (= 1)\n\nPackage: c\n x\n")
	f.Add(" x\n:\n\t\n")
	f.Fuzz(func(t *testing.T, text string) {
		for _, s := range parseStanzas(text) {
			for name := range s {
				if name != strings.ToLower(name) || strings.Contains(name, ":") {
					t.Errorf("field name %q", name)
				}
			}
			s.sameVersionDeps()
		}
	})
}

func TestSameVersionDeps(t *testing.T) {
	// As apt-cache show prints it for 7.3's metapackage and image.
	s := parseStanzas(`Package: linux-image-7.3.4+deb13-cloud-amd64
Version: 7.3.4-1~bpo13+1
Depends: dracut | initramfs-tools (>= 0.120+deb8u2), linux-base-7.3.4+deb13-cloud-amd64 (= 7.3.4-1~bpo13+1), linux-binary-7.3.4+deb13-cloud-amd64 (= 7.3.4-1~bpo13+1), other (= 7.3.4-2), linux-modules-7.3.4+deb13-cloud-amd64 (= 7.3.4-1~bpo13+1)
`)[0]
	want := []string{
		"linux-base-7.3.4+deb13-cloud-amd64",
		"linux-binary-7.3.4+deb13-cloud-amd64",
		"linux-modules-7.3.4+deb13-cloud-amd64",
	}
	if diff := cmp.Diff(want, s.sameVersionDeps()); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

func TestParseInstall(t *testing.T) {
	got := parseInstall(`Reading package lists...
Inst gcc-14-base (14.2.0-19 Debian:13.7/stable [amd64])
Inst libc6 (2.41-12+deb13u1 Debian:13.7/stable [amd64]) []
Inst linux-image-6.12.117+deb13-cloud-amd64 (6.12.117-1 Debian-Security:13/stable-security [amd64])
Inst initramfs-tools (0.148 Debian:13.7/stable [all])
Conf libc6 (2.41-12+deb13u1 Debian:13.7/stable [amd64])
Inst broken
`, notNeeded)
	want := []string{"gcc-14-base=14.2.0-19", "libc6=2.41-12+deb13u1"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

func TestRelayStatus(t *testing.T) {
	var got []float64
	relayStatus(strings.NewReader(`dlstatus:1:0.0000:Retrieving file 1 of 3
dlstatus:3:53.0000:Retrieving file 3 of 3
pmstatus:x:10:y
dlstatus:3:many:x
dlstatus
`), func(f float64) { got = append(got, f) })
	if diff := cmp.Diff([]float64{0, 0.53}, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}
