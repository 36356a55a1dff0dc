package limits

import (
	"errors"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"offmap/internal/process/sandbox"
	"offmap/memory"
)

// The judgements that TestOrdinary can't show to go either way.

func TestJudgeDefault(t *testing.T) {
	for _, c := range []struct {
		err     error
		cmdline string
		holds   bool
		skipped bool
	}{
		{nil, "quiet\n", false, false},
		{memory.ErrSecretDisabled, "quiet\n", true, false},
		{memory.ErrSecretAbsent, "quiet\n", false, true},
		{nil, "secretmem.enable=1 quiet\n", false, true},
		{memory.ErrSecretDisabled, "secretmem.enable=0\n", false, true},
		{unix.EMFILE, "quiet\n", false, true},
		// refused by a container's profile, on a kernel that has it on
		{sandbox.Judge("memfd_secret", unix.ENOSYS), "quiet\n", false, true},
		{sandbox.Judge("memfd_secret", unix.EPERM), "quiet\n", false, true},
	} {
		o, err := judgeDefault(c.err, c.cmdline)
		if o.Holds != c.holds || errors.Is(err, ErrSkipped) != c.skipped {
			t.Errorf("%+v: %+v, %v", c, o, err)
		}
	}
}

func TestJudgeHibernation(t *testing.T) {
	const can, cannot = "[platform] shutdown", "[disabled]"
	for _, c := range []struct {
		states         [3]string
		holds, skipped bool
	}{
		{[3]string{can, cannot, can}, true, false},
		{[3]string{can, can, can}, false, false},
		{[3]string{can, cannot, cannot}, false, false},
		{[3]string{cannot, cannot, cannot}, false, true},
		{[3]string{}, false, true},
	} {
		o, err := judgeHibernation(c.states[0], c.states[1], c.states[2])
		if o.Holds != c.holds || errors.Is(err, ErrSkipped) != c.skipped {
			t.Errorf("%q: %+v, %v", c.states, o, err)
		}
	}
}

func TestTurned(t *testing.T) {
	o, err := turned(func(a *area) string {
		secret, err := newArea(memory.Secret, attemptSize)
		if err != nil {
			t.Skipf("SKIPPED: %v", err)
		}
		unix.Munmap(a.mem)
		a.mem, secret.mem = secret.mem, nil // as if the call had turned it
		secret.Close()
		return "magic"
	})
	if err != nil || o.Holds {
		t.Errorf("memory that was turned secret: %+v, %v", o, err)
	}
}

func TestOwnPages(t *testing.T) {
	whole, err := newPopulated(memory.Memfd, memory.PageSize)
	if err != nil {
		t.Fatal(err)
	}
	defer whole.Close()
	x := &area{backend: memory.Memfd, fd: -1, mem: whole.mem[:64]}
	y := &area{backend: memory.Memfd, fd: -1, mem: whole.mem[64:128]}
	if o, err := ownPages(x, y); err != nil || o.Holds {
		t.Errorf("two buffers in one page: %+v, %v", o, err)
	}
}

func TestPageout(t *testing.T) {
	a, _, err := reclaimable()
	if err != nil {
		t.Skipf("SKIPPED: %v", err)
	}
	defer a.Close()
	if o, err := checkPageout(a); err != nil || o.Holds {
		t.Errorf("memory that can be reclaimed: %+v, %v", o, err)
	}
}

func TestPool(t *testing.T) {
	frames := []uint64{512, 513, 1024}
	for _, c := range []struct {
		name  string
		flags map[uint64]uint64
		holds bool
		text  string
	}{
		{"a pool", nil, true, "3 pages in 2 of the host's blocks of 2 MiB, with 0 other pages in use, 0 of them slabs and page tables of the kernel's"},
		{"no pool", map[uint64]uint64{600: 1 << 12, 1025: frameSlab}, false, "3 pages in 2 of the host's blocks of 2 MiB, with 2 other pages in use, 1 of them slabs and page tables of the kernel's"},
	} {
		o, err := poolOf(frames, func(pfn uint64, n int) ([]uint64, error) {
			flags := make([]uint64, n)
			for i := range flags {
				at := pfn + uint64(i)
				flags[i] = frameBuddy
				if slices.Contains(frames, at) {
					flags[i] = 0
				}
				if f, ok := c.flags[at]; ok {
					flags[i] = f
				}
			}
			return flags, nil
		})
		if err != nil || o.Holds != c.holds || o.Text != c.text {
			t.Errorf("%s: %+v, %v", c.name, o, err)
		}
	}
}

func TestZones(t *testing.T) {
	zones := parseZones(`Node 0, zone    DMA32
  pages free     10
        spanned  1000
        present  900
  start_pfn:           4096
Node 0, zone   Normal
        spanned  4000
        present  3000
  start_pfn:           10000
Node 0, zone  Movable
        spanned  1000
        present  1000
  start_pfn:           12000
`)
	got := zonesOf([]uint64{4096, 5095, 5096, 10000, 12500}, zones)
	want := map[string]int{"DMA32": 2, "none": 1, "Normal": 1, "Movable": 1}
	if len(got) != len(want) {
		t.Errorf("got %v, want %v", got, want)
	}
	for name, n := range want {
		if got[name] != n {
			t.Errorf("got %v, want %v", got, want)
		}
	}
	if zones[2].present != 1000 {
		t.Errorf("zone %+v", zones[2])
	}
}
