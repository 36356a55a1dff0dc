package virtio_test

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"offmap/memory"
	"offmap/memory/memtest"
	"offmap/vmm/virtio"
	"offmap/vmm/virtio/virtiotest"
)

// eventually waits for what another goroutine does.
func eventually(t testing.TB, cond func() bool) {
	t.Helper()
	for end := time.Now().Add(virtiotest.Limit); !cond(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("it doesn't happen")
		}
	}
}

// roundTrip makes a request of queue i.
func (m *machine) roundTrip(i int) {
	m.t.Helper()
	n, out, ok := m.rings[i].Send([][]byte{[]byte("there and "), []byte("back")}, []int{10, 90}).Wait()
	if got := bytes.Join(out, nil)[:n]; !ok || string(got) != "there and back" {
		m.t.Fatalf("queue %d: %q, %v", i, got, ok)
	}
}

func TestTransport(t *testing.T) {
	check := memtest.Leaks(t)
	dev := &echo{sizes: []int{8, 64, 4}}
	m := newMachine(t, dev)
	if id := m.config(0, 4); id != 0x106a1af4 {
		t.Errorf("vendor and device 0x%x", id)
	}
	if c := m.caps[4]; c.size != uint32(len(dev.Config())) {
		t.Errorf("a device configuration of %d bytes", c.size)
	}
	got := make([]byte, 13)
	m.mem.Read(m.bar+uint64(m.caps[4].off), got)
	m.mem.Write(m.bar+uint64(m.caps[4].off), make([]byte, 13))
	if string(got) != "configuration" {
		t.Errorf("the device configuration is %q", got)
	}
	if f := m.features(); f != 1<<3|virtio.IndirectDesc|virtio.EventIdx|virtio.Version1 {
		t.Errorf("features 0x%x", f)
	}
	if n := m.get(numQueues, 2); n != 3 {
		t.Errorf("%d queues", n)
	}
	for range 3 {
		for _, f := range features {
			m.start(f)
			for i := range 9 {
				m.roundTrip(i % 3)
			}
			m.reset()
			if n := m.get(queueEnable, 2); n != 0 {
				t.Error("a queue is enabled after a reset")
			}
		}
	}
	m.start(^uint64(0))
	for i, r := range m.rings { // as KVM does it
		fd := m.ioeventfds[memory.GPA(m.bar+uint64(m.caps[2].off)+uint64(i)*uint64(m.caps[2].more))]
		r.Notify = func() { unix.Write(fd, []byte{1, 0, 0, 0, 0, 0, 0, 0}) }
		m.roundTrip(i)
	}
	m.close()
	if dev.closed != 1 {
		t.Errorf("closed %d times", dev.closed)
	}
	m.set(status, 1, 0) // no matter
	m.set(status, 1, acknowledge)
	m.notify(0)
	if errs := m.logged(); len(errs) > 0 {
		t.Error(errs)
	}
	check()
}

func TestNegotiation(t *testing.T) {
	const v1 = virtio.Version1
	tests := []struct {
		name     string
		features uint64
		ok       bool
	}{
		{"least", v1, true},
		{"all", v1 | virtio.EventIdx | virtio.IndirectDesc | 1<<3, true},
		{"no VERSION_1", virtio.EventIdx, false},
		{"nothing", 0, false},
		{"of the device, not offered", v1 | 1<<4, false},
		{"of the transport, not offered", v1 | 1<<34, false}, // VIRTIO_F_RING_PACKED
		{"the last", v1 | 1<<63, false},
	}
	m := newMachine(t, &echo{sizes: []int{8}})
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m.reset()
			if ok := m.negotiate(tt.features); ok != tt.ok {
				t.Errorf("FEATURES_OK: %v", ok)
			}
			m.set(driverSelect, 4, 0)
			m.set(driverBits, 4, tt.features^1<<5)
			if got := m.get(driverBits, 4); tt.ok != (got == tt.features&0xffffffff) {
				t.Errorf("features 0x%x after a late write", got)
			}
			m.set(status, 1, acknowledge|driver|featuresOK|driverOK)
			if s := m.get(status, 1); (s&driverOK != 0) != tt.ok {
				t.Errorf("status 0x%x after DRIVER_OK", s)
			}
		})
	}
	m.reset()
	for _, sel := range []uint64{2, 33, 1<<32 - 1} {
		m.set(driverSelect, 4, sel)
		m.set(deviceSelect, 4, sel)
		m.set(driverBits, 4, 1<<32-1)
		if m.get(driverBits, 4) != 0 || m.get(deviceBits, 4) != 0 {
			t.Errorf("feature bits from %d on", 32*sel)
		}
	}
}

func TestQueueRegisters(t *testing.T) {
	m := newMachine(t, &echo{sizes: []int{8, 64}})
	m.negotiate(virtio.Version1)
	for _, tt := range []struct{ write, want uint64 }{{64, 64}, {0, 64}, {3, 64}, {128, 64}, {65535, 64}, {2, 2}, {1, 1}, {32, 32}} {
		m.set(queueSelect, 2, 1)
		m.set(queueLen, 2, tt.write)
		if got := m.get(queueLen, 2); got != tt.want {
			t.Errorf("size %d after a write of %d, not %d", got, tt.write, tt.want)
		}
	}
	for _, tt := range []struct{ write, want uint64 }{{0, 0}, {2, 2}, {3, 0xffff}, {1, 1}, {0xffff, 0xffff}} {
		for _, reg := range []uint64{queueVector, configVector} {
			m.set(reg, 2, tt.write)
			if got := m.get(reg, 2); got != tt.want {
				t.Errorf("vector %d after a write of %d, not %d", got, tt.write, tt.want)
			}
		}
	}
	if off := m.get(notifyOff, 2); off != 1 {
		t.Errorf("notification offset %d", off)
	}
	m.setUp(1)
	for _, reg := range []uint64{queueDesc, queueAvail, queueUsed} {
		before := m.get(reg, 8)
		m.set(reg, 8, 0x12340)
		if got := m.get(reg, 8); got != before {
			t.Errorf("register 0x%x of an enabled queue changes", reg)
		}
	}
	m.set(queueSelect, 2, 2) // there is none
	for reg := uint64(queueLen); reg < 56; reg++ {
		m.set(reg, 1, 0xff)
		if got := m.get(reg, 1); got != 0 {
			t.Errorf("byte 0x%x of no queue is 0x%x", reg, got)
		}
	}
}

// TestEnableRefused has what is wrong with a queue's place in RAM.
func TestEnableRefused(t *testing.T) {
	tests := []struct {
		name              string
		desc, avail, used memory.GPA
		want              string
	}{
		{"descriptors not aligned", 0x1008, 0x2000, 0x3000, "aligned to 16"},
		{"avail ring not aligned", 0x1000, 0x2001, 0x3000, "aligned to 2"},
		{"used ring not aligned", 0x1000, 0x2000, 0x3002, "aligned to 4"},
		{"descriptors in a hole", 16 << 20, 0x2000, 0x3000, "not guest RAM"},
		{"descriptors leave RAM", 16<<20 - 16, 0x2000, 0x3000, "not guest RAM"},
		{"used_event leaves RAM", 0x1000, 16<<20 - 4 - 16, 0x3000, "not guest RAM"},
		{"avail_event leaves RAM", 0x1000, 0x2000, 1<<30 + 32<<20 - 4 - 64, "not guest RAM"},
		{"end of all addresses", 0x1000, 0x2000, 1<<64 - 4, "not guest RAM"},
		{"in the BAR", 0x1000, 0x2000, 3 << 30, "not guest RAM"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m := newMachine(t, &echo{sizes: []int{8}})
			m.negotiate(virtio.Version1)
			m.rings[0].Rings = virtio.Rings{Size: 8, Desc: tt.desc, Avail: tt.avail, Used: tt.used}
			m.setUp(0)
			if m.get(queueEnable, 2) != 0 || m.get(status, 1)&needsReset == 0 {
				t.Errorf("enabled %d, status 0x%x", m.get(queueEnable, 2), m.get(status, 1))
			}
			m.set(status, 1, acknowledge|driver|featuresOK|driverOK)
			if errs := m.logged(); len(errs) != 1 || !strings.Contains(errs[0].Error(), tt.want) {
				t.Errorf("log: %v, want %q", errs, tt.want)
			}
			m.reset()
		})
	}
}

// TestNeedsReset breaks a queue, again and again.
func TestNeedsReset(t *testing.T) {
	m := newMachine(t, &echo{sizes: []int{8, 8}})
	for range 5 {
		m.start(^uint64(0))
		m.roundTrip(1)
		flight := m.rings[1].Send([][]byte{{1}}, []int{1})
		flight.Wait()
		m.rings[0].SetAvailIndex(9)
		m.notify(0)
		m.awaitMessage(0)
		if s := m.get(status, 1); s != acknowledge|driver|featuresOK|driverOK|needsReset {
			t.Errorf("status 0x%x", s)
		}
		isr := make([]byte, 1)
		m.mem.Read(m.bar+uint64(m.caps[3].off), isr)
		if isr[0]&2 == 0 {
			t.Errorf("ISR status 0x%x", isr)
		}
		if m.mem.Read(m.bar+uint64(m.caps[3].off), isr); isr[0] != 0 {
			t.Errorf("ISR status 0x%x after a read", isr)
		}
		// The other queue has stopped as well.
		dead := m.rings[1].Send([][]byte{{1}}, []int{1})
		m.set(status, 1, acknowledge|driver|featuresOK|driverOK)
		m.notify(0)
		m.notify(1)
		m.reset()
		if dead.Done() {
			t.Error("a device that needs a reset serves requests")
		}
	}
	m.start(^uint64(0))
	m.roundTrip(0)
	eventually(t, func() bool { return len(m.logged()) > 0 })
	if errs := m.logged(); len(errs) != 1 {
		t.Errorf("%d lines in the log: %v", len(errs), errs)
	}
}

// TestSlowLog holds that a guest goes on while the log waits for its writer.
func TestSlowLog(t *testing.T) {
	m := newMachine(t, &echo{sizes: []int{8}})
	called, let := make(chan struct{}), make(chan struct{})
	m.slowLog = func() { close(called); <-let }
	m.start(^uint64(0))
	m.rings[0].SetAvailIndex(9)
	m.notify(0)
	<-called
	m.reset()
	m.start(^uint64(0))
	m.roundTrip(0)
	close(let)
	eventually(t, func() bool { return len(m.logged()) == 1 })
}

// slow is a device whose requests wait until the test lets them go on.
type slow struct {
	echo
	began, let chan struct{}
}

func (s *slow) Serve(_ int, q *virtio.Queue, _ uint64) error {
	c, err := q.Next()
	if err != nil {
		return err
	}
	s.began <- struct{}{}
	<-s.let
	return q.Done(c, 0)
}

// TestResetWaits holds that the status isn't 0 while a request is in flight, and that
// no register can be written meanwhile.
func TestResetWaits(t *testing.T) {
	dev := &slow{echo: echo{sizes: []int{8, 8}}, began: make(chan struct{}), let: make(chan struct{})}
	m := newMachine(t, dev)
	m.start(^uint64(0))
	r := m.rings[0].Send([][]byte{{1}}, nil)
	<-dev.began
	m.set(status, 1, 0)
	m.set(status, 1, 0)
	m.set(queueSelect, 2, 0) // it was 1
	m.set(status, 1, acknowledge)
	if m.get(queueSelect, 2) != 1 {
		t.Error("a register is written during a reset")
	}
	for range 10 {
		if s := m.get(status, 1); s == 0 {
			t.Fatal("the status is 0 while a request is in flight")
		}
		time.Sleep(time.Millisecond)
	}
	dev.let <- struct{}{}
	m.await(func(s uint64) bool { return s == 0 })
	if r.Done() || m.rings[0].UsedIndex() != 0 {
		t.Error("a request was used after the reset")
	}
}

// TestResetUnderLoad resets a device while all of its queues are busy.
func TestResetUnderLoad(t *testing.T) {
	m := newMachine(t, &echo{sizes: []int{8, 8}})
	for range 200 {
		m.start(^uint64(0))
		done := make(chan struct{})
		for _, r := range m.rings {
			go func() {
				defer func() { done <- struct{}{} }()
				for {
					if _, _, ok := r.Send([][]byte{make([]byte, 100)}, []int{100}).Wait(); !ok {
						return
					}
				}
			}()
		}
		m.roundTrip(0)
		m.reset()
		for _, r := range m.rings {
			r.Stop()
			<-done
		}
	}
	if errs := m.logged(); len(errs) > 0 {
		t.Error(errs)
	}
}

// TestWindow reads and writes registers through configuration space.
func TestWindow(t *testing.T) {
	m := newMachine(t, &echo{sizes: []int{8}})
	at := m.caps[5].at
	access := func(bar byte, off, length uint32) {
		m.setConfig(at+4, 1, uint32(bar))
		m.setConfig(at+8, 4, off)
		m.setConfig(at+12, 4, length)
	}
	access(0, status, 1)
	m.setConfig(at+16, 4, acknowledge)
	if s := m.get(status, 1); s != acknowledge {
		t.Errorf("status 0x%x", s)
	}
	access(0, numQueues, 2)
	if n := m.config(at+16, 2); n != 1 {
		t.Errorf("%d queues", n)
	}
	for _, bad := range []struct {
		bar         byte
		off, length uint32
	}{{1, status, 1}, {0, status, 3}, {0, status, 0}, {0, status, 1 << 31}, {0, 0x3ffffff0, 4}, {0, 0xffffffff, 1}, {0, queueSelect - 1, 2}} {
		access(bad.bar, bad.off, bad.length)
		m.config(at+16, 4)
		m.setConfig(at+16, 4, 0xffffffff)
		m.setConfig(at+18, 2, 0xffff)
	}
	if s, q := m.get(status, 1), m.get(queueSelect, 2); s != acknowledge || q != 0 {
		t.Errorf("status 0x%x, queue %d", s, q)
	}
}

// TestAccessSizes reads every register in pieces, and as one.
func TestAccessSizes(t *testing.T) {
	m := newMachine(t, &echo{sizes: []int{8}})
	m.start(^uint64(0))
	whole := make([]byte, m.caps[1].size)
	m.mem.Read(m.bar, whole)
	for size := 1; size <= len(whole); size++ {
		for off := 0; off+size <= len(whole); off++ {
			p := make([]byte, size)
			m.mem.Read(m.bar+uint64(off), p)
			if !bytes.Equal(p, whole[off:off+size]) {
				t.Fatalf("%d bytes at 0x%x: %x, not %x", size, off, p, whole[off:off+size])
			}
		}
	}
	m.mem.Read(m.bar, make([]byte, 0x2000)) // nobody's
	m.mem.Write(m.bar, whole)               // status as it was, a queue that is enabled
	m.roundTrip(0)
}
