package vmm

import (
	"runtime"
	"testing"

	"offmap/kvm"
	"offmap/memory/memtest"
	"offmap/vmm/boot"
	"offmap/vmm/pci"
)

// TestTurnAllocates holds that an exit and its answer allocate nothing, each
// kind in turn: port accesses and memory accesses that a device has, and that
// none has. Garbage for each exit would cost every guest.
func TestTurnAllocates(t *testing.T) {
	needKVM(t)
	for _, c := range []struct {
		name   string
		ring   byte // 0 for ports above those of payloads
		reason kvm.Reason
		code   []byte
	}{
		{"port write", 3, kvm.ExitIO, []byte{0xe6, 0x80}},                               // out 0x80, al
		{"port read", 3, kvm.ExitIO, []byte{0xe4, 0x80}},                                // in al, 0x80
		{"device read", 3, kvm.ExitIO, []byte{0x66, 0xba, 0xfd, 0x03, 0xec}},            // mov dx, COM1's line status; in al, dx
		{"PCI configuration", 0, kvm.ExitIO, []byte{0x66, 0xba, 0xfc, 0x0c, 0xed}},      // mov dx, 0xcfc; in eax, dx
		{"memory read", 3, kvm.ExitMMIO, []byte{0xa0, 0, 0, 0x10, 2, 0, 0, 0, 0}},       // mov al, [33 MiB]
		{"memory write", 3, kvm.ExitMMIO, []byte{0xa2, 0, 0, 0x10, 2, 0, 0, 0, 0}},      // mov [33 MiB], al
		{"register read", 3, kvm.ExitMMIO, []byte{0xa0, 0, 0x10, 0x10, 2, 0, 0, 0, 0}},  // mov al, [33 MiB + 4 KiB]
		{"register write", 3, kvm.ExitMMIO, []byte{0xa2, 0, 0x10, 0x10, 2, 0, 0, 0, 0}}, // mov [33 MiB + 4 KiB], al
	} {
		t.Run(c.name, func(t *testing.T) {
			leaks := memtest.Leaks(t)
			defer leaks()
			code := append(c.code, 0xeb, byte(-len(c.code)-2)) // jmp to the start
			cfg := payloadConfig(t, "hello", 1, 33<<20)        // the page tables map 34 MiB
			cfg.Guest = boot.PayloadLoader(code, boot.PayloadConfig{Ring: c.ring})
			m, err := New(cfg)
			if err != nil {
				t.Fatal(err)
			}
			defer m.Close()
			if err := m.mmio.Add("test", 33<<20+0x1000, 0x1000, &report{m}); err != nil {
				t.Fatal(err)
			}
			m.ports.Write(pci.ConfigPort, []byte{0, 0, 0, 0x80}) // the host bridge's first register
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			const runs = 500
			cpu, ended := m.cpus[0], 0
			n := testing.AllocsPerRun(runs, func() {
				if !cpu.turn() {
					ended++
				}
			})
			if n != 0 {
				t.Errorf("%v allocations an exit", n)
			}
			// A signal of the runtime's makes a turn without an exit.
			if got := cpu.exits[c.reason].Load(); ended != 0 || got < runs/2 {
				t.Errorf("%d exits of kind %s in %d turns; the guest ended: %t, %+v", got, c.reason, runs, ended != 0, m.outcome)
			}
		})
	}
}
