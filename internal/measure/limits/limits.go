// Package limits knows the limits of secret guest RAM. Each has a source and a
// check, which finds out how it stands on this host.
//
// The source says what to expect. The check tries it on this kernel. If the two
// differ, the limit doesn't hold here; that is a result and not an error.
//
// A check does the same to ordinary memory, the control, as to secret memory: a
// refusal counts only if the same call, in the same run, worked on the control.
// Where a check is an attack, it makes the audit's (attack.go). What may die of
// SIGBUS or changes the process (rlimits, user) happens in a child (child.go).
package limits

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"offmap/memory"
)

// Limit is one limit, with its texts for people.
type Limit struct {
	ID    string // for --only, in lower case with dashes
	Title string // the limit, as a sentence
	// Source names who says so, Link is the URL.
	Source, Link string
	// How says how it is checked, Expected what the check observes if the source
	// is right.
	How, Expected string
	// Means says what follows for a VMM.
	Means string
	// check makes the check. An error is a check that couldn't be made; one that
	// matches ErrSkipped says what the host lacks.
	check func(context.Context) (Observation, error)
}

// Observation is the result of a check.
type Observation struct {
	Text  string // figures and errnos, one line
	Holds bool   // what was expected was observed
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

// ours are the limits that are checked on memory of a process, of backend b:
// memory.Secret, or in a test ordinary memory, which must not pass.
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
