package bench

import (
	"os"
	"testing"

	"offmap/kvm"
)

// TestSecondRun runs some scenarios twice and checks that the intervals overlap. On a
// shared machine many can disagree at once, but not every time. Intervals that are
// too narrow make most disagree every time (TestAgree). So the test fails only if
// more than half disagree three times.
func TestSecondRun(t *testing.T) {
	sys, err := kvm.Open("")
	if err != nil {
		t.Skipf("SKIPPED: no usable /dev/kvm (the lab makes this test too): %v", err)
	}
	sys.Close()
	p := plan(10, []Subject{memfd, anon})
	p.Env = &Env{Host: ThisHost(os.DirFS("/")), Quick: true}
	for _, sc := range Scenarios() {
		if sc.Name == "exits" || sc.Name == "create" {
			p.Scenarios = append(p.Scenarios, sc)
		}
	}
	if len(p.Scenarios) != 2 {
		t.Fatal("the scenarios that this test runs have other names now")
	}
	for range 3 {
		compared, disagree := 0, []Disagreement(nil)
		for _, sc := range p.Scenarios {
			one := p
			one.Scenarios = []Scenario{sc} // so that little time passes between the two
			n, list := Agree(one.Run(t.Context()), one.Run(t.Context()))
			compared, disagree = compared+n, append(disagree, list...)
		}
		if compared < 6 {
			t.Fatalf("%d results to compare", compared)
		}
		t.Logf("%d of %d disagree: %v", len(disagree), compared, disagree)
		if 2*len(disagree) <= compared {
			return
		}
	}
	t.Error("a second run differs by more than the first said that it might")
}
