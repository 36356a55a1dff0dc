package e2e

import (
	"fmt"
	"regexp"
	"strings"
	"testing"
)

// TestModuleStorm lets TestBridgeStorm's processes loose beside a guest that the bridge
// has the RAM of. The guest goes on, its RAM stays hidden, and at the end the module can
// be unloaded, and loaded again.
func TestModuleStorm(t *testing.T) {
	needInside(t)
	args, canary := planter(t, killPages, false)
	g := startRun(t, append([]string{"--backend", "secret", "--attach", "bridge"}, args...)...)
	g.await(t, plantedLine)

	storm := attachTests(t, "TestBridgeStorm", "-storm", fmt.Sprint(max(6, 10*(*soak))))
	fmt.Printf("%s\n", regexp.MustCompile(`-storm-seed.*|\d+ processes.*`).FindAllString(storm, -1))

	if pages := inDirectMap(t, canary); pages != 0 {
		t.Errorf("after the storm the canary is in %d pages of the direct map", pages)
	}
	// A round that may have begun before the storm's end, and one that has not.
	rounds := strings.Count(g.out.String(), plantedLine)
	g.await(t, strings.Repeat(plantedLine+"\n", rounds+2))
	g.Process.Kill()
	if code := g.ended(); code != 128+9 {
		t.Errorf("the guest had ended by itself, exit code %d:\n%s", code, g.out.String())
	}
	if pages := inRAM(t, canary); pages != 0 {
		t.Errorf("after the guest the canary is in %d pages of RAM", pages)
	}
	attachTests(t, "TestBridgeUnload")
}

// attachTests runs a test of memory/attach, which must pass, and returns what it says.
func attachTests(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := command(t, 2*patience, "./attach.test", append([]string{"-test.v", "-test.run=^" + name + "$"}, args...)...).CombinedOutput()
	if err != nil || !strings.Contains(string(out), "--- PASS: "+name) {
		t.Fatalf("%s: %v\n%s", name, err, out)
	}
	return string(out)
}
