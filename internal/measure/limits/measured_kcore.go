package limits

import (
	"context"
	"errors"
	"strings"

	"offmap/audit"
	"offmap/audit/canary"
	"offmap/memory"
)

// scan searches the kernel's direct map, as canary.ScanKcore does. Tests have
// others.
type scan func(context.Context, []canary.Canary) ([]canary.Hits, error)

// scanKcore is the real one. Where the host has no /proc/kcore, or doesn't
// let us read it, the error wraps ErrSkipped.
func scanKcore(ctx context.Context, canaries []canary.Canary) ([]canary.Hits, error) {
	hits, err := canary.ScanKcore(ctx, canaries, nil)
	if errors.Is(err, audit.ErrUnavailable) {
		return nil, skipped("%s", strings.TrimPrefix(err.Error(), audit.ErrUnavailable.Error()+": "))
	}
	return hits, err
}

// newCanaries makes n of them.
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

// plantAt is where in a page a canary goes.
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

// plantPages is how much a planting child holds of each kind of memory: so
// much that what others need of it meanwhile, once it is free, is little.
const plantPages = 2048

// plantTask is a child that holds memory with canaries: args are a backend, its
// canary, another backend and so on. It says the descriptors of the memory.
func plantTask(say func(any) error, args []string) error {
	var fds []int
	for ; len(args) >= 2; args = args[2:] {
		b, err := memory.ParseBackend(args[0])
		if err != nil {
			return err
		}
		c, err := canary.Parse(args[1])
		if err != nil {
			return err
		}
		ram, err := planted(b, plantPages, c)
		if err != nil {
			return err
		}
		// Not closed: to be freed by the process's end is what this is about.
		fds = append(fds, ram.FD())
	}
	if err := say(fds); err != nil {
		return err
	}
	untilTold()
	return nil
}

// plant starts such a child, and returns it when the canaries are planted.
func plant(ctx context.Context, args ...string) (holder *child, fds []int, err error) {
	holder, err = startChild(ctx, nil, "plant", args...)
	if err != nil {
		return nil, nil, err
	}
	if err := holder.next(&fds); err != nil {
		holder.end()
		return nil, nil, err
	}
	return holder, fds, nil
}
