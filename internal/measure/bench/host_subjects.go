package bench

import (
	"slices"

	"offmap/memory"
	"offmap/memory/attach"
)

// pick returns quick in a quick run, and full otherwise.
func (e *Env) pick(quick, full uint64) uint64 {
	if e.Quick {
		return quick
	}
	return full
}

// withBaseline adds the C baseline, if there is one, in each of the backends.
func (e *Env) withBaseline(s []Subject, backends ...memory.Backend) []Subject {
	if e.Baseline == "" {
		return s
	}
	s = slices.Clip(s)
	for _, b := range backends {
		s = append(s, Subject{Pair: attach.Pair{Backend: b}, Peer: C})
	}
	return s
}

// only returns the subjects in one of the backends.
func only(s []Subject, backends ...memory.Backend) []Subject {
	return slices.DeleteFunc(slices.Clone(s), func(s Subject) bool { return !slices.Contains(backends, s.Backend) })
}

// oneEach returns one subject of each backend, for scenarios without a guest: the
// one with the bridge if there are several.
func oneEach(s []Subject) []Subject {
	var kept []Subject
	for _, b := range memory.Backends() {
		of := only(s, b)
		if i := slices.IndexFunc(of, func(s Subject) bool { return s.Attach == attach.ViaBridge }); i > 0 {
			of = of[i:]
		}
		kept = append(kept, of[:min(len(of), 1)]...)
	}
	return kept
}
