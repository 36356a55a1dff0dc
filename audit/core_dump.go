package audit

import (
	"context"
	"debug/elf"
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"offmap/audit/canary"
	"offmap/audit/inject"
)

// coreDump has the kernel dump the VMM's memory, all of it: it first undoes the
// VMM's precautions against being dumped, in the VMM itself. What isn't in the core
// then is what the kernel can't or won't read.
var coreDump = Avenue{
	Name: "core-dump", Attack: attackCoreDump, Ends: true,
	Flags: []string{"--jail=off"}, // Landlock refuses the file, and can't be undone
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
	home, uid, err := t.coreHome(dir)
	if err != nil {
		return f, err
	}
	defer home.Close()
	f, err = t.inject(ctx, func(th *inject.Thread) (Finding, error) { return Finding{}, t.expose(th, dir) })
	if err != nil || f.Errno != 0 {
		return f, err
	}
	if err := t.abort(ctx); err != nil {
		return f, err
	}
	core, err := coreIn(home, uid)
	if err != nil {
		return f, err
	}
	defer core.Close()
	defer func() { err = errors.Join(err, wipe(core)) }()
	return t.searchCore(ctx, core)
}

// coreHome opens dir and gives it to the VMM's user, with whose rights the kernel
// writes the core. Nobody else may write there: their file could be taken for the
// core.
func (t Target) coreHome(dir string) (home *os.File, uid uint32, err error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", t.PID))
	if err != nil {
		return nil, 0, err
	}
	uid, err = fsUID(string(status))
	if err != nil {
		return nil, 0, fmt.Errorf("process %d: %w", t.PID, err)
	}
	home, err = os.OpenFile(dir, os.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil, 0, err
	}
	if err := home.Chown(int(uid), -1); err != nil {
		home.Close()
		return nil, 0, orDenied(err)
	}
	return home, uid, nil
}

// fsUID reads from proc_pid_status(5) the user with whose rights a process uses
// files.
func fsUID(status string) (uint32, error) {
	for line := range strings.Lines(status) {
		if rest, ok := strings.CutPrefix(line, "Uid:"); ok {
			var r, e, s, fs uint32
			if _, err := fmt.Sscan(rest, &r, &e, &s, &fs); err != nil {
				return 0, fmt.Errorf("line %q of its status: %w", line, err)
			}
			return fs, nil
		}
	}
	return 0, errors.New("its status has no Uid")
}

// coreIn opens the one file in home. Since that is wiped in the end, it must be
// the user's and have no other name.
func coreIn(home *os.File, uid uint32) (*os.File, error) {
	cores, err := home.Readdirnames(-1)
	if err != nil {
		return nil, err
	}
	if len(cores) != 1 {
		return nil, fmt.Errorf("the VMM left %d cores when it aborted", len(cores))
	}
	fd, err := unix.Openat(int(home.Fd()), cores[0], unix.O_RDWR|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open the VMM's core: %w", err)
	}
	core := os.NewFile(uintptr(fd), cores[0])
	var st unix.Stat_t
	err = unix.Fstat(fd, &st)
	if err == nil && (st.Mode&unix.S_IFMT != unix.S_IFREG || st.Nlink != 1 || st.Uid != uid) {
		err = fmt.Errorf("%s is no core of the VMM's: mode %#o, %d links, user %d", core.Name(), st.Mode, st.Nlink, st.Uid)
	}
	if err != nil {
		core.Close()
		return nil, err
	}
	return core, nil
}

// checkCorePattern checks that the kernel writes cores to files in the process's
// directory, Documentation/admin-guide/sysctl/kernel.rst.
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

// expose undoes everything that keeps the VMM's memory out of a core in dir.
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
	// All kinds of memory, core(5). The file is the user's only now that the
	// process is dumpable.
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
	areas, err := t.areas()
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

// searchCore searches the segments of a core, which must be complete.
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

// wipe overwrites a file except its holes: its pages are not wiped when they are
// freed.
func wipe(f *os.File) error {
	ranges, err := canary.DataRanges(f)
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
