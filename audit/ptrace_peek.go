package audit

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"offmap/audit/inject"
)

// ptracePeek reads the VMM's memory as old debuggers do: a word in each system
// call.
var ptracePeek = Avenue{
	Name: "ptrace-peek", Attack: attackPtracePeek,
	About: "stops a thread of the VMM's and reads memory with ptrace(2), PTRACE_PEEKDATA, word by word",
}

// peekEnough is after how many pages with the canary the attack stops. A page takes
// 512 system calls.
const peekEnough = 4

func attackPtracePeek(ctx context.Context, t Target) (f Finding, err error) {
	pages, mappings, err := t.sample(ctx, sampled)
	if err != nil {
		return f, orDenied(err)
	}
	inject.OwnThread(func() { f, err = t.peek(ctx, pages) })
	f.Detail += fmt.Sprintf(" of %d mappings", mappings)
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
	tried := 0
	defer func() { f.Detail = fmt.Sprintf("%d pages tried", tried) }()
	for _, addr := range pages {
		if err := ctx.Err(); err != nil {
			return f, err
		}
		tried++
		// If the first word can be read, so can the rest.
		if _, err := unix.PtracePeekData(t.PID, uintptr(addr), page[:8]); err != nil {
			f.refused(err)
			continue
		}
		if _, err := unix.PtracePeekData(t.PID, uintptr(addr), page[:]); err != nil {
			f.refused(err)
			continue
		}
		f.look(&t.Canary, page[:])
		if f.Pages == peekEnough {
			break
		}
	}
	return f, nil
}
