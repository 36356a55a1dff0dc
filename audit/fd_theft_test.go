package audit

import (
	"maps"
	"testing"

	"offmap/memory"
)

// TestFDTheft: there is a file behind all memory but anonymous memory.
func TestFDTheft(t *testing.T) {
	want := maps.Clone(toOwner)
	want[memory.Anon] = false
	testFindsAll(t, fdTheft, want)
}
