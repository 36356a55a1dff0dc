package attach

import (
	"fmt"

	"offmap/internal/process/unavailable"
	"offmap/kvm"
	"offmap/memory"
)

// NewRAM is memory.New for RAM of a guest of vm. Only memory.GuestMemfd is tied to
// the VM, which makes its file.
func NewRAM(vm *kvm.VM, b memory.Backend, l memory.Layout) (*memory.RAM, error) {
	if b != memory.GuestMemfd {
		return memory.New(b, l)
	}
	return memory.NewFrom(b, l, func(size uint64) (int, error) { return guestMemfd(vm, size) })
}

var errGuestMemfd = unavailable.New(memory.ErrUnavailable.Error(), "Linux 6.18 (KVM_CAP_GUEST_MEMFD_FLAGS with MMAP and INIT_SHARED)")

// guestMemfd makes a guest_memfd that this process can map and the guest can use
// without converting it.
//
// It hides nothing. Its pages stay in the host's direct map, and GUP pins them as it
// does a memfd's, so that process_vm_readv, /proc/PID/mem and vmsplice read them
// (TestGuestMemfdGUP; Linux 6.18 and 7.3).
func guestMemfd(vm *kvm.VM, size uint64) (int, error) {
	const need = kvm.GuestMemfdMmap | kvm.GuestMemfdInitShared
	have, err := vm.GuestMemfdFlags()
	if err != nil {
		return -1, err
	}
	if have&need != need {
		return -1, fmt.Errorf("backend %s: %w: this KVM offers guest_memfd with flags %s, and needed are %s: it takes Linux 6.18 or newer with CONFIG_KVM_GUEST_MEMFD",
			memory.GuestMemfd, errGuestMemfd, have, need)
	}
	return vm.CreateGuestMemfd(size, need)
}

// CheckBackend makes RAM of size bytes, a multiple of the page size, in a backend and
// frees it again, without a guest. The error says what this host lacks for it. It
// clears the memory of memory.Reserved and touches no other.
func CheckBackend(sys *kvm.System, b memory.Backend, size uint64) error {
	return withRAM(sys, b, size, func(*VM) error { return nil })
}
