package vmm

import (
	"strings"
	"testing"

	"offmap/memory"
	"offmap/memory/attach"
	"offmap/memory/memtest"
)

// TestBackends runs guests that write and verify all of their RAM, in order
// and out of it, in each ordinary backend and in reserved memory.
func TestBackends(t *testing.T) {
	needKVM(t)
	for _, b := range memory.Backends() {
		if b == memory.Secret {
			continue // has its own tests
		}
		t.Run(string(b), func(t *testing.T) {
			const ram = 48 << 20
			memtest.HugePages(t, ram)
			for _, payload := range []string{"touch", "shuffle"} {
				leaks := memtest.Leaks(t)
				cfg := payloadConfig(t, payload, 2, ram)
				cfg.Backend = b
				m, err := New(cfg)
				memtest.NeedBackend(t, err)
				if used, rejected := m.Attachment(); used != attach.Direct || len(rejected) > 0 {
					t.Errorf("attach %s, rejected %v; want direct", used, rejected)
				}
				if err := m.Close(); err != nil {
					t.Error(err)
				}
				r, out, err := run(t.Context(), t, cfg)
				if err != nil || r.Outcome.Reason != PowerOff || r.Outcome.Code != 0 || !strings.Contains(out, " ok") {
					t.Fatalf("%s: %+v, %v\n%s", payload, r, err, out)
				}
				if want := r.Populated; b.Exposed() && r.Exposed != want || !b.Exposed() && r.Exposed != 0 {
					t.Errorf("%s: populated %d, exposed %d", payload, want, r.Exposed)
				}
				if payload == "touch" && r.Populated != ram {
					t.Errorf("touch: populated %d of %d", r.Populated, ram)
				}
				leaks()
			}
		})
	}
}
