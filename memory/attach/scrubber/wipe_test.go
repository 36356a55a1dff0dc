package scrubber

import (
	"bytes"
	"io"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

const page = 4096

// hang is far more than a scrubber takes for anything: milliseconds on an idle
// machine.
const hang = time.Minute

// TestControl checks that without a scrubber the pages of a dead VMM stay: the
// other tests find none because the scrubber has wiped them.
func TestControl(t *testing.T) {
	w := newWindow(t, 1<<20)
	fill(t, w, 256, page)
	p := startVMM(t, "no scrubber", w)
	p.Process.Kill()
	p.Wait()
	time.Sleep(100 * time.Millisecond)
	if n := pages(t, w); n != 256 {
		t.Errorf("%d pages left of 256", n)
	}
	b := make([]byte, page)
	if _, err := w.ReadAt(b, 0); err != nil || !bytes.HasPrefix(b, []byte("secret!")) {
		t.Errorf("%q, %v", b[:8], err)
	}
}

// TestKilled checks that the window is empty soon after a SIGKILL of the VMM.
func TestKilled(t *testing.T) {
	for _, tc := range []struct {
		name   string
		size   int64
		n      int
		stride int64
	}{
		{"64 MiB in one piece", 64 << 20, 16384, page},
		{"64 MiB, every 16th page", 1 << 30, 16384, 16 * page},
		{"100 pages of 1 TiB", 1 << 40, 100, 10 << 30},
		{"nothing", 1 << 40, 0, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w := newWindow(t, tc.size)
			fill(t, w, tc.n, tc.stride)
			p := startVMM(t, "", w)
			if n := pages(t, w); n != int64(tc.n) {
				t.Fatalf("%d pages before, of %d", n, tc.n)
			}
			start := time.Now()
			p.Process.Kill()
			if !p.scrubberGone(hang) {
				t.Error("the scrubber is still there")
			}
			t.Logf("from SIGKILL to the scrubber's end: %v", time.Since(start))
			if n := pages(t, w); n != 0 {
				t.Errorf("%d pages left", n)
			}
		})
	}
}

// TestEnds has the other ways in which a VMM ends.
func TestEnds(t *testing.T) {
	for _, tc := range []struct {
		mode   string
		signal unix.Signal // 0: ends by itself
	}{
		{"exit", 0}, {"panic", 0}, {"segfault", 0},
		{"", unix.SIGTERM}, {"", unix.SIGINT}, {"", unix.SIGHUP}, {"", unix.SIGQUIT},
	} {
		t.Run(tc.mode+unix.SignalName(tc.signal), func(t *testing.T) {
			w := newWindow(t, 4<<20)
			fill(t, w, 1024, page)
			p := startVMM(t, tc.mode, w)
			if tc.signal != 0 {
				p.Process.Signal(tc.signal)
			}
			if !p.scrubberGone(hang) {
				t.Error("the scrubber is still there")
			}
			if n := pages(t, w); n != 0 {
				t.Errorf("%d pages left", n)
			}
		})
	}
}

// TestKilledWriting kills a VMM while two threads write, to a mapping and with
// pwrite. No page may appear after the scrubber has read end of file.
func TestKilledWriting(t *testing.T) {
	for range 20 {
		w := newWindow(t, 16<<20)
		p := startVMM(t, "writing", w)
		time.Sleep(rand.N(20 * time.Millisecond))
		p.Process.Kill()
		if !p.scrubberGone(hang) {
			t.Error("the scrubber is still there")
		}
		p.Wait()
		if n := pages(t, w); n != 0 {
			t.Errorf("%d pages left", n)
		}
	}
}

// TestProcessGroup checks that a signal to the VMM's process group, as from a
// terminal, doesn't reach the scrubber, not even SIGKILL.
func TestProcessGroup(t *testing.T) {
	w := newWindow(t, 1<<20)
	fill(t, w, 256, page)
	p := startVMM(t, "catching", w)
	for _, s := range []unix.Signal{unix.SIGINT, unix.SIGHUP, unix.SIGTERM, unix.SIGTSTP, unix.SIGCONT} {
		if err := unix.Kill(-p.Process.Pid, s); err != nil {
			t.Fatal(err)
		}
	}
	if p.scrubberGone(100 * time.Millisecond) {
		t.Fatal("the scrubber is gone before the VMM")
	}
	if n := pages(t, w); n != 256 {
		t.Fatalf("%d pages of 256 before the VMM's end", n)
	}
	unix.Kill(-p.Process.Pid, unix.SIGKILL)
	if !p.scrubberGone(hang) {
		t.Error("the scrubber is still there")
	}
	if n := pages(t, w); n != 0 {
		t.Errorf("%d pages left", n)
	}
}

// TestChildrenOutliveTheVMM checks that children which the VMM starts while it
// starts the scrubber, and which outlive it, don't delay the scrubber.
func TestChildrenOutliveTheVMM(t *testing.T) {
	ours, theirs := pipe(t)
	w := newWindow(t, 1<<20)
	fill(t, w, 256, page)
	p := startVMM(t, "children", w, theirs)
	theirs.Close()
	time.Sleep(50 * time.Millisecond)
	p.Process.Kill()
	if !p.scrubberGone(hang) {
		t.Error("the scrubber is still there")
	}
	if n := pages(t, w); n != 0 {
		t.Errorf("%d pages left", n)
	}
	if _, err := ours.WriteString("still there?"); err != nil {
		t.Errorf("no child was left: %v", err)
	}
}

// TestWipedBeforeFreed checks that frames are overwritten before they are freed. A
// pipe into which they were spliced keeps them for the test to read.
func TestWipedBeforeFreed(t *testing.T) {
	const n = 8 // of the 16 that a pipe holds
	secret := []byte(strings.Repeat("secret! ", n*page/8))
	for _, tc := range []struct {
		name string
		free func(t *testing.T, w *os.File)
		want []byte
	}{
		{"control", func(t *testing.T, w *os.File) {
			if err := unix.Fallocate(int(w.Fd()), unix.FALLOC_FL_KEEP_SIZE|unix.FALLOC_FL_PUNCH_HOLE, 0, n*page); err != nil {
				t.Fatal(err)
			}
		}, secret},
		{"scrubber", func(t *testing.T, w *os.File) {
			s, err := Start(int(w.Fd()))
			if err != nil {
				t.Fatal(err)
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
		}, make([]byte, n*page)},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w := newWindow(t, n*page)
			fill(t, w, n, page)
			in, out := pipe(t)
			var off int64
			for off < n*page {
				if _, err := unix.Splice(int(w.Fd()), &off, int(in.Fd()), nil, int(n*page-off), 0); err != nil {
					t.Fatal(err)
				}
			}
			tc.free(t, w)
			if p := pages(t, w); p != 0 {
				t.Fatalf("%d pages left", p)
			}
			frames := make([]byte, n*page)
			if _, err := io.ReadFull(out, frames); err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(frames, tc.want) {
				t.Errorf("freed frames begin with %q, want %q", frames[:8], tc.want[:8])
			}
		})
	}
}

// pipe creates a pipe.
func pipe(t *testing.T) (write, read *os.File) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close(); w.Close() })
	return w, r
}
