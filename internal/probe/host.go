// Package probe finds out what this host can do for a guest, by looking and
// by trying, never from version numbers.
package probe

import (
	"errors"
	"io/fs"
	"os"
	"runtime"
	"strings"

	"github.com/klauspost/cpuid/v2"
	"golang.org/x/sys/unix"
)

// Host says where a result was measured. It is part of every JSON document.
type Host struct {
	Kernel string `json:"kernel"` // uname -r
	// KVM is the flavour: svm, vmx, pvm (a software KVM that interprets
	// ring-0 guest code), unknown, or none.
	KVM string `json:"kvm"`
	// Accel is what runs a guest's instructions in the end: kvm on real
	// hardware, pvm, tcg where this host itself is emulated, or none.
	Accel string `json:"accel"`
	CPUs  int    `json:"cpus"`
	Model string `json:"model,omitempty"`
}

// ThisHost describes the host.
func ThisHost() Host {
	h := Host{KVM: flavour(), CPUs: runtime.NumCPU(), Model: cpuid.CPU.BrandName}
	var u unix.Utsname
	if unix.Uname(&u) == nil {
		h.Kernel = unix.ByteSliceToString(u.Release[:])
	}
	switch {
	case h.KVM == "none", h.KVM == "pvm":
		h.Accel = h.KVM
	case cpuid.CPU.HypervisorVendorID == cpuid.QEMU: // TCG's own signature
		h.Accel = "tcg"
	default:
		h.Accel = "kvm"
	}
	return h
}

// flavours maps KVM's vendor modules to the names of what they use. A module
// that is built in has a directory there too, as it has parameters.
var flavours = []struct{ module, name string }{
	{"kvm_amd", "svm"}, {"kvm_intel", "vmx"}, {"kvm_pvm", "pvm"},
}

func flavour() string {
	if unix.Access("/dev/kvm", unix.F_OK) != nil {
		return "none"
	}
	for _, f := range flavours {
		if _, err := os.Stat("/sys/module/" + f.module); err == nil {
			return f.name
		}
	}
	return "unknown"
}

// FixKVM says what to do where KVM can't be opened.
func FixKVM(err error) string {
	if errors.Is(err, fs.ErrPermission) {
		return "sudo usermod -aG kvm \"$USER\", then log in again"
	}
	info, err := os.ReadFile("/proc/cpuinfo")
	if err == nil && !strings.Contains(string(info), " svm") && !strings.Contains(string(info), " vmx") {
		return "this CPU shows neither SVM nor VMX: switch virtualization on in the firmware (in a VM: nested virtualization), or use `offmap lab`"
	}
	return "modprobe kvm_amd (or kvm_intel), or use `offmap lab`"
}
