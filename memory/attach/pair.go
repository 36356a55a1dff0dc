package attach

import (
	"fmt"
	"slices"
	"strings"

	"offmap/memory"
)

// Method is the name of an attach. The zero value stands for Auto.
type Method string

// The attaches. Auto is the strongest of the others that works on this host.
const (
	Auto      Method = "auto"
	Direct    Method = "direct"
	ViaBridge Method = "bridge"
	ViaWindow Method = "window"
)

// Methods returns the names that ParseMethod takes.
func Methods() []Method { return []Method{Auto, Direct, ViaBridge, ViaWindow} }

// String returns the name.
func (m Method) String() string {
	if m == "" {
		m = Auto
	}
	return string(m)
}

// ParseMethod returns the attach of that name.
func ParseMethod(name string) (Method, error) {
	var names []string
	for _, m := range Methods() {
		if name == string(m) {
			return m, nil
		}
		names = append(names, string(m))
	}
	return "", fmt.Errorf("unknown attach %q: have %s", name, strings.Join(names, ", "))
}

// Pair is a backend with an attach. The zero value is secret memory with the
// strongest attach that works.
type Pair struct {
	Backend memory.Backend `json:"backend,omitempty"`
	Attach  Method         `json:"attach,omitempty"`
}

// methods returns the attaches that a backend can have, the strongest first.
// Ordinary memory needs neither bridge nor window.
func methods(b memory.Backend) []Method {
	if b == memory.Secret {
		return []Method{Direct, ViaBridge, ViaWindow}
	}
	return []Method{Direct}
}

// Pairs returns all pairs, each with one attach and not with Auto. Those of a
// backend are in order of strength.
func Pairs() []Pair {
	var pairs []Pair
	for _, b := range memory.Backends() {
		for _, m := range methods(b) {
			pairs = append(pairs, Pair{b, m})
		}
	}
	return pairs
}

// Pairs returns the pairs that p stands for, the strongest first: p itself, or
// with Auto one for each attach that the backend can have. The error says that
// p has an attach which its backend can't have.
func (p Pair) Pairs() ([]Pair, error) {
	backend, err := memory.ParseBackend(p.Backend.String())
	if err != nil {
		return nil, err
	}
	method, err := ParseMethod(p.Attach.String())
	if err != nil {
		return nil, err
	}
	all := slices.DeleteFunc(Pairs(), func(q Pair) bool {
		return q.Backend != backend || method != Auto && q.Attach != method
	})
	if len(all) == 0 {
		return nil, fmt.Errorf("attach %s is for %s memory; %s memory needs none: use %s", method, memory.Secret, backend, Direct)
	}
	return all, nil
}

// String returns "secret+bridge" for secret memory with the bridge.
func (p Pair) String() string { return p.Backend.String() + "+" + p.Attach.String() }

// Parse returns the pair of a name such as "secret+bridge", or with Auto that
// of a backend's name alone.
func Parse(name string) (p Pair, err error) {
	backend, method, paired := strings.Cut(name, "+")
	if p.Backend, err = memory.ParseBackend(backend); err != nil {
		return Pair{}, err
	}
	p.Attach = Auto
	if paired {
		if p.Attach, err = ParseMethod(method); err != nil {
			return Pair{}, err
		}
	}
	if _, err := p.Pairs(); err != nil {
		return Pair{}, fmt.Errorf("%s: %w", name, err)
	}
	return p, nil
}
