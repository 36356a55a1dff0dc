package pci

import (
	"encoding/binary"

	"offmap/memory"
)

// MSI-X, PCI 3.0 §6.8.2.
const (
	// MaxVectors is the most vectors that a function can have.
	MaxVectors = 2048

	msixID     = 0x11
	msixMask   = 1 << 14 // message control: all vectors are masked
	msixEnable = 1 << 15

	entrySize      = 16 // bytes of the table for a vector
	entryAddress   = 0  // 64 bits
	entryData      = 8  // 32 bits
	entryControl   = 12 // 32 bits
	entryMasked    = 1 << 0
	dataMode       = 7 << 8 // delivery mode, Intel SDM vol. 3 §11.11.2
	dataModeFixed  = 0 << 8
	dataModeLowest = 1 << 8
	dataModeExtINT = 7 << 8
)

// msixOffsets returns where the table and the pending bits are in the BAR. The table
// has pages of its own (PCI 3.0 §6.8.2).
func (f *Function) msixOffsets() (table, pending uint64) {
	table = (f.cfg.BARSize + memory.PageSize - 1) &^ (memory.PageSize - 1)
	return table, table + uint64(f.cfg.Vectors)*entrySize
}

// msixBody makes the table, all vectors masked, and the capability that describes it.
func (f *Function) msixBody() []byte {
	f.table = make([]byte, f.cfg.Vectors*entrySize)
	for i := range f.cfg.Vectors {
		f.table[i*entrySize+entryControl] = entryMasked
	}
	f.pending = make([]byte, (f.cfg.Vectors+63)/64*8)
	table, pending := f.msixOffsets() // BAR 0: the low three bits
	b := binary.LittleEndian.AppendUint16(nil, uint16(f.cfg.Vectors-1))
	b = binary.LittleEndian.AppendUint32(b, uint32(table))
	return binary.LittleEndian.AppendUint32(b, uint32(pending))
}

// Signal sends the interrupt of a vector. While the guest has masked it, the
// interrupt is pending, and is sent when that ends. Without MSI-X there is no
// interrupt, and a vector that doesn't exist has none.
func (f *Function) Signal(vector int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if vector < 0 || vector >= f.cfg.Vectors || f.word(f.control)&msixEnable == 0 {
		return
	}
	f.pending[vector/8] |= 1 << (vector % 8)
	f.deliver(vector)
}

// deliver sends what is pending of a vector, unless something holds it back. The lock
// is held meanwhile: a guest that has masked a vector then gets no more of it.
func (f *Function) deliver(vector int) {
	if bit := byte(1 << (vector % 8)); f.pending[vector/8]&bit != 0 && !f.blocked(vector) {
		f.pending[vector/8] &^= bit
		e := f.table[vector*entrySize:]
		f.bus.vm.SignalMSI(binary.LittleEndian.Uint64(e[entryAddress:]), binary.LittleEndian.Uint32(e[entryData:]))
	}
}

// blocked reports whether the vector can't be sent now. A message is a write to
// memory, and so needs a bus master.
func (f *Function) blocked(vector int) bool {
	return f.word(f.control)&(msixEnable|msixMask) != msixEnable ||
		f.word(regCommand)&commandMaster == 0 ||
		f.table[vector*entrySize+entryControl]&entryMasked != 0
}

// setUpMSIX follows a change of configuration space. Interrupts of a driver that has
// turned MSI-X off are lost.
func (f *Function) setUpMSIX() {
	if f.control == 0 {
		return
	}
	if f.word(f.control)&msixEnable == 0 {
		clear(f.pending)
		return
	}
	for v := range f.cfg.Vectors {
		f.deliver(v)
	}
}

func (f *Function) interrupts() (maskable, other bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for v := range f.cfg.Vectors {
		if f.blocked(v) {
			continue
		}
		switch binary.LittleEndian.Uint32(f.table[v*entrySize+entryData:]) & dataMode {
		case dataModeFixed, dataModeLowest, dataModeExtINT:
			maskable = true
		default: // SMI, NMI, INIT, and what is reserved
			other = true
		}
	}
	return maskable, other
}

// tableAccess is the MSI-X table as registers.
type tableAccess struct{ f *Function }

// Read implements bus.Device.
func (t tableAccess) Read(off uint64, p []byte) {
	t.f.mu.Lock()
	defer t.f.mu.Unlock()
	copy(p, t.f.table[off:])
}

// Write implements bus.Device. Accesses of other sizes than 4 and 8 bytes are
// undefined; these change the bytes that they name.
func (t tableAccess) Write(off uint64, p []byte) {
	t.f.mu.Lock()
	defer t.f.mu.Unlock()
	copy(t.f.table[off:], p)
	for v := int(off / entrySize); v <= int((off+uint64(len(p))-1)/entrySize); v++ {
		c := t.f.table[v*entrySize+entryControl:][:4]
		binary.LittleEndian.PutUint32(c, binary.LittleEndian.Uint32(c)&entryMasked)
		t.f.deliver(v)
	}
}

// pendingAccess is the array of pending bits, which can only be read.
type pendingAccess struct{ f *Function }

// Read implements bus.Device.
func (d pendingAccess) Read(off uint64, p []byte) {
	d.f.mu.Lock()
	defer d.f.mu.Unlock()
	copy(p, d.f.pending[off:])
}

// Write implements bus.Device.
func (pendingAccess) Write(uint64, []byte) {}
