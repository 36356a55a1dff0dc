package blk

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"offmap/vmm/virtio/virtiotest"
)

// newImage makes an image of size bytes of noise.
func newImage(t testing.TB, size int) (path string, content []byte) {
	t.Helper()
	path, content = filepath.Join(t.TempDir(), "an-image.img"), noise(uint64(size), size)
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return path, content
}

func noise(seed uint64, n int) []byte {
	r := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8), byte(seed >> 16), byte(seed >> 24)})
	b := make([]byte, n)
	r.Read(b)
	return b
}

// openDisk opens a disk and gives it a driver.
func openDisk(t testing.TB, path string, o Options, change ...func(*Disk)) (*Disk, *virtiotest.Driver) {
	t.Helper()
	d, err := Open(path, o)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range change {
		f(d)
	}
	return d, virtiotest.New(t, d)
}

// in4096 makes a disk that bypasses the page cache do so in blocks of 4096 bytes.
func in4096(d *Disk) { d.store.(*direct).align = 4096 }

func header(kind uint32, at uint64) []byte {
	b := binary.LittleEndian.AppendUint32(nil, kind)
	b = binary.LittleEndian.AppendUint32(b, 0)
	return binary.LittleEndian.AppendUint64(b, at)
}

func segmentBytes(at uint64, n, flags uint32) []byte {
	b := binary.LittleEndian.AppendUint64(nil, at)
	b = binary.LittleEndian.AppendUint32(b, n)
	return binary.LittleEndian.AppendUint32(b, flags)
}

// ask makes a request as Linux does, with the header and the status in descriptors of
// their own. in are the sizes of buffers to read into.
func ask(drv *virtiotest.Driver, kind uint32, at uint64, data [][]byte, in ...int) (st status, written uint32, out []byte) {
	written, bufs := drv.Request(0, append([][]byte{header(kind, at)}, data...), append(in, 1))
	return status(bufs[len(bufs)-1][0]), written, bytes.Join(bufs[:len(bufs)-1], nil)
}

func read(t testing.TB, drv *virtiotest.Driver, at uint64, sizes ...int) []byte {
	t.Helper()
	st, written, out := ask(drv, typeIn, at, nil, sizes...)
	if st != statusOK || int(written) != len(out)+1 {
		t.Fatalf("read of %d bytes at sector %d: status %d, %d bytes written", len(out), at, st, written)
	}
	return out
}

func write(t testing.TB, drv *virtiotest.Driver, at uint64, data ...[]byte) {
	t.Helper()
	if st, written, _ := ask(drv, typeOut, at, data); st != statusOK || written != 1 {
		t.Fatalf("write at sector %d: status %d, %d bytes written", at, st, written)
	}
}

func content(t testing.TB, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
