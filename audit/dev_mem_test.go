package audit

import (
	"maps"
	"testing"

	"offmap/memory"
)

// TestDevMem: where the kernel gives any RAM away by its physical addresses it
// gives all of it that is in the direct map, and always what it was booted
// without.
func TestDevMem(t *testing.T) {
	want := maps.Clone(asExposed)
	want[memory.Reserved] = true
	testFinds(t, devMem, want)
}
