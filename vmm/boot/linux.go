package boot

import (
	"errors"
	"fmt"
	"io"

	"offmap/memory"
)

// LinuxConfig is what a Linux guest is booted from.
type LinuxConfig struct {
	Kernel  *io.SectionReader // bzImage or ELF64 vmlinux
	Initrd  *io.SectionReader // nil for none
	Cmdline string            // whole command line, see Cmdline
	CPUs    int               // 1 to MaxCPUs
}

// Linux puts a kernel, its initrd, command line, boot parameters, ACPI and MP
// tables, page tables and GDT into guest RAM and returns the state of the
// bootstrap processor at the kernel's 64-bit entry point
// (Documentation/arch/x86/boot.rst, "64-bit Boot Protocol"). The other
// processors wait for a start-up IPI, as KVM's do from the start.
//
// Images are streamed; no second copy of them is ever made.
func Linux(g memory.Guest, cfg LinuxConfig) (CPU, error) {
	if cfg.CPUs < 1 || cfg.CPUs > MaxCPUs {
		return CPU{}, fmt.Errorf("%d vCPUs: a guest has 1 to %d", cfg.CPUs, MaxCPUs)
	}
	if cfg.Kernel == nil {
		return CPU{}, errors.New("no kernel image")
	}
	return CPU{}, errors.New("not written yet")
}
