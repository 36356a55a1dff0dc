package attach

import (
	"encoding/json"
	"slices"
	"testing"

	"offmap/memory"
)

func TestPairs(t *testing.T) {
	all := Pairs()
	for _, b := range memory.Backends() {
		for _, m := range Methods() {
			got, err := Pair{b, m}.Pairs()
			var want []Pair
			for _, p := range all {
				if p.Backend == b && (m == Auto || p.Attach == m) {
					want = append(want, p)
				}
			}
			if !slices.Equal(got, want) || (err == nil) != (want != nil) {
				t.Errorf("%s+%s: %v, %v; want %v", b, m, got, err, want)
			}
		}
	}
	secret := []Pair{{memory.Secret, Direct}, {memory.Secret, ViaBridge}, {memory.Secret, ViaWindow}}
	if got, err := (Pair{}).Pairs(); err != nil || !slices.Equal(got, secret) {
		t.Errorf("the zero value: %v, %v; want %v", got, err, secret)
	}
	for _, p := range []Pair{{"glass", Auto}, {memory.Secret, "glue"}} {
		if got, err := p.Pairs(); err == nil {
			t.Errorf("%s: %v and no error", p, got)
		}
	}
}

func TestParse(t *testing.T) {
	for _, p := range append(Pairs(), Pair{memory.Anon, Auto}, Pair{memory.Secret, Auto}) {
		if got, err := Parse(p.String()); got != p || err != nil {
			t.Errorf("%s: %+v, %v", p, got, err)
		}
	}
	if got, err := Parse("secret"); got != (Pair{memory.Secret, Auto}) || err != nil {
		t.Errorf("secret: %v, %v", got, err)
	}
	if s := (Pair{}).String(); s != "secret+auto" {
		t.Errorf("the zero value is %q", s)
	}
	for _, name := range []string{"", "+", "glass", "secret+", "secret+glue", "anon+bridge", "memfd+window", "secret+bridge+window"} {
		if got, err := Parse(name); err == nil {
			t.Errorf("%q: %v and no error", name, got)
		}
	}
}

func TestPairJSON(t *testing.T) {
	p := Pair{memory.Secret, ViaBridge}
	text, err := json.Marshal(p)
	if want := `{"backend":"secret","attach":"bridge"}`; err != nil || string(text) != want {
		t.Errorf("%s, %v; want %s", text, err, want)
	}
}
