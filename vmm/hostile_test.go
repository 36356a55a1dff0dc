package vmm

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"offmap/memory"
	"offmap/memory/attach"
	"offmap/memory/memtest"
)

var (
	hostileSeed   = flag.Uint64("seed", 0, "what hostile guests do; 0: random")
	hostileGuests = flag.Int("hostile", 1, "hostile guests of each kind")
)

// hostileTime is how long a hostile guest may run. Most end before, and some hang.
const hostileTime = 10 * time.Second

// TestHostilePayload runs guests that attack their host by all that they can do. However
// they end, the next guest works, and nothing is left. In the lab, the log of the host's
// kernel is a part of the test.
func TestHostilePayload(t *testing.T) {
	needKVM(t)
	for _, pair := range []attach.Pair{
		{Backend: memory.Memfd, Attach: attach.Direct},
		{Backend: memory.Secret, Attach: attach.ViaBridge},
		{Backend: memory.Secret, Attach: attach.ViaWindow},
		{Backend: memory.Removed, Attach: attach.Direct},
	} {
		for _, cpus := range []int{1, 2} {
			t.Run(fmt.Sprintf("%s/%s/%d", pair.Backend, pair.Attach, cpus), func(t *testing.T) {
				cfg := payloadConfig(t, "hello", cpus, memory.MinSize)
				cfg.Backend, cfg.Attach = pair.Backend, pair.Attach
				needMachine(t, cfg)
				leaks := memtest.Leaks(t)
				for range *hostileGuests {
					seed := *hostileSeed
					if seed == 0 {
						seed = rand.Uint64()
					}
					cfg := argsConfig(t, "hostile", cpus, memory.MinSize, seed, 20_000)
					cfg.Backend, cfg.Attach = pair.Backend, pair.Attach
					ctx, cancel := context.WithTimeout(t.Context(), hostileTime)
					r, _, err := run(ctx, t, cfg)
					cancel()
					t.Logf("seed %d: %+v, %v", seed, r.Outcome, r.Exits)
					if err != nil && !errors.Is(err, context.DeadlineExceeded) {
						t.Errorf("seed %d: %v", seed, err)
					}
				}
				r, out, err := run(t.Context(), t, payloadConfig(t, "hello", cpus, memory.MinSize))
				if err != nil || r.Outcome.Code != 0 || !strings.Contains(out, "hello from vCPU 0") {
					t.Errorf("another guest after those: %+v, %v, %q", r.Outcome, err, out)
				}
				leaks()
			})
		}
	}
}

// needMachine skips a test for whose machine this host lacks the backend or the attach.
func needMachine(t *testing.T, cfg Config) {
	t.Helper()
	m, err := New(cfg)
	memtest.NeedBackend(t, err)
	if err := m.Close(); err != nil {
		t.Error(err)
	}
}

// TestHypercall shows by a hypercall that a guest in hidden RAM has no paravirtual
// features. Writes of their MSRs would not show it: the MSR filter refuses them as well.
func TestHypercall(t *testing.T) {
	needKVM(t)
	if vendor() == "pvm" {
		t.Skip("SKIPPED: on kvm_pvm, hypercalls from CPL 0 never return")
	}
	for _, c := range []struct {
		pair attach.Pair
		said string
	}{
		{attach.Pair{Backend: memory.Memfd, Attach: attach.Direct}, "hypercall 5: accepted"},
		{attach.Pair{Backend: memory.Secret, Attach: attach.ViaBridge}, "hypercall 5: refused"},
		{attach.Pair{Backend: memory.Secret, Attach: attach.ViaWindow}, "hypercall 5: refused"},
		{attach.Pair{Backend: memory.Removed, Attach: attach.Direct}, "hypercall 5: refused"},
	} {
		t.Run(fmt.Sprintf("%s/%s", c.pair.Backend, c.pair.Attach), func(t *testing.T) {
			cfg := argsConfig(t, "kvmclock", 1, memory.MinSize, 1)
			cfg.Backend, cfg.Attach = c.pair.Backend, c.pair.Attach
			needMachine(t, cfg)
			if _, out, err := run(t.Context(), t, cfg); err != nil || !strings.Contains(out, c.said) {
				t.Errorf("%v, want %q in:\n%s", err, c.said, out)
			}
		})
	}
}
