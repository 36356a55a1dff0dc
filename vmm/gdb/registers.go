package gdb

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"sync"

	"offmap/kvm"
)

// register is a register as GDB numbers it: by its place in registers.
type register struct {
	name    string
	bits    int
	kind    string // GDB's type
	feature string // where a feature begins: its name
	// get is nil for a register whose content isn't known here: those of the
	// x87, which GDB wants to see listed.
	get func(*kvm.Regs, *kvm.SRegs) *uint64
	// set says what may be written.
	set int
}

// Which registers a client may write. It must not get from KVM what the guest itself
// would not: system registers are for reading.
const (
	readOnly = iota
	general  // in kvm.Regs
	base     // of a segment
)

func gpr(name, kind string, get func(*kvm.Regs) *uint64) register {
	return register{name: name, bits: 64, kind: kind, set: general, get: func(r *kvm.Regs, _ *kvm.SRegs) *uint64 { return get(r) }}
}

func selector(name string, get func(*kvm.SRegs) *kvm.Segment) register {
	return register{name: name, bits: 32, kind: "int32", get: func(_ *kvm.Regs, s *kvm.SRegs) *uint64 {
		v := uint64(get(s).Selector)
		return &v
	}}
}

func system(name string, get func(*kvm.SRegs) *uint64) register {
	return register{name: name, bits: 64, kind: "int64", get: func(_ *kvm.Regs, s *kvm.SRegs) *uint64 { return get(s) }}
}

// registers returns all registers, in the order of GDB's own x86-64 targets.
var registers = sync.OnceValue(func() []register {
	list := []register{
		gpr("rax", "int64", func(r *kvm.Regs) *uint64 { return &r.RAX }),
		gpr("rbx", "int64", func(r *kvm.Regs) *uint64 { return &r.RBX }),
		gpr("rcx", "int64", func(r *kvm.Regs) *uint64 { return &r.RCX }),
		gpr("rdx", "int64", func(r *kvm.Regs) *uint64 { return &r.RDX }),
		gpr("rsi", "int64", func(r *kvm.Regs) *uint64 { return &r.RSI }),
		gpr("rdi", "int64", func(r *kvm.Regs) *uint64 { return &r.RDI }),
		gpr("rbp", "data_ptr", func(r *kvm.Regs) *uint64 { return &r.RBP }),
		gpr("rsp", "data_ptr", func(r *kvm.Regs) *uint64 { return &r.RSP }),
		gpr("r8", "int64", func(r *kvm.Regs) *uint64 { return &r.R8 }),
		gpr("r9", "int64", func(r *kvm.Regs) *uint64 { return &r.R9 }),
		gpr("r10", "int64", func(r *kvm.Regs) *uint64 { return &r.R10 }),
		gpr("r11", "int64", func(r *kvm.Regs) *uint64 { return &r.R11 }),
		gpr("r12", "int64", func(r *kvm.Regs) *uint64 { return &r.R12 }),
		gpr("r13", "int64", func(r *kvm.Regs) *uint64 { return &r.R13 }),
		gpr("r14", "int64", func(r *kvm.Regs) *uint64 { return &r.R14 }),
		gpr("r15", "int64", func(r *kvm.Regs) *uint64 { return &r.R15 }),
		gpr("rip", "code_ptr", func(r *kvm.Regs) *uint64 { return &r.RIP }),
		gpr("eflags", "eflags", func(r *kvm.Regs) *uint64 { return &r.RFLAGS }),
		selector("cs", func(s *kvm.SRegs) *kvm.Segment { return &s.CS }),
		selector("ss", func(s *kvm.SRegs) *kvm.Segment { return &s.SS }),
		selector("ds", func(s *kvm.SRegs) *kvm.Segment { return &s.DS }),
		selector("es", func(s *kvm.SRegs) *kvm.Segment { return &s.ES }),
		selector("fs", func(s *kvm.SRegs) *kvm.Segment { return &s.FS }),
		selector("gs", func(s *kvm.SRegs) *kvm.Segment { return &s.GS }),
	}
	list[0].feature = "org.gnu.gdb.i386.core"
	list[17].bits = 32
	for i := range 8 {
		list = append(list, register{name: fmt.Sprintf("st%d", i), bits: 80, kind: "i387_ext"})
	}
	for _, name := range []string{"fctrl", "fstat", "ftag", "fiseg", "fioff", "foseg", "fooff", "fop"} {
		list = append(list, register{name: name, bits: 32, kind: "int"})
	}
	fs := system("fs_base", func(s *kvm.SRegs) *uint64 { return &s.FS.Base })
	gs := system("gs_base", func(s *kvm.SRegs) *uint64 { return &s.GS.Base })
	fs.set, gs.set, fs.feature = base, base, "org.gnu.gdb.i386.segments"
	cr0 := system("cr0", func(s *kvm.SRegs) *uint64 { return &s.CR0 })
	cr0.feature = "offmap.system"
	return append(list, fs, gs, cr0,
		system("cr2", func(s *kvm.SRegs) *uint64 { return &s.CR2 }),
		system("cr3", func(s *kvm.SRegs) *uint64 { return &s.CR3 }),
		system("cr4", func(s *kvm.SRegs) *uint64 { return &s.CR4 }),
		system("efer", func(s *kvm.SRegs) *uint64 { return &s.EFER }),
	)
})

// flagNames are the bits of EFLAGS (Intel SDM vol. 1 §3.4.3).
var flagNames = []struct {
	name       string
	first, end int
}{
	{"CF", 0, 0}, {"PF", 2, 2}, {"AF", 4, 4}, {"ZF", 6, 6}, {"SF", 7, 7}, {"TF", 8, 8}, {"IF", 9, 9}, {"DF", 10, 10}, {"OF", 11, 11},
	{"NT", 14, 14}, {"RF", 16, 16}, {"VM", 17, 17}, {"AC", 18, 18}, {"VIF", 19, 19}, {"VIP", 20, 20}, {"ID", 21, 21},
}

// description returns the target description, target.xml: what registers there are (GDB
// manual, appendix G).
var description = sync.OnceValue(func() string {
	var b strings.Builder
	b.WriteString("<?xml version=\"1.0\"?>\n<!DOCTYPE target SYSTEM \"gdb-target.dtd\">\n<target version=\"1.0\">\n<architecture>i386:x86-64</architecture>\n")
	for i, r := range registers() {
		if r.feature != "" {
			if i > 0 {
				b.WriteString("</feature>\n")
			}
			fmt.Fprintf(&b, "<feature name=%q>\n", r.feature)
		}
		if i == 0 {
			b.WriteString("<flags id=\"eflags\" size=\"4\">\n")
			for _, f := range flagNames {
				fmt.Fprintf(&b, "<field name=%q start=\"%d\" end=\"%d\"/>\n", f.name, f.first, f.end)
			}
			b.WriteString("</flags>\n")
		}
		fmt.Fprintf(&b, "<reg name=%q bitsize=\"%d\" type=%q/>\n", r.name, r.bits, r.kind)
	}
	b.WriteString("</feature>\n</target>\n")
	return b.String()
})

// append appends the register's value in hex, in the guest's byte order, or x for what
// isn't known.
func (r register) append(p []byte, regs *kvm.Regs, sregs *kvm.SRegs) []byte {
	if r.get == nil {
		return append(p, strings.Repeat("x", r.bits/4)...)
	}
	b := binary.LittleEndian.AppendUint64(nil, *r.get(regs, sregs))
	return hex.AppendEncode(p, b[:r.bits/8])
}

var errReadOnly = errors.New("this register can't be written")

// change sets the register to the value at the start of text, and returns the rest of
// text, and which set of registers is to be written.
func (r register) change(text string, regs *kvm.Regs, sregs *kvm.SRegs) (rest string, set int, err error) {
	digits := r.bits / 4
	if len(text) < digits {
		return "", 0, errArgument
	}
	text, rest = text[:digits], text[digits:]
	if strings.Trim(text, "x") == "" {
		return rest, 0, nil // not to be changed
	}
	b, err := hex.DecodeString(text)
	if err != nil {
		return "", 0, errArgument
	}
	if r.get == nil {
		return "", 0, errReadOnly
	}
	v := binary.LittleEndian.Uint64(append(b, make([]byte, 8)...)[:8])
	to := r.get(regs, sregs)
	switch {
	case v == *to:
		return rest, 0, nil
	case r.set == readOnly:
		return "", 0, errReadOnly
	}
	*to = v
	return rest, r.set, nil
}
