package gdb

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"testing"

	"offmap/kvm"
	"offmap/vmm"
)

// fake is a guest of two vCPUs with 64 KiB of memory, which stops as soon as it goes on.
type fake struct {
	regs   [2]kvm.Regs
	memory [1 << 16]byte
	stops  chan vmm.Stop
	ended  chan struct{}
	left   bool
	over   bool
	set    []vmm.Breakpoint
}

func newFake() *fake {
	return &fake{stops: make(chan vmm.Stop, 1), ended: make(chan struct{})}
}

func (f *fake) CPUs() int                          { return 2 }
func (f *fake) Attach()                            { f.stops <- vmm.Stop{} }
func (f *fake) Detach() error                      { f.left = true; return nil }
func (f *fake) Stops() <-chan vmm.Stop             { return f.stops }
func (f *fake) Ended() <-chan struct{}             { return f.ended }
func (f *fake) Outcome() vmm.Outcome               { return vmm.Outcome{Reason: vmm.PowerOff} }
func (f *fake) Interrupt()                         {}
func (f *fake) SetBases(int, uint64, uint64) error { return nil }
func (f *fake) State(int) (kvm.MPState, error)     { return kvm.MPHalted, nil }
func (f *fake) Kill() {
	if !f.over {
		f.over = true
		close(f.ended)
	}
}
func (f *fake) Resume(a []vmm.Action) error {
	_ = a[1]
	f.stops <- vmm.Stop{Reason: vmm.AtWatch, CPU: 1, At: vmm.Breakpoint{Kind: vmm.Access, Addr: 1}}
	return nil
}
func (f *fake) Registers(cpu int) (kvm.Regs, kvm.SRegs, error) {
	return f.regs[cpu], kvm.SRegs{}, nil
}
func (f *fake) SetRegisters(cpu int, r kvm.Regs) error { f.regs[cpu] = r; return nil }
func (f *fake) ReadAt(cpu int, p []byte, addr uint64) (int, error) {
	_ = f.regs[cpu]
	if addr >= uint64(len(f.memory)) {
		return 0, errors.New("nothing there")
	}
	return copy(p, f.memory[addr:]), nil
}
func (f *fake) WriteAt(cpu int, p []byte, addr uint64) (int, error) {
	_ = f.regs[cpu]
	if addr >= uint64(len(f.memory)) {
		return 0, errors.New("nothing there")
	}
	return copy(f.memory[addr:], p), nil
}
func (f *fake) Insert(cpu int, b vmm.Breakpoint) error {
	_ = f.regs[cpu]
	f.set = append(f.set, b)
	return nil
}
func (f *fake) Remove(vmm.Breakpoint) error { return nil }

// FuzzServe sends arbitrary bytes to a server. It must answer with whole packets, and
// leave the guest behind as it should: detached, unless it has ended.
func FuzzServe(f *testing.F) {
	for _, p := range []string{
		"?", "g", "G00", "p10", "P1=0000000000000000", "m0,10", "x0,10", "M0,1:00", "X0,1:a", "Z0,1000,1", "z4,8,8", "Hg2", "Hc-1", "T1", "c", "s",
		"vCont;c:1;s:2;c", "vCont?", "D", "k", "vKill;1", "qSupported:swbreak+", "QStartNoAckMode", "qXfer:features:read:target.xml:0,fff", "qXfer:features:read:target.xml:ffffffffffffffff,1",
		"qThreadExtraInfo,2", "qC", "qfThreadInfo",
	} {
		f.Add(appendPacket(nil, []byte(p)))
		f.Add(appendPacket(appendPacket(nil, []byte("?")), appendEscaped(nil, []byte(p))))
	}
	f.Add([]byte("\x03+-$}#7d"))
	f.Fuzz(func(t *testing.T, in []byte) {
		target := newFake()
		var out bytes.Buffer
		err := Serve(struct {
			io.Reader
			io.Writer
		}{bytes.NewReader(in), &out}, target)
		if !target.left && !target.over {
			t.Errorf("%v, and the guest isn't running", err)
		}
		r := bufio.NewReader(&out)
		for {
			m, err := read(r)
			if err == io.EOF {
				break
			}
			if err != nil || m.bad || m.interrupt {
				t.Fatalf("a reply is broken: %+v, %v", m, err)
			}
		}
	})
}

// FuzzPacket holds that every packet is read back as it was sent, and that reading
// takes no more memory than a packet may have.
func FuzzPacket(f *testing.F) {
	f.Add([]byte("m0,4"))
	f.Add([]byte("}#$*\x03"))
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := read(bufio.NewReader(bytes.NewReader(appendPacket(nil, appendEscaped(nil, data)))))
		if len(appendEscaped(nil, data)) > maxPacket {
			if err != errTooLong {
				t.Fatalf("%d bytes: %v", len(data), err)
			}
			return
		}
		if err != nil || m.bad || m.interrupt || !bytes.Equal(m.data, data) {
			t.Fatalf("%q: %+v, %v", data, m, err)
		}
		if m, err = read(bufio.NewReader(bytes.NewReader(data))); err == nil && len(m.data) > maxPacket {
			t.Fatalf("%d bytes of a packet", len(m.data))
		}
	})
}
