package bench

import (
	"os"
	"testing"

	"offmap/kvm"
)

// TestSecondRun runs some scenarios twice, one after the other, and holds that
// the figures agree within their own intervals. Those of a machine that is used
// by others change with it, which can make many disagree at once and not each
// time; intervals that are too narrow make most disagree each time (TestAgree).
// So three tries that fail are wanted, with more than half each.
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
