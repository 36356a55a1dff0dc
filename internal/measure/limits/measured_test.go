package limits

import (
	"errors"
	"testing"

	"offmap/kvm"
)

// needKVM skips, loudly, where there is no KVM.
func needKVM(t *testing.T) {
	t.Helper()
	sys, err := kvm.Open("")
	if err != nil {
		t.Skipf("SKIPPED: no usable /dev/kvm (%v); the lab has one", err)
	}
	sys.Close()
}

// TestMeasured makes every check of this half on whatever host this is: each
// holds, or says what it lacks here.
func TestMeasured(t *testing.T) {
	for _, l := range measured() {
		t.Run(l.ID, func(t *testing.T) {
			switch o, err := l.check(t.Context()); {
			case errors.Is(err, ErrSkipped):
				t.Log(err)
			case err != nil:
				t.Error(err)
			case !o.Holds && l.ID == "uncached":
				t.Logf("doesn't hold here, as KVM is free to have it: %s", o.Text)
			case !o.Holds:
				t.Errorf("doesn't hold here: %s", o.Text)
			default:
				t.Log(o.Text)
			}
		})
	}
}
