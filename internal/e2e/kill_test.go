package e2e

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"offmap/audit/canary"
)

// The guest of these tests plants its canary in eight times the window, so
// that whenever it dies, pages are on their way in and out.
const (
	killPages  = 2048
	killWindow = 256
)

// windowed are the arguments that put a guest behind a window of that many
// pages.
func windowed(args []string, pages int) []string {
	return append([]string{"--backend", "secret", "--attach", "window", "--window", fmt.Sprint(pages*4) + "K"}, args...)
}

// TestKilled kills VMMs at moments between a guest's first instruction and its second
// round. The scrubber must go, and with it and the VMM the canary, from all of RAM; how
// soon is printed. As many times the scrubber is killed too, a moment before or after.
// Then no more than the window's pages may stay. Every other VMM of the others has a
// bridge and no scrubber: nothing of its RAM was ever anywhere else.
func TestKilled(t *testing.T) {
	needInside(t)
	var ends []time.Duration
	var left []int
	exposed, planted := 0, 0
	for i := range 2 * (*kills) {
		args, canary := planter(t, killPages, false)
		both, bridge := i%2 == 1, i%4 == 2
		if bridge {
			args = append([]string{"--backend", "secret", "--attach", "bridge"}, args...)
		} else {
			args = windowed(args, killWindow)
		}
		g := startRun(t, args...)
		var scrubber process
		if !bridge {
			scrubber = g.scrubber(t)
		}
		time.Sleep(rand.N(3 * time.Second)) // a round takes one or two
		if i == 0 {                         // the control, while it still runs
			g.await(t, plantedLine)
			exposed = inDirectMap(t, canary)
		}
		if strings.Contains(g.out.String(), plantedLine) {
			planted++
		}
		first := i%4 == 1 // the scrubber
		if both && first {
			syscall.Kill(scrubber.pid, syscall.SIGKILL)
			time.Sleep(rand.N(20 * time.Millisecond))
		}
		killed := time.Now()
		g.Process.Kill()
		if both && !first {
			time.Sleep(rand.N(20 * time.Millisecond))
			syscall.Kill(scrubber.pid, syscall.SIGKILL)
		}
		if !bridge && !scrubber.gone(t, patience) {
			t.Fatalf("kill %d: the scrubber is still there %v later", i, patience)
		}
		if !bridge && !both {
			ends = append(ends, time.Since(killed))
		}
		// A VMM that has seen its scrubber's end before its own stops with a message.
		if code := g.ended(); code != 128+9 && !(both && first && code == 1) {
			t.Fatalf("kill %d: the guest had ended by itself, exit code %d:\n%s", i, code, g.out.String())
		}
		pages, most := inRAM(t, canary), 0
		if both {
			most = killWindow
			left = append(left, pages)
		}
		if pages > most {
			t.Errorf("kill %d: the canary is in %d pages of RAM, %d of them in the direct map", i, pages, inDirectMap(t, canary))
		}
	}
	fmt.Printf("%d VMMs killed, %d after their guest's first round: the scrubber was gone after %v (median), %v (most); killed with its scrubber, a VMM left %v of %d pages\n",
		2*(*kills), planted, medianTime(ends), slices.Max(ends), left, killWindow)
	if exposed == 0 || exposed > killWindow {
		t.Errorf("while a guest ran, its canary was in %d pages of the direct map, want 1 to %d", exposed, killWindow)
	}
}

func medianTime(d []time.Duration) time.Duration {
	s := slices.Sorted(slices.Values(d))
	return s[(len(s)-1)/2]
}

// TestKilledControl shows that a scan finds what a killed VMM leaves in
// ordinary memory: a memfd's pages, and a window's if its scrubber can't wipe
// them, which is the scrubber's limit too.
func TestKilledControl(t *testing.T) {
	needInside(t)
	control := func(t *testing.T, args []string, canary canary.Canary, kill func(g *guest)) {
		g := startRun(t, args...)
		g.await(t, plantedLine)
		kill(g)
		all := inRAM(t, canary) // first: it takes less of the memory that was freed
		direct := inDirectMap(t, canary)
		t.Logf("found in %d pages of RAM, and then in %d of the direct map", all, direct)
		if direct == 0 || all == 0 {
			t.Errorf("so nothing is proved by its absence elsewhere")
		}
	}
	t.Run("memfd", func(t *testing.T) {
		args, canary := planter(t, killPages, false)
		control(t, append([]string{"--backend", "memfd"}, args...), canary, func(g *guest) {
			g.Process.Kill()
			g.ended()
		})
	})
	t.Run("window and scrubber", func(t *testing.T) {
		args, canary := planter(t, killPages, false)
		control(t, windowed(args, 4*killWindow), canary, func(g *guest) {
			scrubber := g.scrubber(t)
			syscall.Kill(scrubber.pid, syscall.SIGSTOP)
			g.Process.Kill()
			g.ended()
			syscall.Kill(scrubber.pid, syscall.SIGKILL)
			if !scrubber.gone(t, patience) {
				t.Fatal("the scrubber has outlived SIGKILL")
			}
		})
	})
}

// TestWindowEndings ends guests in ways that give the VMM a last word.
func TestWindowEndings(t *testing.T) {
	needInside(t)
	for _, c := range []struct {
		name string
		end  func(t *testing.T, g *guest)
		code int
		says string
	}{
		{"SIGTERM", func(_ *testing.T, g *guest) { g.Process.Signal(syscall.SIGTERM) }, 128 + 15, "terminated"},
		{"scrubber killed", func(t *testing.T, g *guest) { syscall.Kill(g.scrubber(t).pid, syscall.SIGKILL) }, 1, "scrubber"},
	} {
		t.Run(c.name, func(t *testing.T) {
			args, canary := planter(t, killPages, false)
			g := startRun(t, windowed(args, killWindow)...)
			g.await(t, plantedLine)
			scrubber := g.scrubber(t)
			c.end(t, g)
			code := g.ended()
			if code != c.code || !strings.Contains(g.out.String(), c.says) {
				t.Errorf("exit code %d, want %d and %q\n%s", code, c.code, c.says, g.out.String())
			}
			// A VMM that is stopped while the machine has much other work leaves
			// that to the scrubber itself.
			if !scrubber.gone(t, patience) {
				t.Errorf("the scrubber has outlived the VMM by %v", patience)
			}
			if pages := inRAM(t, canary); pages != 0 {
				t.Errorf("the canary is in %d pages of RAM, %d of them in the direct map", pages, inDirectMap(t, canary))
			}
		})
	}
}
