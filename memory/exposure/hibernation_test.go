package exposure

import (
	"errors"
	"os"
	"strings"
	"testing"

	"offmap/memory"
)

// TestHibernation: one process with secret memory keeps the host from
// hibernating, one with ordinary memory doesn't.
func TestHibernation(t *testing.T) {
	text, err := os.ReadFile("/sys/power/disk")
	if err != nil || strings.Contains(string(text), "[disabled]") {
		t.Skipf("SKIPPED, nothing was shown here: hibernation isn't to be had before there is secret memory: /sys/power/disk: %q, %v", text, err)
	}
	for b, want := range map[memory.Backend]string{memory.Anon: "would make", memory.Secret: "would refuse"} {
		t.Run(string(b), func(t *testing.T) {
			f, err := hibernation.Attack(t.Context(), startVictim(t, b))
			t.Logf("%+v, %v", f, err)
			if !errors.Is(err, ErrUnavailable) || !strings.Contains(err.Error(), want) {
				t.Errorf("%v: want %q", err, want)
			}
		})
	}
}
