package attach

import (
	"testing"
	"unsafe"

	"offmap/kvm"
	"offmap/memory"
	"offmap/memory/memtest"
)

// newGuestMemfd makes RAM of memtest's layout for a VM that only it keeps.
func newGuestMemfd(t *testing.T) *memory.RAM {
	t.Helper()
	vm, err := openKVM(t).CreateVM()
	if err != nil {
		t.Fatal(err)
	}
	defer vm.Close()
	ram, err := NewRAM(vm, memory.GuestMemfd, memtest.Layout(t))
	memtest.NeedBackend(t, err)
	t.Cleanup(func() {
		if err := ram.Close(); err != nil {
			t.Error(err)
		}
	})
	return ram
}

// TestGuestMemfd has guest_memfd pass the conformance suite.
func TestGuestMemfd(t *testing.T) {
	ram := newGuestMemfd(t)
	memtest.Guest(t, ram, ram.Populated, memory.PageSize)

	// A slot of its mapping alone would work too: KVM would take the pages
	// with GUP, and not from the file.
	for i, s := range slotsOf(ram, ram.Pointer()) {
		if s.Flags != kvm.MemGuestMemfd || s.Memfd != ram.FD() || s.MemfdOffset != ram.Layout()[i].Offset {
			t.Errorf("slot %d isn't the file's: %+v", i, s)
		}
	}
}

// TestGuestMemfdGUP holds that GUP takes the pages of guest_memfd. Secret
// memory shows that it can be refused.
func TestGuestMemfdGUP(t *testing.T) {
	secret, err := memory.New(memory.Secret, memtest.Layout(t))
	memtest.NeedBackend(t, err)
	defer secret.Close()
	for _, r := range []*memory.RAM{newGuestMemfd(t), secret} {
		if _, err := r.WriteAt([]byte("x"), 0); err != nil {
			t.Fatal(err)
		}
		page := unsafe.Slice((*byte)(r.Pointer()), memory.PageSize)
		for name, gup := range map[string]func([]byte) error{
			"process_vm_readv": readRemote, "/proc/self/mem": readProcMem, "vmsplice": splice,
		} {
			if err := gup(page); (err == nil) != (r != secret) {
				t.Errorf("%s of %s memory: %v", name, r.Backend(), err)
			}
		}
	}
}
