package blk

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"offmap/memory"
	"offmap/memory/memtest"
	"offmap/vmm/virtio"
)

// pattern is a kind of load.
type pattern struct {
	name  string
	kind  uint32
	block int
	seq   bool
}

var patterns = []pattern{
	{"read-128k-seq", typeIn, 128 << 10, true},
	{"read-4k-random", typeIn, 4 << 10, false},
	{"write-128k-seq", typeOut, 128 << 10, true},
	{"write-4k-random", typeOut, 4 << 10, false},
}

// BenchmarkDisk compares the device with a loop of the same system calls on the same
// memory and file, in the page cache. The two take turns, a full queue each. It reports
// both speeds, the median ratio of each pair, and the ratio of the processor time.
func BenchmarkDisk(b *testing.B) {
	for _, backend := range []memory.Backend{memory.Anon, memory.Secret} {
		for _, p := range patterns {
			b.Run(fmt.Sprintf("backend=%s/%s", backend, p.name), func(b *testing.B) { benchmark(b, backend, p) })
		}
	}
}

func benchmark(b *testing.B, backend memory.Backend, p pattern) {
	r := newRig(b, backend, p)
	var ratios []float64
	var device, loop, deviceCPU, loopCPU time.Duration
	for range b.N {
		at := r.places()
		start, cpu0 := time.Now(), cpu(b)
		r.loop(b, at)
		middle, cpu1 := time.Now(), cpu(b)
		r.device(b, at)
		end, cpu2 := time.Now(), cpu(b)
		loop += middle.Sub(start)
		loopCPU += cpu1 - cpu0
		device += end.Sub(middle)
		deviceCPU += cpu2 - cpu1
		ratios = append(ratios, float64(middle.Sub(start))/float64(end.Sub(middle)))
	}
	slices.Sort(ratios)
	bytes := float64(b.N) * benchDepth * float64(p.block) / 1e6
	b.ReportMetric(bytes/device.Seconds(), "MB/s")
	b.ReportMetric(bytes/loop.Seconds(), "loop-MB/s")
	b.ReportMetric(ratios[len(ratios)/2], "of-loop")
	b.ReportMetric(float64(loopCPU)/float64(deviceCPU), "of-loop-cpu")
}

// cpu returns the processor time that this process has used. It says more than the
// clock does where others use the machine too.
func cpu(b *testing.B) time.Duration {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

const (
	benchDepth = queueSize
	benchFile  = 512 << 20
)

// rig is a disk whose driver has all requests of a full queue ready: an indirect
// table, a header, a status and a buffer each.
type rig struct {
	p         pattern
	ram       *memory.RAM
	fd        int
	rings     virtio.Rings
	kick      *virtio.Kick
	done      chan struct{}
	next      int64
	random    *rand.Rand
	avail     uint16
	data      memory.GPA
	headers   memory.GPA
	headerBuf []byte
}

func newRig(b *testing.B, backend memory.Backend, p pattern) *rig {
	path := filepath.Join(b.TempDir(), "image")
	if err := os.WriteFile(path, make([]byte, benchFile), 0o600); err != nil {
		b.Fatal(err)
	}
	const data = 1 << 20
	layout, err := memory.NewLayout(data + 32<<20)
	if err != nil {
		b.Fatal(err)
	}
	ram, err := memory.New(backend, layout)
	memtest.NeedBackend(b, err)
	kick, err := virtio.NewKick()
	if err != nil {
		b.Fatal(err)
	}
	disk, err := Open(path, Options{})
	if err != nil {
		b.Fatal(err)
	}
	r := &rig{
		p: p, ram: ram, fd: disk.store.(*file).fd, kick: kick, done: make(chan struct{}, 1),
		rings:  virtio.Rings{Size: benchDepth, Desc: 0, Avail: 0x2000, Used: 0x3000},
		random: rand.New(rand.NewPCG(1, 1)), data: data, headers: 0x10000, headerBuf: make([]byte, benchDepth*headerSize),
	}
	const tables, statuses = 0x20000, 0x30000
	for i := range benchDepth {
		flags := uint16(1) // next
		if p.kind == typeIn {
			flags |= 2 // write
		}
		table := desc(r.headers+memory.GPA(i*headerSize), headerSize, 1, 1)
		table = append(table, desc(r.data+memory.GPA(i*p.block), p.block, flags, 2)...)
		table = append(table, desc(statuses+memory.GPA(i), 1, 2, 0)...)
		gpa := memory.GPA(tables + i*64)
		r.put(b, gpa, table)
		r.put(b, memory.GPA(i*16), desc(gpa, len(table), 4, 0))
		r.put(b, r.rings.Avail+4+memory.GPA(2*i), binary.LittleEndian.AppendUint16(nil, uint16(i)))
	}
	r.put(b, r.data, make([]byte, benchDepth*p.block)) // pages are there
	features := disk.Features() | virtio.IndirectDesc | virtio.EventIdx | virtio.Version1
	q, err := virtio.NewQueue(ram, r.rings, queueSize, features, kick, func() { r.done <- struct{}{} })
	if err != nil {
		b.Fatal(err)
	}
	served := make(chan error)
	go func() { served <- disk.Serve(0, q, features) }()
	b.Cleanup(func() {
		q.Stop()
		if err := <-served; err != nil {
			b.Error(err)
		}
		disk.Close()
		kick.Close()
		ram.Close()
	})
	return r
}

func desc(gpa memory.GPA, n int, flags, next uint16) []byte {
	d := binary.LittleEndian.AppendUint64(nil, uint64(gpa))
	d = binary.LittleEndian.AppendUint32(d, uint32(n))
	d = binary.LittleEndian.AppendUint16(d, flags)
	return binary.LittleEndian.AppendUint16(d, next)
}

func (r *rig) put(b *testing.B, gpa memory.GPA, p []byte) {
	if _, err := r.ram.WriteAt(p, gpa); err != nil {
		b.Fatal(err)
	}
}

// places returns where the next requests are in the file.
func (r *rig) places() []int64 {
	at := make([]int64, benchDepth)
	blocks := int64(benchFile / r.p.block)
	for i := range at {
		n := r.next
		if r.next++; !r.p.seq {
			n = r.random.Int64N(blocks)
		}
		at[i] = n % blocks * int64(r.p.block)
	}
	return at
}

// loop makes the system calls that C would make.
func (r *rig) loop(b *testing.B, at []int64) {
	call := uintptr(unix.SYS_PREAD64)
	if r.p.kind == typeOut {
		call = unix.SYS_PWRITE64
	}
	for i, off := range at {
		p := unsafe.Add(r.ram.Pointer(), int(r.data)+i*r.p.block)
		if n, _, errno := unix.RawSyscall6(call, uintptr(r.fd), uintptr(p), uintptr(r.p.block), uintptr(off), 0, 0); errno != 0 || int(n) != r.p.block {
			b.Fatalf("%d bytes: %v", n, errno)
		}
	}
}

// device has the device do the same.
func (r *rig) device(b *testing.B, at []int64) {
	for i, off := range at {
		h := r.headerBuf[i*headerSize:]
		binary.LittleEndian.PutUint32(h, r.p.kind)
		binary.LittleEndian.PutUint64(h[8:], uint64(off/sector))
	}
	r.put(b, r.headers, r.headerBuf)
	r.avail += benchDepth
	var two [2]byte
	binary.LittleEndian.PutUint16(two[:], r.avail-1) // interrupt at the last one
	r.put(b, r.rings.Avail+4+2*benchDepth, two[:])
	binary.LittleEndian.PutUint16(two[:], r.avail)
	r.put(b, r.rings.Avail+2, two[:])
	r.kick.Signal()
	<-r.done
}
