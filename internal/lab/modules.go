package lab

import "slices"

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
		return cfg.Kernel.Modules(slices.Concat(wantedVMX, more)...)
	}
	return cfg.Kernel.Modules(slices.Concat(wantedSVM, more)...)
}
