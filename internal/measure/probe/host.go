// Package probe finds out what this host can do for a guest. It reads settings and
// runs small guests, and never decides by version numbers.
package probe

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"runtime"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"offmap/kvm"
)

// Host says where a result was measured. It is part of every JSON document.
type Host struct {
	Kernel string `json:"kernel"` // uname -r
	// KVM is the flavour: svm, vmx, pvm (a software KVM that interprets
	// ring-0 guest code), unknown, or none.
	KVM string `json:"kvm"`
	// Accel says what runs a guest's instructions: kvm on real hardware, pvm,
	// tcg if this host itself is emulated, or none.
	Accel string `json:"accel"`
	CPUs  int    `json:"cpus"`
	Model string `json:"model,omitempty"`
}

// ThisHost describes the host.
func ThisHost() Host {
	h := Host{KVM: "none", Kernel: release(), CPUs: runtime.NumCPU(), Model: brand()}
	if unix.Access(kvm.DefaultPath, unix.F_OK) == nil {
		h.KVM = files{os.DirFS("/")}.vendor()
	}
	switch {
	case h.KVM == "none", h.KVM == "pvm":
		h.Accel = h.KVM
	case emulated():
		h.Accel = "tcg"
	default:
		h.Accel = "kvm"
	}
	return h
}

// release returns the kernel's release, as uname -r prints it.
func release() string {
	var u unix.Utsname
	if unix.Uname(&u) != nil {
		return ""
	}
	return unix.ByteSliceToString(u.Release[:])
}

// emulated reports whether this machine's processor is QEMU's TCG, which says
// so by a hypervisor signature of its own.
func emulated() bool { return hypervisor() == "TCGTCGTCGTCG" }

// vendors maps KVM's vendor modules to the names of the extensions that they use. A
// built-in module has a directory in /sys/module too, since it has parameters.
var vendors = []struct{ module, name string }{
	{"kvm_amd", "svm"}, {"kvm_intel", "vmx"}, {"kvm_pvm", "pvm"},
}

func (f files) vendor() string {
	for _, v := range vendors {
		if _, err := fs.Stat(f, "sys/module/"+v.module); err == nil {
			return v.name
		}
	}
	return "unknown"
}

// FixKVM is a command for where KVM can't be opened.
func FixKVM(err error) string {
	if errors.Is(err, unix.EPERM) { // and not EACCES: see sandbox.Device
		return "docker run --device " + kvm.DefaultPath + " IMAGE # a container's; in a systemd service: DeviceAllow=" + kvm.DefaultPath + " rw"
	}
	if errors.Is(err, fs.ErrPermission) {
		return fixRights(kvm.DefaultPath)
	}
	info, err := os.ReadFile("/proc/cpuinfo")
	if err == nil && !strings.Contains(string(info), " svm") && !strings.Contains(string(info), " vmx") {
		return "offmap lab -- doctor # or switch virtualization on in the firmware (in a VM: nested virtualization): this CPU shows neither SVM nor VMX"
	}
	return "sudo modprobe kvm_amd || sudo modprobe kvm_intel # or use: offmap lab"
}

// fixRights is a command that lets this user open a device: to join the group that
// it belongs to, where there is one for the purpose, which root's is not.
func fixRights(device string) string {
	const member = `sudo usermod -aG %s "$USER" # and log in again`
	var st unix.Stat_t
	if err := unix.Stat(device, &st); err != nil {
		return fmt.Sprintf(member, "kvm")
	}
	group, err := user.LookupGroupId(strconv.Itoa(int(st.Gid)))
	if st.Mode&0o060 == 0o060 && st.Gid != 0 && err == nil {
		return fmt.Sprintf(member, group.Name)
	}
	return fmt.Sprintf(`sudo chown "$USER" %s # it is open to no group; until the next boot`, device)
}
