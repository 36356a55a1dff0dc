package scrubber

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// mustStart starts a scrubber of the window. The test closes it.
func mustStart(t *testing.T, window *os.File) *Scrubber {
	t.Helper()
	s, err := Start(int(window.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func TestClose(t *testing.T) {
	w := newWindow(t, 1<<20)
	mustStart(t, w).Close() // the first one leaves something of the runtime's
	check := leaks(t)
	for range 10 {
		fill(t, w, 256, page)
		s := mustStart(t, w)
		select {
		case <-s.Done():
			t.Fatal("done before Close")
		default:
		}
		if n := pages(t, w); n != 256 {
			t.Fatalf("%d pages of 256 before Close", n)
		}
		for range 2 {
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
		}
		<-s.Done()
		if n := pages(t, w); n != 0 {
			t.Errorf("%d pages left", n)
		}
		if err := unix.Kill(s.PID(), 0); err != unix.ESRCH {
			t.Errorf("kill of process %d after Close: %v", s.PID(), err)
		}
	}
	check()
}

// TestProcess checks in /proc that the scrubber inherits nothing from the VMM.
func TestProcess(t *testing.T) {
	w := newWindow(t, 1<<20)
	_, leaked := pipe(t)
	p := startVMM(t, "", w, leaked)
	read := func(name string) string {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", p.scrubber, name))
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}

	fds, err := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", p.scrubber))
	if err != nil {
		t.Fatal(err)
	}
	var open []string
	for _, fd := range fds {
		link, err := os.Readlink(fd)
		if err != nil {
			t.Fatal(err)
		}
		open = append(open, link)
	}
	if len(open) != 2 || !strings.HasPrefix(open[0], "socket:") || !strings.HasPrefix(open[1], "/memfd:window") {
		t.Errorf("open files: %q", open)
	}
	if env := read("environ"); env != "" {
		t.Errorf("environment: %q", env)
	}
	if args := read("cmdline"); args != name+"\x00" || read("comm") != name+"\n" {
		t.Errorf("arguments %q, name %q", args, read("comm"))
	}
	if wd, err := os.Readlink(fmt.Sprintf("/proc/%d/cwd", p.scrubber)); wd != "/" {
		t.Errorf("working directory %q, %v", wd, err)
	}
	if sid, err := unix.Getsid(p.scrubber); sid != p.scrubber {
		t.Errorf("session %d, %v", sid, err)
	}
	// All signals but SIGKILL and SIGSTOP.
	if s := read("status"); !strings.Contains(s, "SigBlk:\tfffffffffffbfeff\n") {
		t.Errorf("blocked signals:\n%s", s)
	}
	for line := range strings.Lines(read("maps")) {
		if strings.Contains(strings.Fields(line)[1], "wx") {
			t.Errorf("writable and executable: %s", line)
		}
	}
	var rss int
	if _, err := fmt.Sscanf(read("status")[strings.Index(read("status"), "VmRSS:"):], "VmRSS: %d kB", &rss); err != nil || rss > 64 {
		t.Errorf("%d KiB resident, %v", rss, err)
	}
	t.Logf("%d KiB resident, program of %d bytes", rss, len(image))

	want := "-1000\n"
	if !capable(t, unix.CAP_SYS_RESOURCE) {
		want = "0\n"
		t.Log("oom_score_adj can't be lowered without CAP_SYS_RESOURCE")
	}
	if got := read("oom_score_adj"); got != want {
		t.Errorf("oom_score_adj %q, want %q", got, want)
	}
}

func TestSignals(t *testing.T) {
	s := mustStart(t, newWindow(t, 1<<20))
	for n := unix.Signal(1); n <= 64; n++ {
		if n == unix.SIGKILL || n == unix.SIGSTOP {
			continue
		}
		if err := unix.Kill(s.PID(), n); err != nil {
			t.Errorf("kill %v: %v", n, err)
		}
	}
	select {
	case <-s.Done():
		t.Error("a signal has ended it")
	case <-time.After(100 * time.Millisecond):
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

func TestScrubberKilled(t *testing.T) {
	s := mustStart(t, newWindow(t, 1<<20))
	if err := unix.Kill(s.PID(), unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	select {
	case <-s.Done():
	case <-time.After(hang):
		t.Fatal("not noticed")
	}
	for range 2 {
		if err := s.Close(); err == nil || !strings.Contains(err.Error(), "killed") {
			t.Errorf("Close: %v", err)
		}
	}
}

func TestCloseOfStoppedScrubber(t *testing.T) {
	w := newWindow(t, 1<<20)
	fill(t, w, 256, page)
	s := mustStart(t, w)
	if err := unix.Kill(s.PID(), unix.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	if err := s.close(50 * time.Millisecond); !errors.Is(err, errRunning) {
		t.Errorf("Close: %v", err)
	}
	if err := unix.Kill(s.PID(), unix.SIGCONT); err != nil {
		t.Fatal(err)
	}
	select {
	case <-s.Done():
	case <-time.After(hang):
		t.Error("not gone, though it was continued")
	}
	if n := pages(t, w); n != 0 {
		t.Errorf("%d pages left", n)
	}
}

// TestUnwritablePages checks that pages which can't be written don't delay the
// others, aren't freed unwiped, and are wiped once they can be written.
func TestUnwritablePages(t *testing.T) {
	w := newWindow(t, 1<<20)
	fill(t, w, 128, 2*page)
	s := mustStart(t, w)
	// The limit is within a page, which must not be freed either.
	limit := unix.Rlimit{Cur: 64*2*page + page/2, Max: unix.RLIM_INFINITY}
	if err := unix.Prlimit(s.PID(), unix.RLIMIT_FSIZE, &limit, nil); err != nil {
		t.Fatal(err)
	}
	if err := s.close(500 * time.Millisecond); err == nil {
		t.Error("Close sees nothing")
	}
	for end := time.Now().Add(hang); pages(t, w) > 64 && time.Now().Before(end); {
		time.Sleep(time.Millisecond)
	}
	if n := pages(t, w); n != 64 {
		t.Errorf("%d pages left of 128, want the 64 behind the limit", n)
	}
	limit.Cur = unix.RLIM_INFINITY
	if err := unix.Prlimit(s.PID(), unix.RLIMIT_FSIZE, &limit, nil); err != nil {
		t.Fatal(err)
	}
	select {
	case <-s.Done():
	case <-time.After(hang):
		t.Error("not gone, though it is able to")
	}
	if n := pages(t, w); n != 0 {
		t.Errorf("%d pages left", n)
	}
}

// capable reports whether this process has a capability.
func capable(t *testing.T, capability int) bool {
	t.Helper()
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	var caps uint64
	_, effective, _ := strings.Cut(string(status), "CapEff:")
	if _, err := fmt.Sscanf(effective, "%x", &caps); err != nil {
		t.Fatal(err)
	}
	return caps>>capability&1 != 0
}

// leaks returns a function that checks that no descriptor, goroutine or child is
// left since leaks was called.
func leaks(t *testing.T) (check func()) {
	t.Helper()
	fds, routines := descriptors(t), runtime.NumGoroutine()
	return func() {
		t.Helper()
		if now := descriptors(t); now != fds {
			t.Errorf("descriptors before:\n%s\nafter:\n%s", fds, now)
		}
		// A goroutine may need a moment to end.
		var now int
		for range 1000 {
			if now = runtime.NumGoroutine(); now <= routines {
				break
			}
			time.Sleep(10 * time.Millisecond)
		}
		if now > routines {
			t.Errorf("%d goroutines before, %d after", routines, now)
		}
		if pid, err := unix.Wait4(-1, nil, unix.WNOHANG, nil); err != unix.ECHILD {
			t.Errorf("child %d left, %v", pid, err)
		}
	}
}

// descriptors lists the open files of this process.
func descriptors(t *testing.T) string {
	t.Helper()
	fds, err := filepath.Glob("/proc/self/fd/*")
	if err != nil {
		t.Fatal(err)
	}
	var list strings.Builder
	for _, fd := range fds {
		if link, err := os.Readlink(fd); err == nil { // the listing's own is closed
			fmt.Fprintln(&list, fd, link)
		}
	}
	return list.String()
}
