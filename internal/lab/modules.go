package lab

import (
	"slices"

	"offmap/internal/kernel"
	"offmap/internal/lab/debian"
)

// A Kernel is what a lab machine boots.
type Kernel struct {
	Name    string // in messages, such as a series of Debian's
	Release string // the output of uname -r in it
	Version string // the exact version of Debian's package; empty: it isn't Debian's
	Image   string // file of the bzImage
	Modules *kernel.Modules
}

// Stock is a kernel of Debian's.
func Stock(k debian.Kernel) (Kernel, error) {
	modules, err := k.Modules()
	return Kernel{Name: k.Series, Release: k.Release, Version: k.Version, Image: k.Image, Modules: modules}, err
}

// Built is the kernel of a build tree.
func Built(t kernel.Tree) (Kernel, error) {
	modules, err := t.Modules()
	return Kernel{Name: t.Dir, Release: t.Release, Image: t.Image, Modules: modules}, err
}

// The modules that the inside of a lab machine needs, with SVM and with VMX. Which of them
// are built in differs from kernel to kernel.
var (
	wantedSVM = []string{"virtio_pci", "virtio_console", "fuse", "kvm_amd"}
	wantedVMX = []string{"kvm_intel"}
)

// modules lists the files of the kernel's modules to load, in this order.
func (cfg *Config) modules() ([]string, error) {
	more := cfg.Modules
	if cfg.Swap > 0 {
		more = slices.Concat([]string{"virtio_blk"}, more)
	}
	if cfg.Bochs != "" {
		return cfg.Kernel.Modules.Files(slices.Concat(wantedVMX, more)...)
	}
	return cfg.Kernel.Modules.Files(slices.Concat(wantedSVM, more)...)
}
