package memory_test

import (
	"reflect"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"offmap/memory"
	"offmap/memory/memtest"
)

// TestSecluded looks at what the kernel has noted of each backend's mapping.
func TestSecluded(t *testing.T) {
	layout, err := memory.LayoutOf(memory.Region{Size: 8 * memory.PageSize})
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range memory.Backends() {
		t.Run(string(b), func(t *testing.T) {
			ram, err := memory.New(b, layout)
			memtest.NeedBackend(t, err)
			defer ram.Close()
			if !b.Exposed() {
				memtest.CheckSecluded(t, "guest RAM", uintptr(ram.Pointer()))
				return
			}
			if flags := memtest.VmFlags(t, uintptr(ram.Pointer())); slices.Contains(flags, "dd") || slices.Contains(flags, "nh") {
				t.Errorf("ordinary memory isn't as the kernel makes it: %v", flags)
			}
		})
	}
	t.Run("MapSecret", func(t *testing.T) {
		mem, err := memory.MapSecret(memory.PageSize)
		memtest.NeedBackend(t, err)
		defer unix.Munmap(mem)
		memtest.CheckSecluded(t, "a secret page", reflect.ValueOf(mem).Pointer())
	})
}
