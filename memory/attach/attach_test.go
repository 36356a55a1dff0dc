package attach

import (
	"errors"
	"slices"
	"testing"

	"offmap/kvm"
	"offmap/memory"
	"offmap/memory/memtest"
)

// openKVM opens /dev/kvm, or skips loudly: the lab runs these tests too.
func openKVM(t *testing.T) *kvm.System {
	t.Helper()
	sys, err := kvm.Open("")
	if err != nil {
		t.Skipf("SKIPPED: no usable /dev/kvm (%v); the lab has one", err)
	}
	t.Cleanup(func() { sys.Close() })
	return sys
}

// TestProbeDirect runs a guest in each backend. All but secret memory must
// work, or the probe proves nothing of the refusal of secret memory.
func TestProbeDirect(t *testing.T) {
	sys := openKVM(t)
	for _, b := range memory.Backends() {
		t.Run(string(b), func(t *testing.T) {
			memtest.HugePages(t, 2<<20)
			leaks := memtest.Leaks(t)
			err := ProbeDirect(sys, b)
			leaks()
			if no, refused := errors.AsType[*refusal](err); refused && b == memory.Secret {
				t.Log(no)
				return
			}
			memtest.NeedBackend(t, err)
			if b == memory.Secret {
				t.Log("this kernel maps secret memory directly")
			}
		})
	}
}

// TestCheckBackend asks for more than any host has: each backend must refuse,
// and leave nothing behind.
func TestCheckBackend(t *testing.T) {
	sys := openKVM(t)
	for _, b := range memory.Backends() {
		leaks := memtest.Leaks(t)
		err := CheckBackend(sys, b, memory.MaxSize)
		if !errors.Is(err, memory.ErrUnavailable) && !errors.Is(err, memory.ErrTooLarge) {
			t.Errorf("%s: %v", b, err)
		}
		leaks()
		if err := CheckBackend(sys, b, memory.PageSize); err != nil {
			t.Logf("%s: %v", b, err)
		}
		leaks()
	}
}

// TestAuto holds that auto takes the strongest attach that works, says why not
// those before it, and never trades secret memory for anything else.
func TestAuto(t *testing.T) {
	sys := openKVM(t)
	layout, err := memory.NewLayout(memory.MinSize)
	if err != nil {
		t.Fatal(err)
	}
	ram, err := memory.New(memory.Secret, layout)
	if err != nil {
		t.Skipf("SKIPPED: %v", err)
	}
	defer ram.Close()
	order := []Method{Direct, ViaBridge, ViaWindow}
	works := map[Method]bool{}
	for _, m := range order {
		a, err := Open(sys, ram, m, Options{})
		if err != nil && !errors.Is(err, memory.ErrUnavailable) {
			t.Errorf("%s: %v: not a refusal", m, err)
		}
		if works[m] = err == nil; works[m] {
			if err := a.Close(); err != nil {
				t.Error(err)
			}
		}
	}
	a, err := Open(sys, ram, Auto, Options{})
	if first := slices.IndexFunc(order, func(m Method) bool { return works[m] }); first < 0 {
		if !errors.Is(err, memory.ErrUnavailable) {
			t.Fatalf("Open = %v, %v; want ErrUnavailable", a, err)
		}
		return
	} else if err != nil || a.Method != order[first] || len(a.Rejected) != first {
		t.Fatalf("Open = %+v, %v; want %s", a, err, order[first])
	}
	defer a.Close()
	if u, err := a.Usage(); err != nil || u.Exposed != 0 {
		t.Errorf("%s of an untouched guest: %+v, %v", a.Method, u, err)
	}
}
