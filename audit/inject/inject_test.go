package inject

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	seccomp "github.com/elastic/go-seccomp-bpf"
	"golang.org/x/sys/unix"

	"offmap/internal/process/pdeathsig"
)

// The tests inject into this test binary, started again as a process whose
// threads are all busy and which checks that nothing disturbs them.
const busyVariable = "OFFMAP_TEST_BUSY"

func TestMain(m *testing.M) {
	if os.Getenv(busyVariable) != "" {
		beBusy()
	}
	os.Exit(m.Run())
}

// beBusy works until stdin ends, and says then what went wrong.
func beBusy() {
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		panic(err)
	}
	var stop atomic.Bool
	var wrong sync.Map
	var turns [4]atomic.Int64
	var all sync.WaitGroup
	run := func(i int, f func() error) {
		all.Go(func() {
			runtime.LockOSThread()
			if i < 3 { // no signal of its own interrupts it
				set := unix.Sigset_t{Val: [16]uint64{^uint64(0)}}
				if err := unix.PthreadSigmask(unix.SIG_BLOCK, &set, nil); err != nil {
					panic(err)
				}
			}
			for !stop.Load() {
				if err := f(); err != nil {
					wrong.Store(fmt.Sprintf("worker %d: %v", i, err), nil)
				}
				turns[i].Add(1)
			}
		})
	}
	var pipes []int
	for range 2 {
		// Restarted by the kernel through a restart block: never cut short.
		run(0, func() error {
			start := time.Now()
			err := unix.Nanosleep(&unix.Timespec{Nsec: 2e6}, nil)
			if since := time.Since(start); err == nil && since < 2*time.Millisecond {
				err = fmt.Errorf("slept for %v", since)
			}
			return err
		})
		var p [2]int
		if err := unix.Pipe2(p[:], unix.O_CLOEXEC); err != nil {
			panic(err)
		}
		pipes = append(pipes, p[1])
		var in, out byte
		run(1, func() error {
			b := []byte{in}
			in++
			time.Sleep(100 * time.Microsecond)
			_, err := unix.Write(p[1], b)
			return err
		})
		run(2, func() error {
			b := make([]byte, 1)
			n, err := unix.Read(p[0], b)
			if n == 1 && b[0] != out && !stop.Load() {
				err = fmt.Errorf("read %d, want %d", b[0], out)
			}
			out++
			return err
		})
	}
	signals := make(chan os.Signal, 100)
	signal.Notify(signals, unix.SIGUSR1)
	run(3, func() error {
		if err := unix.Kill(os.Getpid(), unix.SIGUSR1); err != nil {
			return err
		}
		select {
		case <-signals:
			return nil
		case <-time.After(time.Minute):
			return errors.New("SIGUSR1 got lost")
		}
	})
	time.Sleep(10 * time.Millisecond) // the runtime has what descriptors it needs
	if os.Getenv(busyVariable) == confined {
		confine()
	}
	all.Go(func() {
		for !stop.Load() {
			runtime.KeepAlive(make([]byte, 1<<20))
			runtime.GC()
			time.Sleep(time.Millisecond)
		}
	})
	fmt.Println("busy")
	io.ReadAll(os.Stdin)
	stop.Store(true)
	for _, p := range pipes {
		unix.Write(p, []byte{0}) // for a reader that waits
	}
	all.Wait()
	wrong.Range(func(k, _ any) bool { fmt.Println(k); return true })
	fmt.Println("turns:", turns[0].Load(), turns[1].Load(), turns[2].Load(), turns[3].Load())
	os.Exit(0)
}

// confined is the value of busyVariable for a process that a seccomp filter ends when it
// maps memory to execute, or makes a socket.
const confined = "confined"

func confine() {
	err := seccomp.LoadFilter(seccomp.Filter{NoNewPrivs: true, Flag: seccomp.FilterFlagTSync, Policy: seccomp.Policy{
		DefaultAction: seccomp.ActionAllow,
		Syscalls: []seccomp.SyscallGroup{{
			Action: seccomp.ActionKillProcess, Names: []string{"socket"},
			NamesWithCondtions: []seccomp.NameWithConditions{{
				Name:       "mmap",
				Conditions: []seccomp.Condition{{Argument: 2, Operation: seccomp.BitsSet, Value: unix.PROT_EXEC}},
			}},
		}},
	}})
	if err != nil {
		panic(err)
	}
}

// busy is the process, and end tells it to end and returns what it said.
type busy struct {
	pid int
	end func() string
}

func startBusy(t *testing.T) busy { return startBusyAs(t, "1") }

func startBusyAs(t *testing.T, kind string) busy {
	t.Helper()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), busyVariable+"="+kind, "GORACE=atexit_sleep_ms=0") // else a second
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	pipe, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := pdeathsig.Start(cmd); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	out := bufio.NewReader(pipe)
	if line, err := out.ReadString('\n'); line != "busy\n" {
		t.Fatalf("the process said %q, %v", line, err)
	}
	return busy{cmd.Process.Pid, func() string {
		in.Close()
		said, err := io.ReadAll(out)
		if err := errors.Join(err, cmd.Wait()); err != nil {
			t.Errorf("the process ended with %v", err)
		}
		return string(said)
	}}
}

// held is what an injection could leave in the process: descriptors, what is
// mapped to be executed, children.
func (b busy) held(t *testing.T) (n [3]int) {
	t.Helper()
	fds, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", b.pid))
	if err != nil {
		t.Fatal(err)
	}
	maps, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", b.pid))
	if err != nil {
		t.Fatal(err)
	}
	var children int
	files, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", b.pid))
	for _, f := range files {
		line, _ := os.ReadFile(f)
		children += len(strings.Fields(string(line)))
	}
	return [3]int{len(fds), strings.Count(string(maps), "xp "), children}
}

// untouched ends the process and sees that nothing is left, and that nothing
// has disturbed it.
func (b busy) untouched(t *testing.T, before [3]int) {
	t.Helper()
	if after := b.held(t); after != before {
		t.Errorf("descriptors, code, children: %v before, %v after", before, after)
	}
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", b.pid))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		status, _ := os.ReadFile(f)
		if len(status) > 0 && !strings.Contains(string(status), "TracerPid:\t0\n") {
			t.Errorf("%s: still traced", f)
		}
	}
	said := b.end()
	t.Log(strings.TrimSpace(said))
	if !strings.HasPrefix(said, "turns:") || strings.Contains(said, " 0") {
		t.Errorf("the process was disturbed: %s", said)
	}
}

func TestCalls(t *testing.T) {
	b := startBusy(t)
	before := b.held(t)
	calls := 1000
	if testing.Short() {
		calls = 200
	}
	start := time.Now()
	err := Run(t.Context(), b.pid, func(th *Thread) error {
		t.Logf("entered after %v", time.Since(start))
		start = time.Now()
		for range calls {
			pid, err := th.Call(unix.SYS_GETPID)
			if err != nil || int(pid) != b.pid {
				return fmt.Errorf("getpid: %d, %w", pid, err)
			}
		}
		t.Logf("%v a call", time.Since(start)/time.Duration(calls))
		if _, err := th.Call(unix.SYS_CLOSE, 12345); !errors.Is(err, unix.EBADF) {
			return fmt.Errorf("close of descriptor 12345: %w", err)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	b.untouched(t, before)
}

// A filter is suspended for our calls, and for no others. Without the right to that the
// process isn't touched.
func TestConfined(t *testing.T) {
	b := startBusyAs(t, confined)
	before := b.held(t)
	err := Run(t.Context(), b.pid, func(th *Thread) error {
		fd, err := th.Call(unix.SYS_SOCKET, unix.AF_UNIX, unix.SOCK_STREAM, 0)
		if err != nil {
			return err
		}
		th.CloseAtEnd(int(fd))
		return nil
	})
	switch {
	case errors.Is(err, ErrRefused) && strings.Contains(err.Error(), "seccomp"):
		t.Logf("SKIPPED in part: %v", err)
	case err != nil:
		t.Error(err)
	}
	b.untouched(t, before)
}

// Every thread that is in a system call can be borrowed, and restarts it.
func TestBorrow(t *testing.T) {
	b := startBusy(t)
	before := b.held(t)
	rounds := 100
	if testing.Short() {
		rounds = 20
	}
	done := make(chan error)
	borrowed := map[tracee]int{}
	go func() {
		runtime.LockOSThread() // never unlocked
		done <- func() error {
			for range rounds {
				threads, err := parked(b.pid)
				if err != nil {
					return err
				}
				for _, tid := range threads {
					th, err := clone(t.Context(), tid)
					if errors.Is(err, errBusy) {
						continue
					}
					if err != nil {
						return err
					}
					th.pid = b.pid
					if err := th.leave(); err != nil {
						return err
					}
					borrowed[tid]++
				}
			}
			return nil
		}()
	}()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	t.Logf("times borrowed, by thread: %v", borrowed)
	if len(borrowed) < 6 {
		t.Errorf("only %d threads could be borrowed", len(borrowed))
	}
	b.untouched(t, before)
}

func TestGiveAndTake(t *testing.T) {
	b := startBusy(t)
	before := b.held(t)
	var p [2]int
	if err := unix.Pipe2(p[:], unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	defer unix.Close(p[0])
	defer unix.Close(p[1])
	err := Run(t.Context(), b.pid, func(th *Thread) error {
		for i := range 10 {
			fd, err := th.Give(p[1])
			if err != nil {
				return err
			}
			want := fmt.Sprintf("message %d", i)
			addr, err := th.Put([]byte(want))
			if err != nil {
				return err
			}
			if _, err := th.Call(unix.SYS_WRITE, uint64(fd), addr, uint64(len(want))); err != nil {
				return err
			}
			back, err := th.Take(fd)
			if err != nil {
				return err
			}
			if _, err := unix.Write(back, []byte("!")); err != nil {
				return err
			}
			unix.Close(back)
			got := make([]byte, 100)
			n, err := unix.Read(p[0], got)
			if string(got[:n]) != want+"!" {
				return fmt.Errorf("read %q, %w", got[:n], err)
			}
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	b.untouched(t, before)
}

func TestFork(t *testing.T) {
	b := startBusy(t)
	before := b.held(t)
	err := Run(t.Context(), b.pid, func(th *Thread) error {
		for range 5 {
			if err := th.Fork(func(child *Thread) error {
				pid, err := child.Call(unix.SYS_GETPID)
				if err != nil || int(pid) == b.pid || int(pid) != child.pid {
					return fmt.Errorf("the child's getpid: %d, %w", pid, err)
				}
				parent, err := child.Call(unix.SYS_GETPPID)
				if err != nil || int(parent) != b.pid {
					return fmt.Errorf("the child's getppid: %d, %w", parent, err)
				}
				return nil
			}); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	b.untouched(t, before)
}

// A call that waits for ever is interrupted, and the thread is of use again.
func TestHangs(t *testing.T) {
	b := startBusy(t)
	before := b.held(t)
	long := callTimeout
	defer func() { callTimeout = long }()
	err := Run(t.Context(), b.pid, func(th *Thread) error {
		for range 3 {
			callTimeout = 200 * time.Millisecond
			_, err := th.Call(unix.SYS_PAUSE)
			callTimeout = long
			if !errors.Is(err, ErrHangs) {
				return fmt.Errorf("pause: %w", err)
			}
			// Which call, which thread, and what it does.
			for _, want := range []string{"system call 34 in", fmt.Sprintf(`thread %d is in state "S"`, th.tracee), `call "34 `} {
				if !strings.Contains(err.Error(), want) {
					return fmt.Errorf("the error doesn't say %q: %w", want, err)
				}
			}
			if pid, err := th.Call(unix.SYS_GETPID); err != nil || int(pid) != b.pid {
				return fmt.Errorf("getpid: %d, %w", pid, err)
			}
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	b.untouched(t, before)
}

// A borrowed thread that can't be given back holds nobody up, and gets
// everything back when it can.
func TestEnterHangs(t *testing.T) {
	b := startBusy(t)
	before := b.held(t)
	late, goOn := make(chan time.Time), make(chan struct{})
	slow := func() (*Thread, error) {
		th, err := enter(t.Context(), b.pid)
		close(late)
		<-goOn
		return th, err
	}
	err := runUntil(late, b.pid, slow, func(*Thread) error { return errors.New("called") })
	if !errors.Is(err, ErrHangs) || !strings.Contains(err.Error(), "traced by thread") {
		t.Errorf("a hang: %v", err)
	}
	close(goOn)
	for b.held(t) != before {
		time.Sleep(time.Millisecond)
	}
	for !strings.HasPrefix(Traced(b.pid), "no thread") {
		time.Sleep(time.Millisecond)
	}
	b.untouched(t, before)
}

// A process that is stopped can be entered, and stays stopped.
func TestStopped(t *testing.T) {
	b := startBusy(t)
	before := b.held(t)
	if err := unix.Kill(b.pid, unix.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	err := Run(t.Context(), b.pid, func(th *Thread) error {
		_, err := th.Call(unix.SYS_GETPID)
		return err
	})
	if err != nil {
		t.Error(err)
	}
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*", b.pid))
	if err != nil {
		t.Fatal(err)
	}
	for _, task := range tasks { // one that was borrowed needs a moment
		var tid tracee
		fmt.Sscan(filepath.Base(task), &tid)
		for end := time.Now().Add(time.Minute); !strings.Contains(tid.state(), `in state "T"`); time.Sleep(time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("it runs: %s", tid.state())
			}
		}
	}
	if err := unix.Kill(b.pid, unix.SIGCONT); err != nil {
		t.Fatal(err)
	}
	b.untouched(t, before)
}

func TestCancel(t *testing.T) {
	b := startBusy(t)
	before := b.held(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	err := Run(ctx, b.pid, func(th *Thread) error {
		time.AfterFunc(100*time.Millisecond, cancel)
		_, err := th.Call(unix.SYS_PAUSE)
		return err
	})
	if !errors.Is(err, context.Canceled) || errors.Is(err, errLost) {
		t.Errorf("a cancelled call: %v", err)
	}
	b.untouched(t, before)
}

// A tracer that just goes away takes the thread with it, and hurts nobody.
func TestTracerGone(t *testing.T) {
	b := startBusy(t)
	before := b.held(t)
	before[1]++ // the page stays
	var task string
	var err error
	OwnThread(func() {
		var th *Thread
		if th, err = enter(t.Context(), b.pid); err == nil {
			task = fmt.Sprintf("/proc/%d/task/%d", b.pid, th.tracee)
			_, err = th.Call(unix.SYS_GETPID)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	for range 6000 {
		if _, err := os.Stat(task); err != nil {
			b.untouched(t, before)
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Errorf("%s is still there", task)
}

// TestOwnThread holds that a tracer is never the thread that doesn't end. The
// first thread is free to be taken while the test waits.
func TestOwnThread(t *testing.T) {
	for range 1000 {
		var tid int
		OwnThread(func() { tid = unix.Gettid() })
		if tid == unix.Getpid() {
			t.Fatal("on the process's first thread")
		}
	}
}

// The first thread of a process that is killed isn't waited for in vain, while
// another one waits for us to reap it.
func TestFirstThreadEnds(t *testing.T) {
	b := startBusy(t)
	OwnThread(func() {
		_, err := enter(t.Context(), b.pid)
		if err := errors.Join(err, unix.PtraceSeize(b.pid), Stop(t.Context(), b.pid), unix.Kill(b.pid, unix.SIGKILL)); err != nil {
			t.Error(err)
			return
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if _, err := tracee(b.pid).wait(ctx); !errors.Is(err, unix.ESRCH) {
			t.Errorf("the wait for a killed process's first thread: %v", err)
		}
	})
}

func TestEnds(t *testing.T) {
	b := startBusy(t)
	err := Run(t.Context(), b.pid, func(th *Thread) error {
		if err := unix.Kill(b.pid, unix.SIGKILL); err != nil {
			return err
		}
		_, err := th.Call(unix.SYS_PAUSE)
		return err
	})
	if !errors.Is(err, errEnded) {
		t.Errorf("a call in a killed process: %v", err)
	}
}

func TestNobody(t *testing.T) {
	if err := Run(t.Context(), 1<<22+1, nil); !errors.Is(err, unix.ESRCH) {
		t.Errorf("no such process: %v", err)
	}
}

// Without CAP_SYS_PTRACE a process that isn't dumpable can't be traced.
func TestRefused(t *testing.T) {
	b := startBusy(t)
	before := b.held(t)
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: it has lost its capabilities
		header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
		if err := unix.Capset(&header, &make([]unix.CapUserData, 2)[0]); err != nil {
			done <- err
			return
		}
		_, err := enter(t.Context(), b.pid)
		done <- err
	}()
	if err := <-done; !errors.Is(err, ErrRefused) {
		t.Errorf("tracing without the right to: %v", err)
	}
	b.untouched(t, before)
}

func TestRank(t *testing.T) {
	for _, tc := range []struct {
		line string
		rank int
		ok   bool
	}{
		{"running\n", 0, false},
		{"-1 0x7ffe 0x7f00\n", 0, false},
		{"202 0xc000080148 0x80 0x0 0x0 0x0 0x0 0x7ffe 0x47\n", 0, true},
		{"202 0xc000080148 0x80 0x0 0x7ffd 0x0 0x0 0x7ffe 0x47\n", 1, true},
		{"281 0x4 0x7ffd 0x80 0x1 0x0 0x0 0x7ffe 0x47\n", 1, true},
		{"0 0x4 0x7ffd 0x80 0x1 0x0 0x0 0x7ffe 0x47\n", 2, true},
		{"16 0x4 0xae80 0x0 0x1 0x0 0x0 0x7ffe 0x47\n", 2, true},
		{"", 0, false},
	} {
		if r, ok := rank(tc.line); r != tc.rank || ok != tc.ok {
			t.Errorf("rank(%q) = %d, %v", tc.line, r, ok)
		}
	}
}
