package vmm

import (
	"runtime"
	"testing"

	"offmap/kvm"
	"offmap/memory/memtest"
	"offmap/vmm/boot"
)

// TestTurnAllocates holds that an exit and its answer allocate nothing, each
// kind in turn: port accesses and memory accesses that a device has, and that
// none has. Garbage for each exit would cost every guest.
func TestTurnAllocates(t *testing.T) {
	needKVM(t)
	for _, c := range []struct {
		name   string
		reason kvm.Reason
		code   []byte
	}{
		{"port write", kvm.ExitIO, []byte{0xe6, 0x80}},                          // out 0x80, al
		{"port read", kvm.ExitIO, []byte{0xe4, 0x80}},                           // in al, 0x80
		{"device read", kvm.ExitIO, []byte{0x66, 0xba, 0xfd, 0x03, 0xec}},       // mov dx, COM1's line status; in al, dx
		{"memory read", kvm.ExitMMIO, []byte{0xa0, 0, 0, 0x10, 2, 0, 0, 0, 0}},  // mov al, [33 MiB]
		{"memory write", kvm.ExitMMIO, []byte{0xa2, 0, 0, 0x10, 2, 0, 0, 0, 0}}, // mov [33 MiB], al
	} {
		t.Run(c.name, func(t *testing.T) {
			leaks := memtest.Leaks(t)
			defer leaks()
			code := append(c.code, 0xeb, byte(-len(c.code)-2)) // jmp to the start
			cfg := payloadConfig(t, "hello", 1, 33<<20)        // the page tables map 34 MiB
			cfg.Guest = boot.PayloadLoader(code, boot.PayloadConfig{Ring: 3})
			m, err := New(cfg)
			if err != nil {
				t.Fatal(err)
			}
			defer m.Close()
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
