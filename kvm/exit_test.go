package kvm

import (
	"encoding/binary"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// runPage makes a vCPU whose run page says reason, with the given words in
// the union.
func runPage(reason Reason, set func(u []byte)) *VCPU {
	c := &VCPU{id: 3, run: make([]byte, 2*4096)}
	binary.LittleEndian.PutUint32(c.run[runExitReason:], uint32(reason))
	if set != nil {
		set(c.run[runUnion:])
	}
	return c
}

func TestDecode(t *testing.T) {
	le := binary.LittleEndian
	for _, tc := range []struct {
		name   string
		reason Reason
		set    func(u []byte)
		want   Exit
	}{
		{"outb", ExitIO, func(u []byte) {
			u[ioDirection], u[ioSize] = 1, 1
			le.PutUint16(u[ioPort:], 0x3f8)
			le.PutUint32(u[ioCount:], 1)
			le.PutUint64(u[ioDataOffset:], 4096)
		}, Exit{Reason: ExitIO, Addr: 0x3f8, Size: 1, Write: true, Data: []byte{0}}},
		{"rep insw", ExitIO, func(u []byte) {
			u[ioSize] = 2
			le.PutUint16(u[ioPort:], 0x1f0)
			le.PutUint32(u[ioCount:], 3)
			le.PutUint64(u[ioDataOffset:], 4096)
		}, Exit{Reason: ExitIO, Addr: 0x1f0, Size: 2, Data: make([]byte, 6)}},
		{"mmio write", ExitMMIO, func(u []byte) {
			le.PutUint64(u[mmioPhysAddr:], 0xfed00000)
			copy(u[mmioData:], "12345678")
			le.PutUint32(u[mmioLen:], 4)
			u[mmioIsWrite] = 1
		}, Exit{Reason: ExitMMIO, Addr: 0xfed00000, Size: 4, Write: true, Data: []byte("1234")}},
		{"memory fault", ExitMemoryFault, func(u []byte) {
			le.PutUint64(u[memoryFaultGPA:], 0x3000)
			le.PutUint64(u[memoryFaultSize:], 4096)
		}, Exit{Reason: ExitMemoryFault, Addr: 0x3000, Length: 4096}},
		{"fail entry", ExitFailEntry, func(u []byte) { le.PutUint64(u[failEntryReason:], 7) }, Exit{Reason: ExitFailEntry, Code: 7}},
		{"internal error", ExitInternalError, func(u []byte) { le.PutUint32(u[internalSuberror:], 1) }, Exit{Reason: ExitInternalError, Code: 1}},
		{"shutdown", ExitShutdown, nil, Exit{Reason: ExitShutdown}},
	} {
		c := runPage(tc.reason, tc.set)
		if diff := cmp.Diff(tc.want, *c.decode()); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tc.name, diff)
		}
	}
}

// TestRunError holds that the exit reason is believed with EFAULT only.
func TestRunError(t *testing.T) {
	c := runPage(ExitMemoryFault, func(u []byte) { binary.LittleEndian.PutUint64(u[memoryFaultGPA:], 0x5000) })
	var f *FaultError
	if err := c.runError(unix.EFAULT); !errors.As(err, &f) || !f.Known || f.GPA != 0x5000 || !errors.Is(err, unix.EFAULT) {
		t.Errorf("EFAULT with a memory fault: %v", err)
	}
	if err := c.runError(unix.ENOMEM); errors.As(err, &f) || !errors.Is(err, unix.ENOMEM) {
		t.Errorf("ENOMEM with a stale memory fault: %v", err)
	}
	if err := c.runError(unix.EINTR); err != unix.EINTR {
		t.Errorf("EINTR became %v", err)
	}
	if err := runPage(ExitUnknown, nil).runError(unix.EFAULT); !errors.As(err, &f) || f.Known {
		t.Errorf("EFAULT without a reason: %v", err)
	}
}

// TestDecodeAllocates holds that the exit path is free of allocations.
func TestDecodeAllocates(t *testing.T) {
	c := runPage(ExitIO, func(u []byte) {
		u[ioSize] = 1
		binary.LittleEndian.PutUint32(u[ioCount:], 1)
		binary.LittleEndian.PutUint64(u[ioDataOffset:], 4096)
	})
	if n := testing.AllocsPerRun(100, func() { c.decode() }); n != 0 {
		t.Errorf("%v allocations an exit", n)
	}
}
