package pci

import (
	"slices"
	"testing"
)

// TestMSIX goes through what a driver does, in order.
func TestMSIX(t *testing.T) {
	m := newMachine(t)
	f, err := m.bus.Add(testConfig(t))
	if err != nil {
		t.Fatal(err)
	}
	const control = 0x52
	at := uint64(f.BAR())
	capability := m.capabilities(t, 1)[msixID][0]
	if got := m.config(1, capability, 4); got != 0x00020011 {
		t.Errorf("capability 0x%x: 3 vectors, and off", got)
	}
	table, pending := at+uint64(m.config(1, capability+4, 4)), at+uint64(m.config(1, capability+8, 4))
	if table != at+0x2000 || pending != table+3*entrySize {
		t.Errorf("table at 0x%x, pending bits at 0x%x, of a BAR at 0x%x", table, pending, at)
	}
	read := func(addr uint64) uint32 {
		p := make([]byte, 4)
		m.mem.Read(addr, p)
		return le.Uint32(p)
	}
	write := func(addr uint64, v uint32) { m.mem.Write(addr, le.AppendUint32(nil, v)) }
	expect := func(what string, bits uint32, sent ...message) {
		t.Helper()
		if !slices.Equal(m.sent, sent) {
			t.Errorf("%s: sent %x, want %x", what, m.sent, sent)
		}
		if got := read(pending); got != bits {
			t.Errorf("%s: pending 0x%x, want 0x%x", what, got, bits)
		}
		m.sent = nil
	}
	m.setConfig(1, regCommand, 2, commandMemory)
	for v := range uint64(3) {
		e := table + entrySize*v
		if got := read(e + entryControl); got != entryMasked {
			t.Errorf("vector %d starts with control 0x%x", v, got)
		}
		write(e, 0xfee01000)
		write(e+4, uint32(v))
		write(e+entryData, 0x4000+uint32(v))
		write(e+entryControl, 0xffffffff)
		if got := read(e + entryControl); got != entryMasked {
			t.Errorf("vector %d: control 0x%x after all ones", v, got)
		}
	}
	first, third := message{0xfee01000, 0x4000}, message{0x2fee01000, 0x4002}

	f.Signal(0)
	expect("MSI-X is off", 0)
	m.setConfig(1, control, 2, msixEnable|msixMask)
	f.Signal(2)
	f.Signal(2)
	f.Signal(0)
	f.Signal(3)
	f.Signal(-1)
	expect("all is masked", 5)
	write(table+entryControl, 0)
	expect("the function is masked", 5)
	m.setConfig(1, control, 2, msixEnable)
	expect("no bus master", 5)
	m.setConfig(1, regCommand, 2, commandMemory|commandMaster)
	expect("vector 0 may go", 4, first)
	write(pending, 0)
	write(pending+4, 0)
	expect("pending bits can't be written", 4)
	m.mem.Write(table+2*entrySize+entryControl, []byte{0})
	expect("vector 2 may go, by a write of one byte", 0, third)
	f.Signal(0)
	f.Signal(2)
	expect("none is masked", 0, first, third)
	write(table+entryControl, 1)
	f.Signal(0)
	m.setConfig(1, control, 2, 0)
	m.setConfig(1, control, 2, msixEnable)
	write(table+entryControl, 0)
	expect("what was pending when MSI-X was turned off is lost", 0)
}

// TestInterrupts holds what the machine asks before it takes a halted guest for dead.
func TestInterrupts(t *testing.T) {
	m := newMachine(t)
	f, err := m.bus.Add(testConfig(t))
	if err != nil {
		t.Fatal(err)
	}
	check := func(what string, maskable, other bool) {
		t.Helper()
		if a, b := m.bus.Interrupts(); a != maskable || b != other {
			t.Errorf("%s: %t %t, want %t %t", what, a, b, maskable, other)
		}
	}
	check("after a reset", false, false)
	m.setConfig(1, regCommand, 2, commandMemory|commandMaster)
	m.setConfig(1, 0x52, 2, msixEnable)
	check("vectors are masked", false, false)
	entry := func(v int, data uint32) {
		b := le.AppendUint32(le.AppendUint64(nil, 0xfee00000), data)
		m.mem.Write(uint64(f.BAR())+0x2000+uint64(v)*entrySize, le.AppendUint32(b, 0))
	}
	entry(0, 0x41)
	check("fixed", true, false)
	entry(1, 4<<8)
	check("an NMI too", true, true)
	entry(0, 3<<8)
	check("reserved", false, true)
	entry(1, 1<<8)
	entry(0, 7<<8)
	check("lowest priority, ExtINT", true, false)
	m.setConfig(1, 0x52, 2, msixEnable|msixMask)
	check("the function is masked", false, false)
}
