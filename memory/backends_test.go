package memory_test

import (
	"errors"
	"testing"

	"offmap/memory"
	"offmap/memory/memtest"
)

// TestBackends has every backend pass the conformance suite.
func TestBackends(t *testing.T) {
	for _, b := range memory.Backends() {
		t.Run(string(b), func(t *testing.T) {
			r, err := memory.New(b, memtest.Layout(t))
			if errors.Is(err, memory.ErrSecretAbsent) || errors.Is(err, memory.ErrSecretDisabled) || errors.Is(err, memory.ErrMemlock) {
				t.Skipf("SKIPPED: %v", err)
			}
			if err != nil {
				t.Fatal(err)
			}
			memtest.Guest(t, r, r.Populated)
			if err := r.Close(); err != nil {
				t.Error(err)
			}
			if err := r.Close(); err != nil {
				t.Errorf("second Close: %v", err)
			}
		})
	}
}
