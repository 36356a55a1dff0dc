package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestOutputDirs(t *testing.T) {
	dir := t.TempDir()
	for _, d := range []string{"pkg/sub", "work", "cover", "out/pprof"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	work := filepath.Join(dir, "work")
	for _, c := range []struct {
		name  string
		argv  []string
		cover string
		want  []string // below dir
	}{
		{name: "none", argv: []string{"true"}},
		{name: "go test", argv: []string{work + "/p.test", "-test.paniconexit0", "-test.timeout=10m0s", "-test.testlogfile=" + work + "/testlog.txt"}, want: []string{"work"}},
		{name: "coverage", argv: []string{"p.test", "-test.coverprofile=" + work + "/c.out", "-test.gocoverdir=" + dir + "/cover"}, want: []string{"work", "cover"}},
		{name: "GOCOVERDIR", argv: []string{"p"}, cover: "../cover", want: []string{"cover"}},
		{name: "relative", argv: []string{"p.test", "-test.cpuprofile=sub/cpu.out"}, want: []string{"pkg/sub"}},
		{name: "output directory", argv: []string{"p.test", "-test.memprofile=pprof/mem", "-test.outputdir=" + dir + "/out"}, want: []string{"out/pprof"}},
		{name: "artifacts", argv: []string{"p.test", "-test.outputdir=" + dir + "/out", "-test.artifacts=true"}, want: []string{"out"}},
		{name: "no artifacts", argv: []string{"p.test", "-test.artifacts=false"}},
		{name: "not there", argv: []string{"p.test", "-test.gocoverdir=/no/such", "-test.trace=/no/such/trace"}},
		{name: "never the root", argv: []string{"p.test", "-test.trace=/trace"}},
		{name: "a flag's name", argv: []string{"-test.gocoverdir=" + work}},
	} {
		var want []string
		for _, w := range c.want {
			want = append(want, filepath.Join(dir, w))
		}
		if diff := cmp.Diff(want, outputDirs(c.argv, filepath.Join(dir, "pkg"), c.cover)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.name, diff)
		}
	}
}

func TestWritableDirs(t *testing.T) {
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range []string{"a/b", "ab"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("a/b", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	t.Chdir(dir)
	got, err := writableDirs([]string{"link", "ab", "a", dir + "/a"})
	if diff := cmp.Diff([]string{dir + "/a", dir + "/ab"}, got); diff != "" || err != nil {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
	for _, bad := range []string{"/", "no-such"} {
		if got, err := writableDirs([]string{bad}); err == nil {
			t.Errorf("%s: %v", bad, got)
		}
	}
}
