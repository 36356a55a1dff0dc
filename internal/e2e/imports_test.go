package e2e

import (
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// rooms is the order that imports run in: a package may import from its own
// room and from those further down.
var rooms = [][]string{
	{"cmd"},
	{"internal"},
	{"audit"},
	{"internal/measure/probe"},
	{"vmm", "guest", "audit/canary"},
	{"memory/attach"},
	{"kvm", "memory"},
	{"internal/process", "internal/jsondoc", "internal/regular"},
}

// forbidden are imports that the order would allow and the design doesn't.
var forbidden = []struct{ from, to string }{
	{"audit", "offmap/kvm"}, {"memory/kmod", "offmap/kvm"}, {"kvm", "offmap/memory"},
	{"vmm/boot", "offmap/kvm"}, {"vmm/bounce", "offmap/kvm"}, {"vmm/bus", "offmap/kvm"}, {"vmm/serial", "offmap/kvm"},
	{"vmm/power", "offmap/kvm"}, {"vmm/pvpanic", "offmap/kvm"}, {"vmm/rtc", "offmap/kvm"},
	{"vmm/pci", "offmap/kvm"}, {"vmm/virtio", "offmap/kvm"},
	{"vmm/fuse", "offmap/kvm"}, {"vmm/virtio/fs", "offmap/kvm"}, {"vmm/virtio/blk", "offmap/kvm"}, {"vmm/virtio/console", "offmap/kvm"}, {"vmm/virtio/rng", "offmap/kvm"},
	{"vmm", "offmap/guest/payload"}, {"vmm/boot", "offmap/guest/payload"}, {"guest/protocol", "offmap"},
}

// room finds the row of a package in rooms, by its longest prefix.
func room(pkg string) int {
	best, length := -1, 0
	for i, prefixes := range rooms {
		for _, p := range prefixes {
			if (pkg == p || strings.HasPrefix(pkg, p+"/")) && len(p) > length {
				best, length = i, len(p)
			}
		}
	}
	return best
}

// TestImports holds the direction of imports, and unsafe in its files.
func TestImports(t *testing.T) {
	if *inside {
		t.Skip("skipped: the sources are outside")
	}
	root, files := "../..", 0
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") {
			return err
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		files++
		pkg, test := filepath.Dir(rel), strings.HasSuffix(path, "_test.go")
		if room(pkg) < 0 {
			t.Errorf("%s is in no room of the design", rel)
		}
		for _, spec := range file.Imports {
			to, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				return err
			}
			if to == "unsafe" && !strings.Contains(filepath.Base(path), "_unsafe") {
				t.Errorf("%s imports unsafe and isn't called so", rel)
			}
			own, ok := strings.CutPrefix(to, "offmap/")
			if !ok || test {
				continue
			}
			if room(own) < room(pkg) {
				t.Errorf("%s imports %s, against the direction", rel, to)
			}
			for _, f := range forbidden {
				if pkg == f.from && (to == f.to || strings.HasPrefix(to, f.to+"/")) {
					t.Errorf("%s must not import %s", rel, to)
				}
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if files < 50 {
		t.Fatalf("%d files: these are not the sources", files)
	}
}
