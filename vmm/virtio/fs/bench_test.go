package fs

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"testing"
	"time"

	"offmap/memory"
	"offmap/memory/memtest"
)

// BenchmarkAnswer compares requests, without a virtqueue, with a read of the same bytes
// by the one system call that moves them. The two take turns.
func BenchmarkAnswer(b *testing.B) {
	for _, backend := range []memory.Backend{memory.Anon, memory.Secret} {
		for _, size := range []int{4 << 10, 128 << 10} {
			b.Run(fmt.Sprintf("backend=%s/read-%dk", backend, size>>10), func(b *testing.B) { benchmarkRead(b, backend, size) })
		}
	}
}

func benchmarkRead(b *testing.B, backend memory.Backend, size int) {
	layout, err := memory.LayoutOf(memory.Region{Start: 0, Size: 4 << 20})
	if err != nil {
		b.Fatal(err)
	}
	ram, err := memory.New(backend, layout)
	memtest.NeedBackend(b, err)
	defer ram.Close()
	dir := b.TempDir()
	if err := os.WriteFile(dir+"/file", make([]byte, 8<<20), 0o600); err != nil {
		b.Fatal(err)
	}
	f, err := os.Open(dir + "/file")
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	s := open(b, dir, false)
	defer s.Close()
	out := memory.Ranges{{GPA: 1 << 20, Size: 16}, {GPA: 2 << 20, Size: uint32(size)}}
	ask := func(msg []byte) []byte {
		if _, err := ram.WriteAt(msg, 0); err != nil {
			b.Fatal(err)
		}
		m := message{mayWait: true, guest: ram, in: memory.Ranges{{GPA: 0, Size: 40}, {GPA: 40, Size: uint32(len(msg) - 40)}}, out: out}
		reply, err := s.server.Answer(&m)
		if err != nil || len(reply.Head) < 16 || !bytes.Equal(reply.Head[4:8], make([]byte, 4)) {
			b.Fatalf("%x, %v", reply.Head, err)
		}
		if err := out.CopyIn(ram, reply.Head); err != nil {
			b.Fatal(err)
		}
		return reply.Head[16:]
	}
	node := binary.LittleEndian.Uint64(ask(request(opLookup, rootID, "file")))
	handle := binary.LittleEndian.Uint64(ask(request(opOpen, node, uint64(0))))
	var direct, server time.Duration
	for i := range b.N {
		off := int64(i * size % (8 << 20))
		msg := request(opRead, node, handle, off, uint32(size), make([]byte, 20))
		start := time.Now()
		if n, err := ram.Preadv(int(f.Fd()), out[1:], off, 0); n != size {
			b.Fatal(n, err)
		}
		middle := time.Now()
		ask(msg)
		direct += middle.Sub(start)
		server += time.Since(middle)
	}
	b.ReportMetric(float64(server-direct)/float64(b.N), "ns-added")
	b.ReportMetric(float64(direct)/float64(server), "of-call")
}
