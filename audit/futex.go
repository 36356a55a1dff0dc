package audit

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"offmap/audit/canary"
	"offmap/audit/inject"
)

// futex makes an oracle of the kernel's look at a shared futex: to know which
// page it is in it takes the page (get_futex_key), and then says whether a
// word of it has the value that was expected.
var futex = Avenue{
	Name: "futex", Attack: attackFutex,
	About: "has the VMM compare words of its memory with the canary's by futex(2), FUTEX_CMP_REQUEUE",
}

// A word takes a system call in the VMM, and that two stops by ptrace(2): a
// millisecond where the processor is emulated. So it is looked for at multiples
// of 64 bytes, where canaries are planted, and a few finds are enough.
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

// searchFutex looks for the canary in pages, by a question to the VMM whether
// the word at an address has a value. It returns how many pages it tried.
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

// without reports whether process_vm_readv(2) shows that the page at addr has
// no canary: most pages of the VMM's own memory, of which each would take a
// question for every 64 bytes. A page that it doesn't show may have one.
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

// futexIs asks whether the word at addr is value. Nobody is woken, and nobody
// moved to another futex.
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
