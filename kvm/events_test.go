package kvm

import (
	"errors"
	"testing"

	"golang.org/x/sys/unix"
)

// irqVM makes a VM with one vCPU whose local APIC is enabled.
func irqVM(t *testing.T) (*VM, *VCPU) {
	sys, err := Open("")
	if err != nil {
		t.Skipf("SKIPPED: no usable /dev/kvm (%v); the lab has one", err)
	}
	t.Cleanup(func() { sys.Close() })
	vm, err := sys.CreateVM()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { vm.Close() })
	if err := vm.CreateIRQChip(); err != nil {
		t.Fatal(err)
	}
	c, err := vm.CreateVCPU(0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	l, err := c.LAPIC()
	if err != nil {
		t.Fatal(err)
	}
	const spurious, enabled = 0xf0, 0x1ff // Intel SDM vol. 3 §11.9
	l.state.regs[spurious], l.state.regs[spurious+1] = enabled&0xff, enabled>>8
	if err := ioctlStruct(c.fd.n, kvmSetLAPIC, &l.state); err != nil {
		t.Fatal(err)
	}
	return vm, c
}

// kvmSetLAPIC is a request of the tests only (api.rst 4.58).
const kvmSetLAPIC = 0x4400ae8f

// TestSignalMSI holds that a message arrives as its vector at its local APIC, and
// that one to an APIC that doesn't exist is no error.
func TestSignalMSI(t *testing.T) {
	vm, c := irqVM(t)
	const irr, vector = 0x200, 0x61
	for _, m := range []struct {
		addr uint64
		data uint32
		want uint32 // IRR of vectors 0x60 to 0x7f
	}{
		{0xfee07000, vector + 1, 0},       // APIC 7
		{0xfee00000, 0, 0},                // an illegal vector
		{0, vector + 2, 1 << 3},           // KVM takes any address for an APIC's
		{0xfee00000, vector, 1<<3 | 1<<1}, // APIC 0
	} {
		if err := vm.SignalMSI(m.addr, m.data); err != nil {
			t.Errorf("message 0x%x to 0x%x: %v", m.data, m.addr, err)
		}
		l, err := c.LAPIC()
		if err != nil {
			t.Fatal(err)
		}
		if got := l.Register(irr + 0x10*(vector/32)); got != m.want {
			t.Errorf("message 0x%x to 0x%x: IRR 0x%x, want 0x%x", m.data, m.addr, got, m.want)
		}
	}
	if err := (&VM{fd: fd{n: -1}}).SignalMSI(0xfee00000, vector); !errors.Is(err, unix.EBADF) {
		t.Errorf("on a bad descriptor: %v", err)
	}
	if n := testing.AllocsPerRun(100, func() { _ = vm.SignalMSI(0xfee00000, vector) }); n != 0 {
		t.Errorf("%v allocations a message", n)
	}
}

// TestIOEventFD holds that an address is taken once, and free again after the removal.
// Package vmm tests that a guest's write arrives.
func TestIOEventFD(t *testing.T) {
	vm, _ := irqVM(t)
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	const addr = 0xc0003000
	for range 2 {
		if err := vm.AddIOEventFD(addr, fd); err != nil {
			t.Fatal(err)
		}
		if err := vm.AddIOEventFD(addr, fd); !errors.Is(err, unix.EEXIST) {
			t.Errorf("added twice: %v", err)
		}
		if err := vm.RemoveIOEventFD(addr, fd); err != nil {
			t.Error(err)
		}
		if err := vm.RemoveIOEventFD(addr, fd); !errors.Is(err, unix.ENOENT) {
			t.Errorf("removed twice: %v", err)
		}
	}
}
