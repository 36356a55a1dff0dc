package memtest

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"offmap/memory"
)

// vectors are the shapes of buffers in RAM of Layout.
var vectors = []struct {
	name string
	buf  memory.Ranges
}{
	{"none", nil},
	{"empty", memory.Ranges{{GPA: 5}, {GPA: 1 << 60}}},
	{"a byte", memory.Ranges{{GPA: 8*memory.PageSize - 1, Size: 1}}},
	{"a page", memory.Ranges{{GPA: memory.PageSize, Size: memory.PageSize}}},
	{"a region", memory.Ranges{{GPA: 0, Size: 8 * memory.PageSize}}},
	{"a seam", memory.Ranges{{GPA: 0x103ffd, Size: 9}}},
	{"both sides of a hole", memory.Ranges{{GPA: 7*memory.PageSize + 1, Size: memory.PageSize - 1}, {GPA: 0x100000, Size: 77}}},
	{"backwards", memory.Ranges{{GPA: 0x104010, Size: 0xff0}, {GPA: 0x100800, Size: 4096}, {}, {GPA: 3, Size: 4}}},
	{"pieces that touch", memory.Ranges{{GPA: 10, Size: 10}, {GPA: 20, Size: 5000}, {GPA: 5020, Size: 1}}},
	{"more pieces than a system call takes", scattered(2500)},
}

// scattered returns n pieces of 3 bytes that don't touch.
func scattered(n int) (buf memory.Ranges) {
	for i := range n {
		buf = append(buf, memory.Range{GPA: memory.GPA(4 * i), Size: 3})
	}
	return buf
}

// Vectors tests Preadv and Pwritev of RAM of Layout.
func Vectors(t *testing.T, g memory.Guest) {
	t.Helper()
	dir := t.TempDir()
	content := make([]byte, 10*memory.PageSize)
	for i := range content {
		content[i] = byte(rand.Uint32())
	}
	src := file(t, dir, "src", content)
	defer src.Close()
	for _, v := range vectors {
		for _, off := range []int64{0, 1, 4099} {
			want := content[off : off+int64(v.buf.Size())]
			fill(t, g, 0xee)
			if n, err := g.Preadv(fd(src), v.buf, off, 0); n != len(want) || err != nil {
				t.Errorf("%s: Preadv at %d = %d, %v; want %d", v.name, off, n, err, len(want))
			}
			got := make([]byte, len(want))
			if err := v.buf.CopyOut(g, got); err != nil || !bytes.Equal(got, want) {
				t.Errorf("%s: guest memory isn't what the file has at %d (%v)", v.name, off, err)
			}
			untouched(t, g, v.name, 0xee, v.buf)
			dst := file(t, dir, "dst", bytes.Repeat([]byte{0xdd}, int(off)))
			if n, err := g.Pwritev(fd(dst), v.buf, off, 0); n != len(want) || err != nil {
				t.Errorf("%s: Pwritev at %d = %d, %v; want %d", v.name, off, n, err, len(want))
			}
			dst.Close()
			whole, err := os.ReadFile(dst.Name())
			if err != nil || len(whole) != int(off)+len(want) && len(want) > 0 || !bytes.Equal(whole[off:], want) {
				t.Errorf("%s: the file isn't what guest memory has (%v)", v.name, err)
			}
		}
	}
	vectorEnds(t, g, src, content)
	vectorHoles(t, g, src, dir)
	vectorStreams(t, g, src, content)
	vectorErrors(t, g, src, dir)
}

// vectorEnds reads across and behind the end of a file.
func vectorEnds(t *testing.T, g memory.Guest, src *os.File, content []byte) {
	t.Helper()
	buf := memory.Ranges{{GPA: 0x103f00, Size: 0x200}, {GPA: 100, Size: 5000}}
	for _, c := range []struct{ off, want int }{
		{len(content) - 1, 1}, {len(content) - 0x201, 0x201}, {len(content) - 5000, 5000}, {len(content), 0}, {len(content) + 4096, 0},
	} {
		fill(t, g, 0xee)
		if n, err := g.Preadv(fd(src), buf, int64(c.off), 0); n != c.want || err != nil {
			t.Errorf("Preadv of %d bytes %d before the end of the file = %d, %v", buf.Size(), len(content)-c.off, n, err)
		}
		head, _ := buf.Cut(uint64(c.want))
		got := make([]byte, c.want)
		if err := head.CopyOut(g, got); err != nil || c.want > 0 && !bytes.Equal(got, content[c.off:]) {
			t.Errorf("guest memory isn't what the file's end has (%v)", err)
		}
		untouched(t, g, "at the end of the file", 0xee, head)
	}
}

// vectorHoles wants a buffer with a hole, wherever it is, refused whole.
func vectorHoles(t *testing.T, g memory.Guest, src *os.File, dir string) {
	t.Helper()
	fill(t, g, 0xee)
	dst := file(t, dir, "holes", nil)
	defer dst.Close()
	for _, hole := range []memory.Range{
		{GPA: 8 * memory.PageSize, Size: 1}, {GPA: 8*memory.PageSize - 1, Size: 2}, {GPA: 0x104fff, Size: 2},
		{GPA: 1<<64 - 1, Size: 1}, {GPA: 1<<64 - 1, Size: 2}, {GPA: 0, Size: 1<<32 - 1}, {GPA: 1 << 62, Size: 4096},
	} {
		buf := append(scattered(2000), hole)
		if n, err := g.Preadv(fd(src), buf, 0, 0); n != 0 || !errors.Is(err, memory.ErrHole) {
			t.Errorf("Preadv to %+v = %d, %v; want ErrHole", hole, n, err)
		}
		if n, err := g.Pwritev(fd(dst), buf, -1, 0); n != 0 || !errors.Is(err, memory.ErrHole) {
			t.Errorf("Pwritev from %+v = %d, %v; want ErrHole", hole, n, err)
		}
	}
	untouched(t, g, "holes", 0xee, nil)
	if st, err := dst.Stat(); err != nil || st.Size() != 0 {
		t.Errorf("a refused Pwritev wrote %d bytes, %v", st.Size(), err)
	}
}

// vectorStreams uses files at their own position, and a pipe.
func vectorStreams(t *testing.T, g memory.Guest, src *os.File, content []byte) {
	t.Helper()
	buf := memory.Ranges{{GPA: 0x103f00, Size: 0x200}, {GPA: 100, Size: 5000}}
	got := make([]byte, buf.Size())
	for i := range 3 {
		if n, err := g.Preadv(fd(src), buf, -1, 0); n != len(got) || err != nil {
			t.Errorf("Preadv at the file's position = %d, %v", n, err)
		}
		if err := buf.CopyOut(g, got); err != nil || !bytes.Equal(got, content[i*len(got):(i+1)*len(got)]) {
			t.Errorf("guest memory isn't what the file has at its position (%v)", err)
		}
	}
	var pipe [2]int
	if err := unix.Pipe2(pipe[:], unix.O_CLOEXEC|unix.O_NONBLOCK); err != nil {
		t.Fatal(err)
	}
	defer unix.Close(pipe[0])
	defer unix.Close(pipe[1])
	if n, err := g.Preadv(pipe[0], buf, -1, 0); n != 0 || !errors.Is(err, unix.EAGAIN) {
		t.Errorf("Preadv of an empty pipe = %d, %v; want EAGAIN", n, err)
	}
	if n, err := g.Pwritev(pipe[1], buf, -1, 0); n != len(got) || err != nil {
		t.Errorf("Pwritev to a pipe = %d, %v", n, err)
	}
	fill(t, g, 0xee)
	twice := append(slices.Clone(buf), memory.Range{GPA: 0x102000, Size: 6000})
	if n, err := g.Preadv(pipe[0], twice, -1, 0); n != len(got) || err != nil {
		t.Errorf("Preadv of a pipe with %d bytes in it = %d, %v", len(got), n, err)
	}
	back := make([]byte, len(got))
	if err := buf.CopyOut(g, back); err != nil || !bytes.Equal(back, got) {
		t.Errorf("guest memory isn't what went through the pipe (%v)", err)
	}
	untouched(t, g, "after a short read", 0xee, buf)
}

// vectorErrors wants the kernel's refusals passed on.
func vectorErrors(t *testing.T, g memory.Guest, src *os.File, dir string) {
	t.Helper()
	buf := memory.Ranges{{GPA: 0x100000, Size: 8192}}
	only, err := os.OpenFile(filepath.Join(dir, "dst"), os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer only.Close()
	full, err := os.OpenFile("/dev/full", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer full.Close()
	for _, c := range []struct {
		name  string
		call  func(fd int, buf memory.Ranges, off int64, flags int) (int, error)
		file  *os.File
		off   int64
		flags int
		want  error
	}{
		{"Preadv of a file that is open for writing", g.Preadv, only, 0, 0, unix.EBADF},
		{"Pwritev to a full disk", g.Pwritev, full, 0, 0, unix.ENOSPC},
		{"Preadv with a flag that there isn't", g.Preadv, src, 0, 1 << 30, unix.EOPNOTSUPP},
		{"Preadv at a negative offset", g.Preadv, src, -2, 0, unix.EINVAL},
		{"Preadv at too large an offset", g.Preadv, src, 1<<63 - 1, 0, unix.EINVAL},
	} {
		if n, err := c.call(fd(c.file), buf, c.off, c.flags); n != 0 || !errors.Is(err, c.want) {
			t.Errorf("%s = %d, %v; want %v", c.name, n, err, c.want)
		}
	}
}

// Direct tests that hidden memory and a file that is open with O_DIRECT are refused
// with an error that says so, on a file system that has O_DIRECT.
func Direct(t *testing.T, g memory.Guest) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "direct")
	if err := os.WriteFile(path, bytes.Repeat([]byte{7}, 2*memory.PageSize), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(path, os.O_RDWR|unix.O_DIRECT, 0)
	if err != nil {
		t.Skipf("SKIPPED: no O_DIRECT in %s: %v", filepath.Dir(path), err)
	}
	defer f.Close()
	var fs unix.Statfs_t
	if err := unix.Fstatfs(fd(f), &fs); err != nil {
		t.Fatal(err)
	}
	if fs.Type == unix.TMPFS_MAGIC {
		t.Skipf("SKIPPED: %s is a tmpfs, whose O_DIRECT goes through the page cache", filepath.Dir(path))
	}
	buf := memory.Ranges{{GPA: 0x100000, Size: memory.PageSize}}
	for name, call := range map[string]func(int, memory.Ranges, int64, int) (int, error){"Preadv": g.Preadv, "Pwritev": g.Pwritev} {
		if n, err := call(fd(f), buf, 0, 0); n != 0 || !errors.Is(err, unix.EFAULT) || !strings.Contains(err.Error(), "O_DIRECT") {
			t.Errorf("%s of a file that is open with O_DIRECT = %d, %v; want an EFAULT that names O_DIRECT", name, n, err)
		}
	}
}

func file(t testing.TB, dir, name string, content []byte) *os.File {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func fd(f *os.File) int { return int(f.Fd()) }

// fill sets every byte of RAM.
func fill(t *testing.T, g memory.Guest, b byte) {
	t.Helper()
	for _, r := range g.Layout() {
		if _, err := g.WriteAt(bytes.Repeat([]byte{b}, int(r.Size)), r.Start); err != nil {
			t.Fatal(err)
		}
	}
}

// untouched wants every byte of RAM outside of buf to be b.
func untouched(t *testing.T, g memory.Guest, what string, b byte, buf memory.Ranges) {
	t.Helper()
	for _, r := range g.Layout() {
		got := make([]byte, r.Size)
		if _, err := g.ReadAt(got, r.Start); err != nil {
			t.Fatal(err)
		}
		for _, p := range buf {
			from, to := max(p.GPA, r.Start), min(p.GPA+memory.GPA(p.Size), r.End())
			for a := from; a < to; a++ {
				got[a-r.Start] = b
			}
		}
		if i := slices.IndexFunc(got, func(have byte) bool { return have != b }); i >= 0 {
			t.Errorf("%s: guest memory changed at %s, outside of the buffer", what, r.Start+memory.GPA(i))
			return
		}
	}
}

// FuzzFiles makes the files of FuzzVectors: src has content, and dst is empty.
func FuzzFiles(f *testing.F) (content []byte, src, dst *os.File) {
	f.Helper()
	content = make([]byte, 10*memory.PageSize+77)
	for i := range content {
		content[i] = byte(rand.Uint32())
	}
	dir := f.TempDir()
	src, dst = file(f, dir, "src", content), file(f, dir, "dst", nil)
	f.Cleanup(func() { src.Close(); dst.Close() })
	return content, src, dst
}

// FuzzVectors has RAM of Layout and a model of it do the same: a read from a file
// and a write to one, of pieces and at an offset that data encodes.
func FuzzVectors(t *testing.T, g memory.Guest, src, dst *os.File, content, data []byte, off int64) {
	t.Helper()
	off %= int64(len(content)) + memory.PageSize
	off = max(off, -off)
	var buf memory.Ranges
	var ok = true
	starts := []memory.GPA{0, 8 * memory.PageSize, 0x100000, 0x104000, 0x105000, 1 << 63}
	for len(data) >= 4 { // near a region's edge, and mostly in RAM
		gpa := starts[int(data[0])%len(starts)] + memory.GPA(int8(data[1]))*3
		size := uint32(data[2]) << (data[3] % 7)
		buf, data = append(buf, memory.Range{GPA: gpa, Size: size}), data[4:]
		ok = ok && g.Layout().Contains(gpa, uint64(size))
	}
	fill(t, g, 0xee)
	if err := dst.Truncate(0); err != nil {
		t.Fatal(err)
	}
	n, err := g.Preadv(fd(src), buf, off, 0)
	if !ok {
		if m, no := g.Pwritev(fd(dst), buf, off, 0); n != 0 || m != 0 || !errors.Is(err, memory.ErrHole) || !errors.Is(no, memory.ErrHole) {
			t.Errorf("%v isn't RAM: Preadv = %d, %v; Pwritev = %d, %v", buf, n, err, m, no)
		}
		untouched(t, g, "a refused buffer", 0xee, nil)
		return
	}
	want := content[min(off, int64(len(content))):]
	want = want[:min(uint64(len(want)), buf.Size())]
	if n != len(want) || err != nil {
		t.Fatalf("Preadv to %v at %d = %d, %v; want %d", buf, off, n, err, len(want))
	}
	head, _ := buf.Cut(uint64(n))
	untouched(t, g, "Preadv", 0xee, head)
	model := map[memory.GPA]byte{} // pieces may overlap: the last one stays
	at := func(r memory.Ranges, each func(memory.GPA, int)) {
		i := 0
		for _, p := range r {
			for k := range p.Size {
				each(p.GPA+memory.GPA(k), i)
				i++
			}
		}
	}
	at(head, func(a memory.GPA, i int) { model[a] = want[i] })
	all := bytes.Repeat([]byte{0xee}, int(buf.Size()))
	at(buf, func(a memory.GPA, i int) {
		if b, ok := model[a]; ok {
			all[i] = b
		}
	})
	if n, err := g.Pwritev(fd(dst), buf, off, 0); n != len(all) || err != nil {
		t.Fatalf("Pwritev from %v = %d, %v; want %d", buf, n, err, len(all))
	}
	got := make([]byte, len(all)+1)
	if n, _ := dst.ReadAt(got, off); !bytes.Equal(got[:n], all) {
		t.Errorf("what went from the file through %v to another isn't the same", buf)
	}
}
