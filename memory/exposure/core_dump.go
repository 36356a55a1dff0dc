package exposure

import (
	"context"
	"debug/elf"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"offmap/memory/exposure/inject"
)

// coreDump has the kernel write down the VMM's memory. It asks for all of it:
// what the VMM did against being dumped is undone in its place, so that what
// isn't there is what the kernel can't or won't read.
var coreDump = Avenue{
	Name: "core-dump", Attack: attackCoreDump, Ends: true,
	About: "makes the VMM dump core, undoing its own precautions first, and searches the core",
}

func attackCoreDump(ctx context.Context, t Target) (f Finding, err error) {
	if err := checkCorePattern(); err != nil {
		return f, err
	}
	dir, err := os.MkdirTemp("", "offmap-audit-")
	if err != nil {
		return f, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	// The VMM may be somebody else.
	if err := os.Chmod(dir, 0o777); err != nil {
		return f, err
	}
	f, err = t.inject(ctx, func(th *inject.Thread) (Finding, error) { return Finding{}, t.expose(th, dir) })
	if err != nil || f.Errno != 0 {
		return f, err
	}
	if err := t.abort(ctx); err != nil {
		return f, err
	}
	core, err := coreIn(dir)
	if err != nil {
		return f, err
	}
	defer core.Close()
	defer func() { err = errors.Join(err, wipe(core)) }()
	return t.searchCore(ctx, core)
}

// coreIn opens the one file in dir.
func coreIn(dir string) (*os.File, error) {
	cores, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil {
		return nil, err
	}
	if len(cores) != 1 {
		return nil, fmt.Errorf("the VMM left %d cores when it aborted", len(cores))
	}
	return os.OpenFile(cores[0], os.O_RDWR, 0)
}

// checkCorePattern sees that the kernel puts cores where the process is, into
// files, Documentation/admin-guide/sysctl/kernel.rst.
func checkCorePattern() error {
	b, err := os.ReadFile("/proc/sys/kernel/core_pattern")
	if err != nil {
		return unavailable("no core dumps: %v", err)
	}
	if p := strings.TrimSpace(string(b)); p == "" || strings.ContainsAny(p, "|/@") {
		return unavailable("core dumps go to %q: sysctl kernel.core_pattern=core", p)
	}
	return nil
}

// expose undoes what keeps memory of the VMM's from a core in dir.
func (t Target) expose(th *inject.Thread, dir string) error {
	for _, limit := range []int{unix.RLIMIT_CORE, unix.RLIMIT_FSIZE} {
		if err := unix.Prlimit(t.PID, limit, &unix.Rlimit{Cur: unix.RLIM_INFINITY, Max: unix.RLIM_INFINITY}, nil); err != nil {
			if errors.Is(err, unix.EPERM) {
				return unavailable("the VMM allows itself no core, and raising its limits takes CAP_SYS_RESOURCE")
			}
			return fmt.Errorf("prlimit of process %d: %w", t.PID, err)
		}
	}
	path, err := th.Put(append([]byte(dir), 0))
	if err != nil {
		return err
	}
	if _, err := th.Call(unix.SYS_CHDIR, path); err != nil {
		return fmt.Errorf("to %s: %w", dir, err)
	}
	if _, err := th.Call(unix.SYS_PRCTL, unix.PR_SET_DUMPABLE, 1); err != nil {
		return err
	}
	// Only now can it be written to by whom it belongs to. All kinds of memory
	// (core(5)).
	if err := os.WriteFile(fmt.Sprintf("/proc/%d/coredump_filter", t.PID), []byte("0x1ff"), 0); err != nil {
		return err
	}
	// struct sigaction of SIG_DFL, with an 8-byte mask.
	action, err := th.Put(make([]byte, 32))
	if err != nil {
		return err
	}
	if _, err := th.Call(unix.SYS_RT_SIGACTION, uint64(unix.SIGABRT), action, 0, 8); err != nil {
		return err
	}
	areas, err := t.Areas()
	if err != nil {
		return err
	}
	for _, a := range areas {
		// Refused for what isn't memory (VM_SPECIAL), which isn't dumped.
		_, err := th.Call(unix.SYS_MADVISE, a.Start, a.Size(), unix.MADV_DODUMP)
		if err != nil && !errors.Is(err, unix.EINVAL) {
			return err
		}
	}
	return nil
}

// abort ends the VMM with SIGABRT, and waits until its core is written.
func (t Target) abort(ctx context.Context) error {
	pidfd, err := unix.PidfdOpen(t.PID, 0)
	if err != nil {
		return fmt.Errorf("pidfd_open of process %d: %w", t.PID, err)
	}
	defer unix.Close(pidfd)
	if err := unix.PidfdSendSignal(pidfd, unix.SIGABRT, nil, 0); err != nil {
		return fmt.Errorf("SIGABRT to process %d: %w", t.PID, err)
	}
	for {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}, 100)
		if err != nil && err != unix.EINTR {
			return fmt.Errorf("poll for the end of process %d: %w", t.PID, err)
		}
		if n > 0 {
			return nil
		}
		if err := ctx.Err(); err != nil {
			return err
		}
	}
}

// searchCore searches the segments of a core, which must be all there.
func (t Target) searchCore(ctx context.Context, core *os.File) (f Finding, err error) {
	info, err := core.Stat()
	if err != nil {
		return f, err
	}
	e, err := elf.NewFile(core)
	if err != nil {
		return f, fmt.Errorf("the VMM's core: %w", err)
	}
	if e.Type != elf.ET_CORE {
		return f, fmt.Errorf("the VMM's core is a file of type %v", e.Type)
	}
	const chunk = 1 << 20
	buf := make([]byte, chunk)
	defer clear(buf)
	for _, p := range e.Progs {
		if p.Type != elf.PT_LOAD {
			continue
		}
		for off := uint64(0); off < p.Filesz; off += chunk {
			if err := ctx.Err(); err != nil {
				return f, err
			}
			b := buf[:min(chunk, p.Filesz-off)]
			if _, err := core.ReadAt(b, int64(p.Off+off)); err != nil {
				return f, fmt.Errorf("the VMM's core, of %d bytes, isn't whole: memory at %#x: %w", info.Size(), p.Vaddr+off, err)
			}
			f.look(&t.Canary, b)
		}
	}
	f.Detail = fmt.Sprintf("a core of %d MiB", info.Size()>>20)
	return f, nil
}

// wipe overwrites what there is of a file, since its pages are freed as they
// are.
func wipe(f *os.File) error {
	ranges, err := dataRanges(f)
	if err != nil {
		return err
	}
	zeros := make([]byte, 1<<20)
	for _, r := range ranges {
		for off := int64(0); off < r.Len; off += int64(len(zeros)) {
			if _, err := f.WriteAt(zeros[:min(int64(len(zeros)), r.Len-off)], r.Off+off); err != nil {
				return fmt.Errorf("overwriting a core: %w", err)
			}
		}
	}
	return nil
}
