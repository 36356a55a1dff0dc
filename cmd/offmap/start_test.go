package main

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

// TestStart checks that offmap's packages do next to nothing when they are initialised,
// because every command and every process of a guest initialises them. Expressions,
// templates and tables are made when they are first used. The test counts allocations,
// whose number is the same on every machine.
func TestStart(t *testing.T) {
	const (
		most    = 32   // of one package of offmap's: variables that are errors and small tables
		mostAll = 1800 // of all packages, those of others included: some of those make tables
	)
	cmd := asProgram(t, "--help")
	cmd.Env = append(os.Environ(), "GODEBUG=inittrace=1")
	var trace strings.Builder
	cmd.Stderr = &trace
	if err := cmd.Run(); err != nil {
		t.Fatal(err)
	}
	packages, all := 0, 0
	for line := range strings.Lines(trace.String()) {
		// init offmap/kvm @3.5 ms, 0.001 ms clock, 504 bytes, 4 allocs
		if !strings.HasPrefix(line, "init ") {
			continue
		}
		packages++
		var name string
		var at, took float64
		var bytes, allocs int
		if _, err := fmt.Sscanf(line, "init %s @%f ms, %f ms clock, %d bytes, %d allocs", &name, &at, &took, &bytes, &allocs); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		all += allocs
		if strings.HasPrefix(name, "offmap/") && allocs > most {
			t.Errorf("%s allocates %d times (%d bytes) when it is initialised, at most %d are wanted", name, allocs, bytes, most)
		}
	}
	if all > mostAll {
		t.Errorf("all packages allocate %d times, at most %d are wanted:\n%s", all, mostAll, trace.String())
	}
	t.Logf("%d packages, %d allocations", packages, all)
	if packages < 50 {
		t.Errorf("%d packages are initialised: this is no trace", packages)
	}
}
