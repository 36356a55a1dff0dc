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

// dirtyLimits is dirty logging, which live migration and incremental snapshots
// are made of.
func dirtyLimits() []Limit {
	return []Limit{{
		ID:     "dirty-logging",
		Title:  "KVM logs which pages of hidden RAM a guest writes",
		Source: "KVM's API document: a slot with KVM_MEM_LOG_DIRTY_PAGES reports the pages that were written since the last call, whatever memory is behind it",
		Link:   "https://docs.kernel.org/virt/kvm/api.html",
		How: "a guest writes a page of a logged slot, twice, with KVM_GET_DIRTY_LOG after each write and between them, over the bridge and the window; " +
			"control: the same in anonymous memory",
		Expected: "the page is in the log after each write and not in between, so that write-protection works on a PFNMAP view too; a page that nobody touched is never in it",
		Means:    "a VMM can find what changed since a snapshot; where it writes those pages to is another matter (limit snapshot)",
		check: func(ctx context.Context) (Observation, error) {
			return checkDirty(ctx, kvm.MemLogDirtyPages)
		},
	}}
}

func checkDirty(ctx context.Context, flags uint32) (o Observation, err error) {
	if err := dirtyTrial(memory.Anon, attach.Direct, flags); err != nil {
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
	g, err := newGuest(b, m, flags, touchProgram)
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
		log, err := g.vm.DirtyLog(0, guestSize/memory.PageSize)
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
