package audit

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"time"

	"offmap/audit/canary"
	"offmap/audit/inject"
	"offmap/memory/attach"
)

// Column is a kind of guest RAM to attack: a backend and how it gets into KVM.
type Column struct {
	attach.Pair        // not with Auto
	Window      uint64 // bytes, of attach.ViaWindow; 0 is its default
	// Running, if not nil, is a guest that runs already. It is attacked instead
	// of a new one. Run doesn't end it, and makes no attack that would.
	Running *Target
}

// Config says what to audit.
type Config struct {
	// Kernel is what the guests boot, as offmap run --kernel takes it. If it is
	// empty they run the payload canary, which needs no kernel.
	Kernel string
	Memory uint64 // RAM of each guest, in bytes
	// Columns with ordinary memory are the controls of the others. Of several
	// controls that an attack read, the first counts.
	Columns []Column
	Avenues []Avenue
	// Freeze allows attacks that stop all processes and devices of the host for
	// about a second (Avenue.Halts).
	Freeze bool
	// Outside searches the host's RAM from outside the host, if it is a virtual
	// machine; otherwise it is nil.
	Outside func(...canary.Canary) ([]canary.Hits, error)
	// Progress, if not nil, is told what Run is doing, a line at a time.
	Progress func(string)
}

// Result is what Run found. Columns are those of Config. Before, During and
// After are the direct map when no guest ran yet, when the last one had been
// started, and when all were gone.
type Result struct {
	Columns               []Audited
	Before, During, After DirectMap
}

// auditRun is an audit in progress.
type auditRun struct {
	Config
	trials [][]trial // by column and avenue
	during DirectMap // with the last guest that was started
}

// errWouldEnd is why some attacks aren't made on a guest that ran already.
var errWouldEnd = fmt.Errorf("%w: the attack would end it, and the audit didn't start it", ErrInapplicable)

// attackTime is how long one attack on a process may take, and endTime how long
// it may take to end after it was cancelled. Attacks take seconds, also on an
// emulated processor: one that takes this long hangs.
var (
	attackTime = 3 * time.Minute
	endTime    = 30 * time.Second
)

// Run makes an audit. An attack that fails is an Inconclusive outcome and not an
// error. An error is a guest that couldn't be run (an *exec.ExitError of offmap
// run), or ctx.
func Run(ctx context.Context, c Config) (r Result, err error) {
	if r.Before, err = ReadDirectMap(); err != nil {
		return r, err
	}
	a := auditRun{Config: c, trials: make([][]trial, len(c.Columns))}
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
func (a *auditRun) attack(ctx context.Context, column int) error {
	if !a.wants(func(av Avenue) bool { return av.Attack != nil }) {
		return nil
	}
	a.say("%s: attacking the process that runs a guest", a.Columns[column])
	var ending []int
	var g *runProcess
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
		g, err := a.start(ctx, column, av.Flags...)
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

// attackOnce makes an attack. If the attack doesn't end it is left running, and the
// audit goes on: the error says what it waits for, and progress has all stacks.
func (a *auditRun) attackOnce(ctx context.Context, g *runProcess, av Avenue) trial {
	ctx, cancel := context.WithTimeoutCause(ctx, attackTime, fmt.Errorf("%w after %v", errNotDone, attackTime))
	defer cancel()
	// The guest is asked at the end (keep); until then its first answer counts.
	t := trial{planted: g.planted, kept: g.planted}
	if av.Halts && !a.Freeze {
		t.err = unavailable("all processes and devices of this host would stand still for about a second: allow it with --freeze-host")
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

// stacks are the stacks of all goroutines.
func stacks() []byte {
	buf := make([]byte, 1<<20)
	return buf[:runtime.Stack(buf, true)]
}

// keep ends the guest of a column's attacks, which says in how many pages it still
// has its canary. A guest that ran already can't be asked: there, an attack with
// the owner's rights shows how many pages have it.
func (a *auditRun) keep(g *runProcess, column int) error {
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

func (a *auditRun) say(format string, args ...any) {
	if a.Progress != nil {
		a.Progress(fmt.Sprintf(format, args...))
	}
}
