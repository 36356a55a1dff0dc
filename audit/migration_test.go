package audit

import (
	"errors"
	"slices"
	"testing"

	"offmap/memory"
)

func TestMigration(t *testing.T) {
	nodes, err := memoryNodes()
	if err != nil {
		t.Fatal(err)
	}
	testFinds(t, migration, expect{
		memory.Anon: true, memory.Memfd: true, memory.Secret: false,
		memory.Hugetlb: len(nodes) > 1, // huge pages move between nodes only
	})
}

// TestUnwatchable: where none of the guest's pages can be found, to see what
// becomes of them, nothing is shown, and the attack says so.
func TestUnwatchable(t *testing.T) {
	for _, a := range []Avenue{ksm, migration} {
		t.Run(a.Name, func(t *testing.T) {
			f, err := a.Attack(t.Context(), startVictim(t, memory.Reserved))
			if errors.Is(err, ErrUnavailable) {
				t.Skipf("SKIPPED, nothing was shown here: %v", err)
			}
			if err == nil || f.Pages != 0 {
				t.Errorf("%+v, %v: want an error", f, err)
			}
		})
	}
}

func TestParseList(t *testing.T) {
	for text, want := range map[string][]int{"0": {0}, "0-2": {0, 1, 2}, "0,2-3,7": {0, 2, 3, 7}, "": nil, "x": nil, "0-": nil} {
		got, err := parseList(text)
		if !slices.Equal(got, want) || (err != nil) != (want == nil) {
			t.Errorf("%q: %v, %v; want %v", text, got, err, want)
		}
	}
}
