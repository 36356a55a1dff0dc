package vmm

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"offmap/guest/protocol"
	"offmap/memory"
	"offmap/memory/attach"
	"offmap/vmm/boot"
	"offmap/vmm/sink"
)

// guestCode is a machine with a few instructions as its guest, which run at
// privilege level 0 in long mode, and words after them, at RSI.
func guestCode(code []byte, words string) Config {
	code = append([]byte{0x48, 0x8d, 0x35, byte(len(code)), 0, 0, 0}, code...) // lea rsi, [rip+len]
	return Config{
		Memory: 32 << 20, CPUs: 1, Backend: memory.Memfd, Attach: attach.Auto,
		Guest: boot.PayloadLoader(append(code, words...), boot.PayloadConfig{}),
	}
}

// A guest that polls for input, and never enables an interrupt, gets it.
func TestPollingGuest(t *testing.T) {
	needKVM(t)
	echo := []byte{
		// next:
		0x66, 0xba, 0xfd, 0x03, // mov dx, 0x3fd
		0xec,       // in al, dx
		0xa8, 0x01, // test al, 1
		0x74, 0xf7, // jz next
		0x66, 0xba, 0xf8, 0x03, // mov dx, 0x3f8
		0xec,       // in al, dx
		0xee,       // out dx, al
		0x3c, 0x0a, // cmp al, '\n'
		0x75, 0xed, // jne next
		0x66, 0xba, protocol.ExitPort & 0xff, protocol.ExitPort >> 8, // mov dx, ExitPort
		0x30, 0xc0, // xor al, al
		0xee, // out dx, al
		0xf4, // hlt
	}
	const typed = "more than the FIFO holds, for a guest that asks\n"
	var console strings.Builder
	cfg := guestCode(echo, "")
	cfg.Console = &console
	m, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	go m.Input().Write([]byte(typed))
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if r, err := m.Run(ctx); err != nil || r.Outcome.Reason != PowerOff || console.String() != typed {
		t.Errorf("%+v, %v, %q", r.Outcome, err, console.String())
	}
}

// stuckWriter takes nothing until it is released.
type stuckWriter struct{ release chan struct{} }

func (w stuckWriter) Write(p []byte) (int, error) {
	<-w.release
	return len(p), nil
}

// A guest that prints more than a stuck console takes, and one that has ended
// with something still to print: whoever ends the run needn't wait for the
// console.
func TestEndWithStuckConsole(t *testing.T) {
	needKVM(t)
	printForEver := []byte{
		0x66, 0xba, 0xf8, 0x03, // mov dx, 0x3f8
		0xee,       // out dx, al
		0xeb, 0xfd, // jmp to the out
	}
	printAndOff := []byte{
		0x66, 0xba, 0xf8, 0x03, // mov dx, 0x3f8
		0xee,                                                         // out dx, al
		0x66, 0xba, protocol.ExitPort & 0xff, protocol.ExitPort >> 8, // mov dx, ExitPort
		0x30, 0xc0, // xor al, al
		0xee, // out dx, al
		0xf4, // hlt
	}
	cause := errors.New("ended from outside")
	for _, c := range []struct {
		name string
		code []byte
		end  func(*Machine, context.CancelCauseFunc)
	}{
		{"printing, Stop", printForEver, func(m *Machine, _ context.CancelCauseFunc) { m.Stop() }},
		{"printing, context", printForEver, func(_ *Machine, cancel context.CancelCauseFunc) { cancel(cause) }},
		{"off, Stop", printAndOff, func(m *Machine, _ context.CancelCauseFunc) { m.Stop() }},
		{"off, context", printAndOff, func(_ *Machine, cancel context.CancelCauseFunc) { cancel(cause) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := stuckWriter{make(chan struct{})}
			defer close(w.release)
			cfg := guestCode(c.code, "")
			cfg.Console = w
			m, err := New(cfg)
			if err != nil {
				t.Fatal(err)
			}
			defer m.Close()
			var input atomic.Bool
			go func() {
				m.Input().Write(make([]byte, 1<<20)) // which this guest never reads
				input.Store(true)
			}()
			ctx, cancel := context.WithCancelCause(t.Context())
			var asked time.Time
			time.AfterFunc(time.Second, func() { // the queue is full by then
				asked = time.Now()
				c.end(m, cancel)
			})
			_, err = m.Run(ctx)
			if d := time.Since(asked); asked.IsZero() || d > sink.Patience/2 { // it would be about Patience without Stop
				t.Errorf("Run returned %v after it was told to", d)
			}
			if err == nil || !strings.Contains(err.Error(), "the writer is stuck") {
				t.Errorf("Run: %v", err)
			}
			for !input.Load() {
				time.Sleep(time.Millisecond)
			}
		})
	}
}
