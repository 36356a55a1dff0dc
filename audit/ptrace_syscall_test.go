package audit

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"offmap/memory"
	"offmap/memory/memtest"
)

func TestPtraceSyscall(t *testing.T) { testAttack(t, ptraceSyscall) }

// What works by calls in the VMM's place leaves nothing there, and nothing
// here.
func TestInjectedLeavesNothing(t *testing.T) {
	target := startVictim(t, memory.Memfd)
	held := func() string {
		t.Helper()
		var all []string
		for _, dir := range []string{"fd", "task"} {
			entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/%s", target.PID, dir))
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, fmt.Sprintf("%d %ss", len(entries), dir))
		}
		maps, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", target.PID))
		if err != nil {
			t.Fatal(err)
		}
		return strings.Join(append(all, fmt.Sprintf("%d mappings", strings.Count(string(maps), "\n"))), ", ")
	}
	for _, a := range []Avenue{ptraceSyscall, directIO, vmsplice, ioUring, zerocopy, futex, forkChild} {
		t.Run(a.Name, func(t *testing.T) {
			before := held()
			check := memtest.Leaks(t)
			if _, err := a.Attack(t.Context(), target); err != nil {
				t.Skipf("SKIPPED: %v", err)
			}
			check()
			if after := held(); after != before {
				t.Errorf("the victim had %s before, %s after", before, after)
			}
		})
	}
}
