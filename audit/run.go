// Package audit attacks the RAM of guests that offmap runs, and says what
// came of it. Each attack is made on controls as well, the same guest in
// ordinary memory: only where it succeeds there does its failure mean
// anything.
//
// A scan of all RAM is slow and finds everything, so one scan serves as many
// guests as there is room for, each with a canary of its own. An attack on the
// process of a guest may leave copies of its canary all over the host; it is
// made on a guest that nothing is scanned for.
package audit

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"time"

	"offmap/audit/canary"
	"offmap/audit/inject"
	"offmap/memory"
	"offmap/memory/attach"
)

// Column is a place for guest RAM, which is attacked by every avenue.
type Column struct {
	attach.Pair        // not with Auto
	Window      uint64 // bytes, of attach.ViaWindow; 0 is its default
	// Running is a guest that somebody runs already, which is then the one
	// that is attacked. It isn't ended, and attacks that would aren't made.
	Running *Target
}

// Config says what to audit.
type Config struct {
	Kernel string // of the guests, as `offmap run --kernel` takes it; empty: the payload canary
	Memory uint64 // bytes of guest RAM
	// Columns are what is attacked. The ordinary ones are the controls of
	// the others; the first of them counts where several were read.
	Columns []Column
	Avenues []Avenue
	// Freeze allows attacks for which all of the host stands still.
	Freeze bool
	// Outside scans the host's RAM from outside the host; nil where there is
	// no outside.
	Outside func(...canary.Canary) ([]canary.Hits, error)
	// Progress is told what is being done.
	Progress func(string)
}

// Outcome is one way of attack and what came of it.
type Outcome struct {
	Name     string  `json:"name"`
	Verdict  Verdict `json:"verdict"`
	Evidence string  `json:"evidence"`
	Errno    string  `json:"errno"`
	// Pages is in how many pages the attack found the canary, and Outside in
	// how many a search of the host's RAM from outside did, at that moment.
	Pages   int     `json:"pages"`
	Outside *int    `json:"outside_pages,omitempty"`
	Owner   bool    `json:"owner"`
	Control Control `json:"control"`
}

// Control is what the same attack did to ordinary memory.
type Control struct {
	Backend  memory.Backend `json:"backend"`
	Verdict  Verdict        `json:"verdict"`
	Evidence string         `json:"evidence"`
}

// Audited is a column and what the attacks on it came to.
type Audited struct {
	attach.Pair
	Window uint64 `json:"window_bytes,omitempty"`
	// Planted is in how many pages of 4 KiB a guest of it put its canary.
	Planted int       `json:"planted_pages"`
	Avenues []Outcome `json:"avenues"`
}

// Result is an audit.
type Result struct {
	Columns               []Audited
	Before, During, After DirectMap
}

// run is an audit on its way.
type run struct {
	Config
	trials [][]trial // by column and avenue
	during DirectMap // with the last guest that was started
}

// errWouldEnd is why there are attacks that aren't made on somebody's guest.
var errWouldEnd = fmt.Errorf("%w: it would end, and it isn't the audit's to end", ErrInapplicable)

// attackTime is how long one attack on a process may take, and endTime how long
// it may then take to end. They take seconds, also where the processor is
// emulated: one that takes as long hangs.
var (
	attackTime = 3 * time.Minute
	endTime    = 30 * time.Second
)

// Run makes the audit.
func Run(ctx context.Context, c Config) (r Result, err error) {
	if r.Before, err = ReadDirectMap(); err != nil {
		return r, err
	}
	a := run{Config: c, trials: make([][]trial, len(c.Columns))}
	for i := range a.trials {
		a.trials[i] = make([]trial, len(c.Avenues))
	}
	if err := a.scanAll(ctx); err != nil {
		return r, err
	}
	for i := range c.Columns {
		if err := a.attack(ctx, i); err != nil {
			return r, fmt.Errorf("%s: %w", c.Columns[i], err)
		}
	}
	if r.After, err = ReadDirectMap(); err != nil {
		return r, err
	}
	r.During = a.during
	r.Columns = a.judge()
	return r, nil
}

// attack makes the attacks on a column's process.
func (a *run) attack(ctx context.Context, column int) error {
	if !a.wants(func(av Avenue) bool { return av.Attack != nil }) {
		return nil
	}
	a.say("%s: attacking the process that runs a guest", a.Columns[column])
	var ending []int
	var g *guest
	for i, av := range a.Avenues {
		switch {
		case av.Attack == nil:
			continue
		case av.Ends:
			ending = append(ending, i)
			continue
		}
		if g == nil {
			var err error
			if g, err = a.start(ctx, column); err != nil {
				return err
			}
			defer g.kill()
		}
		a.trials[column][i] = a.attackOnce(ctx, g, av)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if errors.Is(a.trials[column][i].err, errNotDone) {
			g.kill() // who knows what state it is in
			g = nil
		}
	}
	if g != nil {
		if err := a.keep(g, column); err != nil {
			return err
		}
	}
	for _, i := range ending {
		av := a.Avenues[i]
		if a.Columns[column].Running != nil {
			a.trials[column][i] = trial{err: errWouldEnd}
			continue
		}
		g, err := a.start(ctx, column)
		if err != nil {
			return err
		}
		a.trials[column][i] = a.attackOnce(ctx, g, av)
		g.kill()
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
	}
	return nil
}

// attackOnce makes an attack. One that doesn't end is left to itself, and the
// audit goes on: what it waits for is in the error, and in the stacks that are
// told as progress.
func (a *run) attackOnce(ctx context.Context, g *guest, av Avenue) trial {
	ctx, cancel := context.WithTimeoutCause(ctx, attackTime, fmt.Errorf("%w after %v", errNotDone, attackTime))
	defer cancel()
	// What the guest said it planted holds until it says otherwise.
	t := trial{planted: g.planted, kept: g.planted}
	if av.Halts && !a.Freeze {
		t.err = fmt.Errorf("%w: all processes and devices of this host would stand still for about a second: allow it with --freeze-host", ErrUnavailable)
		return t
	}
	type result struct {
		Finding
		err error
	}
	ended := make(chan result, 1)
	go func() {
		f, err := av.Attack(ctx, g.target())
		ended <- result{f, err}
	}()
	var r result
	select {
	case r = <-ended:
	case <-ctx.Done():
		select {
		case r = <-ended:
		case <-time.After(endTime):
			a.say("%s: %s doesn't end:\n%s", a.Columns[g.column], av.Name, stacks())
			t.err = fmt.Errorf("%w, nor %v after it was told to end: %s", context.Cause(ctx), endTime, inject.Traced(g.pid))
			return t
		}
	}
	t.Finding, t.err = r.Finding, r.err
	switch {
	case t.err != nil && ctx.Err() != nil:
		t.err = fmt.Errorf("%w: %v", context.Cause(ctx), t.err)
	case t.err == nil && !av.Ends && !running(g.pid):
		t.err = errors.New("the guest's process ended meanwhile")
	}
	return t
}

// errNotDone says that an attack took too long.
var errNotDone = errors.New("not done")

// stacks is where all goroutines are.
func stacks() []byte {
	buf := make([]byte, 1<<20)
	return buf[:runtime.Stack(buf, true)]
}

// keep ends the guest of a column's attacks, which says in how many pages it
// still has its canary. One that runs on can't be asked: there, an attack in
// the owner's name shows how much is there.
func (a *run) keep(g *guest, column int) error {
	kept, planted := 0, g.planted
	if a.Columns[column].Running == nil {
		if err := g.end(AfterExit); err != nil {
			return err
		}
		kept = g.kept
	} else {
		for i, av := range a.Avenues {
			if n := a.trials[column][i].Pages; av.Owner && n > 0 && (kept == 0 || n < kept) {
				kept = n // some find it through several mappings
			}
		}
		planted = max(1, kept)
	}
	for i, av := range a.Avenues {
		if a.Columns[column].Running != nil || av.Attack != nil && !av.Ends {
			a.trials[column][i].planted, a.trials[column][i].kept = planted, kept
		}
	}
	return nil
}

func (a *run) say(format string, args ...any) {
	if a.Progress != nil {
		a.Progress(fmt.Sprintf(format, args...))
	}
}

// DirectMap is how the kernel maps its RAM, in bytes by page size.
type DirectMap map[string]uint64

// ReadDirectMap reads the figures of /proc/meminfo.
func ReadDirectMap() (DirectMap, error) {
	info, err := memory.ReadMeminfo()
	small, large, giant := info.DirectMap()
	return DirectMap{"4k": small, "2m": large, "1g": giant}, err
}
