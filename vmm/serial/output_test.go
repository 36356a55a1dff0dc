package serial

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"offmap/vmm/sink"
)

// When bytes reach the writer: a line at once and in one piece, a prompt when
// the driver is done or a moment later.
func TestOutputBatches(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &writes{}
		u := New(Config{Out: w})
		defer u.Close()

		send(u, "[    0.000000] Linux\r")
		synctest.Wait()
		if w.count() != 0 {
			t.Errorf("written before the end of the line: %q", w.joined())
		}
		send(u, "\n")
		synctest.Wait()
		if w.count() != 1 || w.joined() != "[    0.000000] Linux\r\n" {
			t.Errorf("%d writes: %q", w.count(), w.joined())
		}

		out(u, regIER, ierTransmit)
		send(u, "login: ")
		out(u, regIER, 0)
		synctest.Wait()
		if w.count() != 2 || !strings.HasSuffix(w.joined(), "login: ") {
			t.Errorf("the driver is done: %d writes, %q", w.count(), w.joined())
		}

		send(u, ">")
		synctest.Wait()
		if w.count() != 2 {
			t.Error("a single byte didn't wait")
		}
		time.Sleep(sink.HoldTime)
		synctest.Wait()
		if w.count() != 3 || !strings.HasSuffix(w.joined(), ">") {
			t.Errorf("held back: %d writes, %q", w.count(), w.joined())
		}
	})
}

// A writer that doesn't keep up: the guest sees a transmitter that isn't
// ready, and gets its interrupt when it is. Nothing is lost.
func TestSlowWriter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, w := &line{}, &writes{gate: make(chan struct{})}
		u := New(Config{Out: w, IRQ: l, OnError: func(err error) { t.Error(err) }})
		out(u, regIER, ierTransmit)
		send(u, "\n")
		synctest.Wait() // the writer hangs on the newline
		writes := 1
		for range 2 {
			send(u, strings.Repeat("x", sink.QueueSize))
			want(t, "LSR of a full transmitter", in(u, regLSR)&lsrEmpty, 0)
			want(t, "IIR of a full transmitter", in(u, regIIR)&0x0f, iirNone)
			for range writes {
				w.gate <- struct{}{}
			}
			writes = sink.QueueSize / sink.ChunkSize
			synctest.Wait()
			want(t, "LSR", in(u, regLSR)&lsrEmpty, lsrEmpty)
			if !l.isHigh() {
				t.Error("no interrupt when the transmitter had room again")
			}
		}

		// A console that doesn't wait for the transmitter waits all the same.
		send(u, strings.Repeat("x", sink.QueueSize))
		sent := make(chan struct{})
		go func() {
			send(u, "y")
			close(sent)
		}()
		time.Sleep(sink.Patience / 2)
		select {
		case <-sent:
			t.Error("sent to a full transmitter")
		default:
		}
		close(w.gate)
		<-sent
		if err := u.Close(); err != nil {
			t.Error(err)
		}
		if got := w.joined(); got != "\n"+strings.Repeat("x", 3*sink.QueueSize)+"y" {
			t.Errorf("%d bytes written, ending in %q", len(got), got[len(got)-1:])
		}
	})
}

// A writer is stuck: the guest goes on after a while. The loss is reported once,
// without delay, and again by Close, with the number of bytes.
func TestStuckWriter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &writes{gate: make(chan struct{})}
		var errs []error
		u := New(Config{Out: w, OnError: func(err error) { errs = append(errs, err) }})
		stuck := func(what string) {
			t.Helper()
			send(u, strings.Repeat("x", sink.QueueSize))
			start := time.Now()
			send(u, "lost")
			if d := time.Since(start); d != sink.Patience {
				t.Errorf("%s, four bytes took %v, want %v", what, d, sink.Patience)
			}
			synctest.Wait()
			if len(errs) != 1 || !errors.Is(errs[0], sink.ErrStuck) {
				t.Errorf("told %v", errs)
			}
		}
		send(u, "\n")
		synctest.Wait()
		stuck("the first time")

		// The writer takes one queue and is stuck again: the guest waits
		// again, but there is no second report.
		for range 1 + sink.QueueSize/sink.ChunkSize {
			w.gate <- struct{}{}
		}
		synctest.Wait()
		send(u, strings.Repeat("x", 3)+"\n")
		synctest.Wait()
		stuck("the second time")

		start := time.Now()
		err := u.Close()
		if d := time.Since(start); d != sink.Patience {
			t.Errorf("Close took %v, want %v", d, sink.Patience)
		}
		const sent = 1 + sink.QueueSize + 4 + 4 + sink.QueueSize + 4
		if want := fmt.Sprintf("%d of %d bytes", 4+4+sink.QueueSize+4, sent); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Close: %v, want %q", err, want)
		}
		if err := u.Close(); err != nil {
			t.Errorf("a second Close says %v", err)
		}
		close(w.gate)
		synctest.Wait()
	})
}

// slow takes a byte of each write, after a time.
type slow struct {
	writes
	pause time.Duration
}

func (s *slow) Write(p []byte) (int, error) {
	time.Sleep(s.pause)
	return s.writes.Write(p[:1])
}

// Nothing is lost as long as the writer makes progress: on a machine that stood
// still, or on a terminal that takes 1 byte in 8 s.
func TestVerySlowWriter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &slow{pause: sink.Patience - 2*time.Second}
		u := New(Config{Out: w, OnError: func(err error) { t.Error(err) }})
		const said = "three hundred seconds of it, and more than that\n"
		send(u, said)
		start := time.Now()
		if err := u.Close(); err != nil || w.joined() != said {
			t.Errorf("%v, %q", err, w.joined())
		}
		if d := time.Since(start); d < 300*time.Second {
			t.Errorf("done in %v", d)
		}
	})
}

// Once the guest is ended from outside, nothing waits for a writer, stuck or slow.
func TestStopLeavesWriterBehind(t *testing.T) {
	for _, before := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			w := &writes{gate: make(chan struct{})}
			u := New(Config{Out: w})
			send(u, "stuck\n")
			if before {
				u.Stop()
			} else {
				time.AfterFunc(2*time.Second, func() { u.Stop(); u.Stop() })
			}
			start := time.Now()
			err := u.Close()
			d := time.Since(start)
			if !before {
				d -= 2 * time.Second
			}
			if d != sink.CloseTime || !errors.Is(err, sink.ErrStuck) {
				t.Errorf("Stop before Close: %v; Close returned %v after Stop with %v", before, d, err)
			}
			close(w.gate)
			synctest.Wait()
		})
	}
}

// When the guest ends, a vCPU that waits for the writer and an Input that waits for
// the guest return. No byte that the guest has sent is lost.
func TestEndReleasesWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, ended := &writes{gate: make(chan struct{})}, make(chan struct{})
		u := New(Config{Out: w, Ended: ended})
		u.Input([]byte{0})
		send(u, "\n")
		synctest.Wait()
		start := time.Now()
		var wg sync.WaitGroup
		for range 2 {
			wg.Go(func() { send(u, strings.Repeat("x", sink.QueueSize)) })
			wg.Go(func() {
				if _, err := u.Input(make([]byte, inputSize)); !errors.Is(err, os.ErrClosed) {
					t.Errorf("Input: %v", err)
				}
			})
		}
		synctest.Wait()
		close(ended)
		wg.Wait()
		if d := time.Since(start); d != 0 {
			t.Errorf("released after %v", d)
		}
		close(w.gate)
		if err := u.Close(); err != nil || len(w.joined()) != 1+2*sink.QueueSize {
			t.Errorf("%v, %d bytes", err, len(w.joined()))
		}
	})
}

// script is a writer that fails call by call as its steps say, and then works.
type script struct {
	writes
	steps []step
}

type step struct {
	n   int // bytes taken
	err error
}

func (s *script) Write(p []byte) (int, error) {
	if len(s.steps) == 0 {
		return s.writes.Write(p)
	}
	next := s.steps[0]
	s.steps = s.steps[1:]
	n, _ := s.writes.Write(p[:min(next.n, len(p))])
	return n, next.err
}

// Temporary errors and partial writes lose nothing and are not reported.
func TestPassingErrors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		again := &os.PathError{Op: "write", Path: "/dev/stdout", Err: syscall.EAGAIN}
		w := &script{steps: []step{{0, again}, {3, again}, {0, syscall.EINTR}, {2, nil}, {0, again}, {1, syscall.EINTR}}}
		u := New(Config{Out: w, OnError: func(err error) { t.Error(err) }})
		send(u, "nothing is lost\n")
		if err := u.Close(); err != nil || w.joined() != "nothing is lost\n" {
			t.Errorf("%v, %q", err, w.joined())
		}
	})
}

// A writer that returns EAGAIN for ever is stuck like any other, and its goroutine
// ends.
func TestEndlessEAGAIN(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := New(Config{Out: &writes{err: syscall.EAGAIN}})
		send(u, "lost\n")
		if err := u.Close(); !errors.Is(err, sink.ErrStuck) {
			t.Errorf("Close: %v", err)
		}
	})
}

// A real file that somebody made non-blocking.
func TestNonblockingPipe(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	// As the descriptor of a program's stdout: blocking when Go took it
	// over, made non-blocking by another process later.
	fd, err := syscall.Dup(int(w.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	out := os.NewFile(uintptr(fd), "stdout")
	w.Close()
	if err := syscall.SetNonblock(fd, true); err != nil {
		t.Fatal(err)
	}
	u := New(Config{Out: out, OnError: func(err error) { t.Error(err) }})
	said := strings.Repeat("more than a pipe holds\n", 20000)
	got := make(chan string)
	go func() {
		time.Sleep(20 * time.Millisecond)
		b, err := io.ReadAll(r)
		if err != nil {
			t.Error(err)
		}
		got <- string(b)
	}()
	send(u, said)
	if err := u.Close(); err != nil {
		t.Error(err)
	}
	out.Close()
	if b := <-got; b != said {
		t.Errorf("%d bytes of %d", len(b), len(said))
	}
}

func TestFailingWriter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &script{}
		full := &os.PathError{Op: "write", Path: "/dev/stdout", Err: syscall.ENOSPC}
		var errs []error
		u := New(Config{Out: w, OnError: func(err error) { errs = append(errs, err) }})
		for _, c := range []struct {
			line string
			step
		}{
			{"written\n", step{8, nil}},
			{"lost\n", step{0, full}},
			{"half lost\n", step{4, full}},
			{"written\n", step{8, nil}}, // there is room again
			{"lost\n", step{0, syscall.EPIPE}},
		} {
			w.steps = []step{c.step}
			send(u, c.line)
			synctest.Wait()
			want(t, "LSR", in(u, regLSR), lsrEmpty)
		}
		if len(errs) != 1 || !errors.Is(errs[0], syscall.ENOSPC) {
			t.Errorf("told %v, want the writer's first error once", errs)
		}
		if got := w.joined(); got != "written\nhalfwritten\n" {
			t.Errorf("written: %q", got)
		}
		err := u.Close()
		if !errors.Is(err, syscall.EPIPE) || !strings.Contains(err.Error(), "16 of 36 bytes") {
			t.Errorf("Close: %v", err)
		}
		if err := u.Close(); err != nil {
			t.Errorf("a second Close says %v", err)
		}
	})
}

// OnError may stop the UART, as a caller does whose terminal is gone.
func TestOnErrorStops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var u *UART
		u = New(Config{Out: &writes{err: syscall.EPIPE}, OnError: func(error) { u.Stop() }})
		send(u, "nobody reads\n")
		if err := u.Close(); !errors.Is(err, syscall.EPIPE) {
			t.Errorf("Close: %v", err)
		}
	})
}

// OnError may hang as Out does, if both are the same terminal. That must not hold up
// a vCPU either.
func TestOnErrorHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, told := &writes{gate: make(chan struct{})}, make(chan error)
		u := New(Config{Out: w, OnError: func(err error) { told <- err }})
		send(u, "\n")
		synctest.Wait()
		send(u, strings.Repeat("x", sink.QueueSize)+"lost")
		want(t, "LSR", in(u, regLSR), 0)
		u.Stop()
		if err := u.Close(); !errors.Is(err, sink.ErrStuck) {
			t.Errorf("Close: %v", err)
		}
		if err := <-told; !errors.Is(err, sink.ErrStuck) {
			t.Errorf("told %v", err)
		}
		close(w.gate)
	})
}

// Sent gets each byte before the guest goes on, in the guest's order, even if Out
// takes nothing.
func TestSent(t *testing.T) {
	var got []byte
	u := newUART(t, Config{Out: &writes{err: syscall.EIO}, Sent: func(b byte) { got = append(got, b) }})
	send(u, "a")
	if string(got) != "a" {
		t.Errorf("after one byte: %q", got)
	}
	out(u, regMCR, mcrLoop)
	send(u, "looped")
	out(u, regMCR, 0)
	send(u, "b")
	if string(got) != "ab" {
		t.Errorf("told %q", got)
	}
}

func TestCloseWritesTheRest(t *testing.T) {
	w := &writes{}
	u := New(Config{Out: w})
	send(u, "no newline")
	if err := u.Close(); err != nil || w.joined() != "no newline" {
		t.Errorf("%v, %q", err, w.joined())
	}
	if _, err := u.Input([]byte("x")); !errors.Is(err, os.ErrClosed) {
		t.Errorf("Input after Close: %v", err)
	}
}

func BenchmarkTransmit(b *testing.B) {
	u := New(Config{Out: io.Discard})
	defer u.Close()
	p := []byte("0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcde\n")
	b.SetBytes(int64(len(p)))
	for b.Loop() {
		for i := range p {
			u.Write(regData, p[i:i+1])
		}
	}
}
