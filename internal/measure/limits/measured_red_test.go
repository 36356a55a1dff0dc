package limits

import (
	"context"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"offmap/audit/canary"
	"offmap/memory"
	"offmap/memory/attach"
	"offmap/memory/memtest"
	"offmap/vmm/boot"
)

// finds is a search that doesn't, and says what it has found of each canary.
func finds(pages ...int) scan {
	return func(_ context.Context, c []canary.Canary) ([]canary.Hits, error) {
		hits := make([]canary.Hits, len(c))
		for i := range hits {
			hits[i].Pages, hits[i].Total = pages[i], pages[i]
		}
		return hits, nil
	}
}

// TestMeasuredGoesRed hands the checks ordinary memory in place of secret
// memory, or a search that finds what it shouldn't.
func TestMeasuredGoesRed(t *testing.T) {
	for name, check := range map[string]func(context.Context) (Observation, error){
		"direct-map-fragmentation": func(ctx context.Context) (Observation, error) { return checkDirectMap(ctx, memory.Anon) },
		"first-touch":              func(ctx context.Context) (Observation, error) { return checkTouch(ctx, memory.Anon) },
		"tlb-flushes":              func(ctx context.Context) (Observation, error) { return checkFlushes(ctx, memory.Anon) },
		"paravirtual-pages": func(ctx context.Context) (Observation, error) {
			return checkParavirtual(ctx, memory.Memfd, attach.Direct)
		},
		"nested-guests":    func(ctx context.Context) (Observation, error) { return checkNested(ctx, memory.Memfd) },
		"dma":              func(ctx context.Context) (Observation, error) { return checkDMA(ctx, memory.Memfd) },
		"wiped-when-freed": func(ctx context.Context) (Observation, error) { return checkWipe(ctx, memory.Memfd, scanKcore) },
		"snapshot":         func(ctx context.Context) (Observation, error) { return checkSnapshot(ctx, memory.Memfd, scanKcore) },
		"registers": func(ctx context.Context) (Observation, error) {
			return checkRegisters(ctx, memory.Memfd, attach.Direct, scanKcore)
		},
		"io": func(ctx context.Context) (Observation, error) {
			return checkIO(ctx, memory.Memfd, attach.Direct, scanKcore)
		},
		"boot-files": func(ctx context.Context) (Observation, error) {
			return checkBootFiles(ctx, memory.Memfd, scanKcore)
		},
		"disk": func(ctx context.Context) (Observation, error) {
			return checkDisk(ctx, memory.Memfd, scanKcore)
		},
		"a page of the disk missed": func(ctx context.Context) (Observation, error) {
			return checkDisk(ctx, memory.Memfd, finds(diskPages-1, 0))
		},
		"a page of the disk twice": func(ctx context.Context) (Observation, error) {
			return checkDisk(ctx, memory.Memfd, finds(diskPages+1, 0))
		},
		"RAM found beside the disk": func(ctx context.Context) (Observation, error) {
			return checkDisk(ctx, memory.Memfd, finds(diskPages, 1))
		},
		"a page after exit": func(ctx context.Context) (Observation, error) {
			return checkWipe(ctx, memory.Memfd, finds(1, 9, 0, 9))
		},
		"a page after SIGKILL": func(ctx context.Context) (Observation, error) {
			return checkWipe(ctx, memory.Memfd, finds(0, 9, 1, 9))
		},
		"a page of the snapshot missed": func(ctx context.Context) (Observation, error) {
			return checkSnapshot(ctx, memory.Memfd, finds(snapshotPages-1, 0))
		},
		"a page that wasn't saved": func(ctx context.Context) (Observation, error) {
			return checkSnapshot(ctx, memory.Memfd, finds(snapshotPages, 1))
		},
		"registers not found": func(ctx context.Context) (Observation, error) {
			return checkRegisters(ctx, memory.Memfd, attach.Direct, finds(0, 0))
		},
		"RAM found": func(ctx context.Context) (Observation, error) {
			return checkRegisters(ctx, memory.Memfd, attach.Direct, finds(1, 1))
		},
		"what was read not found": func(ctx context.Context) (Observation, error) {
			return checkIO(ctx, memory.Memfd, attach.Direct, finds(0, 1, 0))
		},
		"RAM found beside what was read": func(ctx context.Context) (Observation, error) {
			return checkIO(ctx, memory.Memfd, attach.Direct, finds(1, 1, 1))
		},
		"a page of the initrd missed": func(ctx context.Context) (Observation, error) {
			return checkBootFiles(ctx, memory.Memfd, finds(bootFilePages-1, 0))
		},
		"RAM found beside the initrd": func(ctx context.Context) (Observation, error) {
			return checkBootFiles(ctx, memory.Memfd, finds(bootFilePages, 1))
		},
	} {
		t.Run(name, func(t *testing.T) {
			o, err := check(t.Context())
			// Other tests on this host, and other programs, split the direct map too.
			for try := 1; o.Holds && name == "direct-map-fragmentation" && try < 10; try++ {
				t.Log(o.Text)
				o, err = check(t.Context())
			}
			switch {
			case errors.Is(err, ErrSkipped):
				t.Skipf("SKIPPED: %v", err)
			case err != nil:
				t.Error(err)
			case o.Holds:
				t.Errorf("holds: %s", o.Text)
			default:
				t.Log(o.Text)
			}
		})
	}
}

// TestBlindSearch holds that a search that doesn't find ordinary memory proves
// nothing.
func TestBlindSearch(t *testing.T) {
	for _, search := range []scan{finds(0, 0, 0, 0), finds(0, 9, 0, 0), finds(0, 0, 0, 9)} {
		if o, err := checkWipe(t.Context(), memory.Memfd, search); err == nil || errors.Is(err, ErrSkipped) {
			t.Errorf("%+v, %v; want an error", o, err)
		}
	}
}

// TestCopiesFound holds that the checks of copies make the whole of their way
// without /proc/kcore too, and hold when a search finds what it should.
func TestCopiesFound(t *testing.T) {
	for name, check := range map[string]func() (Observation, error){
		"io": func() (Observation, error) {
			return checkIO(t.Context(), memory.Memfd, attach.Direct, finds(1, 0, 0))
		},
		"disk": func() (Observation, error) {
			return checkDisk(t.Context(), memory.Memfd, finds(diskPages, 0))
		},
		"boot-files": func() (Observation, error) {
			return checkBootFiles(t.Context(), memory.Memfd, finds(bootFilePages, 0))
		},
	} {
		t.Run(name, func(t *testing.T) {
			o, err := check()
			if errors.Is(err, ErrSkipped) {
				t.Skipf("SKIPPED: %v", err)
			}
			if err != nil || !o.Holds {
				t.Errorf("%+v, %v", o, err)
			}
			t.Log(o.Text)
		})
	}
}

// TestDirtyUnlogged goes red for a slot that isn't logged.
func TestDirtyUnlogged(t *testing.T) {
	needKVM(t)
	if o, err := checkDirty(t.Context(), 0); err == nil {
		t.Errorf("without logging: %+v", o)
	}
}

// TestMapUncached holds that one entry of the page tables changes, by two bits.
func TestMapUncached(t *testing.T) {
	ram, err := newRAM(memory.Anon, guestSize)
	if err != nil {
		t.Fatal(err)
	}
	defer ram.Close()
	cpus, err := boot.Payload(ram, []byte{0xf4}, boot.PayloadConfig{CPUs: 1, Ring: 3})
	if err != nil {
		t.Fatal(err)
	}
	before := slices.Clone(bytesOf(ram))
	if err := mapUncached(ram, cpus[0]); err != nil {
		t.Fatal(err)
	}
	const user, uncached = 0xe7, 0xff
	changed := 0
	for off, now := 0, bytesOf(ram); off < len(now); off += 8 {
		was, is := binary.LittleEndian.Uint64(before[off:]), binary.LittleEndian.Uint64(now[off:])
		if was == is {
			continue
		}
		changed++
		if was != uncachedBuffers+uncachedBuffer|user || is != uncachedBuffers+uncachedBuffer|uncached {
			t.Errorf("at 0x%x: 0x%x became 0x%x", off, was, is)
		}
	}
	if changed != 1 {
		t.Errorf("%d entries changed, want 1", changed)
	}
}

func TestKdumpArmed(t *testing.T) {
	file := func(text string) string {
		name := filepath.Join(t.TempDir(), "file")
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return name
	}
	for _, c := range []struct {
		loaded, cmdline string
		holds           bool
	}{{"0\n", "quiet crashkernel=256M", true}, {"1\n", "crashkernel=256M", false}} {
		if o, err := checkKdump(file(c.loaded), file(c.cmdline)); err != nil || o.Holds != c.holds {
			t.Errorf("%+v: %+v, %v", c, o, err)
		}
	}
}

// TestMeasuredCancelled makes every check with a context that is done. None
// hangs, and nothing of them is left.
func TestMeasuredCancelled(t *testing.T) {
	checkOwner(t.Context()) // what is made once
	defer memtest.Leaks(t)()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for _, l := range measured() {
		if o, err := l.check(ctx); err == nil && l.ID != "kdump" {
			t.Errorf("%s: %+v; want an error", l.ID, o)
		}
	}
}
