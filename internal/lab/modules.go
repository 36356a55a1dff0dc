package lab

import "slices"

// wanted are the modules that the inside of any lab machine needs. Which of
// them are built in differs from kernel to kernel.
var wanted = []string{"virtio_pci", "virtio_console", "fuse", "kvm_amd"}

// modules lists the files of the kernel's modules to load, in this order.
func (cfg *Config) modules() ([]string, error) {
	more := cfg.Modules
	if cfg.Swap > 0 {
		more = slices.Concat([]string{"virtio_blk"}, more)
	}
	return cfg.Kernel.Modules(slices.Concat(wanted, more)...)
}
