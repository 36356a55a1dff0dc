package serial

import (
	"bytes"
	"errors"
	"io"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"offmap/vmm/sink"
)

func TestReceive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &line{}
		u := New(Config{Out: io.Discard, IRQ: l})
		defer u.Close()
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
	})
}

// What Linux does between boot and the first reader of the console (a trace of
// 6.1's autoconfig, startup and set_termios): none of it loses input.
func TestInputOutlivesDriverStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &line{}
		u := New(Config{Out: io.Discard, IRQ: l})
		defer u.Close()
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
	})
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

// The accesses of programs that poll for keys, as in their sources. Each gets the
// keys in the order in which they were typed, even while it prints.
func TestPollers(t *testing.T) {
	// sendReady sends when the transmitter is ready, as all of them do.
	sendReady := func(u *UART, s string) {
		for i := range len(s) {
			for in(u, regLSR)&lsrEmpty != lsrEmpty {
			}
			out(u, regData, s[i])
		}
	}
	fetch := func(u *UART) (byte, bool) {
		if in(u, regLSR)&lsrData == 0 {
			return 0, false
		}
		return in(u, regData), true
	}
	for _, c := range []struct {
		name  string
		start func(*UART)
		print func(*UART, string)
		key   func(*UART) (byte, bool)
	}{
		{"memtest86+ (system/serial.c)", func(u *UART) {
			for _, w := range [][2]byte{{regLCR, lcrDLAB}, {regLCR, 0}, {regLCR, 3}, {regLCR, lcrDLAB | 3}, {0, 1}, {1, 0}, {regLCR, 3}} {
				out(u, uint64(w[0]), w[1])
			}
			in(u, regLSR)
			in(u, regData)
			out(u, regIER, 0)
		}, sendReady, fetch},
		{"GRUB (term/ns8250.c)", func(u *UART) {
			for _, w := range [][2]byte{{regIER, 0}, {regLCR, lcrDLAB}, {0, 1}, {1, 0}, {regLCR, 3}, {regIIR, 0xc7}, {regMCR, 0x0b}} {
				out(u, uint64(w[0]), w[1])
			}
			for in(u, regLSR)&lsrData != 0 { // what it takes for noise
				in(u, regData)
			}
		}, sendReady, fetch},
		{"kdb on a port that is not open (8250_port.c, serial8250_put_poll_char)", func(u *UART) {}, func(u *UART, s string) {
			for i := range len(s) {
				ier := in(u, regIER)
				out(u, regIER, 0)
				sendReady(u, s[i:i+1])
				in(u, regLSR)
				out(u, regIER, ier)
			}
		}, fetch},
		{"INT 14h, function 3 before 2", func(u *UART) {}, sendReady, func(u *UART) (byte, bool) {
			ready := in(u, regLSR)&lsrData != 0
			in(u, regMSR)
			if !ready {
				return 0, false
			}
			return fetch(u)
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := &writes{}
				u := New(Config{Out: w, IRQ: &line{}})
				defer u.Close()
				typed := strings.Repeat("help\r", 10)
				u.Input([]byte(typed))
				c.start(u)
				c.print(u, "> ")
				var got []byte
				for polls := 0; len(got) < len(typed) && polls < 20*len(typed); polls++ {
					if b, ok := c.key(u); ok {
						got = append(got, b)
						c.print(u, string(b))
					} else if polls%50 == 0 {
						c.print(u, "\\\b") // something turns
					}
					time.Sleep(time.Millisecond)
				}
				if string(got) != typed {
					t.Errorf("got %q", got)
				}
			})
		})
	}
}

// While Linux has the receive interrupt disabled, it doesn't count as polling,
// however long that lasts: it gets no input, and loses none.
func TestConsoleIsNoPoll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, w := &line{}, &writes{gate: make(chan struct{})}
		u := New(Config{Out: w, IRQ: l})
		defer u.Close()
		const typed = "echo typed while it boots\n"
		u.Input([]byte(typed))
		status := func() {
			t.Helper()
			if in(u, regLSR)&lsrData != 0 {
				t.Fatal("the driver was shown input")
			}
		}
		for range 100 {
			// earlyprintk (arch/x86/kernel/early_printk.c) and the boot stub.
			status()
			out(u, regData, 'a')
		}
		for range 100 {
			// earlycon (8250_early.c).
			out(u, regData, 'b')
			status()
		}
		for range 20 {
			// printk (8250_port.c, serial8250_console_write), the port not open.
			ier := in(u, regIER)
			out(u, regIER, 0)
			for range 20 {
				status()
				out(u, regData, 'c')
			}
			status()
			in(u, regMSR)
			out(u, regIER, ier)
		}
		time.Sleep(2 * sink.HoldTime) // the writer takes what it has, and hangs
		synctest.Wait()
		for in(u, regLSR)&lsrEmpty != 0 {
			out(u, regData, 'd')
		}
		for range 20 {
			status()
		}
		close(w.gate)
		for in(u, regLSR)&lsrEmpty == 0 {
		}
		out(u, regData, 'e')
		// serial8250_do_startup and serial8250_do_shutdown, several times over.
		for range 10 {
			for _, fcr := range []byte{1, 7, 0} {
				out(u, regIIR, fcr)
			}
			for range 2 {
				status()
				want(t, "data that is read to clear it", in(u, regData), 0)
				in(u, regIIR)
				in(u, regMSR)
				status()
				status()
				out(u, regIER, ierTransmit)
				in(u, regIIR)
				out(u, regIER, 0)
			}
		}
		out(u, regIER, ierReceive|ierLine)
		var got []byte
		for len(got) < len(typed) && l.isHigh() {
			got = append(got, in(u, regData))
		}
		if string(got) != typed {
			t.Errorf("received %q", got)
		}
	})
}

// raised passes interrupts on to a guest.
type raised chan struct{}

func (r raised) SetLevel(high bool) error {
	if high {
		signal(r)
	}
	return nil
}

// A guest's interrupt handler finds the FIFO empty, whatever the guest's speed and
// the amount of input. The guest has half of its time for other work, and loses no
// byte. The rate of input follows from the guest's speed.
func TestPace(t *testing.T) {
	for _, c := range []struct {
		read    time.Duration // of a byte
		longest time.Duration // visit of the handler
		rate    float64       // bytes a second, at least
	}{
		{2 * time.Microsecond, burstTime + 32*time.Microsecond, 200e3},
		{10 * time.Microsecond, burstTime + 160*time.Microsecond, 40e3},
		{100 * time.Microsecond, 1600 * time.Microsecond, 4e3},
		{5 * time.Millisecond, 80 * time.Millisecond, 80},
	} {
		synctest.Test(t, func(t *testing.T) {
			irq := make(raised, 1)
			u := New(Config{Out: io.Discard, IRQ: irq})
			defer u.Close()
			out(u, regIIR, fcrEnable)
			out(u, regIER, ierReceive)
			sent := make([]byte, 100_000)
			for i := range sent {
				sent[i] = byte(i % 251)
			}
			go u.Input(sent)
			var got []byte
			var busy, longest time.Duration
			start := time.Now()
			for len(got) < len(sent) {
				<-irq
				entry := time.Now()
				for in(u, regLSR)&lsrData != 0 {
					got = append(got, in(u, regData))
					time.Sleep(c.read)
				}
				visit := time.Since(entry)
				busy += visit
				longest = max(longest, visit)
			}
			took := time.Since(start)
			if !bytes.Equal(got, sent) {
				t.Error("the guest got something else")
			}
			if longest > c.longest {
				t.Errorf("%v a byte: the handler ran for %v in one go", c.read, longest)
			}
			if free := float64(took-busy) / float64(took); free < 0.45 {
				t.Errorf("%v a byte: the guest had %.0f %% of its time", c.read, 100*free)
			}
			if rate := float64(len(sent)) / took.Seconds(); rate < c.rate {
				t.Errorf("%v a byte: %.0f bytes a second", c.read, rate)
			}
		})
	}
}

// The guest gets a key when it is pressed. A guest that was stopped for long while
// it read one key still gets the next one soon.
func TestKeys(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := New(Config{Out: io.Discard})
		defer u.Close()
		out(u, regIER, ierReceive)
		for range 20 {
			u.Input([]byte("k"))
			want(t, "LSR", in(u, regLSR), lsrEmpty|lsrData)
			want(t, "key", in(u, regData), 'k')
			time.Sleep(10 * time.Millisecond)
		}
		u.Input([]byte("ab"))
		in(u, regData)
		time.Sleep(45 * time.Second)
		in(u, regData)
		u.Input([]byte("c"))
		time.Sleep(maxRest)
		synctest.Wait()
		want(t, "LSR", in(u, regLSR), lsrEmpty|lsrData)
	})
}

// A guest that lowers RTS gets what is in the FIFO, and the rest when it raises RTS
// again. A guest that never raised RTS doesn't use flow control.
func TestFlowControl(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &line{}
		u := New(Config{Out: io.Discard, IRQ: l})
		defer u.Close()
		out(u, regIER, ierReceive)
		sent := make([]byte, 1000)
		for i := range sent {
			sent[i] = byte(i)
		}
		go u.Input(sent)
		var got []byte
		// read reads n bytes, or as many as there are.
		read := func(what string, n, want int) {
			t.Helper()
			before := len(got)
			for dry := false; len(got)-before < n; {
				if in(u, regLSR)&lsrData != 0 {
					got, dry = append(got, in(u, regData)), false
					continue
				}
				if dry {
					break
				}
				dry = true
				time.Sleep(maxRest)
				synctest.Wait()
			}
			if len(got)-before != want {
				t.Errorf("%s: got %d bytes, want %d", what, len(got)-before, want)
			}
		}
		read("RTS never raised", 100, 100)
		out(u, regMCR, mcrRTS|mcrDTR)
		read("RTS raised", 2*fifoSize-100%fifoSize-1, 2*fifoSize-100%fifoSize-1)
		out(u, regMCR, mcrDTR)
		read("RTS lowered, with one byte in the FIFO", 100, 1)
		out(u, regMCR, mcrLoop|mcrRTS)
		out(u, regMCR, mcrDTR)
		read("RTS low after a loopback", 100, 0)
		if l.isHigh() {
			t.Error("an interrupt for what isn't there")
		}
		out(u, regMCR, mcrRTS)
		read("RTS raised again", len(sent), len(sent)-len(got))
		if !bytes.Equal(got, sent) {
			t.Errorf("got %d bytes, want %d", len(got), len(sent))
		}
	})
}

// After Close nothing drives the interrupt line, because the machine may be gone:
// neither paced input nor a stuck writer that goes on.
func TestCloseEndsInterrupts(t *testing.T) {
	for _, ier := range []byte{ierReceive, ierTransmit} {
		synctest.Test(t, func(t *testing.T) {
			l, w := &line{}, &writes{gate: make(chan struct{})}
			u := New(Config{Out: w, IRQ: l})
			out(u, regIER, ier)
			u.Input([]byte("ab"))
			in(u, regData)
			time.Sleep(time.Millisecond)
			in(u, regData)
			u.Input([]byte("c")) // has to wait
			send(u, "\n")
			synctest.Wait() // the writer hangs on the newline
			send(u, strings.Repeat("x", sink.QueueSize))
			if l.isHigh() {
				t.Fatal("the interrupt came too early")
			}
			u.Stop()
			u.Close()
			close(w.gate)
			time.Sleep(time.Second)
			synctest.Wait()
			if l.isHigh() {
				t.Errorf("IER %d: the interrupt line was driven after Close", ier)
			}
		})
	}
}
