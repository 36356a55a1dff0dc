package audit

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"offmap/audit/inject"
)

// ksm has the kernel compare guest RAM with other memory, and merge equal pages.
var ksm = Avenue{
	Name: "ksm", Attack: attackKSM,
	About: "has guest RAM merged with pages of the same content: madvise(2) MADV_MERGEABLE in the VMM, and ksmd, whose settings the attack changes meanwhile",
}

const ksmDir = "/sys/kernel/mm/ksm"

// ksmTwins is how many pages with the canary the attacker copies, for ksmd to
// merge: it reads and compares what it merges.
const ksmTwins = 64

// attackKSM counts the pages with the canary that share a page frame with another
// page in the end.
func attackKSM(ctx context.Context, t Target) (f Finding, err error) {
	if _, err := os.Stat(ksmDir); errors.Is(err, os.ErrNotExist) {
		return f, unavailable("this kernel is built without CONFIG_KSM")
	}
	marked, err := t.marked(ctx)
	if err != nil {
		return f, err
	}
	f.Bytes = int64(len(marked)) * pageSize
	twins, err := t.twins(marked)
	if err != nil {
		return f, err
	}
	defer unix.Munmap(twins)
	defer clear(twins)
	areas, err := t.areas()
	if err != nil {
		return f, err
	}
	defer func() {
		err = errors.Join(err, t.adviseInside(context.WithoutCancel(ctx), areas, unix.MADV_UNMERGEABLE, &f))
	}()
	if err := t.adviseInside(ctx, areas, unix.MADV_MERGEABLE, &f); err != nil {
		return f, err
	}
	if err := merge(ctx); err != nil {
		return f, err
	}
	after, err := t.frames(ctx)
	if err != nil {
		return f, err
	}
	own, err := framesOf(ctx, twins)
	if err != nil {
		return f, err
	}
	users := map[uint64]int{}
	for _, frame := range own {
		users[frame]++
	}
	for p := range marked {
		users[after[p]]++
	}
	for p := range marked {
		if frame := after[p]; frame != 0 && users[frame] > 1 {
			f.Pages++
		}
	}
	f.Detail = fmt.Sprintf("of %d pages with the canary, %d were merged", len(marked), f.Pages)
	return f, nil
}

// twins copies some of the marked pages that can be read to memory that ksmd may
// merge.
func (t Target) twins(marked map[place]uint64) ([]byte, error) {
	mem, err := unix.Mmap(-1, 0, ksmTwins*pageSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return nil, fmt.Errorf("mmap: %w", err)
	}
	if err := unix.Madvise(mem, unix.MADV_MERGEABLE); err != nil {
		unix.Munmap(mem)
		return nil, fmt.Errorf("madvise MADV_MERGEABLE: %w", err)
	}
	at := 0
	for p := range marked {
		if at == len(mem) {
			break
		}
		if n, _ := readProcess(t.PID, mem[at:at+pageSize], p.at); p.file == 0 && n == pageSize {
			at += pageSize
		}
	}
	return mem, nil
}

// adviseInside gives advice by a system call in the target: process_madvise(2)
// doesn't take this one.
func (t Target) adviseInside(ctx context.Context, areas []area, advice int, f *Finding) error {
	return orDenied(inject.Run(ctx, t.PID, func(th *inject.Thread) error {
		for _, a := range areas {
			_, err := th.Call(unix.SYS_MADVISE, a.Start, a.Size(), uint64(advice))
			if errno := unix.Errno(0); err != nil && !errors.As(err, &errno) {
				return err
			}
			f.refused(err)
		}
		return nil
	}))
}

// ksmPatience is how long ksmd may take to look at everything once.
const ksmPatience = 30 * time.Second

// merge runs ksmd for three rounds, after which it has merged what doesn't change,
// and then restores its settings.
func merge(ctx context.Context) (err error) {
	for _, s := range []struct{ name, value string }{
		// An advisor would choose the number of pages itself.
		{"advisor_mode", "none"},
		{"smart_scan", "0"},
		{"sleep_millisecs", "1"},
		{"pages_to_scan", "10000"},
		{"run", "1"},
	} {
		restore, err2 := tune(filepath.Join(ksmDir, s.name), s.value)
		if errors.Is(err2, os.ErrPermission) {
			return unavailable("%v: run as root", err2)
		}
		if err2 != nil {
			return err2
		}
		defer func() { err = errors.Join(err, restore()) }()
	}
	first, err := ksmRounds()
	if err != nil {
		return err
	}
	for last, since := first, time.Now(); ; {
		now, err := ksmRounds()
		if err != nil || now >= first+4 { // the first began before
			return err
		}
		if now > last {
			last, since = now, time.Now()
		}
		if err := ctx.Err(); err != nil || time.Since(since) > ksmPatience {
			return errors.Join(fmt.Errorf("ksmd made %d rounds of memory, and no other for %v", now-first, time.Since(since).Round(time.Second)), err)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// ksmRounds is how many rounds of all memory ksmd has made.
func ksmRounds() (int, error) {
	text, err := os.ReadFile(filepath.Join(ksmDir, "full_scans"))
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(strings.TrimSpace(string(text)))
}
