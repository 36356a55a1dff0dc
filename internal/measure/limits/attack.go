package limits

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"golang.org/x/sys/unix"

	"offmap/audit"
	"offmap/audit/canary"
	"offmap/memory"
)

// attackPages is how many pages the target of an attack holds: more than a huge
// page, wherever it begins.
const attackPages = 1024

// attack makes the audit's attack of that name on a child that holds
// attackPages pages of backend b with a canary in each. Advice, if not 0, is
// given on them first, madvise(2).
func attack(ctx context.Context, avenue string, b memory.Backend, advice int) (f audit.Finding, err error) {
	a, err := audit.Lookup(avenue)
	if err != nil {
		return f, err
	}
	c, err := canary.New()
	if err != nil {
		return f, err
	}
	target, err := plant(ctx, attackPages, advice, string(b), c.String())
	if err != nil {
		return f, err
	}
	defer target.end()
	f, err = a.Attack(ctx, audit.Target{PID: target.cmd.Process.Pid, Canary: c})
	return f, unavailable(err)
}

// by is an attempt that is an attack of the audit's. It is made on a child that
// holds memory of the area's backend.
func by(ctx context.Context, avenue string) func(*area) error {
	return func(a *area) error {
		switch f, err := attack(ctx, avenue, a.backend, 0); {
		case err != nil:
			return err
		case f.Pages > 0:
			return nil
		case f.Errno != 0:
			return f.Errno
		}
		return errors.New("finds nothing and isn't refused")
	}
}

// unavailable turns the error of an attack or a search that this host can't make
// into one that wraps ErrSkipped.
func unavailable(err error) error {
	if e, ok := errors.AsType[*canary.UnavailableError](err); ok {
		return skipped("%v", e.Reason)
	}
	return err
}

// scan searches the kernel's direct map, as canary.ScanKcore does. Tests have
// others.
type scan func(context.Context, []canary.Canary) ([]canary.Hits, error)

func scanKcore(ctx context.Context, canaries []canary.Canary) ([]canary.Hits, error) {
	hits, err := canary.ScanKcore(ctx, canaries, nil)
	return hits, unavailable(err)
}

func newCanaries(n int) (all []canary.Canary, err error) {
	for range n {
		c, err := canary.New()
		if err != nil {
			return nil, err
		}
		all = append(all, c)
	}
	return all, nil
}

// plantAt is the offset of a canary in its page.
const plantAt = 64

// planted is memory with a canary in each of its pages.
func planted(b memory.Backend, pages int, c canary.Canary) (*memory.RAM, error) {
	ram, err := newRAM(b, uint64(pages)*memory.PageSize)
	if err != nil {
		return nil, lacking(err)
	}
	if _, err := touchAll(ram); err != nil {
		ram.Close()
		return nil, err
	}
	mem := bytesOf(ram)
	for off := 0; off < len(mem); off += memory.PageSize {
		c.Plant(mem[off+plantAt:])
	}
	return ram, nil
}

// plantTask is a child that holds memory with canaries until its parent wants it
// to end. Its arguments are pages, an advice, and a backend and its canary, once
// or more often.
func plantTask(say func(any) error, args []string) error {
	pages, err1 := strconv.Atoi(args[0])
	advice, err2 := strconv.Atoi(args[1])
	if err := errors.Join(err1, err2); err != nil {
		return err
	}
	for args = args[2:]; len(args) >= 2; args = args[2:] {
		b, err := memory.ParseBackend(args[0])
		if err != nil {
			return err
		}
		c, err := canary.Parse(args[1])
		if err != nil {
			return err
		}
		ram, err := planted(b, pages, c) // never closed: the process's end frees it
		if err != nil {
			return err
		}
		if advice == 0 {
			continue
		}
		if err := unix.Madvise(bytesOf(ram), advice); err != nil {
			return fmt.Errorf("madvise %d: %w", advice, err)
		}
	}
	if err := say(pages); err != nil {
		return err
	}
	untilTold()
	return nil
}

// plant starts such a child, and returns when it has planted the canaries.
func plant(ctx context.Context, pages, advice int, args ...string) (*child, error) {
	holder, err := startChild(ctx, nil, "plant", append([]string{strconv.Itoa(pages), strconv.Itoa(advice)}, args...)...)
	if err != nil {
		return nil, err
	}
	var planted int
	if err := holder.next(&planted); err != nil {
		holder.end()
		return nil, err
	}
	return holder, nil
}
