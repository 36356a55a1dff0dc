package gdb_test

import (
	"bytes"
	"context"
	"encoding/hex"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"offmap/guest/protocol"
	"offmap/kvm"
	"offmap/memory"
	"offmap/memory/memtest"
	"offmap/vmm"
	"offmap/vmm/boot"
	"offmap/vmm/gdb"
	"offmap/vmm/gdb/gdbtest"
)

// image is where a payload's code begins.
const image = 0x3000

// guest is a payload that a server lets clients debug.
type guest struct {
	t       *testing.T
	addr    string
	outcome vmm.Outcome // after wait
	done    chan struct{}
	server  *gdb.Server
}

// start runs code at a privilege level.
func start(t *testing.T, code []byte, ring uint8, cpus int) *guest {
	t.Helper()
	sys, err := kvm.Open("")
	if err != nil {
		t.Skipf("SKIPPED: no usable /dev/kvm (%v); the lab has one", err)
	}
	sys.Close()
	m, err := vmm.New(vmm.Config{
		Memory: 32 << 20, CPUs: cpus, Backend: memory.Memfd,
		Guest: boot.PayloadLoader(code, boot.PayloadConfig{Ring: ring}),
		Warn:  func(err error) { t.Error(err) },
	})
	if err != nil {
		t.Fatal(err)
	}
	a, err := gdb.ParseAddress(filepath.Join(t.TempDir(), "socket"))
	if err != nil {
		t.Fatal(err)
	}
	g := &guest{t: t, done: make(chan struct{})}
	if g.server, err = gdb.Listen(t.Context(), a); err != nil {
		t.Fatal(err)
	}
	d, err := m.Debug()
	if err != nil {
		t.Fatal(err)
	}
	g.addr = g.server.Addr()
	g.server.Start(d, func(err error) { t.Log(err) })
	go func() {
		defer close(g.done)
		r, err := m.Run(context.Background())
		if err != nil {
			t.Error(err)
		}
		g.outcome = r.Outcome
		if err := g.server.Close(); err != nil {
			t.Error(err)
		}
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	}()
	t.Cleanup(func() { m.Stop(); <-g.done })
	return g
}

// connect connects a client.
func (g *guest) connect() (*gdbtest.Client, string) {
	g.t.Helper()
	conn, err := net.Dial("unix", g.addr)
	if err != nil {
		g.t.Fatal(err)
	}
	g.t.Cleanup(func() { conn.Close() })
	c, stop, err := gdbtest.New(conn)
	if err != nil {
		g.t.Fatal(err)
	}
	return c, stop
}

// script sends packets, each with the reply that is wanted: a prefix of it. A packet
// "^C" is an interrupt.
func (g *guest) script(c *gdbtest.Client, lines ...[2]string) {
	g.t.Helper()
	for _, l := range lines {
		var reply string
		var err error
		if l[0] == "^C" {
			if err = c.Interrupt(); err == nil {
				reply, err = c.Receive()
			}
		} else {
			reply, err = c.Do(l[0])
		}
		if err != nil || !strings.HasPrefix(reply, l[1]) || l[1] == "" && reply != "" {
			g.t.Fatalf("%q: %q, %v; want %q", l[0], reply, err, l[1])
		}
	}
}

func (g *guest) register(c *gdbtest.Client, n int) uint64 {
	g.t.Helper()
	v, err := c.Register(n)
	if err != nil {
		g.t.Fatal(err)
	}
	return v
}

// counter counts in EBX for ever: inc ebx; jmp -4.
var counter = []byte{0xff, 0xc3, 0xeb, 0xfc}

// TestSession holds what a debugger sees and changes of a guest with two vCPUs: the
// first instruction, registers, memory, the stop of a running guest. The guest goes on
// after a detach, and after a client that only hangs up; it ends by a kill.
func TestSession(t *testing.T) {
	if l, err := net.Listen("unix", filepath.Join(t.TempDir(), "first")); err != nil { // the runtime's poller stays
		t.Fatal(err)
	} else {
		l.Close()
	}
	leaks := memtest.Leaks(t)
	defer leaks()
	g := start(t, counter, 3, 2)
	c, stop := g.connect()
	if stop != "T05thread:1;" {
		t.Errorf("the first stop: %q", stop)
	}
	if rip := g.register(c, gdbtest.RIP); rip != image {
		t.Errorf("RIP 0x%x before the first instruction", rip)
	}
	g.script(c,
		[2]string{"qfThreadInfo", "m1,2"}, [2]string{"qsThreadInfo", "l"}, [2]string{"T2", "OK"}, [2]string{"T3", "E"},
		[2]string{"m3000,4", hex.EncodeToString(counter)},
		[2]string{"m3000,0", ""},
		[2]string{"mffff800000000000,4", "E"}, [2]string{"m1000000000000,4", "E"},
		[2]string{"x3000,2", "b\xff\xc3"},
		[2]string{"M3800,3:010203", "OK"}, [2]string{"X3803,2:}\x03}\x04", "OK"}, [2]string{"m3800,5", "0102032324"},
		[2]string{"m3ffe,4", "00000000"},
		[2]string{"M3800,3:0102", "E"}, [2]string{"M3800", "E"},
		[2]string{"Hg2", "OK"}, [2]string{"P1=0500000000000000", "OK"}, [2]string{"p1", "0500000000000000"},
		[2]string{"Hg1", "OK"}, [2]string{"p1", "0000000000000000"},
		[2]string{"P2c=0000000000000000", "E"}, // CR3
		[2]string{"P2f=0000000000000000", "E"}, // there is none
		[2]string{"p18", "xxxxxxxxxxxxxxxxxxxx"},
		[2]string{"vMustReplyEmpty", ""}, [2]string{"", ""},
	)
	if err := c.Send("vCont;c"); err != nil {
		t.Fatal(err)
	}
	g.script(c, [2]string{"^C", "T02thread:1;"})
	before := g.register(c, gdbtest.RBX)
	if err := c.Send("vCont;c:2"); err != nil { // vCPU 0 stays
		t.Fatal(err)
	}
	g.script(c, [2]string{"^C", "T02thread:1;"})
	if after := g.register(c, gdbtest.RBX); after != before {
		t.Errorf("vCPU 0 has run from %d to %d", before, after)
	}
	// All registers, as they are.
	all, err := c.Do("g")
	if err != nil {
		t.Fatal(err)
	}
	g.script(c, [2]string{"G" + all, "OK"}, [2]string{"g", all}, [2]string{"G" + all + "00", "E"})
	g.script(c, [2]string{"D", "OK"})
	c.Close()

	for after := before; after == before; c.Close() {
		time.Sleep(time.Millisecond) // it runs meanwhile
		c, stop = g.connect()
		if !strings.HasPrefix(stop, "T05thread:") {
			t.Fatalf("the stop of a guest that was running: %q", stop)
		}
		g.script(c, [2]string{"Hg1", "OK"})
		after = g.register(c, gdbtest.RBX)
	}

	c, _ = g.connect()
	if err := c.Send("k"); err != nil {
		t.Fatal(err)
	}
	<-g.done
	if g.outcome.Reason != vmm.Stopped {
		t.Errorf("%+v", g.outcome)
	}
	c.Close()
}

// TestNeverRun holds that a session ends with a machine that has never run.
func TestNeverRun(t *testing.T) {
	sys, err := kvm.Open("")
	if err != nil {
		t.Skipf("SKIPPED: no usable /dev/kvm (%v); the lab has one", err)
	}
	sys.Close()
	m, err := vmm.New(vmm.Config{Memory: 32 << 20, Backend: memory.Memfd, Guest: boot.PayloadLoader(counter, boot.PayloadConfig{})})
	if err != nil {
		t.Fatal(err)
	}
	d, err := m.Debug()
	if err != nil {
		t.Fatal(err)
	}
	ours, client := net.Pipe()
	done := make(chan error, 1)
	go func() { done <- gdb.Serve(ours, d) }()
	client.Close()
	time.Sleep(100 * time.Millisecond) // the session waits for the guest to stop
	if err := m.Close(); err != nil {
		t.Error(err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
	if _, _, err := d.Registers(0); err == nil {
		t.Error("registers of a machine that is gone")
	}
}

// TestEnd holds that a client is told how the guest has ended.
func TestEnd(t *testing.T) {
	code := []byte{0x66, 0xba, protocol.ExitPort & 0xff, protocol.ExitPort >> 8, 0xb0, 7, 0xee} // mov dx, ExitPort; mov al, 7; out dx, al
	g := start(t, code, 3, 1)
	c, _ := g.connect()
	g.script(c, [2]string{"vCont;c", "W07"})
	<-g.done
}

// TestTarget holds that the target description names every register, in order, with
// its size.
func TestTarget(t *testing.T) {
	g := start(t, counter, 3, 1)
	c, _ := g.connect()
	var text string
	for more := "m"; more == "m"; {
		part, err := c.Do(fmt.Sprintf("qXfer:features:read:target.xml:%x,300", len(text)))
		if err != nil || part == "" {
			t.Fatalf("%q, %v", part, err)
		}
		more, part = part[:1], part[1:]
		text += part
	}
	bits := 0
	for _, r := range strings.Split(text, "<reg ")[1:] {
		var n int
		if _, err := fmt.Sscanf(r[strings.Index(r, "bitsize="):], "bitsize=\"%d\"", &n); err != nil {
			t.Fatal(err)
		}
		bits += n
	}
	if all, err := c.Do("g"); err != nil || len(all) != bits/4 || !strings.HasSuffix(text, "</target>\n") {
		t.Errorf("%d hex digits, %v; the description has %d bits\n%s", len(all), err, bits, text)
	}
}

// TestBadPackets holds that the server asks for a broken packet once more, and hangs up
// on one that is too long. The guest runs on.
func TestBadPackets(t *testing.T) {
	g := start(t, counter, 3, 1)
	conn, err := net.Dial("unix", g.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	io.WriteString(conn, "junk$?#00")
	b := make([]byte, 1)
	if _, err := conn.Read(b); err != nil || b[0] != '-' {
		t.Fatalf("%q, %v", b, err)
	}
	go io.WriteString(conn, "$"+strings.Repeat("m", 1<<20))
	if rest, err := io.ReadAll(conn); err == nil && !bytes.Equal(rest, nil) {
		t.Errorf("%q", rest)
	}
}

// softwareKVM reports whether KVM works without the processor's help. At CPL 0 it then
// knows neither INT3 nor watchpoints, and at CPL 3 nothing of a debugger.
func softwareKVM() bool {
	for _, m := range []string{"kvm_intel", "kvm_amd"} {
		if _, err := os.Stat("/sys/module/" + m); err == nil {
			return false
		}
	}
	return true
}

const softwareSkip = "SKIPPED: neither kvm_intel nor kvm_amd is loaded; the lab has one"

// TestSteps holds that a step is one instruction, of the vCPU that was chosen, and that
// a hardware breakpoint stops before its instruction, again and again until it is
// removed.
func TestSteps(t *testing.T) {
	g := start(t, counter, 0, 2)
	c, _ := g.connect()
	g.script(c,
		[2]string{"vCont;s:1", "T05thread:1;"}, [2]string{"p10", "0230000000000000"}, [2]string{"p1", "0100000000000000"},
		[2]string{"vCont;s:1", "T05thread:1;"}, [2]string{"p10", "0030000000000000"},
		[2]string{"Hc1", "OK"}, [2]string{"s", "T05thread:1;"}, [2]string{"p10", "0230000000000000"},
		[2]string{"Hg2", "OK"}, [2]string{"p10", "0030000000000000"}, [2]string{"p1", "0000000000000000"},
		[2]string{"Z1,3000,1", "OK"}, [2]string{"Z1,3000,1", "OK"},
		[2]string{"vCont;c:1", "T05thread:1;hwbreak:;"}, [2]string{"p10", "0030000000000000"}, [2]string{"p1", "0200000000000000"},
		[2]string{"z1,3000,1", "OK"}, [2]string{"z1,3000,1", "OK"}, [2]string{"vCont;s:1", "T05thread:1;"}, [2]string{"Z1,3000,1", "OK"},
		[2]string{"vCont;c:1", "T05thread:1;hwbreak:;"}, [2]string{"p1", "0300000000000000"},
		[2]string{"Z1,1,1", "OK"}, [2]string{"Z1,2,1", "OK"}, [2]string{"Z1,3,1", "OK"}, [2]string{"Z1,4,1", "E"},
		[2]string{"z1,1,1", "OK"}, [2]string{"Z2,1001,4", "E"}, [2]string{"Z2,1000,3", "E"}, [2]string{"Z3,1000,4", ""}, [2]string{"Z2,1000,4", "OK"},
	)
}

// TestSoftware holds that a software breakpoint stops before its instruction, that
// the client doesn't see it in memory, and that it is gone after a detach.
func TestSoftware(t *testing.T) {
	for _, ring := range []uint8{0, 3} {
		if ring == 3 && softwareKVM() {
			t.Skip(softwareSkip)
		}
		g := start(t, counter, ring, 1)
		c, _ := g.connect()
		g.script(c,
			[2]string{"Z0,3002,1", "OK"}, [2]string{"Z0,3002,1", "OK"}, [2]string{"m3000,4", "ffc3ebfc"},
			[2]string{"vCont;c", "T05thread:1;swbreak:;"}, [2]string{"p10", "0230000000000000"}, [2]string{"p1", "0100000000000000"},
			// A write goes below it: jmp -4 becomes jmp -2, the jump itself.
			[2]string{"M3002,2:ebfe", "OK"}, [2]string{"vCont;c", "T05thread:1;swbreak:;"},
			[2]string{"z0,3002,1", "OK"}, [2]string{"m3000,4", "ffc3ebfe"},
			[2]string{"vCont;s:1", "T05thread:1;"}, [2]string{"p10", "0230000000000000"},
			[2]string{"M3002,2:ebfc", "OK"}, [2]string{"Z0,3000,1", "OK"}, [2]string{"vCont;c", "T05thread:1;swbreak:;"}, [2]string{"p10", "0030000000000000"},
			[2]string{"D", "OK"},
		)
		c.Close()
		for rbx := uint64(1); rbx <= 1; c.Close() {
			time.Sleep(time.Millisecond)
			c, _ = g.connect()
			rbx = g.register(c, gdbtest.RBX)
		}
	}
}

// TestWatch holds that a watchpoint stops after a write, and says where.
func TestWatch(t *testing.T) {
	if softwareKVM() {
		t.Skip(softwareSkip)
	}
	code := []byte{0x89, 0x1c, 0x25, 0x00, 0x38, 0x00, 0x00, 0xff, 0xc3, 0xeb, 0xf5} // mov [0x3800], ebx; inc ebx; jmp -11
	g := start(t, code, 0, 1)
	c, _ := g.connect()
	g.script(c,
		[2]string{"Z2,3800,4", "OK"},
		[2]string{"vCont;c", "T05thread:1;watch:3800;"}, [2]string{"p10", "0730000000000000"}, [2]string{"m3800,4", "00000000"},
		[2]string{"vCont;c", "T05thread:1;watch:3800;"}, [2]string{"m3800,4", "01000000"},
		[2]string{"z2,3800,4", "OK"}, [2]string{"Z4,3800,4", "OK"},
		[2]string{"vCont;c", "T05thread:1;awatch:3800;"}, [2]string{"m3800,4", "02000000"},
	)
}

// TestOwnINT3 holds that a guest gets its own INT3, also while there are breakpoints.
func TestOwnINT3(t *testing.T) {
	if softwareKVM() {
		t.Skip(softwareSkip)
	}
	code := make([]byte, 0x70)
	copy(code, []byte{
		0x0f, 0x01, 0x1d, 0x19, 0, 0, 0, // lidt [0x3020]
		0xcc,       // int3
		0x88, 0xd8, // mov al, bl
		0x66, 0xba, protocol.ExitPort & 0xff, protocol.ExitPort >> 8, 0xee, // mov dx, ExitPort; out dx, al
	})
	copy(code[0x18:], []byte{0xff, 0xc3, 0x48, 0xcf})       // inc ebx; iretq
	copy(code[0x20:], []byte{0x3f, 0, 0x30, 0x30})          // the IDT: 4 gates at 0x3030
	copy(code[0x60:], []byte{0x18, 0x30, 0x10, 0, 0, 0x8e}) // that of #BP: 0x3018, by code segment 0x10
	g := start(t, code, 0, 1)
	c, _ := g.connect()
	g.script(c,
		[2]string{"Z0,301a,1", "OK"}, // the handler's iretq
		[2]string{"vCont;c", "T05thread:1;swbreak:;"}, [2]string{"p10", "1a30000000000000"},
		[2]string{"z0,301a,1", "OK"}, [2]string{"Z0,3008,1", "OK"},
		[2]string{"vCont;c", "T05thread:1;swbreak:;"}, [2]string{"p10", "0830000000000000"},
		[2]string{"z0,3008,1", "OK"}, [2]string{"vCont;c", "W01"},
	)
}

// TestHalted holds that a guest that has halted for good stays while a debugger is
// attached, and ends as always without one.
func TestHalted(t *testing.T) {
	code := []byte{0x66, 0xba, protocol.HaltPort & 0xff, protocol.HaltPort >> 8, 0xee, 0xeb, 0xfd} // mov dx, HaltPort; 1: out dx, al; jmp 1b
	g := start(t, code, 3, 2)
	c, _ := g.connect()
	if err := c.Send("vCont;c"); err != nil {
		t.Fatal(err)
	}
	time.Sleep(4 * time.Second) // in which the machine would look at it twice
	g.script(c,
		[2]string{"^C", "T02thread:1;"},
		[2]string{"qThreadExtraInfo,2", hex.EncodeToString([]byte("vCPU 1, halted"))},
		[2]string{"D", "OK"},
	)
	<-g.done
	if g.outcome.Reason != vmm.Crash || !strings.Contains(g.outcome.Detail, "halted") {
		t.Errorf("%+v", g.outcome)
	}
}

// TestStorm stops and resumes four vCPUs in many ways, in quick succession. Each has to
// lead to a stop.
func TestStorm(t *testing.T) {
	rounds := 300
	if testing.Short() {
		rounds = 30
	}
	g := start(t, counter, 0, 4)
	c, _ := g.connect()
	random := rand.New(rand.NewPCG(1, 2))
	inserted := false
	for i := range rounds {
		if random.IntN(4) == 0 {
			what := map[bool]string{false: "Z", true: "z"}[inserted]
			g.script(c, [2]string{what + "1,3002,1", "OK"})
			inserted = !inserted
		}
		packet := []string{"vCont;c", "vCont;s", "vCont;s:2;c", "vCont;c:3", "vCont;s:1", "vCont;s:1;s:2", "vCont;c:4;s:1"}[random.IntN(7)]
		if err := c.Send(packet); err != nil {
			t.Fatal(err)
		}
		// The interrupt may come before the stop or after it: then it does nothing.
		if err := c.Interrupt(); err != nil {
			t.Fatal(err)
		}
		if stop, err := c.Receive(); err != nil || !strings.HasPrefix(stop, "T0") {
			t.Fatalf("round %d, %s: %q, %v", i, packet, stop, err)
		}
		switch random.IntN(8) {
		case 0:
			c.Close() // without a word
			c, _ = g.connect()
			inserted = false
		case 1:
			g.script(c, [2]string{"D", "OK"})
			c.Close()
			c, _ = g.connect()
			inserted = false
		}
	}
}
