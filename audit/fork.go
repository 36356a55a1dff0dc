package audit

import (
	"context"

	"offmap/audit/inject"
)

// forkChild looks for guest RAM in a child of the VMM's. Whatever a VMM forks
// and forgets has it, unless the VMM has taken it out with MADV_DONTFORK; which
// its owner, and only he, could undo.
var forkChild = Avenue{
	Name: "fork-child", Attack: attackForkChild,
	About: "forks the VMM and searches the child, which runs none of its code, at the VMM's addresses; what the VMM keeps from its children (MADV_DONTFORK) stays kept",
}

func attackForkChild(ctx context.Context, t Target) (Finding, error) {
	return t.inject(ctx, func(th *inject.Thread) (f Finding, err error) {
		d, err := newDrop(th)
		if err != nil {
			return f, err
		}
		defer d.close()
		err = th.Fork(func(child *inject.Thread) (err error) {
			// A write of the child's own reads all that it has. What it
			// doesn't have is refused.
			f, err = t.sweep(ctx, dropSize, d.writtenBy(child))
			return err
		})
		if err == nil {
			f.Detail = "the child's memory was read with its own rights, by system calls injected into it"
		}
		return f, err
	})
}
