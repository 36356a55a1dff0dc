package kernel

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// buildTree makes a directory of files (path: content).
func buildTree(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// built is a tree with some drivers as modules, some built in, and some not built.
func built(without ...string) map[string]string {
	files := map[string]string{
		bzImage:     "image",
		vmlinux:     "ELF image",
		releaseFile: "6.12.0-small+\n",
		configFile:  "CONFIG_MODULES=y\nCONFIG_VIRTIO_PCI=m\nCONFIG_VIRTIO_FS=m\nCONFIG_FUSE_FS=m\nCONFIG_OVERLAY_FS=y\nCONFIG_VIRTIO_CONSOLE=m\nCONFIG_VIRTIO_CONSOLE_X=y\n",
		// The path of the first is in Linux 6.2 and newer, the others are older.
		moduleList:                        "drivers/virtio/virtio_pci.o\ndrivers/virtio/virtio-ring.ko\nfs/fuse/virtiofs.o\nfs/fuse/fuse.o\ndrivers/char/virtio_console.o\n../outside.o\n/outside.ko\n",
		builtinList:                       "kernel/drivers/virtio/virtio.ko\n",
		"drivers/virtio/virtio_pci.ko":    string(fakeModule("virtio,virtio_ring")),
		"drivers/virtio/virtio-ring.ko":   string(fakeModule("virtio")),
		"fs/fuse/virtiofs.ko":             string(fakeModule("fuse,virtio")),
		"fs/fuse/fuse.ko":                 string(fakeModule("")),
		"fs/other/not_in_the_list.ko":     string(fakeModule("")),
		"drivers/virtio/virtio_pci.mod.o": "not this one",
	}
	for _, name := range without {
		delete(files, name)
	}
	return files
}

func TestOpenTree(t *testing.T) {
	tests := []struct {
		name  string
		files map[string]string
		image string
		err   string // what the error has to name
	}{
		{"bzImage", built(), bzImage, ""},
		{"vmlinux alone", built(bzImage), vmlinux, ""},
		{"configured and not built", built(bzImage, vmlinux), "", "make -C DIR bzImage modules"},
		{"sources", map[string]string{"Kconfig": "", "Makefile": ""}, "", "make -C DIR bzImage modules"},
		{"a separate build directory", map[string]string{".config": ""}, "", "make -C DIR bzImage modules"},
		{"something else", map[string]string{"Makefile": "", "main.go": ""}, "", "not a kernel's build tree"},
		{"no release", built(releaseFile), "", releaseFile},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := buildTree(t, tt.files)
			tree, err := OpenTree(dir)
			if tt.err != "" {
				if want := strings.ReplaceAll(tt.err, "DIR", dir); err == nil || !strings.Contains(err.Error(), want) {
					t.Fatalf("error %v, want one with %q", err, want)
				}
				return
			}
			if want := (Tree{dir, "6.12.0-small+", filepath.Join(dir, tt.image)}); err != nil || tree != want {
				t.Errorf("%+v, %v, want %+v", tree, err, want)
			}
		})
	}
}

func TestTreeModules(t *testing.T) {
	tests := []struct {
		name  string
		files map[string]string
		want  []string
		order []string // paths in the tree
		err   string   // what the error has to name
	}{
		{"modules of the tree", built(), []string{"virtio_pci", "virtiofs", "virtio"},
			[]string{"drivers/virtio/virtio-ring.ko", "drivers/virtio/virtio_pci.ko", "fs/fuse/fuse.ko", "fs/fuse/virtiofs.ko"}, ""},
		{"not configured", built(), []string{"virtio_blk"}, nil, "CONFIG_VIRTIO_BLK"},
		{"not built", built(), []string{"virtio_console"}, nil, "make -C DIR modules"},
		{"no modules built", built(moduleList), []string{"virtio_pci"}, nil, "make -C DIR modules"},
		{"without CONFIG_MODULES", built(moduleList), []string{"virtio"}, nil, ""},
		{"configured since", built(), []string{"overlay"}, nil, "make -C DIR bzImage"},
		{"a dependency not built", built("fs/fuse/fuse.ko"), []string{"virtiofs"}, nil, "make -C DIR modules"},
		{"not in the list", built(), []string{"not_in_the_list"}, nil, "make -C DIR modules"},
		{"out of the tree", built(), []string{"outside"}, nil, "no module outside"},
		{"no list of built-in ones", built(builtinList), []string{"virtio"}, nil, builtinList},
		{"no configuration", built(configFile), []string{"virtio_blk"}, nil, configFile},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := buildTree(t, tt.files)
			files, err := modulesOf(dir, tt.want...)
			if tt.err != "" {
				if want := strings.ReplaceAll(tt.err, "DIR", dir); err == nil || !strings.Contains(err.Error(), want) {
					t.Fatalf("error %v, want one with %q", err, want)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			var order []string
			for _, f := range files {
				rel, err := filepath.Rel(dir, f)
				if err != nil {
					t.Fatal(err)
				}
				order = append(order, rel)
			}
			if diff := cmp.Diff(tt.order, order); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
}

func modulesOf(dir string, names ...string) ([]string, error) {
	tree, err := OpenTree(dir)
	if err != nil {
		return nil, err
	}
	m, err := tree.Modules()
	if err != nil {
		return nil, err
	}
	return m.Files(names...)
}

func TestHas(t *testing.T) {
	tree, err := OpenTree(buildTree(t, built()))
	if err != nil {
		t.Fatal(err)
	}
	m, err := tree.Modules()
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]bool{"virtio_ring": true, "virtio-ring": true, "virtio": true, "overlay": false} {
		if m.Has(name) != want {
			t.Errorf("Has(%q) = %v", name, m.Has(name))
		}
	}
}

// FuzzList reads a list with any content.
func FuzzList(f *testing.F) {
	f.Add("fs/fuse/fuse.o\nkernel/virtio.ko\n")
	f.Add("../../etc/passwd.ko\n/fuse.ko\n\n.\n..")
	f.Fuzz(func(t *testing.T, text string) {
		for _, path := range parseList(text) {
			if !filepath.IsLocal(path) || !strings.HasSuffix(path, ".ko") || strings.ContainsAny(moduleName(path), "-/\n") {
				t.Errorf("path %q, name %q", path, moduleName(path))
			}
		}
	})
}

// FuzzModinfo reads the dependencies of a module with any content.
func FuzzModinfo(f *testing.F) {
	f.Add(fakeModule("virtio,virtio_ring"))
	f.Add(fakeModule(""))
	f.Fuzz(func(t *testing.T, module []byte) {
		deps, err := readDependencies(strings.NewReader(string(module)))
		for _, d := range deps {
			if err != nil || d == "" || strings.ContainsAny(d, ",\x00") {
				t.Errorf("dependency %q, %v", d, err)
			}
		}
	})
}
