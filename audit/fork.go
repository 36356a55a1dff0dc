package audit

import (
	"context"

	"offmap/audit/inject"
)

// forkChild looks for guest RAM in a child of the VMM's. Every child that a VMM
// forks has it, unless the VMM excluded it by MADV_DONTFORK, which only its owner
// could undo.
var forkChild = Avenue{
	Name: "fork-child", Attack: attackForkChild,
	About: "forks the VMM and searches the child, which runs none of its code, at the VMM's addresses; memory with MADV_DONTFORK stays out of the child",
}

func attackForkChild(ctx context.Context, t Target) (Finding, error) {
	return t.inject(ctx, func(th *inject.Thread) (f Finding, err error) {
		d, err := newDrop(th)
		if err != nil {
			return f, err
		}
		defer d.close()
		err = th.Fork(func(child *inject.Thread) (err error) {
			// A write by the child itself reads everything that it has mapped,
			// and is refused the rest.
			f, err = t.sweep(ctx, dropSize, d.writtenBy(child))
			return err
		})
		if err == nil {
			f.Detail = "the child's memory was read with its own rights, by system calls injected into it"
		}
		return f, err
	})
}
