package attach

import (
	"errors"
	"slices"
	"testing"

	"offmap/memory"
	"offmap/memory/memtest"
)

// oneRegion is RAM of 8 MiB.
func oneRegion(t *testing.T) memory.Layout {
	t.Helper()
	l, err := memory.LayoutOf(memory.Region{Size: 8 << 20})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// TestResidency has each backend tell where its pages are through each attach
// that works here, and its usage agree with that.
func TestResidency(t *testing.T) {
	sys := openKVM(t)
	for _, b := range memory.Backends() {
		for _, m := range []Method{Direct, ViaBridge, ViaWindow} {
			if (m == Direct) == (b == memory.Secret) {
				continue // direct is for the others, and nothing else is
			}
			t.Run(string(b)+"+"+string(m), func(t *testing.T) {
				memtest.HugePages(t, 8<<20)
				vm, err := sys.CreateVM()
				if err != nil {
					t.Fatal(err)
				}
				defer vm.Close()
				ram, err := NewRAM(vm, b, oneRegion(t))
				memtest.NeedBackend(t, err)
				defer ram.Close()
				a, err := Open(sys, ram, m, Options{CPUs: 1})
				if errors.Is(err, memory.ErrUnavailable) {
					t.Skipf("SKIPPED: %v", err)
				}
				if err != nil {
					t.Fatal(err)
				}
				defer a.Close()
				memtest.Residency(t, b, a.Guest(),
					func(pages []memory.PageState) error {
						got, err := a.Residency(pages)
						if err != nil {
							return err
						}
						want, err := a.Usage()
						if got != want {
							t.Errorf("usage by page %+v, as a whole %+v", got, want)
						}
						return err
					})
			})
		}
	}
}

// TestResidencyOfView touches pages through the bridge's view alone, as a guest
// does: the owner's mapping has none of them.
func TestResidencyOfView(t *testing.T) {
	needBridge(t)
	setMemlock(t, ^uint64(0))
	ram, err := memory.New(memory.Secret, oneRegion(t))
	memtest.NeedBackend(t, err)
	defer ram.Close()
	b, err := openBridge(ram)
	if err != nil {
		t.Fatal(err)
	}
	a := &Attachment{Method: ViaBridge, via: b}
	defer a.Close()
	guest := b.(bridge).view.bytes()
	want := make([]memory.PageState, len(guest)/page)
	got := make([]memory.PageState, len(want))
	for _, p := range []int{0, 2, 513, 514, 1000, len(want) - 1} {
		guest[p*page] = 1
		want[p] = memory.Hidden
		u, err := a.Residency(got)
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(got, want) {
			t.Errorf("after the touch of page %d: not the pages that were touched", p)
		}
		if whole, err := a.Usage(); err != nil || u != whole || u.Exposed != 0 {
			t.Errorf("usage by page %+v, as a whole %+v (%v)", u, whole, err)
		}
	}
}
