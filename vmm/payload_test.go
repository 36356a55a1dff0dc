package vmm

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"offmap/guest/payload"
	"offmap/guest/protocol"
	"offmap/kvm"
	"offmap/memory"
	"offmap/memory/attach"
	"offmap/vmm/boot"
)

// needKVM skips, loudly, where there is no KVM.
func needKVM(t testing.TB) {
	t.Helper()
	sys, err := kvm.Open("")
	if err != nil {
		t.Skipf("SKIPPED: no usable /dev/kvm (%v); the lab has one", err)
	}
	sys.Close()
}

// payloadConfig is a machine with an embedded payload.
func payloadConfig(t testing.TB, name string, cpus int, size uint64) Config {
	t.Helper()
	p, err := payload.Lookup(name)
	if err != nil {
		t.Fatal(err)
	}
	return Config{
		Memory: size, CPUs: cpus, Backend: memory.Memfd, Attach: attach.Auto,
		Guest: boot.PayloadLoader(p.Image(), boot.PayloadConfig{Ring: p.Ring}),
		Warn:  func(err error) { t.Error(err) },
	}
}

// run makes, runs and closes a machine, and returns what its console said.
func run(ctx context.Context, t testing.TB, cfg Config) (Result, string, error) {
	t.Helper()
	var console bytes.Buffer
	cfg.Console = &console
	m, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	r, err := m.Run(ctx)
	if err := m.Close(); err != nil {
		t.Error(err)
	}
	return r, console.String(), err
}

func TestPayloads(t *testing.T) {
	needKVM(t)
	for _, c := range []struct {
		payload string
		cpus    int
		size    uint64
		says    string
		all     bool // touches all of RAM
	}{
		{"hello", 1, 32 << 20, "hello from vCPU 0 of 1, 32 MiB of RAM", false},
		{"hello", 3, 64 << 20, "hello from vCPU 2 of 3", false},
		{"touch", 1, 32 << 20, " ok", true},
		{"touch", 2, 96 << 20, " ok", true},
	} {
		t.Run(c.payload, func(t *testing.T) {
			r, out, err := run(t.Context(), t, payloadConfig(t, c.payload, c.cpus, c.size))
			if err != nil || r.Outcome.Reason != PowerOff || r.Outcome.Code != 0 {
				t.Fatalf("%+v, %v\n%s", r, err, out)
			}
			if !strings.Contains(out, c.says) {
				t.Errorf("console %q doesn't say %q", out, c.says)
			}
			if r.ToUserland <= 0 || r.Exits["io"] == 0 {
				t.Errorf("nothing was counted: %+v", r)
			}
			if (r.Populated == c.size) != c.all || r.Exposed != r.Populated || r.ExposedPeak != r.Exposed {
				t.Errorf("populated %d, exposed %d of %d", r.Populated, r.Exposed, c.size)
			}
		})
	}
}

// TestAbove4G verifies memory on both sides of the PCI hole, where the host
// has the memory.
func TestAbove4G(t *testing.T) {
	needKVM(t)
	if testing.Short() {
		t.Skip("SKIPPED: touches more than 4 GiB")
	}
	cfg := payloadConfig(t, "touch", 2, 4<<30+64<<20)
	layout, err := memory.NewLayout(cfg.Memory)
	if err != nil {
		t.Fatal(err)
	}
	// Secret memory isn't wanted here, only its check of what is available.
	if ram, err := memory.New(memory.Secret, layout); errors.Is(err, memory.ErrTooLarge) {
		t.Skipf("SKIPPED: %v", err)
	} else if err == nil {
		ram.Close()
	}
	r, out, err := run(t.Context(), t, cfg)
	if err != nil || r.Outcome.Code != 0 || r.Populated != cfg.Memory || !strings.Contains(out, " ok") {
		t.Errorf("%+v, %v\n%s", r, err, out)
	}
}

// TestEvent holds that the loader of a guest is told what it says at its event
// port, in order, and that Emulated counts what KVM interprets: everything at
// CPL 0 of a KVM without the processor's help, next to nothing at CPL 3.
func TestEvent(t *testing.T) {
	needKVM(t)
	code := []byte{
		0xba, protocol.EventPort & 0xff, protocol.EventPort >> 8, 0x00, 0x00, // mov edx, EventPort
		0xb0, 0x02, 0xee, // mov al, 2; out dx, al
		0xb9, 0x10, 0x27, 0x00, 0x00, // mov ecx, 10000
		0xff, 0xc9, 0x75, 0xfc, // dec ecx; jnz -4
		0xb0, 0x01, 0xee, // mov al, 1; out dx, al
		0xff, 0xc2, 0x30, 0xc0, 0xee, // inc edx; xor al, al; out dx, al
	}
	native := map[uint8]bool{3: true, 0: vendor() != "pvm"}
	for ring, native := range native {
		var events []byte
		cfg := payloadConfig(t, "hello", 1, 32<<20)
		cfg.Event = func(b byte) { events = append(events, b) }
		cfg.Guest = boot.PayloadLoader(code, boot.PayloadConfig{Ring: ring})
		r, _, err := run(t.Context(), t, cfg)
		if err != nil || r.Outcome.Reason != PowerOff || !bytes.Equal(events, []byte{protocol.EventMark, protocol.EventUserland}) {
			t.Errorf("ring %d: %+v, %v; events %d", ring, r.Outcome, err, events)
		}
		if r.Emulated == nil {
			t.Fatal("KVM doesn't say what it emulated")
		}
		if few := *r.Emulated < 100; few != native {
			t.Errorf("ring %d: %d instructions emulated of 20000", ring, *r.Emulated)
		}
	}
}

// vendor is "pvm" on a KVM that interprets guest kernels.
func vendor() string {
	if _, err := os.Stat("/sys/module/kvm_pvm"); err == nil {
		return "pvm"
	}
	return ""
}

var errTooLong = errors.New("too long")

// hang is more than anything takes that is done in a moment.
const hang = time.Minute

// TestStop ends a guest that never exits, from outside: by the context and by
// Stop.
func TestStop(t *testing.T) {
	needKVM(t)
	spin := payloadConfig(t, "hello", 2, 32<<20)
	spin.Guest = boot.PayloadLoader([]byte{0xeb, 0xfe}, boot.PayloadConfig{Ring: 3}) // jmp .
	t.Run("context", func(t *testing.T) {
		ctx, cancel := context.WithTimeoutCause(t.Context(), 50*time.Millisecond, errTooLong)
		defer cancel()
		start := time.Now()
		r, _, err := run(ctx, t, spin)
		if !errors.Is(err, errTooLong) || r.Outcome.Reason != Stopped {
			t.Errorf("%+v, %v; want the context's cause", r, err)
		}
		if d := time.Since(start); d > hang {
			t.Errorf("a spinning guest took %v to stop", d)
		}
	})
	t.Run("Stop", func(t *testing.T) {
		m, err := New(spin)
		if err != nil {
			t.Fatal(err)
		}
		time.AfterFunc(20*time.Millisecond, m.Stop)
		if r, err := m.Run(t.Context()); err != nil || r.Outcome.Reason != Stopped {
			t.Errorf("%+v, %v", r, err)
		}
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	})
	// Stop may still be at work when Run returns, and then Close mustn't come in its way.
	t.Run("Stop at once", func(t *testing.T) {
		for range 30 {
			m, err := New(payloadConfig(t, "hello", 4, 32<<20))
			if err != nil {
				t.Fatal(err)
			}
			go m.Stop()
			if _, err := m.Run(t.Context()); err != nil {
				t.Error(err)
			}
			if err := m.Close(); err != nil {
				t.Error(err)
			}
		}
	})
}

// TestHostileGuests runs code that does its worst: every ending must be an
// outcome.
func TestHostileGuests(t *testing.T) {
	needKVM(t)
	for _, c := range []struct {
		name string
		code []byte
		want Reason
	}{
		{"triple fault", []byte{0x0f, 0x0b}, Crash},                                  // ud2
		{"hlt at CPL 3", []byte{0xf4}, Crash},                                        // hlt
		{"jump to nowhere", []byte{0x31, 0xc0, 0x48, 0xf7, 0xd0, 0xff, 0xe0}, Crash}, // xor eax, eax; not rax; jmp rax
	} {
		t.Run(c.name, func(t *testing.T) {
			cfg := payloadConfig(t, "hello", 1, 32<<20)
			cfg.Guest = boot.PayloadLoader(c.code, boot.PayloadConfig{Ring: 3})
			ctx, cancel := context.WithTimeout(t.Context(), hang)
			defer cancel()
			r, _, err := run(ctx, t, cfg)
			if err != nil || r.Outcome.Reason != c.want {
				t.Errorf("%+v, %v; want %s", r.Outcome, err, c.want)
			}
		})
	}
}

// TestNothingLeft makes machines in success and in failure, and counts
// descriptors and goroutines.
func TestNothingLeft(t *testing.T) {
	needKVM(t)
	fds := func() int {
		e, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		return len(e)
	}
	broken := payloadConfig(t, "hello", 1, 32<<20)
	broken.Guest = func(memory.Guest, int, int) ([]boot.CPU, error) { return nil, errTooLong }
	nokvm := payloadConfig(t, "hello", 1, 32<<20)
	nokvm.KVM = "/dev/no-kvm"

	run(t.Context(), t, payloadConfig(t, "hello", 2, 32<<20)) // what is made once
	before, routines := fds(), runtime.NumGoroutine()
	for range 5 {
		run(t.Context(), t, payloadConfig(t, "hello", 2, 32<<20))
		if m, err := New(broken); !errors.Is(err, errTooLong) {
			t.Errorf("a guest that can't be loaded: %v, %v", m, err)
		}
		if m, err := New(nokvm); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("no KVM: %v, %v", m, err)
		}
	}
	for range 1000 { // a goroutine may be on its last instructions
		if fds() == before && runtime.NumGoroutine() <= routines {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Errorf("%d descriptors and %d goroutines before, %d and %d after", before, routines, fds(), runtime.NumGoroutine())
}

// TestRunCancelled holds that a context that has ended before Run is its error, even if
// the guest needs no time.
func TestRunCancelled(t *testing.T) {
	needKVM(t)
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errTooLong)
	for range 20 {
		r, _, err := run(ctx, t, payloadConfig(t, "hello", 1, 32<<20))
		if !errors.Is(err, errTooLong) || r.Outcome.Reason != Stopped {
			t.Fatalf("%+v, %v; want %v", r.Outcome, err, errTooLong)
		}
	}
}
