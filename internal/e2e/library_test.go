package e2e

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"offmap/guest/protocol"
	"offmap/internal/lab/debian"
	"offmap/internal/measure/probe"
	"offmap/memory"
	"offmap/memory/attach"
)

// library is the program of README.md, built outside of this module.
const library = "library"

var goBlock = regexp.MustCompile("(?s)```go\n(package main\n.*?)```")

// buildLibrary builds README.md's program in dir as a reader would: in a module of
// its own that uses this one.
func buildLibrary(t *testing.T, dir string) string {
	t.Helper()
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	read := func(name string) string {
		text, err := os.ReadFile(filepath.Join(root, name))
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	blocks := goBlock.FindAllStringSubmatch(read("README.md"), -1)
	if len(blocks) != 1 {
		t.Fatalf("README.md has %d programs in Go, want 1", len(blocks))
	}
	// What this module requires, the program does too. `go mod tidy` would find
	// that out from the network.
	mod := strings.Replace(read("go.mod"), "module offmap\n", "module example\n\nrequire offmap v0.0.0\n\nreplace offmap => "+root+"\n", 1)
	module := t.TempDir()
	for name, text := range map[string]string{"main.go": blocks[0][1], "go.mod": mod, "go.sum": read("go.sum")} {
		if err := os.WriteFile(filepath.Join(module, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	path := filepath.Join(dir, library)
	build := exec.Command("go", "build", "-o", path, ".")
	build.Dir = module
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=-mod=mod", "GOWORK=off", "GOPROXY=off")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	return path
}

// TestLibrary runs README.md's program on this host. The kernel is a few
// instructions, since Linux takes minutes where KVM interprets it.
func TestLibrary(t *testing.T) {
	if *inside {
		t.Skip("skipped: the sources are outside, and TestLibraryLinux is inside")
	}
	if testing.Short() {
		t.Skip("SKIPPED: it takes a build")
	}
	path := buildLibrary(t, t.TempDir())
	if trial := probe.Try(t.Context(), attach.Pair{Backend: memory.Secret, Attach: attach.Auto}, ""); !trial.Works {
		t.Skipf("SKIPPED: built, and not run: %s", trial.Reason)
	}
	kernel := filepath.Join(t.TempDir(), "kernel")
	for want, code := range map[string][]byte{
		"!\n{Reason:poweroff Code:7 Detail:} <nil>\n": {
			0x66, 0xba, 0xf8, 0x03, // mov dx, 0x3f8
			0xb0, '!', 0xee, // mov al, '!'; out dx, al
			0xb0, '\n', 0xee, // mov al, '\n'; out dx, al
			0x66, 0xba, protocol.ExitPort & 0xff, protocol.ExitPort >> 8, // mov dx, ExitPort
			0xb0, 7, 0xee, // mov al, 7; out dx, al
		},
		"{Reason:crash Code:0 Detail:triple fault": {0x0f, 0x0b}, // ud2
	} {
		if err := os.WriteFile(kernel, kernelELF(code), 0o644); err != nil {
			t.Fatal(err)
		}
		out, err := command(t, patience, path, kernel).CombinedOutput()
		if err != nil || !bytes.HasPrefix(out, []byte(want)) {
			t.Errorf("%v\n%s", err, out)
		}
	}
}

// TestLibraryLinux has README.md's program boot Linux.
func TestLibraryLinux(t *testing.T) {
	needInside(t)
	k, err := debian.Cached(strings.TrimPrefix(guestKernel, "debian:"))
	if err != nil {
		t.Fatal(err)
	}
	out, err := command(t, patience, "./"+library, k.Image).CombinedOutput()
	text := string(out)
	if err != nil || !strings.HasSuffix(text, "{Reason:poweroff Code:3 Detail:} <nil>\n") || !strings.Contains(text, k.Release) || !strings.Contains(text, "MemTotal:") {
		t.Errorf("%v\n%s", err, text)
	}
}
