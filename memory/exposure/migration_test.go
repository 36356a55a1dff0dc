package exposure

import (
	"slices"
	"testing"

	"offmap/memory"
)

func TestMigration(t *testing.T) {
	testFinds(t, migration, expect{
		memory.Anon: true, memory.Memfd: true, memory.Hugetlb: true, // if at all
		memory.Reserved: false, memory.Secret: false,
	})
}

func TestParseList(t *testing.T) {
	for text, want := range map[string][]int{"0": {0}, "0-2": {0, 1, 2}, "0,2-3,7": {0, 2, 3, 7}, "": nil, "x": nil, "0-": nil} {
		got, err := parseList(text)
		if !slices.Equal(got, want) || (err != nil) != (want == nil) {
			t.Errorf("%q: %v, %v; want %v", text, got, err, want)
		}
	}
}
