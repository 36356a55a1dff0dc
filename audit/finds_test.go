package audit

import (
	"errors"
	"testing"
	"time"

	"offmap/memory"
)

// expect is what an attack must find: the canary in some pages or in none.
type expect map[memory.Backend]bool

// testFinds makes an attack on each backend that is expected to be found or
// not, and returns what it found.
func testFinds(t *testing.T, a Avenue, want expect) map[memory.Backend]Finding {
	found := map[memory.Backend]Finding{}
	for _, b := range memory.Backends() {
		want, ok := want[b]
		if !ok {
			continue
		}
		t.Run(string(b), func(t *testing.T) {
			found[b] = attackVictim(t, a, startVictim(t, b))
			if got := found[b].Pages > 0; got != want {
				t.Errorf("%s: found in %d pages, errno %v", a.Name, found[b].Pages, found[b].Errno)
			}
		})
	}
	return found
}

// testFindsAll is testFinds for attacks that find each page once or none.
func testFindsAll(t *testing.T, a Avenue, want expect) map[memory.Backend]Finding {
	found := testFinds(t, a, want)
	for b, f := range found {
		if want[b] && f.Pages != victimPages {
			t.Errorf("%s: found in %d pages, want all %d, each once", b, f.Pages, victimPages)
		}
	}
	return found
}

// attackVictim makes an attack that this host can make, and says what it took.
func attackVictim(t *testing.T, a Avenue, v Target) Finding {
	t.Helper()
	start := time.Now()
	f, err := a.Attack(t.Context(), v)
	took := time.Since(start)
	if errors.Is(err, ErrInapplicable) {
		return f
	}
	if errors.Is(err, ErrUnavailable) {
		t.Skipf("SKIPPED, nothing was shown here: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%s: %+v in %v", a.Name, f, took.Round(time.Millisecond))
	return f
}

// asExposed is what is expected of an attack that goes by the direct map.
var asExposed = expect{
	memory.Anon: true, memory.Memfd: true, memory.Hugetlb: true,
	memory.Reserved: false, memory.Secret: false,
}

// toOwner is what is expected of an attack that comes in the owner's place.
var toOwner = expect{
	memory.Anon: true, memory.Memfd: true, memory.Hugetlb: true,
	memory.Reserved: true, memory.Secret: true,
}
