package memory_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"offmap/memory"
	"offmap/memory/memtest"
)

// newRAM makes RAM for a test, or skips it where there is none.
func newRAM(t testing.TB, b memory.Backend, l memory.Layout) *memory.RAM {
	t.Helper()
	ram, err := memory.New(b, l)
	memtest.NeedBackend(t, err)
	t.Cleanup(func() {
		if err := ram.Close(); err != nil {
			t.Error(err)
		}
	})
	return ram
}

// TestVectorDirect holds that secret memory refuses O_DIRECT, and says so.
func TestVectorDirect(t *testing.T) {
	memtest.Direct(t, newRAM(t, memory.Secret, memtest.Layout(t)))
}

// TestVectorFaultIsAnError takes pages away from under system calls. What was moved
// before the first of them is counted, and the error says that it is the memory.
func TestVectorFaultIsAnError(t *testing.T) {
	layout := oneRegion(t, 8*memory.PageSize)
	ram := newRAM(t, memory.Memfd, layout)
	f, err := os.OpenFile(filepath.Join(t.TempDir(), "f"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(int64(layout.Size())); err != nil {
		t.Fatal(err)
	}
	if err := unix.Ftruncate(ram.FD(), 2*memory.PageSize); err != nil {
		t.Fatal(err)
	}
	for name, call := range map[string]func(int, memory.Ranges, int64, int) (int, error){"Preadv": ram.Preadv, "Pwritev": ram.Pwritev} {
		for _, c := range []struct {
			gpa  memory.GPA
			want int
		}{{0, 2 * memory.PageSize}, {4 * memory.PageSize, 0}} {
			n, err := call(int(f.Fd()), memory.Ranges{{GPA: c.gpa, Size: 4 * memory.PageSize}}, 0, 0)
			if n != c.want || !errors.Is(err, unix.EFAULT) || strings.Contains(err.Error(), "O_DIRECT") {
				t.Errorf("%s at %s = %d, %v; want %d and an EFAULT that blames the memory", name, c.gpa, n, err, c.want)
			}
		}
	}
}

// TestVectorAllocatesNothing holds that a request of many pieces allocates nothing.
func TestVectorAllocatesNothing(t *testing.T) {
	ram := newRAM(t, memory.Memfd, oneRegion(t, 1<<20))
	f, err := os.Open("/dev/zero")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var buf memory.Ranges
	for i := range 130 {
		buf = append(buf, memory.Range{GPA: memory.GPA(i) * 0x1800, Size: 512})
	}
	fd := int(f.Fd())
	if n := testing.AllocsPerRun(500, func() {
		if n, err := ram.Preadv(fd, buf, 0, 0); n != 130*512 || err != nil {
			t.Fatal(n, err)
		}
	}); n >= 1 {
		t.Errorf("%v allocations a request", n)
	}
}

// FuzzVectors compares Preadv and Pwritev with a model.
func FuzzVectors(f *testing.F) {
	f.Add([]byte{0, 1, 200, 5, 3, 250, 9, 0}, int64(100))
	l := memtest.Layout(f)
	ram := newRAM(f, memory.Memfd, l)
	content, src, dst := memtest.FuzzFiles(f)
	f.Fuzz(func(t *testing.T, data []byte, off int64) {
		memtest.FuzzVectors(t, ram, src, dst, content, data, off)
	})
}

// BenchmarkVector measures requests of 4 and 128 KiB, in pages that don't touch, to
// and from a file in the page cache. There should be no difference between backends.
func BenchmarkVector(b *testing.B) {
	const fileSize = 8 << 20
	f, err := os.OpenFile(filepath.Join(b.TempDir(), "image"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	if _, err := f.Write(make([]byte, fileSize)); err != nil {
		b.Fatal(err)
	}
	fd := int(f.Fd())
	for _, backend := range []memory.Backend{memory.Memfd, memory.Secret} {
		ram := newRAM(b, backend, oneRegion(b, 1<<20))
		for _, pages := range []int{1, 32} {
			var buf memory.Ranges
			for i := range pages {
				buf = append(buf, memory.Range{GPA: memory.GPA(2 * i * memory.PageSize), Size: memory.PageSize})
			}
			for _, op := range []struct {
				name string
				call func(int, memory.Ranges, int64, int) (int, error)
			}{{"read", ram.Preadv}, {"write", ram.Pwritev}} {
				b.Run(fmt.Sprintf("%s/%s/%dKiB", backend, op.name, pages*4), func(b *testing.B) {
					b.SetBytes(int64(buf.Size()))
					for i := int64(0); b.Loop(); i++ {
						if _, err := op.call(fd, buf, i*7919*memory.PageSize%(fileSize/2), 0); err != nil {
							b.Fatal(err)
						}
					}
				})
			}
		}
	}
}
