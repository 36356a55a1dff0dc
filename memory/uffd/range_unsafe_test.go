package uffd

import (
	"errors"
	"os"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

const testPages = 8

// newRange registers a fresh memfd.
func newRange(t *testing.T) (r *Range, file int, mem unsafe.Pointer) {
	t.Helper()
	file, err := unix.MemfdCreate("uffd-test", unix.MFD_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Ftruncate(file, testPages*pageSize); err != nil {
		t.Fatal(err)
	}
	mem, err = unix.MmapPtr(file, 0, nil, testPages*pageSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		t.Fatal(err)
	}
	r, err = Open(uintptr(mem), testPages*pageSize)
	if errors.Is(err, ErrDenied) || errors.Is(err, ErrUnsupported) {
		t.Skipf("SKIPPED: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(r.Close(), r.Close(), unix.MunmapPtr(mem, testPages*pageSize), unix.Close(file)); err != nil {
			t.Error(err)
		}
	})
	return r, file, mem
}

// load reads the byte at off of mem, in a system call, as KVM does: Go code
// must not.
func load(mem unsafe.Pointer, off uint64) chan byte {
	got := make(chan byte, 1)
	go func() {
		r, w, err := os.Pipe()
		if err != nil {
			panic(err)
		}
		defer r.Close()
		defer w.Close()
		if n, _, errno := unix.Syscall(unix.SYS_WRITE, w.Fd(), uintptr(unsafe.Add(mem, off)), 1); n != 1 {
			panic(errno)
		}
		var b [1]byte
		r.Read(b[:])
		got <- b[0]
	}()
	return got
}

// fault waits for the next fault, which must be the only one.
func fault(t *testing.T, r *Range) uint64 {
	t.Helper()
	stop, err := unix.Eventfd(0, unix.EFD_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(stop)
	if stopped, err := r.Wait(stop); stopped || err != nil {
		t.Fatalf("Wait: %v, %v", stopped, err)
	}
	var f Faults
	if err := r.Read(&f); err != nil || f.Len() != 1 {
		t.Fatalf("Read: %d faults, %v", f.Len(), err)
	}
	off, ok := r.At(&f, 0)
	if !ok {
		t.Fatalf("not a fault in the range, 0x%x", off)
	}
	if err := r.Read(&f); err != nil || f.Len() != 0 {
		t.Fatalf("Read again: %d faults, %v", f.Len(), err)
	}
	return off
}

func TestMissing(t *testing.T) {
	r, _, mem := newRange(t)
	got := load(mem, 3*pageSize+100)
	if off := fault(t, r); off != 3*pageSize {
		t.Errorf("fault at 0x%x", off)
	}
	select {
	case <-got:
		t.Fatal("the thread went on without an answer")
	case <-time.After(20 * time.Millisecond):
	}
	if err := r.Zero(2*pageSize, 3*pageSize); err != nil {
		t.Fatal(err)
	}
	if b := <-got; b != 0 {
		t.Errorf("a page of zeros reads as %d", b)
	}
	<-load(mem, 2*pageSize) // mapped with it, without a fault
	if err := r.Zero(0, testPages*pageSize); err != nil {
		t.Errorf("Zero over pages that are there: %v", err)
	}
}

func TestMinor(t *testing.T) {
	r, file, mem := newRange(t)
	if _, err := unix.Pwrite(file, []byte{42}, 5*pageSize); err != nil {
		t.Fatal(err)
	}
	got := load(mem, 5*pageSize)
	if off := fault(t, r); off != 5*pageSize {
		t.Errorf("fault at 0x%x", off)
	}
	// A wake-up without a page is another fault.
	if err := r.Wake(5*pageSize, pageSize); err != nil {
		t.Fatal(err)
	}
	if off := fault(t, r); off != 5*pageSize {
		t.Errorf("second fault at 0x%x", off)
	}
	for range 2 { // the second time it is mapped already
		if err := r.Continue(5*pageSize, pageSize); err != nil {
			t.Fatal(err)
		}
	}
	if b := <-got; b != 42 {
		t.Errorf("read %d, the file has 42", b)
	}
	if err := r.Continue(6*pageSize, pageSize); !errors.Is(err, unix.EFAULT) {
		t.Errorf("Continue of a page that the file hasn't got: %v, want EFAULT", err)
	}
}

func TestStop(t *testing.T) {
	r, _, _ := newRange(t)
	stop, err := unix.Eventfd(1, unix.EFD_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(stop)
	if stopped, err := r.Wait(stop); !stopped || err != nil {
		t.Errorf("Wait: %v, %v", stopped, err)
	}
}

func TestProbe(t *testing.T) {
	if err := Probe(); err != nil && !errors.Is(err, ErrDenied) && !errors.Is(err, ErrUnsupported) {
		t.Errorf("%v", err)
	}
}

// TestNoAllocation: the way of a fault doesn't allocate.
func TestNoAllocation(t *testing.T) {
	r, _, _ := newRange(t)
	if err := r.Zero(0, pageSize); err != nil {
		t.Fatal(err)
	}
	var f Faults
	n := testing.AllocsPerRun(100, func() {
		if err := errors.Join(r.Read(&f), r.Continue(0, pageSize), r.Wake(0, pageSize)); err != nil {
			t.Fatal(err)
		}
	})
	if n != 0 {
		t.Errorf("%v allocations", n)
	}
}
