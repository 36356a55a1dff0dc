package serial

import (
	"bytes"
	"errors"
	"io"
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

func TestInterruptError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var errs []error
		u := New(Config{Out: io.Discard, IRQ: &line{err: io.ErrNoProgress}, OnError: func(err error) { errs = append(errs, err) }})
		defer u.Close()
		for range 3 {
			out(u, regIER, ierTransmit)
			out(u, regIER, 0)
		}
		synctest.Wait()
		if len(errs) != 1 || !errors.Is(errs[0], io.ErrNoProgress) {
			t.Errorf("told %v, want it once", errs)
		}
	})
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

// Any sequence of accesses leaves a UART that still works, with its interrupt
// line as the registers say, and no byte of input lost, doubled or out of order.
func FuzzRegisters(f *testing.F) {
	f.Add([]byte{0x81, 0xff, 0x80, 'a', 0x05, 0x02})
	f.Add([]byte{0x84, mcrLoop, 0x80, 1, 0x00, 0x83, lcrDLAB, 0x90, 3})
	f.Add([]byte{0x40, 40, 0x81, ierReceive, 0, 0, 0, 0, 0x20, 9, 0x40, 40, 0, 0})
	f.Add([]byte{0x40, 4, 5, 0, 5, 0, 5, 0, 5, 0, 5, 0, 5, 0, 5, 0, 5, 0, 5, 0, 0, 0, 0x82, 7, 0, 0})
	f.Fuzz(func(t *testing.T, ops []byte) {
		synctest.Test(t, func(t *testing.T) {
			l := &line{}
			u := New(Config{Out: io.Discard, IRQ: l})
			defer u.Close()
			var put, got byte
			read := func(reg uint64, p []byte) {
				input := reg == regData && !u.dlab() && !u.looped() && u.received() > 0
				u.Read(reg, p)
				if input {
					if p[0] != got {
						t.Fatalf("read byte %d of the input, want %d", p[0], got)
					}
					got++
				}
			}
			for len(ops) >= 2 {
				op, v := ops[0], ops[1]
				ops = ops[2:]
				reg, p := uint64(op&7), []byte{v, v, v, v}[:1+op>>3&3]
				switch {
				case op&0x80 != 0:
					u.Write(reg, p)
				case op&0x40 != 0:
					for range min(int(v), inputSize-u.rx.queue.len()) {
						u.Input([]byte{put})
						put++
					}
				case op&0x20 != 0:
					time.Sleep(time.Duration(v) * 100 * time.Microsecond)
				default:
					read(reg, p)
				}
				synctest.Wait()
				if pending := u.pending() != iirNone; pending != l.isHigh() {
					t.Fatalf("interrupt pending is %v, line is %v", pending, l.isHigh())
				}
			}
			out(u, regLCR, 0)
			out(u, regMCR, mcrRTS)
			out(u, regScratch, 0x5a)
			want(t, "scratch", in(u, regScratch), 0x5a)
			out(u, regIER, ierReceive)
			for u.rx.queue.len() > 0 {
				time.Sleep(maxRest)
				synctest.Wait()
				if !l.isHigh() {
					t.Fatal("input waits for ever")
				}
				for in(u, regLSR)&lsrData != 0 {
					var p [1]byte
					read(regData, p[:])
				}
			}
			if put != got {
				t.Errorf("%d bytes, mod 256, were put and %d got", put, got)
			}
			if err := u.Close(); err != nil {
				t.Error(err)
			}
		})
	})
}
