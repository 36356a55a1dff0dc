package main

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"offmap/internal/lab/debian"
)

func TestCellNames(t *testing.T) {
	series := debian.KnownSeries()
	for _, tt := range []struct {
		name              string
		kernels, backends []string
		cpus              []int
		want              []string
	}{
		{"one", []string{"debian:6.1"}, []string{"secret"}, []int{1}, []string{"6.1"}},
		{"kernels", []string{"debian:6.1", "debian:6.12", "debian:6.1"}, []string{"secret"}, []int{1}, []string{"6.1", "6.12"}},
		{"all", []string{"all"}, []string{"secret"}, []int{1}, series},
		{"all and another", []string{"all", "./x/vmlinuz", "debian:6.1"}, []string{"secret"}, []int{1}, append(slices.Clone(series), "vmlinuz")},
		{"backends", []string{"debian:6.1"}, []string{"anon", "secret"}, []int{1}, []string{"anon", "secret"}},
		{"everything", []string{"debian:6.1", "debian:7.x"}, []string{"anon", "secret"}, []int{1, 2}, []string{
			"6.1/anon/1", "6.1/anon/2", "6.1/secret/1", "6.1/secret/2", "7.x/anon/1", "7.x/anon/2", "7.x/secret/1", "7.x/secret/2"}},
		{"one name", []string{"/a/bzImage", "/b/bzImage", "/c/bzImage/"}, []string{"secret"}, []int{1}, []string{"bzImage", "bzImage-2", "bzImage-3"}},
		{"names that are none", []string{"/", "/x/..", "/a b", "/...", "/x/guest"}, []string{"secret"}, []int{1}, []string{"_", "_-2", "a_b", "kernel", "guest-2"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var got []string
			f := execFlags{matrix: matrixFlags{kernels: tt.kernels, backends: tt.backends, cpus: tt.cpus}}
			for _, c := range f.cells() {
				got = append(got, c.Name)
				if c.guest.kernel != c.Kernel || c.backend != string(c.Backend) || c.execFlags.cpus != c.CPUs {
					t.Errorf("%+v", c)
				}
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

// TestGivenFlags passes the flags of a command line on to another one.
func TestGivenFlags(t *testing.T) {
	cmd := newExecCmd()
	args := []string{
		"-k", "a", "--backend", "anon,secret", "-c", "2", "-c", "3", "-j", "2", "--json", "--junit", "x", "--artifacts", "d",
		"-m", "1G", "--rw", "a,b", "--rw", "c d", "--disk", "x,,y,ro", "--disk", "z,overlay", "--timeout", "90s", "--append", "a=b --c", "--window", "64M",
	}
	if err := cmd.ParseFlags(append(args, "--", "command", "--json")); err != nil {
		t.Fatal(err)
	}
	want := []string{"--append=a=b --c", "--disk=x,,y,ro", "--disk=z,overlay", "--memory=1G", "--rw=a,b", "--rw=c d", "--timeout=1m30s", "--window=64M"}
	given := givenFlags(cmd.Flags())
	if diff := cmp.Diff(want, given); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	again := newExecCmd()
	if err := again.ParseFlags(given); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(given, givenFlags(again.Flags())); diff != "" {
		t.Errorf("passed on: -want +got:\n%s", diff)
	}
	if strings.Contains(strings.Join(given, " "), "command") {
		t.Error("the command is a flag")
	}
}
