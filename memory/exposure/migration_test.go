package exposure

import (
	"slices"
	"testing"
)

func TestMigration(t *testing.T) { testFinds(t, migration, asExposed) }

func TestParseList(t *testing.T) {
	for text, want := range map[string][]int{"0": {0}, "0-2": {0, 1, 2}, "0,2-3,7": {0, 2, 3, 7}, "": nil, "x": nil, "0-": nil} {
		got, err := parseList(text)
		if !slices.Equal(got, want) || (err != nil) != (want == nil) {
			t.Errorf("%q: %v, %v; want %v", text, got, err, want)
		}
	}
}
