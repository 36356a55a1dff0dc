package kvm

import (
	"testing"

	"golang.org/x/sys/unix"
)

func TestGuestMemfdFlagsString(t *testing.T) {
	for f, want := range map[GuestMemfdFlags]string{
		0: "none", 1: "MMAP", 3: "MMAP|INIT_SHARED", 7: "MMAP|INIT_SHARED|NO_DIRECT_MAP", 9: "MMAP|0x8",
	} {
		if got := f.String(); got != want {
			t.Errorf("%#x is %q, want %q", uint64(f), got, want)
		}
	}
}

// TestCreateGuestMemfd holds that the file is close-on-exec, which the kernel
// doesn't see to, and that a flag that KVM hasn't got is refused.
func TestCreateGuestMemfd(t *testing.T) {
	sys, err := Open("")
	if err != nil {
		t.Skipf("SKIPPED: no usable /dev/kvm (%v); the lab has one", err)
	}
	defer sys.Close()
	vm, err := sys.CreateVM()
	if err != nil {
		t.Fatal(err)
	}
	defer vm.Close()
	flags, err := vm.GuestMemfdFlags()
	if err != nil {
		t.Fatal(err)
	}
	if flags == 0 {
		t.Skip("SKIPPED: this KVM's guest_memfd can't be mapped (it needs Linux 6.18)")
	}
	fd, err := vm.CreateGuestMemfd(1<<20, flags)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if got, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err != nil || got&unix.FD_CLOEXEC == 0 {
		t.Errorf("descriptor flags %#x, %v: children would inherit guest RAM", got, err)
	}
	if flags&GuestMemfdNoDirectMap != 0 {
		t.Log("this kernel has NO_DIRECT_MAP")
		return
	}
	if fd, err := vm.CreateGuestMemfd(1<<20, flags|GuestMemfdNoDirectMap); err == nil {
		unix.Close(fd)
		t.Error("a flag that the capability lacks was taken")
	}
}
