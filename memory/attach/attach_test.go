package attach

import (
	"errors"
	"os"
	"testing"

	"offmap/kvm"
	"offmap/memory"
)

// openKVM opens /dev/kvm, or skips loudly: the lab runs these tests too.
func openKVM(t *testing.T) *kvm.System {
	t.Helper()
	sys, err := kvm.Open("")
	if err != nil {
		t.Skipf("SKIPPED: no usable /dev/kvm (%v); the lab has one", err)
	}
	t.Cleanup(func() { sys.Close() })
	return sys
}

// TestProbeDirect runs a guest in each backend. Ordinary memory must work, or
// the probe proves nothing of the refusal of secret memory.
func TestProbeDirect(t *testing.T) {
	sys := openKVM(t)
	for _, b := range memory.Backends() {
		t.Run(string(b), func(t *testing.T) {
			err := ProbeDirect(sys, b)
			var no *refusal
			switch {
			case errors.Is(err, memory.ErrSecretAbsent), errors.Is(err, memory.ErrSecretDisabled):
				t.Skipf("SKIPPED: %v", err)
			case b.Exposed() && err != nil:
				t.Errorf("refused: %v", err)
			case !b.Exposed() && err != nil && !errors.As(err, &no):
				t.Errorf("not a refusal: %v", err)
			case !b.Exposed() && err == nil:
				t.Log("this kernel maps secret memory directly")
			case !b.Exposed():
				t.Log(err)
			}
		})
	}
}

// TestOpenSecretNeverOrdinary holds that auto doesn't trade secret memory for
// anything else.
func TestOpenSecretNeverOrdinary(t *testing.T) {
	sys := openKVM(t)
	if _, err := os.Stat("/dev/offmap"); err == nil {
		t.Skip("SKIPPED: the bridge is here, so auto succeeds")
	}
	layout, err := memory.NewLayout(memory.MinSize)
	if err != nil {
		t.Fatal(err)
	}
	ram, err := memory.New(memory.Secret, layout)
	if err != nil {
		t.Skipf("SKIPPED: %v", err)
	}
	defer ram.Close()
	a, err := Open(sys, ram, Auto, Options{})
	if !errors.Is(err, ErrUnavailable) {
		t.Fatalf("Open = %v, %v; want ErrUnavailable", a, err)
	}
	t.Log(err)
}
