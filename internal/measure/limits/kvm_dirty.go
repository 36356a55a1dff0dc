package limits

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"offmap/kvm"
	"offmap/memory"
	"offmap/memory/attach"
)

// dirtyLimits are about dirty logging, which live migration and incremental
// snapshots use.
func dirtyLimits() []Limit {
	return []Limit{{
		ID:       "dirty-logging",
		Title:    "KVM logs which pages of hidden RAM a guest writes",
		Source:   "KVM's API document (4.8), which makes no difference between kinds of memory",
		Link:     "https://docs.kernel.org/virt/kvm/api.html",
		How:      "A guest writes a page of a logged slot, twice, with KVM_GET_DIRTY_LOG after each write and in between: over the bridge, the window, and in anonymous memory.",
		Expected: "The page is in the log after each write and not in between (the view of the bridge is write-protected again); a page that nobody touched never is",
		Means:    "A VMM can find what has changed since a snapshot. Saving them exposes them (see snapshot).",
		check: func(ctx context.Context) (Observation, error) {
			return checkDirty(ctx, kvm.MemLogDirtyPages)
		},
	}}
}

func checkDirty(ctx context.Context, flags uint32) (o Observation, err error) {
	if err := dirtyTrial(memory.Anon, attach.Direct, flags); errors.Is(err, ErrSkipped) {
		return o, err
	} else if err != nil {
		return o, fmt.Errorf("control, anonymous memory: %w", err)
	}
	var said []string
	o.Holds = true
	for _, m := range []attach.Method{attach.ViaBridge, attach.ViaWindow} {
		err := dirtyTrial(memory.Secret, m, flags)
		switch {
		case ctx.Err() != nil:
			return o, ctx.Err()
		case errors.Is(err, ErrSkipped):
			said = append(said, fmt.Sprintf("%s: not here", m))
			continue
		case err != nil:
			o.Holds = false
			said = append(said, fmt.Sprintf("%s: %v", m, err))
			continue
		}
		said = append(said, fmt.Sprintf("%s: logged after each of two writes and not in between", m))
	}
	if o.Holds && !strings.Contains(strings.Join(said, ""), "logged") {
		return o, skipped("neither the bridge nor the window works: offmap doctor says why")
	}
	o.Text = strings.Join(append(said, "anonymous memory: the same"), "; ")
	return o, nil
}

// dirtyTrial has a guest write a page of a slot with the flags twice, and
// returns nil if the log is right.
func dirtyTrial(b memory.Backend, m attach.Method, flags uint32) (err error) {
	g, err := newTinyGuest(b, m, flags, touchProgram)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, g.Close()) }()
	const written, untouched = guestPage, guestPage + 4*memory.PageSize
	for _, step := range []struct {
		write bool
		what  string
	}{
		{true, "after the first write"}, {false, "after a look at the log"}, {true, "after the second write"},
	} {
		if step.write {
			if _, err := g.bump(written); err != nil {
				return err
			}
		}
		log, err := g.KVM.DirtyLog(0, guestSize/memory.PageSize)
		if err != nil {
			return err
		}
		dirty := func(gpa memory.GPA) bool { return log[gpa>>18]>>(gpa>>12&63)&1 != 0 }
		if dirty(written) != step.write || dirty(untouched) {
			return fmt.Errorf("%s the log has the written page: %v, an untouched one: %v", step.what, dirty(written), dirty(untouched))
		}
	}
	return nil
}
