// Package limits holds what is known to be limited about secret guest RAM,
// each limit with its source and a check that shows its state on this host.
//
// The sources say what to expect; a check says what this kernel does, by doing
// it. Where the two differ the limit doesn't hold here, which is a result and
// not a failure.
//
// A check does to ordinary memory whatever it does to secret memory: a refusal
// counts only if the same call, in the same run, worked on the control. What
// may die (SIGBUS, a core dump) or changes the process (rlimits, user, fork)
// happens in a child, see child.go.
package limits

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"offmap/memory"
)

// Limit is one limit and how to see it.
type Limit struct {
	ID    string // for --only, in lower case with dashes
	Title string // the limit, as a sentence
	// Source is who says so, and Link where.
	Source, Link string
	// How is how it is checked here, and Expected what should be observed if
	// the source is right.
	How, Expected string
	// Means is what follows for a VMM.
	Means string
	// check observes. An error is a check that couldn't be made; one that
	// wraps ErrSkipped names what it lacks here.
	check func(context.Context) (Observation, error)
}

// Observation is what a check saw.
type Observation struct {
	Text  string // figures and errnos, one line
	Holds bool   // that is what was expected
}

// ErrSkipped matches the error of a check that this host can't make.
var ErrSkipped = errors.New("can't be checked here")

// skip is such an error: what the host lacks.
type skip struct{ why string }

func (e *skip) Error() string        { return ErrSkipped.Error() + ": " + e.why }
func (e *skip) Is(target error) bool { return target == ErrSkipped }

func skipped(format string, args ...any) error { return &skip{fmt.Sprintf(format, args...)} }

// All returns the limits in the order in which they are shown.
func All() []Limit { return slices.Concat(ours(memory.Secret), measured()) }

// ours are the limits that are checked on a process's own memory, of the
// backend b: memory.Secret, or in a test what must not pass for it.
func ours(b memory.Backend) []Limit {
	return slices.Concat(
		interfaceLimits(b), accessLimits(b), memlockLimits(b), lockLimits(b),
		placeLimits(b), shareLimits(b), processLimits(b),
	)
}

// Check makes the limit's check.
func (l Limit) Check(ctx context.Context) Result {
	r := Result{
		ID: l.ID, Title: l.Title, Source: l.Source, Link: l.Link,
		How: l.How, Expected: l.Expected, Means: l.Means,
	}
	o, err := l.check(ctx)
	if err != nil {
		r.Observed = err.Error()
		return r
	}
	r.Observed, r.Holds = o.Text, &o.Holds
	return r
}
