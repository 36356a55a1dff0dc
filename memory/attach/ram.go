package attach

import (
	"fmt"

	"offmap/internal/process/unavailable"
	"offmap/kvm"
	"offmap/memory"
)

// NewRAM is memory.New of RAM that a guest of vm is going to have. Only
// memory.GuestMemfd is tied to the VM: its file is the VM's own.
func NewRAM(vm *kvm.VM, b memory.Backend, l memory.Layout) (*memory.RAM, error) {
	if b != memory.GuestMemfd {
		return memory.New(b, l)
	}
	return memory.NewFrom(b, l, func(size uint64) (int, error) { return guestMemfd(vm, size) })
}

var errGuestMemfd = unavailable.New(memory.ErrUnavailable.Error(), "Linux 6.18 (KVM_CAP_GUEST_MEMFD_FLAGS with MMAP and INIT_SHARED)")

// guestMemfd makes a guest_memfd that this process can map and the guest can
// use as it comes.
//
// It hides nothing. Its pages stay in the host's direct map, and GUP takes them
// from the mapping as it does those of a memfd: process_vm_readv, /proc/PID/mem
// and vmsplice get at them (TestGuestMemfdGUP; Linux 6.18 and 7.3).
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

// CheckBackend makes RAM of size bytes, whole pages, in a backend and frees it
// again without a guest: the error says what this host lacks for it. Memory of
// memory.Reserved is cleared by that, and no other is touched.
func CheckBackend(sys *kvm.System, b memory.Backend, size uint64) error {
	return withRAM(sys, b, size, func(*VM) error { return nil })
}
