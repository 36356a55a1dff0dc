package window

import (
	"reflect"
	"testing"

	"offmap/memory"
	"offmap/memory/memtest"
)

// TestSecluded checks the kernel's flags of the window's mappings.
func TestSecluded(t *testing.T) {
	layout, err := memory.LayoutOf(memory.Region{Size: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	w := newWindow(t, layout, Config{Size: MinSize})
	memtest.CheckSecluded(t, "KVM's mapping", w.file.base())
	memtest.CheckSecluded(t, "the store", reflect.ValueOf(w.file.store).Pointer())
	if w.file.locked == nil { // the host has no swap
		if err := w.file.lock(); err != nil {
			t.Fatal(err)
		}
	}
	memtest.CheckSecluded(t, "the locked mapping", reflect.ValueOf(w.file.locked).Pointer())
}
