package kernel

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// A Tree is a build tree: the directory in which make has built a kernel. It may be apart
// from the source tree (make O=DIR).
type Tree struct {
	Dir     string // as OpenTree got it
	Release string // the output of uname -r in this kernel
	Image   string // file of the bzImage, or of vmlinux if there is no bzImage
}

// Files of a build tree, from Documentation/kbuild/kbuild.rst and the Makefiles.
const (
	bzImage     = "arch/x86/boot/bzImage"
	vmlinux     = "vmlinux"
	releaseFile = "include/config/kernel.release"
	configFile  = "include/config/auto.conf" // what .config was when the tree was built
	moduleList  = "modules.order"
	builtinList = "modules.builtin"
)

// OpenTree finds the kernel in a build tree.
func OpenTree(dir string) (Tree, error) {
	t := Tree{Dir: dir}
	for _, image := range []string{bzImage, vmlinux} {
		if exists(t.path(image)) {
			t.Image = t.path(image)
			break
		}
	}
	if t.Image == "" {
		if exists(t.path(releaseFile)) || exists(t.path(".config")) || exists(t.path("Kconfig")) {
			return t, fmt.Errorf("%s has no kernel built: there is neither %s nor %s; run `make -C %s bzImage modules`", dir, bzImage, vmlinux, dir)
		}
		return t, fmt.Errorf("%s is not a kernel's build tree: there is no %s, %s, .config or Kconfig", dir, bzImage, vmlinux)
	}
	release, err := readText(t.path(releaseFile))
	if err != nil {
		return t, fmt.Errorf("%s: the build tree's release: %w", dir, err)
	}
	t.Release = strings.TrimSpace(release)
	return t, nil
}

// path is the path of a file in the tree.
func (t Tree) path(name string) string { return filepath.Join(t.Dir, name) }

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// Modules reads the lists of the tree's modules.
func (t Tree) Modules() (*Modules, error) {
	m := Modules{missing: t.missing}
	var err error
	// Without CONFIG_MODULES there are no modules to list.
	if m.files, err = readList(t.Dir, moduleList); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if m.builtin, err = readList(t.Dir, builtinList); err != nil {
		return nil, fmt.Errorf("%s: the list of what is built in: %w; run `make -C %s bzImage`", t.Dir, err, t.Dir)
	}
	return &m, nil
}

// missing returns the error for a module that the tree doesn't have. It depends on how
// the tree is configured.
func (t Tree) missing(name string) error {
	option := options[name]
	if option == "" {
		return fmt.Errorf("%s has no module %s: run `make -C %s modules`", t.Dir, name, t.Dir)
	}
	config, err := readText(t.path(configFile))
	if err != nil {
		return fmt.Errorf("%s has no driver %s, and its configuration can't be read: %w", t.Dir, name, err)
	}
	switch setting(config, option) {
	case "m":
		return fmt.Errorf("the driver %s isn't built in %s: run `make -C %s modules`", name, t.Dir, t.Dir)
	case "y":
		return fmt.Errorf("the driver %s isn't built in %s: run `make -C %s bzImage`", name, t.Dir, t.Dir)
	}
	return fmt.Errorf("the kernel in %s has no driver %s: set CONFIG_%s to y or m in its .config, and build it again", t.Dir, name, option)
}

// setting returns the value of an option in a configuration, "" for one that isn't set.
func setting(config, option string) string {
	for line := range strings.Lines(config) {
		if value, ok := strings.CutPrefix(line, "CONFIG_"+option+"="); ok {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// options are the names in Kconfig, without CONFIG_, of the modules that guests and the lab need.
var options = map[string]string{
	"fuse":           "FUSE_FS",
	"overlay":        "OVERLAY_FS",
	"kvm_amd":        "KVM_AMD",
	"kvm_intel":      "KVM_INTEL",
	"pvpanic_mmio":   "PVPANIC_MMIO",
	"virtio_blk":     "VIRTIO_BLK",
	"virtio_console": "VIRTIO_CONSOLE",
	"virtio_pci":     "VIRTIO_PCI",
	"virtio_rng":     "HW_RANDOM_VIRTIO",
	"virtiofs":       "VIRTIO_FS",
}
