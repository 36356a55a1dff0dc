package memory

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// makeRAM makes RAM of a backend or skips where the kernel hasn't got it.
func makeRAM(t *testing.T, b Backend, l Layout) *RAM {
	t.Helper()
	r, err := New(b, l)
	if errors.Is(err, ErrUnavailable) {
		t.Skipf("SKIPPED: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	return r
}

// splitLayout has a hole in it, and two regions that touch.
func splitLayout(t *testing.T) Layout {
	t.Helper()
	l, err := LayoutOf(Region{Start: 0, Size: 8 * PageSize},
		Region{Start: 0x100000, Size: 4 * PageSize}, Region{Start: 0x104000, Size: PageSize})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// TestNothingLeft makes and closes RAM, in success and in failure, and counts
// descriptors and mappings.
func TestNothingLeft(t *testing.T) {
	count := func() (fds, maps int) {
		entries, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		m, err := os.ReadFile("/proc/self/maps")
		if err != nil {
			t.Fatal(err)
		}
		return len(entries), bytes.Count(m, []byte("offmap-ram")) + bytes.Count(m, []byte("secretmem")) + bytes.Count(m, []byte("/dev/mem"))
	}
	l := splitLayout(t)
	if r, err := New(Memfd, l); err == nil { // and what the runtime opens for itself
		r.Close()
	}
	count()
	fds, maps := count()
	for range 20 {
		for _, b := range Backends() {
			if r, err := New(b, l); err == nil {
				r.Close()
			}
		}
		if _, err := New(Secret, Layout{{Size: 1 << 50}}); !errors.Is(err, ErrTooLarge) {
			t.Fatalf("New of 1 PiB = %v, want ErrTooLarge", err)
		}
	}
	if f, m := count(); f != fds || m != maps {
		t.Errorf("%d descriptors and %d mappings before, %d and %d after", fds, maps, f, m)
	}
}

// TestConcurrentAccess runs disjoint readers and writers under the race
// detector.
func TestConcurrentAccess(t *testing.T) {
	r := makeRAM(t, Memfd, splitLayout(t))
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			buf, got := make([]byte, 700), make([]byte, 700)
			for range 200 {
				for j := range buf {
					buf[j] = byte(rand.Uint32())
				}
				off := GPA(i * PageSize)
				r.WriteAt(buf, off)
				r.ReadAt(got, off)
				if !bytes.Equal(got, buf) {
					t.Error("lost update")
					return
				}
			}
		})
	}
	wg.Wait()
}

// TestPairIsOne holds that two bytes at an even address, such as a ring's index, are
// read and written at once.
func TestPairIsOne(t *testing.T) {
	r := makeRAM(t, Memfd, splitLayout(t))
	const gpa = 0x104000 + 62
	done := make(chan struct{})
	go func() {
		defer close(done)
		for range 500_000 {
			r.WriteAt([]byte{0xff, 0x00}, gpa)
			r.WriteAt([]byte{0x00, 0x01}, gpa)
		}
	}()
	var p [2]byte
	r.WriteAt([]byte{0xff, 0x00}, gpa)
	for {
		select {
		case <-done:
			return
		default:
		}
		if r.ReadAt(p[:], gpa); p != [2]byte{0xff, 0x00} && p != [2]byte{0x00, 0x01} {
			t.Fatalf("read % x, half of one value and half of another", p)
		}
	}
}

// TestFaultIsAnError takes the page away from under an access: the VMM must
// get an error where the kernel gives it a SIGBUS.
func TestFaultIsAnError(t *testing.T) {
	r := makeRAM(t, Memfd, splitLayout(t))
	if err := unix.Ftruncate(r.FD(), PageSize); err != nil {
		t.Fatal(err)
	}
	if _, err := r.WriteAt([]byte("x"), 2*PageSize); !errors.Is(err, unix.EFAULT) {
		t.Errorf("WriteAt to memory that is gone = %v, want EFAULT", err)
	}
	if _, err := r.WriteAt([]byte("x"), 0); err != nil {
		t.Errorf("WriteAt to memory that is there = %v", err)
	}
}

func ExampleNew() {
	layout, _ := NewLayout(64 << 20)
	ram, err := New(Memfd, layout)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer ram.Close()
	ram.WriteAt([]byte("hello"), 0x1000)
	populated, _ := ram.Populated()
	fmt.Println(populated)
	// Output: 4096
}
