package serial

import (
	"bytes"
	"errors"
	"io"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// line records the interrupt line.
type line struct {
	mu    sync.Mutex
	high  bool
	edges int
	err   error
}

func (l *line) SetLevel(high bool) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if high == l.high {
		panic("interrupt line driven to the level that it has")
	}
	l.high = high
	l.edges++
	return l.err
}

func (l *line) isHigh() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.high
}

// writes records every call.
type writes struct {
	mu   sync.Mutex
	all  [][]byte
	gate chan struct{} // if not nil, each write takes a token first
	err  error
}

func (w *writes) Write(p []byte) (int, error) {
	if w.gate != nil {
		<-w.gate
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err != nil {
		return 0, w.err
	}
	w.all = append(w.all, bytes.Clone(p))
	return len(p), nil
}

func (w *writes) joined() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return string(bytes.Join(w.all, nil))
}

func (w *writes) count() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.all)
}

func in(u *UART, reg uint64) byte {
	var p [1]byte
	u.Read(reg, p[:])
	return p[0]
}

func out(u *UART, reg uint64, v byte) { u.Write(reg, []byte{v}) }

func send(u *UART, s string) {
	for i := range len(s) {
		out(u, regData, s[i])
	}
}

func want(t *testing.T, what string, got, want byte) {
	t.Helper()
	if got != want {
		t.Errorf("%s = %#02x, want %#02x", what, got, want)
	}
}

func newUART(t *testing.T, cfg Config) *UART {
	t.Helper()
	if cfg.Out == nil {
		cfg.Out = io.Discard
	}
	u := New(cfg)
	t.Cleanup(func() { u.Close() })
	return u
}

// What Linux's 8250 driver does to find out what it has
// (drivers/tty/serial/8250/8250_port.c, autoconfig and do_startup).
func TestLinuxProbe(t *testing.T) {
	l := &line{}
	u := newUART(t, Config{IRQ: l})

	out(u, regIER, 0)
	want(t, "IER cleared", in(u, regIER)&0x0f, 0)
	out(u, regIER, 0x0f)
	want(t, "IER set", in(u, regIER)&0x0f, 0x0f)
	out(u, regIER, 0)

	out(u, regMCR, mcrLoop|mcrOut2|mcrRTS)
	want(t, "MSR in loopback", in(u, regMSR)&0xf0, msrDCD|msrCTS)
	out(u, regMCR, 0)
	want(t, "MSR", in(u, regMSR), msrCTS|msrDSR|msrDCD)

	out(u, regLCR, 0xbf)
	out(u, regIIR, 0)
	out(u, regLCR, 0)
	out(u, regIIR, fcrEnable)
	want(t, "IIR with FIFO", in(u, regIIR)>>6, 3)
	out(u, regLCR, lcrDLAB) // a 16650 has a zero EFR here
	if in(u, regIIR) == 0 {
		t.Error("taken for a 16650")
	}
	out(u, regLCR, 0)
	out(u, regIER, 0x40) // an XScale UART has a unit enable bit
	want(t, "IER bit 6", in(u, regIER), 0)

	out(u, regLCR, lcrDLAB)
	out(u, 0, 0x34)
	out(u, 1, 0x12)
	want(t, "DLL", in(u, 0), 0x34)
	want(t, "DLM", in(u, 1), 0x12)
	out(u, regLCR, 3)
	want(t, "LCR", in(u, regLCR), 3)
	out(u, regScratch, 0xa5)
	want(t, "scratch", in(u, regScratch), 0xa5)

	// UART_BUG_THRE and UART_BUG_TXEN: enabling the interrupt raises it
	// whenever the transmitter is empty, even if it was read before.
	for range 2 {
		out(u, regIER, ierTransmit)
		if !l.isHigh() {
			t.Error("no transmit interrupt")
		}
		want(t, "IIR", in(u, regIIR)&0x0f, iirTransmit)
		want(t, "IIR after it was read", in(u, regIIR)&0x0f, iirNone)
		if l.isHigh() {
			t.Error("transmit interrupt stays")
		}
		want(t, "LSR", in(u, regLSR), lsrEmpty)
		out(u, regIER, 0)
	}
}

func TestTransmitInterrupt(t *testing.T) {
	l, w := &line{}, &writes{}
	u := newUART(t, Config{Out: w, IRQ: l})
	out(u, regIER, ierTransmit)
	in(u, regIIR)
	send(u, "x")
	if !l.isHigh() {
		t.Error("no interrupt when the holding register emptied")
	}
	want(t, "IIR", in(u, regIIR)&0x0f, iirTransmit)
	if l.edges != 4 {
		t.Errorf("%d edges, want 4", l.edges)
	}
}

func TestReceive(t *testing.T) {
	l := &line{}
	u := newUART(t, Config{IRQ: l})
	if n, err := u.Input([]byte("abc")); n != 3 || err != nil {
		t.Fatal(n, err)
	}
	want(t, "LSR before the driver listens", in(u, regLSR)&lsrData, 0)
	out(u, regIIR, fcrEnable|fcrClearReceive|1<<fcrTriggerShift) // level 4
	out(u, regIER, ierReceive)
	if !l.isHigh() {
		t.Fatal("no interrupt for input that waited")
	}
	want(t, "IIR below the trigger level", in(u, regIIR), iirFIFO|iirReceiveTime)
	u.Input([]byte("de"))
	want(t, "IIR at the trigger level", in(u, regIIR), iirFIFO|iirReceive)
	var got []byte
	for in(u, regLSR)&lsrData != 0 {
		got = append(got, in(u, regData))
	}
	if string(got) != "abcde" {
		t.Errorf("received %q", got)
	}
	if l.isHigh() {
		t.Error("interrupt stays after all was read")
	}
	want(t, "data of an empty FIFO", in(u, regData), 0)

	u.Input(bytes.Repeat([]byte("x"), fifoSize-1))
	out(u, regIIR, fcrEnable|3<<fcrTriggerShift)
	want(t, "IIR of a FIFO that is all but full", in(u, regIIR), iirFIFO|iirReceive)
}

// What Linux does between boot and the first reader of the console (a trace of
// 6.1's autoconfig, startup and set_termios): none of it loses input.
func TestInputOutlivesDriverStart(t *testing.T) {
	l := &line{}
	u := newUART(t, Config{IRQ: l})
	const typed = "more than a FIFO holds\n"
	u.Input([]byte(typed))
	for _, w := range []struct{ reg, v byte }{
		{regIER, 0x0f}, {regIER, 0}, {regLCR, 0xbf}, {regIIR, 0}, {regLCR, 0}, {regIIR, 1}, {regLCR, 3},
		{regIIR, 1}, {regIIR, 7}, {regIIR, 0},
	} {
		out(u, uint64(w.reg), w.v)
	}
	want(t, "data that is read to clear it", in(u, regData), 0)
	out(u, regIER, ierReceive|ierLine)
	if !l.isHigh() {
		t.Error("no interrupt")
	}
	out(u, regIIR, fcrEnable)
	out(u, regIIR, fcrEnable|2<<fcrTriggerShift)
	if !l.isHigh() {
		t.Error("the interrupt is gone")
	}
	var got []byte
	for in(u, regLSR)&lsrData != 0 {
		got = append(got, in(u, regData))
	}
	if string(got) != typed {
		t.Errorf("received %q, want %q", got, typed)
	}
}

func TestInputBlocksAndCloses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := New(Config{Out: io.Discard})
		type result struct {
			n   int
			err error
		}
		res := make(chan result)
		go func() {
			n, err := u.Input(make([]byte, inputSize+2))
			res <- result{n, err}
		}()
		synctest.Wait()
		select {
		case r := <-res:
			t.Fatalf("Input took more than the queue holds: %+v", r)
		default:
		}
		out(u, regIER, ierReceive)
		in(u, regData)
		synctest.Wait()
		if err := u.Close(); err != nil {
			t.Fatal(err)
		}
		if r := <-res; r.n != inputSize+1 || !errors.Is(r.err, os.ErrClosed) {
			t.Errorf("got %+v", r)
		}
	})
}

func TestLoopback(t *testing.T) {
	w := &writes{}
	u := newUART(t, Config{Out: w})
	out(u, regMCR, mcrLoop|mcrDTR|mcrOut1)
	want(t, "MSR", in(u, regMSR), msrDSR|msrRI)
	send(u, "0123456789abcdef")
	want(t, "LSR", in(u, regLSR), lsrEmpty|lsrData)
	send(u, "!")
	want(t, "LSR after an overrun", in(u, regLSR), lsrEmpty|lsrData|lsrOverrun)
	want(t, "LSR, read again", in(u, regLSR), lsrEmpty|lsrData)
	out(u, regIER, ierReceive|ierLine)
	want(t, "IIR", in(u, regIIR), iirReceive)
	for _, c := range []byte("0123456789abcdef") {
		want(t, "looped", in(u, regData), c)
	}
	if err := u.Close(); err != nil || w.joined() != "" {
		t.Errorf("Close: %v, and %q got out", err, w.joined())
	}
}

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

func TestInterruptError(t *testing.T) {
	var errs []error
	u := newUART(t, Config{IRQ: &line{err: io.ErrNoProgress}, OnError: func(err error) { errs = append(errs, err) }})
	for range 3 {
		out(u, regIER, ierTransmit)
		out(u, regIER, 0)
	}
	if len(errs) != 1 || !errors.Is(errs[0], io.ErrNoProgress) {
		t.Errorf("told %v, want it once", errs)
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

func TestNoAllocations(t *testing.T) {
	u := newUART(t, Config{IRQ: &line{}})
	out(u, regIER, ierTransmit)
	p := []byte{'x'}
	n := testing.AllocsPerRun(1000, func() {
		u.Write(regData, p)
		u.Read(regLSR, p)
		u.Read(regIIR, p)
	})
	if n != 0 {
		t.Errorf("%v allocations per byte", n)
	}
}

// Any sequence of accesses leaves a UART that still works.
func FuzzRegisters(f *testing.F) {
	f.Add([]byte{0x81, 0xff, 0x80, 'a', 0x05, 0x02})
	f.Add([]byte{0x84, mcrLoop, 0x80, 1, 0x00, 0x83, lcrDLAB, 0x90, 3})
	f.Fuzz(func(t *testing.T, ops []byte) {
		l := &line{}
		u := New(Config{Out: io.Discard, IRQ: l})
		for len(ops) >= 2 {
			op, v := ops[0], ops[1]
			ops = ops[2:]
			reg, p := uint64(op&7), []byte{v, v, v, v}[:1+op>>3&3]
			switch {
			case op&0x80 != 0:
				u.Write(reg, p)
			case op&0x40 != 0:
				if u.input.len() < inputSize {
					u.Input(p[:1])
				}
			default:
				u.Read(reg, p)
			}
			u.mu.Lock()
			pending := u.pending() != iirNone
			u.mu.Unlock()
			if pending != l.isHigh() {
				t.Fatalf("interrupt pending is %v, line is %v", pending, l.isHigh())
			}
		}
		out(u, regLCR, 0)
		out(u, regMCR, 0)
		out(u, regScratch, 0x5a)
		want(t, "scratch", in(u, regScratch), 0x5a)
		if err := u.Close(); err != nil {
			t.Error(err)
		}
	})
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
