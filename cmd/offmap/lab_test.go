package main

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"offmap/internal/lab/debian"
	"offmap/internal/process/exitcode"
)

// TestLabRefuses checks that offmap lab refuses before it starts or fetches anything.
// PATH has only the programs of a case. The cache is empty and stays empty.
func TestLabRefuses(t *testing.T) {
	const (
		newQEMU = "#!/bin/sh\necho 'QEMU emulator version 10.0.2'\n"
		oldQEMU = "#!/bin/sh\necho 'QEMU emulator version 7.2.22 (Debian 1:7.2)'\n"
		badApt  = "#!/bin/sh\nif test \"$1\" = indextargets; then exit 0; fi\necho 'E: The mirror is unreachable' >&2\nexit 100\n"
	)
	working := map[string]string{"qemu-system-x86_64": newQEMU}
	offline := map[string]string{"qemu-system-x86_64": newQEMU, "apt-get": badApt, "apt-cache": badApt, "dpkg-deb": badApt}
	tests := []struct {
		name  string
		tools map[string]string
		args  []string
		code  int
		want  string // in stderr
	}{
		{"no command", working, []string{"lab"}, exitcode.Usage, "offmap lab -- doctor"},
		{"command without dashes", working, []string{"lab", "doctor"}, exitcode.Usage, "lab -- doctor"},
		{"command before the dashes", working, []string{"lab", "doctor", "--", "x"}, exitcode.Usage, "after --"},
		{"unknown series", working, []string{"lab", "-k", "5.10", "--", "doctor"}, exitcode.Usage, "6.1, 6.12, 7.x, and SERIES=VERSION"},
		{"version of another series", working, []string{"lab", "-k", "6.1=6.12.107-1", "--", "doctor"}, exitcode.Usage, `"6.12.107-1"`},
		{"version that is a path", working, []string{"lab", "fetch", "6.1=6.1./../../x"}, exitcode.Usage, "6.1./../../x"},
		{"exact version offline", offline, []string{"lab", "fetch", "6.1=6.1.176-1"}, exitcode.Cannot, "debian:6.1=6.1.176-1"},
		{"unknown series to fetch", working, []string{"lab", "fetch", "5.10"}, exitcode.Usage, `"5.10"`},
		{"shells in several", working, []string{"lab", "shell", "-k", "all"}, exitcode.Usage, "one kernel"},
		{"no QEMU", nil, []string{"lab", "--", "doctor"}, exitcode.Cannot, "apt install qemu-system-x86"},
		{"old QEMU", map[string]string{"qemu-system-x86_64": oldQEMU}, []string{"lab", "--", "doctor"}, exitcode.Cannot, "bookworm-backports"},
		{"too little memory", working, []string{"lab", "-m", "64", "--program", "/bin/true"}, exitcode.Usage, "256"},
		{"no processor", working, []string{"lab", "-c", "0", "--program", "/bin/true"}, exitcode.Usage, "processors"},
		{"no such program", working, []string{"lab", "--program", "nowhere"}, exitcode.Usage, "nowhere"},
		{"program is a script", working, []string{"lab", "--program", "script"}, exitcode.Usage, "not an ELF"},
		{"no apt", working, []string{"lab", "fetch"}, exitcode.Cannot, "apt-get is missing"},
		{"offline", offline, []string{"lab", "fetch", "6.1"}, exitcode.Cannot, "The mirror is unreachable"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			if err := os.WriteFile(filepath.Join(dir, "script"), []byte("#!/bin/sh\n"), 0o755); err != nil {
				t.Fatal(err)
			}
			bin := filepath.Join(dir, "bin")
			if err := os.Mkdir(bin, 0o755); err != nil {
				t.Fatal(err)
			}
			for name, text := range tt.tools {
				if err := os.WriteFile(filepath.Join(bin, name), []byte(text), 0o755); err != nil {
					t.Fatal(err)
				}
			}
			code, _, stderr := offmapIn(t, dir, bin, tt.args...)
			if code != tt.code || !strings.Contains(stderr, tt.want) {
				t.Errorf("exit code %d, want %d with %q; stderr:\n%s", code, tt.code, tt.want, stderr)
			}
			left, _ := filepath.Glob(filepath.Join(dir, "cache/kernels/*/*"))
			if len(left) > 0 {
				t.Errorf("left in the cache: %q", left)
			}
		})
	}
}

func TestLabList(t *testing.T) {
	dir := t.TempDir()
	code, stdout, stderr := offmapIn(t, dir, "", "lab", "list")
	if code != 0 {
		t.Fatalf("exit code %d: %s", code, stderr)
	}
	if n := strings.Count(stdout, "not fetched"); n != len(debian.KnownSeries()) {
		t.Errorf("%d kernels not fetched, want all of them:\n%s", n, stdout)
	}
	if _, err := os.Stat(filepath.Join(dir, "cache")); err == nil {
		t.Error("to list it has made a cache")
	}
}

// offmapIn runs this test binary as offmap (see TestMain) in dir, with its cache in dir.
func offmapIn(t *testing.T, dir, path string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.Args = append([]string{"offmap"}, args...)
	cmd.Dir = dir
	cmd.Env = []string{"PATH=" + path, "HOME=" + dir, "OFFMAP_CACHE=" + filepath.Join(dir, "cache")}
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	err = cmd.Run()
	if e, ok := errors.AsType[*exec.ExitError](err); ok {
		code = e.ExitCode()
	} else if err != nil {
		t.Fatal(err)
	}
	return code, out.String(), errOut.String()
}

func TestInOrder(t *testing.T) {
	var one, two strings.Builder
	outputs := newInOrder(3)
	say := func(i int, to *strings.Builder, text string) {
		t.Helper()
		if _, err := outputs.writer(i, to).Write([]byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	say(1, &one, "b1 ")
	say(2, &one, "c1 ")
	say(0, &one, "a1 ")
	if one.String() != "a1 " {
		t.Errorf("at first %q, want what the first says as it says it", one.String())
	}
	say(1, &two, "B1 ")
	outputs.done(2)
	outputs.done(0)
	say(1, &one, "b2 ")
	outputs.done(1)
	if got, want := one.String(), "a1 b1 b2 c1 "; got != want {
		t.Errorf("said %q, want %q", got, want)
	}
	if got, want := two.String(), "B1 "; got != want {
		t.Errorf("said %q on the other, want %q", got, want)
	}
}

// TestLabKernels checks what values of --kernel name.
func TestLabKernels(t *testing.T) {
	t.Chdir(t.TempDir())
	for _, dir := range []string{"tree", "6.1"} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	known := debian.KnownSeries()
	for _, tt := range []struct{ list, want []string }{
		{nil, known[len(known)-1:]},
		{[]string{"tree", "6.12", "tree"}, []string{"tree", "6.12"}},
		{[]string{"6.1", "./6.1"}, []string{"6.1", "./6.1"}}, // a series goes before a directory
		{[]string{"tree", "all"}, append([]string{"tree"}, known...)},
	} {
		if got, err := chosenKernels(tt.list); err != nil || !slices.Equal(got, tt.want) {
			t.Errorf("%q: %q, %v, want %q", tt.list, got, err, tt.want)
		}
	}
	if _, err := chosenKernels([]string{"nowhere"}); exitCode(err) != exitcode.Usage {
		t.Errorf("no such directory: %v", err)
	}
	_, _, err := labKernel(t.Context(), "tree", false)
	if exitCode(err) != exitcode.Usage || !strings.Contains(err.Error(), "not a kernel's build tree") {
		t.Errorf("a directory without a kernel: %v", err)
	}
}
