package main

import (
	"os"
	"strings"
	"testing"

	"offmap/guest/protocol"
)

func TestParseDisk(t *testing.T) {
	for _, c := range []struct {
		value string
		want  diskValue
		err   string
	}{
		{value: "a.img", want: diskValue{file: "a.img"}},
		{value: "/dev/sdb,ro", want: diskValue{file: "/dev/sdb", readOnly: true}},
		{value: "a,overlay,cache=none", want: diskValue{file: "a", overlay: true, direct: true}},
		{value: "a,cache=buffered,ro", want: diskValue{file: "a", readOnly: true}},
		{value: "a,,ro", want: diskValue{file: "a,ro"}},
		{value: ",,,ro", want: diskValue{file: ",", readOnly: true}},
		{value: "a=b c", want: diskValue{file: "a=b c"}},
		{value: "", err: "name of the image"},
		{value: ",ro", err: "name of the image"},
		{value: "a,", err: "option is missing"},
		{value: "a,ro,,overlay", err: `unknown option "ro,overlay"`},
		{value: "a,rw", err: `unknown option "rw": have ro, overlay`},
		{value: "a,cache=unsafe", err: `unknown option "cache=unsafe"`},
		{value: "a,cache", err: `unknown option "cache"`},
		{value: "a,RO", err: `unknown option "RO"`},
		{value: "a,ro,ro", err: `"ro" twice`},
		{value: "a,overlay,overlay", err: `"overlay" twice`},
		{value: "a,cache=none,cache=none", err: `"cache=none" twice`},
		{value: "a,cache=none,cache=buffered", err: "exclude"},
		{value: "a,ro,overlay", err: "exclude"},
		{value: "a\x00,ro", err: "zero byte"},
	} {
		got, err := parseDisk(c.value)
		checkValue(t, c.value, err, c.err)
		if c.err == "" && got != c.want {
			t.Errorf("%q: %+v, want %+v", c.value, got, c.want)
		}
	}
}

func TestParseShare(t *testing.T) {
	for _, c := range []struct {
		value string
		want  shareValue
		err   string
	}{
		{value: ".", want: shareValue{dir: "."}},
		{value: "/srv/data,rw", want: shareValue{dir: "/srv/data", writable: true}},
		{value: "a=b", want: shareValue{dir: "a", tag: "b"}},
		{value: "a=b=c-1.2_3,rw", want: shareValue{dir: "a=b", tag: "c-1.2_3", writable: true}},
		{value: "a=b/", want: shareValue{dir: "a=b/"}},
		{value: "/a=b/c", want: shareValue{dir: "/a=b/c"}},
		{value: "a,,b=t,rw", want: shareValue{dir: "a,b", tag: "t", writable: true}},
		{value: "", err: "name of the directory"},
		{value: "=tag", err: "name of the directory"},
		{value: "a=", err: `tag ""`},
		{value: "a=b c", err: `tag "b c"`},
		{value: "a=.b", err: `tag ".b"`},
		{value: "a=ä", err: `tag "ä"`},
		{value: "a=" + strings.Repeat("x", 37), err: "1 to 36 characters"},
		{value: "a,ro", err: `unknown option "ro": have rw`},
		{value: "a,rw,rw", err: "twice"},
		{value: "a,rw=t", err: `unknown option "rw=t"`},
		{value: "a,", err: "option is missing"},
	} {
		got, err := parseShare(c.value)
		checkValue(t, c.value, err, c.err)
		if c.err == "" && got != c.want {
			t.Errorf("%q: %+v, want %+v", c.value, got, c.want)
		}
	}
}

func checkValue(t *testing.T, value string, err error, want string) {
	t.Helper()
	if (err != nil) != (want != "") || err != nil && !strings.Contains(err.Error(), want) {
		t.Errorf("%q: error %v, want %q", value, err, want)
	}
}

func TestShareName(t *testing.T) {
	t.Chdir(t.TempDir())
	if err := os.Mkdir("My Files", 0o777); err != nil {
		t.Fatal(err)
	}
	t.Chdir("My Files")
	for dir, want := range map[string]string{
		".": "My-Files", "a/..": "My-Files", "/": "share", "/srv/data/": "data", "/x/.ssh": "ssh",
		"/x/äöü": "share", "/x/a=b,c": "a-b-c", "/x/" + strings.Repeat("y", 40): strings.Repeat("y", protocol.MaxTag),
	} {
		if got := (shareValue{dir: dir}).name(); got != want {
			t.Errorf("%s: %q, want %q", dir, got, want)
		}
	}
	if got := (shareValue{dir: "/srv/data", tag: "t"}).name(); got != "t" {
		t.Errorf("a share with the tag t is %q", got)
	}
}

// FuzzDeviceValues holds that every value is either refused or means one thing: any
// name can be written, and gives the same name back.
func FuzzDeviceValues(f *testing.F) {
	for _, s := range []string{"a.img", "a,ro,cache=none", "a,,b=c=t,rw", "=", ",,,", "a,", "\x00", "a=b/"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		escaped := strings.ReplaceAll(s, ",", ",,")
		legal := s != "" && !strings.Contains(s, "\x00")
		if d, err := parseDisk(escaped + ",ro"); (err == nil) != legal || legal && d != (diskValue{file: s, readOnly: true}) {
			t.Errorf("--disk of %q: %+v, %v", s, d, err)
		}
		if v, err := parseShare(escaped + "=t,rw"); (err == nil) != legal || legal && v != (shareValue{dir: s, tag: "t", writable: true}) {
			t.Errorf("--share of %q: %+v, %v", s, v, err)
		}
		if d, err := parseDisk(s); err == nil && (d.file == "" || d.readOnly && d.overlay) {
			t.Errorf("--disk %q: %+v", s, d)
		}
		if v, err := parseShare(s); err == nil && (v.dir == "" || v.tag != "" && protocol.CheckTag(v.tag) != nil) {
			t.Errorf("--share %q: %+v", s, v)
		}
		if tag := (shareValue{dir: s}).name(); protocol.CheckTag(tag) != nil {
			t.Errorf("%q: tag %q: %v", s, tag, protocol.CheckTag(tag))
		}
	})
}
