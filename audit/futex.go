package audit

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"offmap/audit/canary"
	"offmap/audit/inject"
)

// futex uses a shared futex as an oracle. The kernel gets the futex's page
// (get_futex_key), compares a word of it with a value that the caller names, and
// says whether they are equal.
var futex = Avenue{
	Name: "futex", Attack: attackFutex,
	About: "has the VMM compare words of its memory with the canary's by futex(2), FUTEX_CMP_REQUEUE",
}

// Each word takes a system call in the VMM, with two stops by ptrace(2): a
// millisecond on an emulated processor. So the attack tries multiples of 64 bytes,
// where canaries are planted, and stops after a few finds.
const (
	futexEnough = 3 // pages with the canary
	futexStep   = 64
)

func attackFutex(ctx context.Context, t Target) (Finding, error) {
	pages, mappings, err := t.sample(ctx, sampled)
	if err != nil {
		return Finding{}, err
	}
	return t.inject(ctx, func(th *inject.Thread) (Finding, error) {
		f, tried, err := t.searchFutex(ctx, pages, func(addr uint64, value uint32) (bool, error) {
			return futexIs(th, addr, value)
		})
		f.Detail = fmt.Sprintf("%d pages tried of %d mappings", tried, mappings)
		return f, err
	})
}

// searchFutex looks for the canary in pages. is asks whether the word at an
// address has a value. tried is how many pages it tried.
func (t Target) searchFutex(ctx context.Context, pages []uint64, is func(addr uint64, value uint32) (bool, error)) (f Finding, tried int, err error) {
	buf := make([]byte, pageSize)
	for ; tried < len(pages) && f.Pages < futexEnough; tried++ {
		if err := ctx.Err(); err != nil {
			return f, tried, err
		}
		if t.without(pages[tried], buf) {
			continue
		}
		found, err := futexPage(pages[tried], func(addr uint64, word int) (bool, error) {
			same, err := is(addr, t.Canary.Word(word))
			if same {
				f.Bytes += 4
			}
			return same, err
		})
		if errors.Is(err, unix.EFAULT) {
			f.refused(err)
			continue
		}
		if err != nil {
			return f, tried, err
		}
		if found {
			f.Pages++
		}
	}
	return f, tried, nil
}

// without reports whether process_vm_readv(2) reads the page at addr and finds no
// canary there. That is so for most pages of the VMM's own memory, and saves 64
// system calls for each. A page that can't be read may have a canary.
func (t Target) without(addr uint64, buf []byte) bool {
	defer clear(buf)
	n, _ := readProcess(t.PID, buf, addr)
	return n == len(buf) && len(t.Canary.Find(buf, nil)) == 0
}

// futexPage looks for the canary in the page at addr. is compares a word in
// memory with one of the canary's.
func futexPage(addr uint64, is func(addr uint64, word int) (bool, error)) (bool, error) {
	for at := addr; at < addr+pageSize; at += futexStep {
		for word := 0; ; word++ {
			if word == canary.Size/4 {
				return true, nil
			}
			same, err := is(at+4*uint64(word), word)
			if err != nil {
				return false, err
			}
			if !same {
				break
			}
		}
	}
	return false, nil
}

// futexIs asks whether the word at addr is value. It wakes no waiter and moves
// none to another futex.
func futexIs(th *inject.Thread, addr uint64, value uint32) (bool, error) {
	const wake, move = 0, 0
	_, err := th.Call(unix.SYS_FUTEX, addr, futexCmpRequeue, wake, move, addr, uint64(value))
	if errors.Is(err, unix.EAGAIN) {
		return false, nil
	}
	return err == nil, err
}

// futexCmpRequeue is FUTEX_CMP_REQUEUE of linux/futex.h, for a futex that
// processes share.
const futexCmpRequeue = 4
