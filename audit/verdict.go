package audit

import (
	"errors"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"

	"offmap/memory"
)

// Verdict is the judgement on an attack.
type Verdict string

// The verdicts. Exposed: the attack found the canary. Blocked: it didn't, although
// in the same run it found the canary of a control, the guest was shown to have its
// own, and the attack read something or was refused. Skipped: the host can't make
// the attack, on any memory, or this guest has nothing that it works on.
// Inconclusive: everything else.
const (
	Exposed      Verdict = "exposed"
	Blocked      Verdict = "blocked"
	Inconclusive Verdict = "inconclusive"
	Skipped      Verdict = "skipped"
)

// trial is one attack on one guest. Counts are pages of 4 KiB.
type trial struct {
	Finding
	err error // why there is no finding
	// planted is in how many pages the guest planted its canary, kept in how
	// many it was shown to have it at the end.
	planted, kept int
	// outside is in how many pages of the host's RAM a search from outside
	// found it at that moment; nil if there is no outside.
	outside *int
	// gone says that the guest had ended, and its RAM was freed.
	gone bool
}

// judge judges all trials.
func (a *auditRun) judge() []Audited {
	columns := make([]Audited, len(a.Columns))
	for c, col := range a.Columns {
		columns[c] = Audited{Pair: col.Pair, Window: col.Window}
		for i, av := range a.Avenues {
			t := a.trials[c][i]
			columns[c].Planted = max(columns[c].Planted, t.planted)
			control, name := a.control(i)
			r := Outcome{Name: av.Name, Owner: av.Owner, Pages: t.Pages, Outside: t.outside}
			r.Verdict, r.Evidence = judge(t, control)
			if t.Errno != 0 {
				r.Errno = unix.ErrnoName(t.Errno)
			}
			r.Control.Backend = name
			r.Control.Verdict, r.Control.Evidence = judge(control, control)
			columns[c].Avenues = append(columns[c].Avenues, r)
		}
	}
	return columns
}

// control chooses the control of an avenue's trials: the first guest in ordinary
// memory whose canary it found, or else the first guest in ordinary memory.
func (a *auditRun) control(avenue int) (t trial, of memory.Backend) {
	for c, col := range a.Columns {
		if !col.Backend.Exposed() {
			continue
		}
		if other := a.trials[c][avenue]; of == "" || t.Pages == 0 && other.Pages > 0 {
			t, of = other, col.Backend
		}
	}
	return t, of
}

// judge judges an attack by the same attack on a control.
func judge(t, control trial) (Verdict, string) {
	if t.err != nil && t.Pages == 0 {
		switch {
		case errors.Is(t.err, ErrInapplicable),
			errors.Is(t.err, ErrUnavailable) && control.Pages == 0:
			return Skipped, t.err.Error()
		}
		return Inconclusive, "the attack failed: " + t.err.Error()
	}
	found := t.describe()
	switch {
	case t.Pages > 0:
		return Exposed, found
	case control.Pages == 0 && errors.Is(control.err, ErrUnavailable):
		return Skipped, found + "; no control: " + control.err.Error()
	case control.Pages == 0:
		return Inconclusive, found + ", but the same attack didn't find the control's canary either"
	case t.planted == 0 || t.kept < t.planted:
		return Inconclusive, fmt.Sprintf("%s, but the canary was shown to be in %d pages of the guest's only", found, t.kept)
	case t.outside != nil && *t.outside == 0 && !t.gone:
		return Inconclusive, found + ", so it wasn't shown to be in RAM"
	case t.outside != nil && *t.outside > 0 && t.gone:
		return Inconclusive, found + ": it was left in RAM, though not where this attack looks"
	case t.Bytes == 0 && t.Errno == 0:
		return Inconclusive, found + ", and nothing was refused: it wasn't tried"
	}
	return Blocked, found
}

// describe puts a finding into words.
func (t trial) describe() string {
	s := []string{fmt.Sprintf("canary found in %d pages, of %d planted", t.Pages, t.planted)}
	if t.outside != nil {
		s = append(s, fmt.Sprintf("%d found in RAM from outside", *t.outside))
	}
	s = append(s, fmt.Sprintf("%.1f MiB read", float64(t.Bytes)/(1<<20)))
	if t.Errno != 0 {
		s = append(s, fmt.Sprintf("the rest refused with %s", unix.ErrnoName(t.Errno)))
	}
	if t.Detail != "" {
		s = append(s, t.Detail)
	}
	return strings.Join(s, "; ")
}
