package vmm

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"offmap/kvm"
	"offmap/memory"
	"offmap/vmm/boot"
	"offmap/vmm/serial"
)

// forever's answers, one difference at a time from a guest that sleeps for good.
func TestForever(t *testing.T) {
	off := sleeper{state: kvm.MPHalted}
	on := sleeper{state: kvm.MPHalted, interrupts: true}
	sipi := sleeper{state: kvm.MPUninitialized}
	with := func(s sleeper, set func(*sleeper)) sleeper { set(&s); return s }
	open := func(irq int, entry uint64) sources {
		s := sources{pit: irq == pitIRQ, serial: irq == serial.COM1IRQ, picMask: 0xff}
		for i := range s.ioapic {
			s.ioapic[i] = entryMasked
		}
		s.ioapic[irq] = entry
		return s
	}
	closed := open(1, entryMasked)
	pic := closed
	pic.pit, pic.picMask = true, 0xfe
	const (
		never  = ""
		masked = "interrupts off"
		unset  = "no timer"
	)
	for _, c := range []struct {
		name string
		cpus []sleeper
		s    sources
		want string
	}{
		{"interrupts off", []sleeper{off, off}, closed, masked},
		{"the others never started", []sleeper{off, sipi, {state: kvm.MPInitReceived}}, closed, masked},
		{"all wait for a SIPI", []sleeper{sipi}, closed, masked},
		{"one runs", []sleeper{off, {state: kvm.MPRunnable}}, closed, never},
		{"an NMI is pending", []sleeper{off, with(off, func(s *sleeper) { s.coming = true })}, closed, never},
		{"a timer is set, interrupts off", []sleeper{with(off, func(s *sleeper) { s.timer = true })}, closed, masked},
		{"the PIC could raise an NMI", []sleeper{with(off, func(s *sleeper) { s.nmi = true })}, closed, never},
		{"interrupts on, no source", []sleeper{on, off}, closed, unset},
		{"a timer is set", []sleeper{off, with(on, func(s *sleeper) { s.timer = true })}, closed, never},
		{"serial port, I/O APIC", []sleeper{on}, open(4, 0x34), never},
		{"serial port, I/O APIC, interrupts off", []sleeper{off}, open(4, 0x34), masked},
		{"serial port, I/O APIC, as an NMI", []sleeper{off}, open(4, 4<<8), never},
		{"serial port, masked", []sleeper{on}, open(4, entryMasked|0x34), unset},
		{"PIT, I/O APIC", []sleeper{on}, open(0, 1<<8|0x30), never},
		{"PIT, PIC", []sleeper{with(on, func(s *sleeper) { s.lint0 = true })}, pic, never},
		{"a PCI device", []sleeper{off, on}, sources{msi: true}, never},
		{"a PCI device, interrupts off", []sleeper{off}, sources{msi: true, ioapic: closed.ioapic}, masked},
		{"a PCI device, as an NMI", []sleeper{off}, sources{msiNMI: true}, never},
		{"PIT, PIC, not wired", []sleeper{on}, pic, unset},
		{"PIT, PIC, interrupts off", []sleeper{with(off, func(s *sleeper) { s.lint0 = true })}, pic, masked},
	} {
		why, ok := forever(c.cpus, c.s)
		if ok != (c.want != never) || !strings.Contains(why, c.want) {
			t.Errorf("%s: %q, %v; want %q", c.name, why, ok, c.want)
		}
	}
}

// Pieces of guest code, for CPL 0.
var (
	codeHalt   = []byte{0xfa, 0xf4, 0xeb, 0xfd}       // cli; 1: hlt; jmp 1b
	codeIdle   = []byte{0xfb, 0xf4, 0xeb, 0xfd}       // sti; 1: hlt; jmp 1b
	codeSpin   = []byte{0xf3, 0x90, 0xeb, 0xfc}       // 1: pause; jmp 1b
	codeMasked = []byte{0xb0, 0xff, 0xe6, 0x21}       // mov al, 0xff; out 0x21, al: the PIC
	codeListen = []byte{0xb0, 0x01, 0x66, 0xba, 0xf9, // mov al, 1
		0x03, 0xee} // mov dx, COM1 + 1; out dx, al
	codePIC4   = []byte{0xb0, 0xef, 0xe6, 0x21} // mov al, ~(1 << 4); out 0x21, al
	codeX2APIC = concat(
		[]byte{0xb9, 0x1b, 0, 0, 0, 0x0f, 0x32, 0x0d, 0, 0x0c, 0, 0, 0x0f, 0x30}, // IA32_APIC_BASE |= 0xc00
	)
	codeDeadline = concat(codeX2APIC,
		wrmsr(0x80f, 0x1ff),   // enabled, spurious vector 0xff
		wrmsr(0x832, 0x40040), // LVT timer: TSC deadline, vector 0x40
		[]byte{0x0f, 0x31, 0x83, 0xc2, 0x40, 0xb9, 0xe0, 0x06, 0, 0, 0x0f, 0x30}) // rdtsc; edx += 64: in a minute or so; IA32_TSC_DEADLINE
	codeSMI = concat(codeX2APIC, wrmsr(0x830, 0x4200)) // ICR: an SMI to itself
)

func concat(parts ...[]byte) []byte { return bytes.Join(parts, nil) }

func wrmsr(index uint32, v uint64) []byte {
	b := []byte{0xb9}
	for _, v := range []uint32{index, uint32(v), uint32(v >> 32)} {
		for i := range 4 {
			b = append(b, byte(v>>(8*i)))
		}
		switch len(b) {
		case 5:
			b = append(b, 0xb8) // mov eax
		case 10:
			b = append(b, 0xba) // mov edx
		}
	}
	return append(b, 0x0f, 0x30)
}

// says is code that sends text to the console.
func says(text string) (b []byte) {
	b = []byte{0x66, 0xba, 0xf8, 0x03} // mov dx, COM1
	for _, c := range []byte(text) {
		b = append(b, 0xb0, c, 0xee) // mov al, c; out dx, al
	}
	return b
}

// rawConfig is a machine of which each vCPU that there is code for runs it at
// CPL 0; the others wait for a SIPI.
func rawConfig(t *testing.T, cpus int, code ...[]byte) Config {
	cfg := payloadConfig(t, "hello", cpus, 32<<20)
	cfg.Guest = func(ram memory.Guest, _, _ int) ([]boot.CPU, error) {
		image := make([]byte, len(code)*4096)
		for i, c := range code {
			copy(image[i*4096:], c)
		}
		states, err := boot.Payload(ram, image, boot.PayloadConfig{CPUs: len(code), Ring: 0})
		for i := range states {
			states[i].RIP += uint64(i) * 4096
		}
		return states, err
	}
	return cfg
}

// A guest that nothing can wake is ended.
func TestHaltedForGood(t *testing.T) {
	needKVM(t)
	for _, c := range []struct {
		name   string
		cpus   int
		code   [][]byte
		reason Reason
		detail string
	}{
		{"interrupts off", 1, [][]byte{codeHalt}, Crash, "interrupts off"},
		{"two vCPUs", 2, [][]byte{codeHalt, codeHalt}, Crash, "interrupts off"},
		{"the second never started", 2, [][]byte{codeHalt}, Crash, "interrupts off"},
		{"no source", 1, [][]byte{concat(codeMasked, codeIdle)}, Crash, "no timer"},
		{"a timer, interrupts off", 1, [][]byte{concat(codeDeadline, codeHalt)}, Crash, "interrupts off"},
		{"after a panic", 1, [][]byte{concat(says("\n---[ end Kernel panic - not syncing: of old age\n"), codeHalt)}, Panic, "of old age"},
		{"in an orderly way", 1, [][]byte{concat(says("[   1.000000] reboot: System halted\n"), codeHalt)}, Halt, ""},
		{"power-off that isn't there", 1, [][]byte{concat(says("reboot: Power off not available: System halted instead\n"), codeHalt)}, Halt, ""},
		{"in the decompressor", 1, [][]byte{concat(says("\n\n -- System halted\n"), codeHalt)}, Crash, "interrupts off"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
			defer cancel()
			r, out, err := run(ctx, t, rawConfig(t, c.cpus, c.code...))
			if err != nil || r.Outcome.Reason != c.reason || !strings.Contains(r.Outcome.Detail, c.detail) {
				t.Errorf("%+v, %v\n%s", r.Outcome, err, out)
			}
		})
	}
}

// A guest that something can wake is left alone.
func TestIdle(t *testing.T) {
	needKVM(t)
	for _, c := range []struct {
		name string
		cpus int
		code [][]byte
	}{
		{"one vCPU runs", 2, [][]byte{codeHalt, codeSpin}},
		{"a timer", 1, [][]byte{concat(codeMasked, codeDeadline, codeIdle)}},
		{"a timer of the second's", 2, [][]byte{codeHalt, concat(codeMasked, codeDeadline, codeIdle)}},
		{"the serial port", 1, [][]byte{concat(codePIC4, codeListen, codeIdle)}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel() // each takes as long as a sleeping guest is given
			done := errors.New("still there")
			ctx, cancel := context.WithTimeoutCause(t.Context(), 8*watchEvery, done)
			defer cancel()
			if r, out, err := run(ctx, t, rawConfig(t, c.cpus, c.code...)); !errors.Is(err, done) || r.Outcome.Reason != Stopped {
				t.Errorf("%+v, %v\n%s", r.Outcome, err, out)
			}
		})
	}
}

// A guest that has panicked and runs on is told of, and counts as panicked when
// it is stopped.
func TestPanicked(t *testing.T) {
	needKVM(t)
	cfg := rawConfig(t, 1, concat(says("---[ end Kernel panic - not syncing: of old age ]---\n"), codeSpin))
	warned := make(chan error, 1)
	cfg.Warn = func(err error) { warned <- err }
	m, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	go func() {
		if err := <-warned; !strings.Contains(err.Error(), "of old age") {
			t.Errorf("warned of %v", err)
		}
		m.Stop()
	}()
	if r, err := m.Run(t.Context()); err != nil || r.Outcome.Reason != Panic || !strings.Contains(r.Outcome.Detail, "of old age") {
		t.Errorf("%+v, %v", r.Outcome, err)
	}
}

// Of a triple fault the RIP is told where KVM still has it, and not the one of
// its own reset of the vCPU.
func TestTripleFault(t *testing.T) {
	needKVM(t)
	for _, c := range []struct {
		code   []byte
		reason Reason
		detail string
	}{
		{[]byte{0x0f, 0x0b}, Crash, "triple fault of vCPU 0"}, // ud2, without an IDT
		{concat(says("reboot: Restarting system\n"), []byte{0x0f, 0x0b}), Reset, ""},
		{concat(says("Kernel panic - not syncing: of old age\n"), []byte{0x0f, 0x0b}), Panic, "of old age"},
	} {
		r, out, err := run(t.Context(), t, rawConfig(t, 1, c.code))
		if err != nil || r.Outcome.Reason != c.reason || !strings.Contains(r.Outcome.Detail, c.detail) || strings.Contains(r.Outcome.Detail, "0xfff0") {
			t.Errorf("%+v, %v\n%s", r.Outcome, err, out)
		}
		t.Logf("%+v", r.Outcome)
	}
}

// A guest that sends itself an SMI makes some kernels declare the VM dead, and
// on others has the vCPU execute zeros in SMRAM. What ends then is the guest.
func TestSelfSMI(t *testing.T) {
	needKVM(t)
	ctx, cancel := context.WithTimeoutCause(t.Context(), 10*time.Second, context.DeadlineExceeded)
	defer cancel()
	r, out, err := run(ctx, t, rawConfig(t, 1, concat(codeSMI, codeHalt)))
	t.Logf("%+v, %v", r.Outcome, err)
	if err != nil || r.Outcome.Reason != Crash || r.Outcome.Detail == "" {
		t.Errorf("%+v, %v\n%s", r.Outcome, err, out)
	}
}
