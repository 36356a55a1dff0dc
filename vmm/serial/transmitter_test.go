package serial

import (
	"errors"
	"io"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"
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
		time.Sleep(holdTime)
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
		for range 2 {
			send(u, strings.Repeat("x", queueSize))
			want(t, "LSR of a full transmitter", in(u, regLSR)&lsrEmpty, 0)
			want(t, "IIR of a full transmitter", in(u, regIIR)&0x0f, iirNone)
			w.gate <- struct{}{}
			synctest.Wait()
			want(t, "LSR", in(u, regLSR)&lsrEmpty, lsrEmpty)
			if !l.isHigh() {
				t.Error("no interrupt when the transmitter had room again")
			}
		}

		// A console that doesn't wait for the transmitter waits all the same.
		send(u, strings.Repeat("x", queueSize))
		sent := make(chan struct{})
		go func() {
			send(u, "y")
			close(sent)
		}()
		time.Sleep(stallTime / 2)
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
		if got := w.joined(); got != "\n"+strings.Repeat("x", 3*queueSize)+"y" {
			t.Errorf("%d bytes written, ending in %q", len(got), got[len(got)-1:])
		}
	})
}

// A writer that hangs: the guest goes on after a moment, and the loss is told
// once, at once, and again by Close.
func TestStuckWriter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &writes{gate: make(chan struct{})}
		var errs []error
		u := New(Config{Out: w, OnError: func(err error) { errs = append(errs, err) }})
		send(u, "\n")
		synctest.Wait()
		send(u, strings.Repeat("x", queueSize))
		start := time.Now()
		send(u, "lost")
		if d := time.Since(start); d != stallTime {
			t.Errorf("four bytes took %v, want %v", d, stallTime)
		}
		if len(errs) != 1 {
			t.Errorf("told %v", errs)
		}

		// It moves, and hangs again: waited for again, but not told again.
		w.gate <- struct{}{}
		synctest.Wait()
		send(u, strings.Repeat("x", queueSize))
		start = time.Now()
		send(u, "lost")
		if d := time.Since(start); d != stallTime {
			t.Errorf("the second time, four bytes took %v, want %v", d, stallTime)
		}
		if len(errs) != 1 {
			t.Errorf("told %v", errs)
		}
		if err := u.Close(); err == nil {
			t.Error("Close says that all is well")
		}
		close(w.gate)
		synctest.Wait()
	})
}

func TestFailingWriter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &writes{err: io.ErrClosedPipe}
		var errs []error
		u := New(Config{Out: w, OnError: func(err error) { errs = append(errs, err) }})
		for range 3 {
			send(u, strings.Repeat("x", queueSize)+"\n")
			synctest.Wait()
			want(t, "LSR", in(u, regLSR), lsrEmpty)
		}
		if len(errs) != 1 || !errors.Is(errs[0], io.ErrClosedPipe) {
			t.Errorf("told %v, want the writer's error once", errs)
		}
		if err := u.Close(); !errors.Is(err, io.ErrClosedPipe) {
			t.Errorf("Close: %v", err)
		}
	})
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
