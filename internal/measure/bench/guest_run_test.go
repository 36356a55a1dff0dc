package bench

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/cpu"

	"offmap/guest/payload"
	"offmap/internal/measure/bench/baseline"
	"offmap/internal/measure/probe"
	"offmap/kvm"
	"offmap/memory"
	"offmap/memory/attach"
	"offmap/vmm/boot"
)

// memfdDirect is a subject that works on every host.
var memfdDirect = Subject{Pair: attach.Pair{Backend: memory.Memfd, Attach: attach.Direct}}

func needKVM(t testing.TB) {
	t.Helper()
	sys, err := kvm.Open("")
	if err != nil {
		t.Skipf("SKIPPED: no usable /dev/kvm (%v); the lab has one", err)
	}
	sys.Close()
}

// everything returns a program with all kinds of operations.
func everything(cpus int) accesses {
	const size = 1 << 20
	p := accesses{cpus: cpus, size: 2 * size}
	for _, k := range []payload.BenchKind{
		"touch", "fill", "read-8", "read-16", "read-32", "random-read",
		"copy-8", "copy-16", "copy-32", "copy-rep", "copy-nt",
		"write-8", "write-16", "write-32", "write-rep", "write-nt", "random-write", "scatter", "link", "chase",
	} {
		if !k.AVX() || cpu.X86.HasAVX2 {
			p.ops = append(p.ops, access{k, 0, size, cacheLine, time.Millisecond})
		}
	}
	return p
}

// TestEverything runs every operation in guests and in C. Each operation checks its
// own work.
func TestEverything(t *testing.T) {
	path, err := baseline.Build(t.Context(), t.TempDir())
	if err != nil {
		t.Logf("SKIPPED: C: %v", err)
	}
	e := &Env{Host: ThisHost(os.DirFS("/")), Baseline: path}
	for _, s := range []Subject{memfdDirect, {Pair: attach.Pair{Backend: memory.Memfd}, Peer: C}} {
		for _, cpus := range []int{1, 2, 3} {
			t.Run(fmt.Sprintf("%s %d", s, cpus), func(t *testing.T) {
				if s.Peer == C && path == "" {
					t.Skip("SKIPPED: no C compiler")
				} else if s.Peer == "" {
					needKVM(t)
				}
				p := everything(cpus)
				for i := range p.ops {
					p.ops[i].size *= uint64(cpus) // a power of two for each
				}
				p.size *= uint64(cpus)
				got, err := p.run(t.Context(), e, s)
				if err != nil || len(got) != p.results() {
					t.Fatalf("%v, %v", got, err)
				}
				for i, m := range got {
					if m.units < 1 || m.seconds <= 0 {
						t.Errorf("result %d: %+v", i, m)
					}
				}
				// All of the memory was written, once.
				if want := float64(p.ops[0].size); got[0].units > want || got[0].seconds < 1e-3 && got[0].units != want {
					t.Errorf("touched %v bytes of %v", got[0].units, want)
				}
			})
		}
	}
}

// TestGuestCatches breaks the guest's code, or the memory before an operation, and
// checks that the guest notices.
func TestGuestCatches(t *testing.T) {
	needKVM(t)
	const size = 64 << 10
	op := func(k payload.BenchKind) access { return access{k, 0, size, 64, time.Millisecond} }
	smaller := op("chase")
	smaller.size /= 2
	for _, c := range []struct {
		name     string
		ops      []access
		from, to string // machine code; "" is the payload as it is
		says     string
	}{
		{"read of other words", []access{op("read-8")}, "", "", "sum of what was read"},
		{"random read of other words", []access{op("random-read")}, "", "", "sum of what was read at random"},
		{"chase round another ring", []access{op("link"), smaller}, "", "", "where the chase has come to"},
		{"chase that stays", []access{op("link"), op("chase")}, "\x4d\x8b\x00", "\x90\x90\x90", "where the chase has come to"},
		{"touch that doesn't", []access{op("touch")}, "\x48\x89\x3f", "\x90\x90\x90", "touched page"},
		{"rep stosb that doesn't", []access{op("write-rep")}, "\xf3\xaa", "\x90\x90", "word written"},
		{"rep movsb that doesn't", []access{op("fill"), op("copy-rep")}, "\xf3\xa4", "\x90\x90", "word copied"},
		{"random write that doesn't", []access{op("random-write")}, "\x4c\x89\x1c\x33", "\x90\x90\x90\x90", "word written at random"},
		{"nothing wrong", []access{op("fill"), op("copy-rep"), op("write-rep")}, "", "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			g := measuredGuest{accesses: accesses{cpus: 1, size: 2 * size, ops: c.ops}, ring: 3}
			if c.from != "" {
				g.change = func(ram memory.Guest, cpu boot.CPU) error { return patch(ram, cpu, c.from, c.to) }
			}
			_, err := g.run(t.Context(), memfdDirect)
			if c.says == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if err == nil || errors.Is(err, ErrCannot) || !strings.Contains(err.Error(), c.says) {
				t.Errorf("%v; want %q in it", err, c.says)
			}
		})
	}
}

// patch replaces machine code that the payload has exactly once.
func patch(ram memory.Guest, cpu boot.CPU, from, to string) error {
	p, err := payload.Lookup("bench")
	if err != nil {
		return err
	}
	if n := bytes.Count(p.Image(), []byte(from)); n != 1 {
		return fmt.Errorf("% x is %d times in the payload", from, n)
	}
	at := bytes.Index(p.Image(), []byte(from))
	_, err = ram.WriteAt([]byte(to), memory.GPA(cpu.RIP)+memory.GPA(at))
	return err
}

// TestInterpreted checks that a guest's times are refused if and only if KVM
// interprets the guest.
func TestInterpreted(t *testing.T) {
	needKVM(t)
	p := accesses{cpus: 1, size: 8 << 10, ops: []access{
		{"link", 0, 4 << 10, 64, 0}, {"chase", 0, 4 << 10, 64, 10 * time.Millisecond},
	}}
	if _, err := (measuredGuest{accesses: p, ring: 3}).run(t.Context(), memfdDirect); err != nil {
		t.Errorf("CPL 3: %v", err)
	}
	_, err := measuredGuest{accesses: p, ring: 0}.run(t.Context(), memfdDirect)
	if interprets := probe.ThisHost().KVM == "pvm"; errors.Is(err, ErrEmulated) != interprets {
		t.Errorf("CPL 0 with KVM %s: %v", probe.ThisHost().KVM, err)
	}
}

// TestRing checks that the rings which a guest creates, with strides of a cache line
// and of a page, go through every node once.
func TestRing(t *testing.T) {
	needKVM(t)
	for _, stride := range []uint64{cacheLine, aPage} {
		for nodes := max(16, 4096/stride); nodes*stride <= 16<<20; nodes *= 4 {
			size := nodes * stride
			g := measuredGuest{accesses: accesses{cpus: 1, size: size, ops: []access{{payload.BenchLink, 0, size, stride, 0}}}, ring: 3}
			mem := leftBy(t, g)
			seen := make([]bool, nodes)
			var far uint64
			at := binary.LittleEndian.Uint64(mem) // where node 0 leads
			for range nodes {
				off := at - uint64(memoryAt)
				if off >= size || seen[off/stride] {
					t.Fatalf("stride %d, %d nodes: at %#x for the second time, or outside", stride, nodes, at)
				}
				seen[off/stride] = true
				next := binary.LittleEndian.Uint64(mem[off:])
				if d := next - at; d > 4*stride && -d > 4*stride {
					far++
				}
				at = next
			}
			if nodes >= 256 && far < nodes*9/10 {
				t.Errorf("stride %d, %d nodes: only %d lead far away", stride, nodes, far)
			}
		}
	}
}

// leftBy runs a guest and returns the contents of its measured memory at the end.
func leftBy(t *testing.T, g measuredGuest) []byte {
	t.Helper()
	mem := make([]byte, g.size)
	_, err := payloadGuest{payload: "bench", cpus: g.cpus, size: g.ram(), load: g.load, inspect: func(ram memory.Guest, _ int) error {
		_, err := ram.ReadAt(mem, memoryAt)
		return err
	}}.run(t.Context(), memfdDirect)
	if err != nil {
		t.Fatal(err)
	}
	return mem
}

// TestGuestRefusals checks the errors for what this host can't measure.
func TestGuestRefusals(t *testing.T) {
	one := func(size uint64) accesses {
		return accesses{cpus: 1, size: size, ops: []access{{kind: "fill", size: 4096}}}
	}
	if _, err := one(1<<50).run(t.Context(), &Env{}, memfdDirect); !errors.Is(err, ErrCannot) {
		t.Errorf("more memory than there is: %v", err)
	}
	few := &Env{Host: Host{Host: probe.Host{CPUs: 1}}}
	for _, sc := range bandwidthScenarios() {
		if _, err := sc.Sample(t.Context(), few, memfdDirect); sc.Name == "bandwidth-2" && !errors.Is(err, ErrCannot) {
			t.Errorf("two vCPUs on one CPU: %v", err)
		}
	}
	needKVM(t)
	if _, err := one(4096).inGuest(t.Context(), Subject{Pair: attach.Pair{Backend: memory.Memfd, Attach: attach.ViaBridge}}); !errors.Is(err, ErrCannot) {
		t.Errorf("an attach that doesn't work: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := one(4096).inGuest(ctx, memfdDirect); !errors.Is(err, context.Canceled) || errors.Is(err, ErrCannot) {
		t.Errorf("cancelled: %v", err)
	}
}

// TestGuestScenarios takes a sample of each scenario but the large ones.
func TestGuestScenarios(t *testing.T) {
	needKVM(t)
	e := &Env{Host: ThisHost(os.DirFS("/"))}
	for _, group := range []func() []Scenario{bandwidthScenarios, latencyScenarios, randomScenarios, uncachedScenarios, touchScenarios} {
		for _, sc := range group() {
			t.Run(sc.Name, func(t *testing.T) {
				large := strings.HasSuffix(sc.Name, "-large")
				if s := sc.Subjects(&Env{}, []Subject{{Pair: attach.Pair{Backend: memory.Secret, Attach: attach.ViaWindow}}}); (len(s) == 0) != large {
					t.Errorf("with a window: %v", s)
				}
				if large || testing.Short() {
					t.Skip("SKIPPED: slow")
				}
				if sc.Native && e.Host.Accel == "tcg" {
					t.Skip("SKIPPED: TCG says nothing of memory")
				}
				if s := sc.Subjects(e, []Subject{memfdDirect}); len(s) != 1 || s[0] != memfdDirect {
					t.Errorf("subjects %v", s)
				}
				v, err := sc.Sample(t.Context(), e, memfdDirect)
				if errors.Is(err, ErrCannot) && e.Host.CPUs < 2 {
					t.Skipf("SKIPPED: %v", err)
				}
				if err != nil || len(v) != len(sc.Metrics) {
					t.Fatalf("%d values for %d metrics, %v", len(v), len(sc.Metrics), err)
				}
				for i, m := range sc.Metrics {
					t.Logf("%s %.4g %s", m.Name, v[i], m.Unit)
					if v[i] <= 0 {
						t.Errorf("%s is %v", m.Name, v[i])
					}
				}
			})
		}
	}
}
