package bench

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"offmap/memory"
	"offmap/memory/attach/window/policy"
)

var replayedWindows = []uint64{8 << 20, 16 << 20, 32 << 20, 48 << 20, 64 << 20, 96 << 20}

// windowPolicy is how the window's choice of the page to go does beside others.
// They stand in results as its peers, by their names.
func windowPolicy() Scenario {
	return Scenario{
		Name: "window-policy",
		Slow: true,
		About: "faults of a recorded boot of Linux with 256 MiB, over the size of the window, by the policy that chooses the page to go. Simulated, so that all values are alike: " +
			"secret+window is the product's; lru sees every use of a page, which no pager does, and opt the future",
		Metrics: windowCurve("boot", "faults", replayedWindows),
		Subjects: func(e *Env, working []Subject) []Subject {
			s := behindWindow(e, working)
			if len(s) == 0 {
				return nil
			}
			for _, c := range policy.Candidates() {
				if c.Name != policy.Chosen {
					s = append(s, Subject{Peer: Peer(c.Name)})
				}
			}
			return s
		},
		Sample: func(_ context.Context, _ *Env, s Subject) ([]float64, error) {
			name := string(s.Peer)
			if name == "" {
				name = policy.Chosen
			}
			all := replayed()
			i := slices.IndexFunc(all, func(r replay) bool { return r.policy == name })
			if i < 0 {
				return nil, fmt.Errorf("no policy %q", name)
			}
			return slices.Clone(all[i].faults), nil
		},
	}
}

// replay is what a policy did with the recorded boot, by window.
type replay struct {
	policy string
	faults []float64
}

// replayed replays it once: it comes to the same every time.
var replayed = sync.OnceValue(func() (all []replay) {
	for _, c := range policy.Candidates() {
		r := replay{policy: c.Name}
		for _, w := range replayedWindows {
			did := c.Replay(policy.Boot(), int(w/memory.PageSize))
			// A page that a policy has unmapped to see whether it is still
			// wanted stops the guest, too.
			r.faults = append(r.faults, float64(did.Faults+did.Rescues))
		}
		all = append(all, r)
	}
	return all
})
