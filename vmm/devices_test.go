package vmm

import (
	"encoding/binary"
	"testing"

	"golang.org/x/sys/unix"

	"offmap/guest/protocol"
	"offmap/memory"
	"offmap/memory/memtest"
	"offmap/vmm/boot"
)

// TestKick holds that writes of any size to a watched address are counted by the
// eventfd and don't end KVM_RUN, until the watch is removed.
func TestKick(t *testing.T) {
	needKVM(t)
	defer memtest.Leaks(t)()
	const at memory.GPA = 33 << 20 // no RAM, but in the page tables
	store := func(op ...byte) []byte { return binary.LittleEndian.AppendUint64(op, uint64(at)) }
	code := store(0xa2)                       // mov [at], al
	code = append(code, store(0x66, 0xa3)...) // mov [at], ax
	code = append(code, store(0xa3)...)       // mov [at], eax
	code = append(code, store(0x48, 0xa3)...) // mov [at], rax
	code = append(code, 0x66, 0xba)           // mov dx, ExitPort
	code = append(code, protocol.ExitPort&0xff, protocol.ExitPort>>8)
	code = append(code, 0x30, 0xc0, 0xee) // xor al, al; out dx, al
	for _, removed := range []bool{false, true} {
		cfg := payloadConfig(t, "hello", 1, 33<<20)
		cfg.Guest = boot.PayloadLoader(code, boot.PayloadConfig{Ring: 3})
		m, err := New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		defer m.Close()
		fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(fd)
		remove, err := m.pci.VM().IOEventFD(at, fd)
		if err != nil {
			t.Fatal(err)
		}
		wantKicks, wantExits := uint64(4), uint64(0)
		if removed {
			if err := remove(); err != nil {
				t.Fatal(err)
			}
			wantKicks, wantExits = 0, 4
		}
		r, err := m.Run(t.Context())
		if err != nil || r.Outcome.Reason != PowerOff {
			t.Fatalf("%+v, %v", r, err)
		}
		var count [8]byte
		if _, err := unix.Read(fd, count[:]); err != nil && err != unix.EAGAIN {
			t.Fatal(err)
		}
		if kicks := binary.LittleEndian.Uint64(count[:]); kicks != wantKicks || r.Exits["mmio"] != wantExits {
			t.Errorf("removed %t: %d kicks, %d exits", removed, kicks, r.Exits["mmio"])
		}
	}
}
