package audit

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"slices"

	"golang.org/x/sync/errgroup"

	"offmap/audit/canary"
	"offmap/internal/process/exitcode"
	"offmap/memory"
)

// scanned is a guest whose canary is looked for in all RAM.
type scanned struct {
	*runProcess
	column int
	end    Moment // how it ends: AfterExit, AfterKill or AfterReset
	alive  trial
	after  trial
}

// scanAll makes the avenues that search all RAM, with as many guests at a time as
// the host has room for.
func (a *auditRun) scanAll(ctx context.Context) error {
	if !a.wants(func(av Avenue) bool { return av.Scan != Never }) {
		return nil
	}
	if err := canary.CheckKcore(); err != nil {
		a.record(func(int, Avenue) trial { return trial{err: err} })
		return nil
	}
	var todo []scanned
	for column := range a.Columns {
		for _, end := range a.endings(column) {
			todo = append(todo, scanned{column: column, end: end})
		}
	}
	for done := 0; done < len(todo); {
		n, err := a.scanBatch(ctx, todo[done:min(done+a.room(), len(todo))])
		if err != nil {
			return err
		}
		done += n
	}
	a.record(func(column int, av Avenue) trial {
		for _, s := range todo {
			switch {
			case s.column != column:
			case av.Scan == Alive:
				return s.alive
			case av.Scan == s.end && a.Columns[column].Running == nil:
				return s.after
			}
		}
		return trial{err: errWouldEnd}
	})
	return nil
}

// record stores the results of the searches.
func (a *auditRun) record(of func(column int, av Avenue) trial) {
	for i, av := range a.Avenues {
		if av.Scan == Never {
			continue
		}
		for column := range a.Columns {
			a.trials[column][i] = of(column, av)
		}
	}
}

// endings are the ways to end that the avenues ask for: each takes a guest of the
// column.
func (a *auditRun) endings(column int) (ends []Moment) {
	for _, av := range a.Avenues {
		if av.Scan > Alive && a.Columns[column].Running == nil {
			ends = append(ends, av.Scan)
		}
	}
	if len(ends) == 0 {
		ends = append(ends, AfterExit)
	}
	return ends
}

// perGuest is how much memory a guest takes beside its RAM, in bytes.
const perGuest = 48 << 20

// room is how many guests may run at a time, in three quarters of the available
// memory.
func (a *auditRun) room() int {
	info, _ := memory.ReadMeminfo() // without it, one after the other
	return max(1, int(info["MemAvailable"]/4*3/(a.Memory+perGuest)))
}

// scanBatch runs guests all at once, and searches for all their canaries while they
// run and when they are gone. It returns the number of guests that it ran: fewer
// than it was given if the host had no room for one, such as lockable memory.
func (a *auditRun) scanBatch(ctx context.Context, batch []scanned) (int, error) {
	defer func() {
		for _, s := range batch {
			s.kill()
		}
	}()
	a.say("booting %d guests that plant canaries", len(batch))
	for i := range batch {
		s := &batch[i]
		var err error
		if s.runProcess, err = a.start(ctx, s.column); err != nil {
			if exit, ok := errors.AsType[*exec.ExitError](err); !ok || exit.ExitCode() != exitcode.Cannot || i == 0 {
				return 0, err
			}
			batch = batch[:i]
			break
		}
	}
	if a.wants(func(av Avenue) bool { return av.Scan == Alive }) {
		if err := a.search(ctx, "while they run", batch, func(s *scanned) *trial { return &s.alive }); err != nil {
			return 0, err
		}
	}
	for _, s := range batch {
		if err := s.runProcess.end(s.end); err != nil {
			return 0, fmt.Errorf("%s: %w", a.Columns[s.column], err)
		}
	}
	if a.wants(func(av Avenue) bool { return av.Scan > Alive }) {
		if err := a.search(ctx, "now that they are gone", batch, func(s *scanned) *trial { return &s.after }); err != nil {
			return 0, err
		}
	}
	for i := range batch {
		s := &batch[i]
		for _, t := range []*trial{&s.alive, &s.after} {
			t.planted, t.kept = s.planted, s.kept
		}
		s.after.gone = true
	}
	return len(batch), nil
}

// search looks for the guests' canaries in all RAM, from inside the host and, if
// there is an outside, from there at the same time.
func (a *auditRun) search(ctx context.Context, when string, batch []scanned, of func(*scanned) *trial) error {
	a.say("searching all RAM for the canaries of %d guests, %s", len(batch), when)
	canaries := make([]canary.Canary, len(batch))
	for i, s := range batch {
		canaries[i] = s.canary
	}
	var inside, outside []canary.Hits
	both, scanCtx := errgroup.WithContext(ctx)
	both.Go(func() (err error) {
		inside, err = canary.ScanKcore(scanCtx, canaries, nil)
		return err
	})
	if a.Outside != nil {
		both.Go(func() (err error) {
			outside, err = a.Outside(canaries...)
			return err
		})
	}
	if err := both.Wait(); err != nil {
		return err
	}
	for i := range batch {
		t := of(&batch[i])
		t.Pages, t.Bytes = inside[i].Pages, inside[i].Scanned
		if outside != nil {
			t.outside = &outside[i].Pages
		}
	}
	return nil
}

// wants reports whether the audit has such an avenue.
func (a *auditRun) wants(is func(Avenue) bool) bool { return slices.ContainsFunc(a.Avenues, is) }
