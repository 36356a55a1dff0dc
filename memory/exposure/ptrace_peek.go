package exposure

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"

	"golang.org/x/sys/unix"

	"offmap/memory/exposure/inject"
)

// ptracePeek reads the VMM's memory as debuggers did before there were better
// ways: a word a system call.
var ptracePeek = Avenue{
	Name: "ptrace-peek", Attack: attackPtracePeek,
	About: "stops a thread of the VMM's and reads memory with ptrace(2), PTRACE_PEEKDATA, word by word",
}

// A page takes 512 system calls. So pages are tried in random order, and a few
// are enough.
const (
	peekBlind  = 64   // pages of a mapping that nothing is shown of
	peekEnough = 4    // pages with the canary
	peekRead   = 512  // pages read
	peekTried  = 8192 // pages of which the first word was asked for
)

func attackPtracePeek(ctx context.Context, t Target) (f Finding, err error) {
	pages, err := t.candidates(ctx)
	if err != nil {
		return f, orDenied(err)
	}
	inject.OwnThread(func() { f, err = t.peek(ctx, pages[:min(len(pages), peekTried)]) })
	return f, err
}

func (t Target) peek(ctx context.Context, pages []uint64) (f Finding, err error) {
	if err := unix.PtraceSeize(t.PID); err != nil {
		return f, orDenied(fmt.Errorf("ptrace PTRACE_SEIZE of %d: %w", t.PID, err))
	}
	defer func() {
		if e := unix.PtraceDetach(t.PID); e != nil && !errors.Is(e, unix.ESRCH) {
			err = errors.Join(err, fmt.Errorf("ptrace PTRACE_DETACH of %d: %w", t.PID, e))
		}
	}()
	if err := inject.Stop(ctx, t.PID); err != nil {
		return f, err
	}
	var page [pageSize]byte
	defer clear(page[:])
	for _, addr := range pages {
		if err := ctx.Err(); err != nil {
			return f, err
		}
		// The first word says whether the rest is to be had.
		if _, err := unix.PtracePeekData(t.PID, uintptr(addr), page[:8]); err != nil {
			f.refused(err)
			continue
		}
		if _, err := unix.PtracePeekData(t.PID, uintptr(addr), page[:]); err != nil {
			f.refused(err)
			continue
		}
		f.look(&t.Canary, page[:])
		if f.Pages == peekEnough || f.Bytes == peekRead*pageSize {
			break
		}
	}
	return f, nil
}

// candidates lists pages of the target's to try. First one of each mapping, so
// that all are tried, and more of a file's or driver's of which the page tables
// show nothing, as of a module's view of secret memory; then what is in the
// page tables. Both are in random order.
func (t Target) candidates(ctx context.Context) ([]uint64, error) {
	areas, err := t.Areas()
	if err != nil {
		return nil, err
	}
	m, err := openPagemap(t.PID)
	if err != nil {
		return nil, err
	}
	defer m.Close()
	var blind, shown []uint64
	for _, a := range areas {
		before := len(shown)
		err := m.each(ctx, a, func(addr uint64, e pagemapEntry) {
			if e.present() {
				shown = append(shown, addr)
			}
		})
		if err != nil {
			return nil, err
		}
		blind = append(blind, a.Start)
		if len(shown) == before && strings.HasPrefix(a.Path, "/") {
			for range peekBlind {
				blind = append(blind, a.Start+rand.Uint64N(a.Size()/pageSize)*pageSize)
			}
		}
	}
	for _, list := range [][]uint64{blind, shown} {
		rand.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
	}
	return append(blind, shown...), nil
}
