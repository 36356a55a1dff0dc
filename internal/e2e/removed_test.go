package e2e

import (
	"maps"
	"os"
	"strings"
	"testing"
	"time"

	"offmap/memory"
)

// directMapSizes is how much the kernel maps with entries of each size, in bytes.
func directMapSizes(t *testing.T) map[string]uint64 {
	t.Helper()
	info, err := memory.ReadMeminfo()
	if err != nil {
		t.Fatal(err)
	}
	maps.DeleteFunc(info, func(name string, _ uint64) bool { return !strings.HasPrefix(name, "DirectMap") })
	return info
}

// setUntil writes a file of the kernel's, and at the test's end what was in it.
func setUntil(t *testing.T, file, text string) {
	t.Helper()
	had, err := os.ReadFile(file)
	if err == nil {
		err = os.WriteFile(file, []byte(text), 0)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.WriteFile(file, had, 0) })
}

// TestRemoved gives guests RAM that has left the kernel, with -soak often. It is in no
// direct map while they run, and nothing is left of it in RAM when one is killed. The
// kernel gets it back then, and maps it as it did before, with no entry split.
func TestRemoved(t *testing.T) {
	needInside(t)
	setUntil(t, "/sys/devices/system/memory/auto_online_blocks", "online")
	setUntil(t, "/sys/module/offmap/parameters/removed_keep", "0")
	before := directMapSizes(t)
	for i := range 1 + *soak {
		look := i%10 == 0 // to search RAM takes longest
		args, canary := planter(t, killPages, true)
		g := startRun(t, append([]string{"--backend", "removed"}, args...)...)
		g.await(t, plantedLine)
		during := directMapSizes(t)
		if during["DirectMap4k"] != before["DirectMap4k"] || during["DirectMap2M"]+during["DirectMap1G"] > before["DirectMap2M"]+before["DirectMap1G"]-32<<20 {
			t.Errorf("the direct map was %v, and is %v while a guest runs", before, during)
		}
		if look {
			if direct, all := inDirectMap(t, canary), inRAM(t, canary); direct != 0 || all < killPages {
				t.Errorf("the canary is in %d pages of the direct map, and in %d of all RAM, want none and at least %d", direct, all, killPages)
			}
		}
		g.Process.Kill()
		if code := g.ended(); code != 128+9 {
			t.Errorf("the guest had ended by itself, exit code %d:\n%s", code, g.out.String())
		}
		awaitDirectMap(t, before)
		if look {
			if pages := inRAM(t, canary); pages != 0 {
				t.Errorf("after the guest the canary is in %d pages of RAM", pages)
			}
		}
	}

	d, _ := report(t, 7, linux("removed", "exit 7")...)
	if d.Exposed != 0 || d.ExposedPeak != 0 || d.Exit.Code != 7 {
		t.Errorf("%+v", d)
	}
	awaitDirectMap(t, before)

	r := offmapRun(t, "run", "--backend", "removed", "--payload", "hello", "-m", "1800")
	if r.code == 0 || !strings.Contains(r.stderr, "more could be taken out of the kernel") {
		t.Errorf("more than there is: exit code %d\n%s", r.code, r.stderr)
	}
	awaitDirectMap(t, before)
}

// awaitDirectMap waits until the kernel has the memory back.
func awaitDirectMap(t *testing.T, want map[string]uint64) {
	t.Helper()
	for start := time.Now(); !maps.Equal(directMapSizes(t), want); time.Sleep(100 * time.Millisecond) {
		if time.Since(start) > patience {
			t.Fatalf("the direct map was %v, and is %v", want, directMapSizes(t))
		}
	}
}
