package exposure

import (
	"slices"
	"testing"
)

func TestVhost(t *testing.T) {
	testFindsAll(t, vhost, toOwner)
}

func TestRuns(t *testing.T) {
	const p = pageSize
	for _, tt := range []struct {
		pages []uint64
		want  []Area
	}{
		{nil, nil},
		{[]uint64{p}, []Area{{Start: p, End: 2 * p}}},
		{[]uint64{0, p, 3 * p}, []Area{{Start: 0, End: 2 * p}, {Start: 3 * p, End: 4 * p}}},
		{[]uint64{0, p, 2 * p, 3 * p}, []Area{{Start: 0, End: 3 * p}, {Start: 3 * p, End: 4 * p}}},
	} {
		if got := slices.Collect(runs(tt.pages, 3*p)); !slices.Equal(got, tt.want) {
			t.Errorf("%#x: %+x, want %+x", tt.pages, got, tt.want)
		}
	}
}
