package console

import (
	"bytes"
	"encoding/binary"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"offmap/memory/memtest"
	"offmap/vmm/sink"
	"offmap/vmm/virtio/virtiotest"
)

func newConsole(t testing.TB, ports ...Port) *Console {
	t.Helper()
	c, err := New(ports...)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// message is a control message, with what follows it.
type message struct {
	id           uint32
	event, value uint16
	rest         string
}

func (m message) bytes() []byte {
	b := binary.LittleEndian.AppendUint32(nil, m.id)
	b = binary.LittleEndian.AppendUint16(b, m.event)
	return append(binary.LittleEndian.AppendUint16(b, m.value), m.rest...)
}

// guest drives a console as Linux does.
type guest struct {
	t testing.TB
	c *Console
	*virtiotest.Driver
}

func start(t testing.TB, c *Console) guest { return guest{t, c, virtiotest.New(t, c)} }

func (g guest) tell(ms ...message) {
	for _, m := range ms {
		g.Request(queueControlOut, [][]byte{m.bytes()}, nil)
	}
}

// expect receives control messages, which must be these.
func (g guest) expect(ms ...message) {
	g.t.Helper()
	for _, m := range ms {
		n, out := g.Request(queueControlIn, nil, []int{4096})
		if got := out[0][:n]; !bytes.Equal(got, m.bytes()) {
			g.t.Fatalf("control message %q, want %q", got, m.bytes())
		}
	}
}

// queues of a port.
func queues(port int) (receive, transmit int) {
	if port == 0 {
		return 0, 1
	}
	return 2*port + 2, 2*port + 3
}

// setUp does what Linux does with its ports until processes open them.
func (g guest) setUp(ports ...Port) {
	g.t.Helper()
	g.tell(message{^uint32(0), msgDeviceReady, 1, ""})
	for i := range ports {
		g.expect(message{uint32(i), msgAdd, 1, ""})
	}
	for i, p := range ports {
		g.tell(message{uint32(i), msgReady, 1, ""})
		if p.Console {
			g.expect(message{uint32(i), msgConsole, 1, ""})
		}
		if p.Name != "" {
			g.expect(message{uint32(i), msgName, 1, p.Name})
		}
		g.expect(message{uint32(i), msgOpen, 1, ""})
	}
}

// output is a writer that can be read meanwhile.
type output struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}

func TestPorts(t *testing.T) {
	check := memtest.Leaks(t)
	var outs [3]output
	t.Run("", func(t *testing.T) {
		ports := []Port{
			{Console: true, In: strings.NewReader("typed"), Out: &outs[0]},
			{Name: "in", In: strings.NewReader(strings.Repeat("binary\x00\xff\r\n", 1000))},
			{Name: "org.example.out-1", Out: &outs[2]},
		}
		c := newConsole(t, ports...)
		g := start(t, c)
		g.setUp(ports...)

		rx, tx := queues(0)
		g.tell(message{0, msgOpen, 1, ""})
		if n, out := g.Request(rx, nil, []int{4096}); string(out[0][:n]) != "typed" {
			t.Errorf("typed %q", out[0][:n])
		}
		g.Request(tx, [][]byte{[]byte("[    0.0] "), []byte("Linux\n")}, nil)

		// Input comes in the order and the sizes of the buffers. Its end is an end of file.
		rx, _ = queues(1)
		g.tell(message{1, msgOpen, 1, ""})
		var got []byte
		for len(got) < 10000 {
			n, out := g.Request(rx, nil, []int{7, 500})
			got = append(got, bytes.Join(out, nil)[:n]...)
		}
		if string(got) != strings.Repeat("binary\x00\xff\r\n", 1000) {
			t.Errorf("%d bytes come in, and not as they were", len(got))
		}
		g.Rings[rx].Send(nil, []int{4096})
		g.expect(message{1, msgOpen, 0, ""})

		_, tx = queues(2)
		g.tell(message{2, msgOpen, 1, ""})
		big := bytes.Repeat([]byte("0123456789abcde\n"), 1<<15)
		g.Request(tx, [][]byte{big[:1], big[1:100000], big[100000:]}, nil)
		g.Stop()
		if s := c.Stats(); s.ReadBytes != 10005 || s.WrittenBytes != uint64(16+len(big)) || s.Requests["input"] == 0 || s.Requests["output"] != 2 || s.Requests["control"] == 0 {
			t.Errorf("stats %+v", s)
		}
	})
	if got := outs[0].String(); got != "[    0.0] Linux\n" {
		t.Errorf("the console shows %q", got)
	}
	if n := len(outs[2].String()); n != 1<<19 {
		t.Errorf("%d bytes of output", n)
	}
	check()
}

// What is written to a console, and nothing else, is watched before the guest goes on.
func TestWatch(t *testing.T) {
	ports := []Port{{Console: true}, {Name: "p"}}
	c := newConsole(t, ports...)
	var watched output
	c.Watch(func(b byte) { watched.Write([]byte{b}) })
	g := start(t, c)
	g.setUp(ports...)
	_, tx := queues(1)
	g.Request(tx, [][]byte{[]byte("not this\n")}, nil)
	want := ""
	for range 100 {
		want += "Kernel panic - not syncing\n"
		g.Request(1, [][]byte{[]byte("Kernel "), []byte("panic - not syncing\n")}, nil)
		if got := watched.String(); got != want {
			t.Fatalf("watched %q", got)
		}
	}
}

// Input isn't read before a process has the port open and wants it, and none is lost
// when the port is closed and opened again.
func TestInputWaits(t *testing.T) {
	r, w := io.Pipe()
	ports := []Port{{Console: true}, {Name: "in", In: r}}
	g := start(t, newConsole(t, ports...))
	g.setUp(ports...)
	rx, _ := queues(1)
	first := g.Rings[rx].Send(nil, []int{4096})
	second := g.Rings[rx].Send(nil, []int{4096})
	wrote := make(chan struct{})
	go func() {
		w.Write([]byte("first"))
		close(wrote)
	}()
	// A port that only another one opens stays closed.
	g.tell(message{0, msgOpen, 1, ""}, message{1, msgOpen, 0, ""})
	select {
	case <-wrote:
		t.Error("input is read though nobody has the port open")
	default:
	}
	g.tell(message{1, msgOpen, 1, ""})
	<-wrote
	if n, out, ok := first.Wait(); !ok || string(out[0][:n]) != "first" {
		t.Errorf("%q, %v", out[0][:n], ok)
	}
	g.tell(message{1, msgOpen, 0, ""})
	// It is read now if the port was still open when the device wanted more.
	go func() {
		w.Write([]byte("second"))
		w.Close()
	}()
	if second.Done() {
		t.Error("input for a port that is closed")
	}
	g.tell(message{1, msgOpen, 1, ""})
	if n, out, ok := second.Wait(); !ok || string(out[0][:n]) != "second" {
		t.Errorf("%q, %v", out[0][:n], ok)
	}
}

// Closed comes after all output, each time.
func TestClosed(t *testing.T) {
	var out output
	closed := make(chan string, 1)
	ports := []Port{{Name: "out", Out: &out, Closed: func() { closed <- out.String() }}}
	g := start(t, newConsole(t, ports...))
	g.setUp(ports...)
	_, tx := queues(0)
	want := ""
	for i := range 20 {
		g.tell(message{0, msgOpen, 1, ""})
		for range 10 {
			piece := strings.Repeat("x", 1000+i)
			want += piece
			g.Rings[tx].Send([][]byte{[]byte(piece)}, nil)
		}
		g.tell(message{0, msgOpen, 0, ""})
		if got := <-closed; got != want {
			t.Fatalf("closed for the time %d after %d bytes, want %d", i, len(got), len(want))
		}
	}
	g.tell(message{0, msgOpen, 0, ""}, message{0, msgOpen, 1, ""})
	select {
	case <-closed:
		t.Error("closed, and wasn't open")
	default:
	}
}

// The queues are served by goroutines of their own, so the guest can open and close a
// port before its output queue is served.
func TestClosedEarly(t *testing.T) {
	closed := make(chan bool, 1)
	c := newConsole(t, Port{Name: "out", Closed: func() { closed <- true }})
	c.handle(0, msgOpen, 1)
	c.handle(0, msgOpen, 0)
	start(t, c)
	select {
	case <-closed:
	case <-time.After(virtiotest.Limit):
		t.Fatal("Closed isn't called")
	}
}

// A writer that takes nothing holds up its own port only, and a reset doesn't wait.
func TestSlowOutput(t *testing.T) {
	r, w := io.Pipe()
	var other output
	ports := []Port{{Name: "slow", Out: w}, {Name: "other", Out: &other}}
	c := newConsole(t, ports...)
	g := start(t, c)
	g.setUp(ports...)
	_, slow := queues(0)
	_, tx := queues(1)
	held := g.Rings[slow].Send([][]byte{make([]byte, 300_000)}, nil)
	g.Request(tx, [][]byte{[]byte("on\n")}, nil)
	if held.Done() {
		t.Error("300000 bytes went nowhere")
	}
	if err := g.Reset(^uint64(0)); err != nil {
		t.Fatal(err)
	}
	g.setUp(ports...)
	read := make(chan int64)
	go func() {
		n, _ := io.Copy(io.Discard, r)
		read <- n
	}()
	g.Request(slow, [][]byte{make([]byte, 100_000)}, nil)
	c.ports[0].out.Drain(nil)
	w.Close()
	if n := <-read; n < 100_000 || n >= 400_000 {
		t.Errorf("%d bytes were read of 100000, and of some of 300000 before the reset", n)
	}
}

// A reset ends a request of gigabytes, whose bytes are all the same megabytes of RAM.
func TestResetInHugeOutput(t *testing.T) {
	out := &counter{began: make(chan struct{})}
	g := start(t, newConsole(t, Port{Name: "out", Out: out}))
	r := g.Rings[1]
	const pieces, size = 127, 32 << 20
	for i := range pieces {
		d := virtiotest.Desc{GPA: 1 << 30, Len: size, Flags: virtiotest.Next, Next: uint16(i + 1)}
		if i == pieces-1 {
			d.Flags = 0
		}
		r.SetDesc(i, d)
	}
	r.SetHead(0, 0)
	r.SetAvailIndex(1)
	r.Notify()
	<-out.began
	g.Stop()
	if n := out.n.Load(); n >= pieces*size/2 {
		t.Errorf("%d bytes were written", n)
	}
}

// counter counts what is written.
type counter struct {
	n     atomic.Int64
	began chan struct{}
}

func (c *counter) Write(p []byte) (int, error) {
	if c.n.Add(int64(len(p))) == int64(len(p)) {
		close(c.began)
	}
	return len(p), nil
}

// A simple driver has one port, which is a console, and no control messages.
func TestOnePort(t *testing.T) {
	var out output
	c := newConsole(t, Port{Console: true, In: strings.NewReader("typed"), Out: &out})
	d := virtiotest.NewWith(t, c, ^uint64(featureMultiport))
	d.Request(1, [][]byte{[]byte("line\n")}, nil)
	if n, b := d.Request(0, nil, []int{100}); string(b[0][:n]) != "typed" {
		t.Errorf("typed %q", b[0][:n])
	}
	c.ports[0].out.Drain(nil)
	if out.String() != "line\n" {
		t.Errorf("%q", out.String())
	}
}

func TestResize(t *testing.T) {
	ports := []Port{{Console: true}}
	c := newConsole(t, ports...)
	g := start(t, c)
	if got, want := c.Config(), []byte{0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0}; !bytes.Equal(got, want) {
		t.Errorf("configuration % x", got)
	}
	g.setUp(ports...)
	c.Resize(0, 80, 25)
	g.expect(message{0, msgResize, 1, "\x50\x00\x19\x00"})
	c.Resize(0, 100, 50)
	g.expect(message{0, msgResize, 1, "\x64\x00\x32\x00"})
	if got, want := c.Config(), []byte{100, 0, 50, 0, 1, 0, 0, 0, 0, 0, 0, 0}; !bytes.Equal(got, want) {
		t.Errorf("configuration % x", got)
	}
	// The next driver is told when it has the port.
	g.Reset(^uint64(0))
	g.setUp(ports...)
	g.expect(message{0, msgResize, 1, "\x64\x00\x32\x00"})
}

// A reset leaves nothing of what the driver before it has said and was to be told.
func TestReset(t *testing.T) {
	r, w := io.Pipe()
	defer w.Close()
	ports := []Port{{Name: "in", In: r}}
	g := start(t, newConsole(t, ports...))
	g.setUp(ports...)
	g.tell(message{0, msgOpen, 1, ""}, message{0, msgReady, 1, ""}) // the answers wait
	g.Reset(^uint64(0))
	early := g.Rings[queueControlIn].Send(nil, []int{100})
	g.tell(message{0, msgOpen, 0, ""})
	if early.Done() {
		t.Error("a message for the driver before")
	}
	g.tell(message{^uint32(0), msgDeviceReady, 1, ""})
	if n, out, ok := early.Wait(); !ok || !bytes.Equal(out[0][:n], message{0, msgAdd, 1, ""}.bytes()) {
		t.Errorf("first message %q", out[0][:n])
	}
	input := g.Rings[0].Send(nil, []int{100})
	wrote := make(chan struct{})
	go func() {
		defer close(wrote)
		w.Write([]byte("input"))
	}()
	g.tell(message{0, msgReady, 1, ""})
	if input.Done() {
		t.Error("input for a port that is not open")
	}
	select {
	case <-wrote:
		t.Error("input is read for a port that is not open")
	default:
	}
	g.tell(message{0, msgOpen, 1, ""})
	if n, out, _ := input.Wait(); string(out[0][:n]) != "input" {
		t.Errorf("%q", out[0][:n])
	}
}

// A stuck writer makes a console lose output, and any other port wait.
func TestStuckWriter(t *testing.T) {
	for _, console := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			r, w := io.Pipe()
			c := newConsole(t, Port{Name: "p", Console: console, Out: w})
			wrote := make(chan bool, 1)
			go func() { wrote <- c.ports[0].out.Write(make([]byte, 4*sink.QueueSize), nil) }()
			time.Sleep(3 * sink.Patience)
			if waits := len(wrote) == 0; waits == console {
				t.Errorf("console %v: after three times the patience the output waits: %v", console, waits)
			}
			go io.Copy(io.Discard, r)
			<-wrote
			if err := c.Close(); (err != nil) != console {
				t.Errorf("console %v: %v", console, err)
			}
			w.Close()
		})
	}
}

// Messages that make no sense change nothing, and don't pile up.
func TestOddMessages(t *testing.T) {
	ports := []Port{{Console: true}, {Name: "p"}}
	g := start(t, newConsole(t, ports...))
	for _, b := range [][]byte{
		{1}, message{^uint32(0), msgDeviceReady, 0, ""}.bytes(), message{7, msgReady, 1, ""}.bytes(),
		message{2, msgOpen, 1, ""}.bytes(), message{^uint32(0), msgOpen, 1, ""}.bytes(), message{0, msgAdd, 1, ""}.bytes(),
		message{0, 2, 1, ""}.bytes(), message{1, msgReady, 0, ""}.bytes(), message{0, msgName, 1, "x"}.bytes(),
		message{1, 0xffff, 0xffff, strings.Repeat("x", 100)}.bytes(),
	} {
		if n, _ := g.Request(queueControlOut, [][]byte{b}, []int{100}); n != 0 {
			t.Errorf("%q: %d bytes of answer", b, n)
		}
	}
	for range 10000 {
		g.tell(message{^uint32(0), msgDeviceReady, 1, ""})
	}
	g.setUp(ports...)
	last := g.Rings[queueControlIn].Send(nil, []int{100})
	g.tell(message{9, msgReady, 1, ""})
	if last.Done() {
		t.Error("more messages than there is to say")
	}
}

// A buffer that a message doesn't fit into breaks the device, until the next reset.
func TestSmallControlBuffer(t *testing.T) {
	ports := []Port{{Name: "port"}}
	g := start(t, newConsole(t, ports...))
	g.tell(message{^uint32(0), msgDeviceReady, 1, ""})
	g.Rings[queueControlIn].Send(nil, []int{7})
	if err := g.Broken(); err == nil || !strings.Contains(err.Error(), "control message") {
		t.Errorf("broken: %v", err)
	}
	g.Reset(^uint64(0))
	g.setUp(ports...)
}

func TestNewErrors(t *testing.T) {
	for _, tt := range []struct {
		ports []Port
		err   string
	}{
		{nil, "0 ports"},
		{make([]Port, 17), "17 ports"},
		{[]Port{{Console: true}, {}}, "port 1"},
		{[]Port{{Name: "a/b"}}, `"a/b"`},
		{[]Port{{Name: strings.Repeat("x", 65)}}, "name"},
	} {
		if _, err := New(tt.ports...); err == nil || !strings.Contains(err.Error(), tt.err) {
			t.Errorf("%v: %v, want %q", tt.ports, err, tt.err)
		}
	}
}

// FuzzDriver is a driver that does what it likes.
func FuzzDriver(f *testing.F) {
	open := []byte{4, queueControlOut, 8, 1, 0, 0, 0, msgOpen, 0, 1, 0, 0, 0, 0, 0}
	ready := []byte{4, queueControlOut, 8, 255, 255, 255, 255, msgDeviceReady, 0, 1, 0, 0, 0, 0, 0}
	f.Add(open)
	f.Add(ready)
	f.Add(bytes.Join([][]byte{ready, {4, queueControlIn, 0, 0, 64, 0, 0}, open, {4, 4, 0, 0, 9, 0, 0}, {7, 0}, {4, 5, 3, 'a', 'b', 'c', 0, 0, 0, 0}}, nil))
	f.Fuzz(func(t *testing.T, script []byte) {
		var out output
		c := newConsole(t, Port{Console: true, In: strings.NewReader(strings.Repeat("in", 5000)), Out: &out},
			Port{Name: "a", In: strings.NewReader("short"), Out: io.Discard, Closed: func() {}}, Port{Name: "b", Out: &out})
		virtiotest.Hostile(t, c, script)
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
}

// FuzzControl holds that a control message changes no port but its own.
func FuzzControl(f *testing.F) {
	f.Add(uint32(1), uint16(msgOpen), uint16(1))
	f.Add(^uint32(0), uint16(msgDeviceReady), uint16(1))
	f.Fuzz(func(t *testing.T, id uint32, event, value uint16) {
		c := newConsole(t, Port{Console: true}, Port{Name: "a"}, Port{Name: "b"})
		c.handle(id, event, value)
		for i, p := range c.ports {
			if uint32(i) != id && (p.guest.isOpen() || p.pending&^(1<<msgAdd) != 0) {
				t.Errorf("message %d about port %d to port %d", event, id, i)
			}
		}
		for n := 0; c.nextMessage() != nil; n++ {
			if n > 20 {
				t.Fatal("no end of messages")
			}
		}
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
}

func BenchmarkOutput(b *testing.B) {
	d := virtiotest.New(b, newConsole(b, Port{Name: "out"}))
	p := [][]byte{make([]byte, 32<<10)}
	b.SetBytes(32 << 10)
	for b.Loop() {
		d.Request(1, p, nil)
	}
}
