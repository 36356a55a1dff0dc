package vmm

import (
	"errors"
	"fmt"
	"slices"

	"offmap/kvm"
	"offmap/memory"
)

// BreakpointKind says for what a Breakpoint stops the guest.
type BreakpointKind int

const (
	// Software is for an instruction, by INT3 in guest RAM. Where KVM hasn't that,
	// it takes a debug register.
	Software BreakpointKind = 1 + iota
	Hardware                // an instruction, by a debug register
	Write                   // a write, by a debug register
	Access                  // a read or a write, by a debug register
)

// Breakpoint stops the guest at an instruction, or after an access of Len bytes at
// Addr. Addr is linear.
type Breakpoint struct {
	Kind BreakpointKind
	Addr uint64
	Len  int // Write, Access: 1, 2, 4 or 8, and Addr is a multiple of it
}

// dr7 returns the breakpoint's four bits of DR7, R/W and LEN (Intel SDM vol. 3
// §18.2.4).
func (b Breakpoint) dr7() uint64 {
	length := map[int]uint64{1: 0, 2: 1, 4: 3, 8: 2}[b.Len]
	switch b.Kind {
	case Write:
		return 1 | length<<2
	case Access:
		return 3 | length<<2
	}
	return 0
}

// patch is an INT3 in guest RAM.
type patch struct {
	linear uint64
	gpa    memory.GPA
	old    byte // what the guest has there
}

const (
	int3       = 0xcc
	maxPatches = 1024
)

// Registers returns a vCPU's registers.
func (d *Debugger) Registers(cpu int) (r kvm.Regs, s kvm.SRegs, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	c, err := d.stopped(cpu)
	if err != nil {
		return r, s, err
	}
	if r, err = c.Regs(); err == nil {
		s, err = c.SRegs()
	}
	return r, s, err
}

// SetRegisters writes a vCPU's general registers.
func (d *Debugger) SetRegisters(cpu int, r kvm.Regs) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	c, err := d.stopped(cpu)
	if err != nil {
		return err
	}
	return c.SetRegs(r)
}

// SetBases writes the bases of a vCPU's segments FS and GS. The other system registers
// can't be written: with some, KVM takes what it would not take from the guest, such
// as nested virtualization in EFER.
func (d *Debugger) SetBases(cpu int, fs, gs uint64) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	c, err := d.stopped(cpu)
	if err != nil {
		return err
	}
	s, err := c.SRegs()
	if err != nil {
		return err
	}
	s.FS.Base, s.GS.Base = fs, gs
	return c.SetSRegs(s)
}

// State returns a vCPU's multiprocessing state.
func (d *Debugger) State(cpu int) (kvm.MPState, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	c, err := d.stopped(cpu)
	if err != nil {
		return 0, err
	}
	return c.MPState()
}

// stopped returns a vCPU if all are held.
func (d *Debugger) stopped(cpu int) (*vcpu, error) {
	if d.running || d.closed {
		return nil, errRunning
	}
	if cpu < 0 || cpu >= len(d.m.cpus) {
		return nil, fmt.Errorf("there is no vCPU %d", cpu)
	}
	return d.m.cpus[cpu], nil
}

// ReadAt reads guest memory at a linear address, as the vCPU's page tables have it and
// without the debugger's breakpoints. It returns how many bytes it has read, and an
// error if these are fewer.
func (d *Debugger) ReadAt(cpu int, p []byte, addr uint64) (int, error) {
	return d.pages(cpu, p, addr, func(p []byte, gpa memory.GPA) error {
		if _, err := d.m.attach.Guest().ReadAt(p, gpa); err != nil {
			return err
		}
		for _, b := range d.software {
			// The guest may have written over it.
			if i, ok := within(b.gpa, gpa, len(p)); ok && p[i] == int3 {
				p[i] = b.old
			}
		}
		return nil
	})
}

// WriteAt writes guest memory, as ReadAt reads it. Breakpoints stay where they are.
func (d *Debugger) WriteAt(cpu int, p []byte, addr uint64) (int, error) {
	return d.pages(cpu, p, addr, func(p []byte, gpa memory.GPA) error {
		out := slices.Clone(p)
		for i := range d.software {
			if at, ok := within(d.software[i].gpa, gpa, len(p)); ok {
				d.software[i].old = p[at]
				out[at] = int3
			}
		}
		_, err := d.m.attach.Guest().WriteAt(out, gpa)
		clear(out)
		return err
	})
}

// within returns the index of gpa in n bytes at start.
func within(gpa, start memory.GPA, n int) (int, bool) {
	return int(gpa - start), gpa >= start && gpa-start < memory.GPA(n)
}

// pages calls access for each part of p that is in one page.
func (d *Debugger) pages(cpu int, p []byte, addr uint64, access func(p []byte, gpa memory.GPA) error) (n int, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	c, err := d.stopped(cpu)
	if err != nil {
		return 0, err
	}
	for n < len(p) {
		gpa, err := c.translate(addr)
		if err != nil {
			return n, err
		}
		part := p[n:min(len(p), n+int(memory.PageSize-addr%memory.PageSize))]
		if err := access(part, gpa); err != nil {
			return n, err
		}
		n += len(part)
		addr += uint64(len(part))
	}
	return n, nil
}

const (
	eferLMA = 1 << 10
	cr4LA57 = 1 << 12
)

// translate returns the guest-physical address of a linear one. KVM's walk ignores the
// highest bits of an address, where a processor wants copies of the one below.
func (c *vcpu) translate(addr uint64) (memory.GPA, error) {
	s, err := c.SRegs()
	if err != nil {
		return 0, err
	}
	shift := 47
	if s.CR4&cr4LA57 != 0 {
		shift = 56
	}
	if high := int64(addr) >> shift; s.EFER&eferLMA == 0 || high == 0 || high == -1 {
		gpa, ok, err := c.Translate(addr)
		if err != nil || ok {
			return memory.GPA(gpa), err
		}
	}
	return 0, fmt.Errorf("nothing is mapped at 0x%x", addr)
}

// Insert puts a breakpoint into the guest, unless it is there.
func (d *Debugger) Insert(cpu int, b Breakpoint) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	c, err := d.stopped(cpu)
	if err != nil {
		return err
	}
	if b.Kind == Software && d.int3 {
		return d.patch(c, b.Addr)
	}
	if b.Kind == Software || b.Kind == Hardware {
		b.Len = 1
	}
	switch b.Len {
	case 1, 2, 4, 8:
	default:
		return fmt.Errorf("a watchpoint of %d bytes: a debug register has 1, 2, 4 or 8", b.Len)
	}
	if b.Addr%uint64(b.Len) != 0 {
		return fmt.Errorf("a watchpoint of %d bytes at 0x%x, which is no multiple of that", b.Len, b.Addr)
	}
	if d.slot(b) >= 0 {
		return nil
	}
	free := slices.Index(d.hardware[:], Breakpoint{})
	if free < 0 {
		return fmt.Errorf("all %d debug registers are in use", len(d.hardware))
	}
	d.hardware[free] = b
	return nil
}

// slot returns the debug register of a breakpoint, or -1.
func (d *Debugger) slot(b Breakpoint) int { return slices.Index(d.hardware[:], b) }

// Remove removes a breakpoint, if it is there.
func (d *Debugger) Remove(b Breakpoint) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if _, err := d.stopped(0); err != nil {
		return err
	}
	if b.Kind == Software && d.int3 {
		i := slices.IndexFunc(d.software, func(p patch) bool { return p.linear == b.Addr })
		if i < 0 {
			return nil
		}
		p := d.software[i]
		d.software = slices.Delete(d.software, i, i+1)
		return d.restore(p)
	}
	if b.Kind == Software || b.Kind == Hardware {
		b.Len = 1
	}
	if i := d.slot(b); i >= 0 {
		d.hardware[i] = Breakpoint{}
	}
	return nil
}

// patch puts an INT3 at addr.
func (d *Debugger) patch(c *vcpu, addr uint64) error {
	if slices.ContainsFunc(d.software, func(p patch) bool { return p.linear == addr }) {
		return nil
	}
	if len(d.software) == maxPatches {
		return fmt.Errorf("there are %d software breakpoints already", maxPatches)
	}
	gpa, err := c.translate(addr)
	if err != nil {
		return err
	}
	p := patch{linear: addr, gpa: gpa}
	// Another address may lead to the same memory.
	if i := slices.IndexFunc(d.software, func(p patch) bool { return p.gpa == gpa }); i >= 0 {
		p.old = d.software[i].old
	} else {
		var b [1]byte
		if _, err := d.m.attach.Guest().ReadAt(b[:], gpa); err != nil {
			return err
		}
		p.old = b[0]
		if _, err := d.m.attach.Guest().WriteAt([]byte{int3}, gpa); err != nil {
			return err
		}
	}
	d.software = append(d.software, p)
	return nil
}

// restore gives the guest its byte back, unless it has written over the INT3.
func (d *Debugger) restore(p patch) error {
	if slices.ContainsFunc(d.software, func(o patch) bool { return o.gpa == p.gpa }) {
		return nil
	}
	var b [1]byte
	if _, err := d.m.attach.Guest().ReadAt(b[:], p.gpa); err != nil || b[0] != int3 {
		return err
	}
	_, err := d.m.attach.Guest().WriteAt([]byte{p.old}, p.gpa)
	return err
}

// clear removes all breakpoints.
func (d *Debugger) clear() error {
	var errs []error
	for len(d.software) > 0 {
		p := d.software[0]
		d.software = d.software[1:]
		errs = append(errs, d.restore(p))
	}
	d.hardware = [4]Breakpoint{}
	return errors.Join(errs...)
}

// patched reports whether an INT3 at a linear address is the debugger's. The vCPU may
// have come to it by another address than the breakpoint's.
func (d *Debugger) patched(c *vcpu, addr uint64) bool {
	if slices.ContainsFunc(d.software, func(p patch) bool { return p.linear == addr }) {
		return true
	}
	gpa, err := c.translate(addr)
	return err == nil && slices.ContainsFunc(d.software, func(p patch) bool { return p.gpa == gpa })
}
