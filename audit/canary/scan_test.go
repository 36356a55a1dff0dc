package canary

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// planted returns n bytes of RAM with the canary at the given offsets.
func planted(n int, at ...int) []byte {
	b := make([]byte, n)
	for _, a := range at {
		fixed.Plant(b[a:])
	}
	return b
}

func TestScan(t *testing.T) {
	const mem = 3*bufSize + 8192
	whole := []Range{{Off: 0, Len: mem}}
	for _, tt := range []struct {
		name   string
		at     []int
		ranges []Range
		total  int
		pages  int
		first  []uint64
	}{
		{name: "nothing", ranges: whole},
		{name: "first and last bytes", at: []int{0, mem - Size}, ranges: whole, total: 2, pages: 2, first: []uint64{0, mem - Size}},
		{name: "twice in a page", at: []int{64, 4064, 4096}, ranges: whole, total: 3, pages: 2, first: []uint64{64, 4064, 4096}},
		{name: "across pages", at: []int{4080}, ranges: whole, total: 1, pages: 1, first: []uint64{4080}},
		{
			name: "across reads", ranges: whole, total: 3, pages: 3,
			at:    []int{bufSize - 8, 2*bufSize - 64, 3 * bufSize},
			first: []uint64{bufSize - 8, 2*bufSize - 64, 3 * bufSize},
		},
		{
			name: "only in ranges", at: []int{0, 8192, 16384},
			ranges: []Range{{Off: 4096, Len: 8192, Addr: 0x100001000}},
			total:  1, pages: 1, first: []uint64{0x100002000},
		},
		{
			name: "not across ranges", at: []int{4080},
			ranges: []Range{{Off: 0, Len: 4096}, {Off: 4096, Len: 4096, Addr: 4096}},
		},
		{name: "empty range", ranges: []Range{{Off: 4096}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var want, last int64
			for _, r := range tt.ranges {
				want += r.Len
			}
			progress := func(done, total int64) {
				if total != want || done <= last {
					t.Errorf("progress %d of %d after %d, want a total of %d", done, total, last, want)
				}
				last = done
			}
			hits, err := Scan(t.Context(), bytes.NewReader(planted(mem, tt.at...)), tt.ranges, []Canary{fixed}, progress)
			if err != nil {
				t.Fatal(err)
			}
			h := hits[0]
			if h.Total != tt.total || h.Pages != tt.pages || !slices.Equal(h.First, tt.first) || h.Scanned != want {
				t.Errorf("hits %+v, want %d in %d pages, first %#x, of %d bytes", h, tt.total, tt.pages, tt.first, want)
			}
			if last != want {
				t.Errorf("progress ended at %d of %d", last, want)
			}
		})
	}
}

// TestScanMany looks for several canaries at once, two of them in one page.
func TestScanMany(t *testing.T) {
	var canaries []Canary
	for range 20 {
		c, err := New()
		if err != nil {
			t.Fatal(err)
		}
		canaries = append(canaries, c)
	}
	ram := make([]byte, 64*4096)
	for i := range canaries {
		for copies := range i {
			canaries[i].Plant(ram[(i+copies)*4096+i*64:])
		}
	}
	hits, err := Scan(t.Context(), bytes.NewReader(ram), []Range{{Len: int64(len(ram))}}, canaries, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i, h := range hits {
		if h.Pages != i || h.Total != i || h.Scanned != int64(len(ram)) {
			t.Errorf("canary %d: %+v, want it in %d pages", i, h, i)
		}
	}
}

func TestScanErrors(t *testing.T) {
	ram := bytes.NewReader(make([]byte, 8192))
	for _, tt := range []struct {
		name string
		rg   Range
		want error // nil: any
	}{
		{"odd offset", Range{Off: 4, Len: 8}, nil},
		{"odd length", Range{Off: 8, Len: 4}, nil},
		{"negative", Range{Off: -8, Len: 8}, nil},
		{"beyond int64", Range{Off: 1<<63 - 8, Len: 16}, nil},
		{"beyond the end", Range{Off: 0, Len: 8200}, io.ErrUnexpectedEOF},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := Scan(t.Context(), ram, []Range{tt.rg}, []Canary{fixed}, nil)
			if err == nil || tt.want != nil && !errors.Is(err, tt.want) {
				t.Errorf("error %v, want %v", err, tt.want)
			}
		})
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Scan(ctx, ram, []Range{{Len: 8192}}, []Canary{fixed}, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled scan: %v", err)
	}
}

// mirror is RAM that holds the scanner's own buffer and the bounce buffer
// that the kernel fills before it copies out, as /proc/kcore's does.
type mirror struct {
	ram    []byte
	own    func() []byte // the scanner's buffer, seen at ownAt
	ownAt  int
	bounce [4096]byte // seen at bncAt
	bncAt  int
}

// ReadAt copies page by page, each through bounce.
func (m *mirror) ReadAt(b []byte, off int64) (int, error) {
	done := 0
	for done < len(b) {
		at := int(off) + done
		n := min(4096-at%4096, len(b)-done)
		copy(m.ram[m.ownAt:], m.own())
		copy(m.ram[m.bncAt:], m.bounce[:])
		copy(m.bounce[:n], m.ram[at:at+n])
		copy(b[done:], m.bounce[:n])
		done += n
	}
	return done, nil
}

// TestScanDoesNotFindItself scans RAM in which the scanner's buffer and the
// kernel's bounce buffer lie right behind, amid and before what is found.
func TestScanDoesNotFindItself(t *testing.T) {
	const mem = 8 * bufSize
	for _, ownAt := range []int{2 * 4096, bufSize / 2, bufSize, 3 * bufSize} {
		// In pages that neither buffer lies in.
		at := []int{64, ownAt - 4096 + 128, ownAt + bufSize + 4096, mem - 64}
		m := &mirror{ram: planted(mem, at...), ownAt: ownAt, bncAt: 4096}
		if ownAt == 2*4096 { // the page before ownAt is the bounce buffer's
			at = slices.Delete(at, 1, 2)
		}
		s := newScanner(m, []Canary{fixed}, nil)
		s.wash = func() error { m.bounce = [4096]byte{}; return nil }
		m.own = func() []byte { return s.buf }
		if err := s.run(t.Context(), []Range{{Len: mem}}); err != nil {
			t.Fatal(err)
		}
		if s.hits[0].Total != len(at) {
			t.Errorf("buffer at %#x: %d hits at %#x, want those at %#x", ownAt, s.hits[0].Total, s.hits[0].First, at)
		}
		if fixed.Find(s.buf, nil) != nil || fixed.Find(m.bounce[:], nil) != nil {
			t.Errorf("buffer at %#x: the scan left the canary in a buffer", ownAt)
		}
	}
}

func TestScanFile(t *testing.T) {
	const size = 64 << 20
	path := filepath.Join(t.TempDir(), "ram")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(size); err != nil {
		t.Fatal(err)
	}
	at := []uint64{128, 20 << 20, size - 4096}
	for _, a := range at {
		if _, err := f.WriteAt(planted(Size, 0), int64(a)); err != nil {
			t.Fatal(err)
		}
	}
	hits, err := ScanFile(t.Context(), path, []Canary{fixed}, nil)
	if err != nil {
		t.Fatal(err)
	}
	h := hits[0]
	if h.Total != 3 || h.Pages != 3 || !slices.Equal(h.First, at) {
		t.Errorf("hits %+v, want at %#x", h, at)
	}
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		t.Fatal(err)
	}
	if st.Blocks*512 < size/2 && h.Scanned > size/2 {
		t.Errorf("scanned %d bytes of a file that has %d", h.Scanned, st.Blocks*512)
	}
	if _, err := ScanFile(t.Context(), path+"-absent", []Canary{fixed}, nil); !errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), path) {
		t.Errorf("absent file: %v", err)
	}
}
