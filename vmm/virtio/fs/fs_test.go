package fs

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"offmap/memory/memtest"
	"offmap/vmm/virtio/virtiotest"
)

// Requests, include/uapi/linux/fuse.h.
const (
	opLookup      = 1
	opForget      = 2
	opOpen        = 14
	opRead        = 15
	opWrite       = 16
	opReadlink    = 5
	opCreate      = 35
	opReaddir     = 28
	opReaddirplus = 44
	opBatchForget = 42

	rootID = 1
)

// request encodes a request: 40 bytes of header, and arguments.
func request(op uint32, node uint64, args ...any) []byte {
	var body []byte
	for _, a := range args {
		switch a := a.(type) {
		case string:
			body = append(append(body, a...), 0)
		default:
			body, _ = binary.Append(body, binary.LittleEndian, a)
		}
	}
	le := binary.LittleEndian
	b := le.AppendUint32(nil, uint32(40+len(body)))
	b = le.AppendUint64(le.AppendUint64(le.AppendUint32(b, op), 77), node)
	return append(append(b, make([]byte, 16)...), body...)
}

// errno returns the error in a reply, or 0.
func errno(t testing.TB, written uint32, out [][]byte) unix.Errno {
	t.Helper()
	if written < 16 || len(out[0]) < 16 || binary.LittleEndian.Uint32(out[0]) != written || binary.LittleEndian.Uint64(out[0][8:]) != 77 {
		t.Fatalf("a reply of %d bytes: %x", written, out[0])
	}
	return unix.Errno(-int32(binary.LittleEndian.Uint32(out[0][4:])))
}

// populate makes a directory to be shared, and one next to it that nobody may reach.
func populate(t testing.TB) (dir string) {
	t.Helper()
	top := t.TempDir()
	dir = filepath.Join(top, "shared")
	for _, err := range []error{
		os.MkdirAll(dir+"/sub", 0o755), os.Mkdir(top+"/outside", 0o755), os.WriteFile(top+"/outside/secret", []byte("secret"), 0o644),
		os.WriteFile(dir+"/file", []byte("contents"), 0o644), os.Symlink("../outside/secret", dir+"/link"),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func open(t testing.TB, dir string, writable bool) *Share {
	t.Helper()
	s, err := Open(dir, "tag", writable)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestBadInput checks the errors for what can't be shared, and bad tags.
func TestBadInput(t *testing.T) {
	defer memtest.Leaks(t)()
	dir := populate(t)
	for _, c := range []struct{ dir, tag, want string }{
		{dir + "/missing", "tag", "no such file"},
		{dir + "/file", "tag", "not a directory"},
		{dir, "", "tag"},
		{dir, strings.Repeat("x", 37), "tag"},
		{dir, "a/b", "tag"},
		{dir, "..", "tag"},
		{dir, "a b", "tag"},
	} {
		if _, err := Open(c.dir, c.tag, false); err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), c.dir) {
			t.Errorf("%s as %q: %v", c.dir, c.tag, err)
		}
	}
	s, err := Open(dir, strings.Repeat("x", 36), false)
	if err != nil {
		t.Fatal(err)
	}
	if c := s.Config(); len(c) != 40 || string(c[:36]) != s.tag || c[36] != 1 {
		t.Errorf("configuration %x", c)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

// TestRequests reads and writes files in pieces, as no driver lays them out.
func TestRequests(t *testing.T) {
	defer memtest.Leaks(t)()
	t.Run("", func(t *testing.T) {
		dir := populate(t)
		s := open(t, dir, true)
		d := virtiotest.New(t, s)
		type creation struct{ Flags, Mode, Umask, OpenFlags uint32 }
		type transfer struct {
			Handle, Offset uint64
			Size, Flags    uint32
			_              [16]byte
		}
		written, out := d.Request(1, [][]byte{request(opCreate, rootID, creation{Flags: unix.O_RDWR, Mode: 0o600}, "new")}, []int{4, 12, 144})
		if written != 160 {
			t.Fatalf("create: %d bytes: %x", written, out)
		}
		handle := binary.LittleEndian.Uint64(out[2][128:])
		data := strings.Repeat("what the guest writes, ", 20000)
		msg := request(opWrite, 2, transfer{Handle: handle, Offset: 5, Size: uint32(len(data))}, []byte(data))
		if written, out := d.Request(1, [][]byte{msg[:17], msg[17:83], msg[83:300000], msg[300000:]}, []int{24}); errno(t, written, out) != 0 {
			t.Errorf("write: %x", out)
		}
		if got, err := os.ReadFile(dir + "/new"); string(got) != "\x00\x00\x00\x00\x00"+data || err != nil {
			t.Errorf("on the host: %d bytes, %v", len(got), err)
		}
		msg = request(opRead, 2, transfer{Handle: handle, Offset: 6, Size: 1 << 20})
		written, out = d.Request(1, [][]byte{msg}, []int{7, 10, 1 << 20})
		if want := 16 + len(data) - 1; int(written) != want || string(out[1][9:]) != data[1:2] || !strings.HasPrefix(string(out[2]), data[2:]+"\x00") {
			t.Errorf("read: %d bytes, want %d: %.40q", written, want, out[2])
		}
		// A reply that doesn't fit is an error, and so is data that isn't there.
		if written, out := d.Request(1, [][]byte{msg}, []int{1000}); errno(t, written, out) != unix.EINVAL {
			t.Errorf("read with little room: %x", out)
		}
		if written, out := d.Request(1, [][]byte{request(opLookup, rootID, "file")}, []int{100}); errno(t, written, out) != unix.EINVAL {
			t.Errorf("lookup with little room: %x", out)
		}
		msg = request(opWrite, 2, transfer{Handle: handle, Size: 100}, []byte("short"))
		if written, out := d.Request(1, [][]byte{msg}, []int{24}); errno(t, written, out) != unix.EINVAL {
			t.Errorf("short write: %x", out)
		}
		if written, _ := d.Request(hiprio, [][]byte{request(opForget, 2, uint64(1))}, nil); written != 0 {
			t.Errorf("forget: a reply of %d bytes", written)
		}
		st := s.Stats()
		if st.ReadBytes != uint64(len(data)-1) || st.WrittenBytes != uint64(len(data)) || st.Requests["forget"] != 1 || st.Requests["open"] != 1 {
			t.Errorf("%+v", st)
		}
	})
}

// TestBroken checks what makes the device need a reset.
func TestBroken(t *testing.T) {
	defer memtest.Leaks(t)()
	for name, c := range map[string]struct {
		in  []byte
		out []int
	}{
		"no header":        {make([]byte, 39), []int{100}},
		"no room":          {request(opLookup, rootID, "file"), []int{15}},
		"no room at all":   {request(opLookup, rootID, "file"), nil},
		"no room for data": {request(opRead, rootID, make([]byte, 40)), []int{1}},
		"nothing to read":  {nil, []int{100}},
	} {
		t.Run(name, func(t *testing.T) {
			d := virtiotest.New(t, open(t, populate(t), true))
			var in [][]byte
			if c.in != nil {
				in = append(in, c.in)
			}
			d.Rings[1].Send(in, c.out)
			if err := d.Broken(); !strings.Contains(err.Error(), "FUSE request") {
				t.Error(err)
			}
		})
	}
}

// TestCold reads a file of which the host's page cache has all, a part, and nothing, and
// past its end.
func TestCold(t *testing.T) {
	dir := populate(t)
	const all = 21 * 30_000
	data := bytes.Repeat([]byte("what is in the file, "), 30_000)
	if err := os.WriteFile(dir+"/file", data, 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(dir + "/file")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Sync(); err != nil {
		t.Fatal(err)
	}
	d := virtiotest.New(t, open(t, dir, false))
	_, out := d.Request(1, [][]byte{request(opLookup, rootID, "file")}, []int{16, 128})
	node := binary.LittleEndian.Uint64(out[1])
	_, out = d.Request(1, [][]byte{request(opOpen, node, uint64(0))}, []int{16, 16})
	handle := binary.LittleEndian.Uint64(out[1])
	for _, c := range []struct {
		warm      int64 // bytes at the start that the page cache keeps
		off, size int
	}{
		{all, 0, all}, {100 << 10, 0, 200 << 10}, {0, 0, all}, {0, 50 << 10, 4 << 10},
		{all, all - 10, 4096}, {0, all - 10, 4096}, {all, all, 4096}, {0, all, 4096},
	} {
		if c.warm < all {
			if err := unix.Fadvise(int(f.Fd()), c.warm, 0, unix.FADV_DONTNEED); err != nil {
				t.Fatal(err)
			}
		}
		want := data[c.off:min(c.off+c.size, len(data))]
		msg := request(opRead, node, handle, uint64(c.off), uint32(c.size), make([]byte, 20))
		written, out := d.Request(1, [][]byte{msg}, []int{16, c.size})
		if errno(t, written, out) != 0 || int(written) != 16+len(want) || !bytes.HasPrefix(out[1], want) {
			t.Errorf("%+v: a reply of %d bytes: %x %.40q", c, written, out[0], out[1])
		}
	}
}

// TestSlow has a file system in the shared directory that doesn't answer. Requests for
// it must not hold up others.
func TestSlow(t *testing.T) {
	dir := populate(t)
	dev, err := os.OpenFile("/dev/fuse", os.O_RDWR, 0)
	if err != nil {
		t.Skipf("SKIPPED: %v", err)
	}
	defer dev.Close()
	mnt := dir + "/sub"
	if err := unix.Mount("test", mnt, "fuse.offmap-test", 0, "fd="+strconv.Itoa(int(dev.Fd()))+",rootmode=40000,user_id=0,group_id=0"); err != nil {
		t.Skipf("SKIPPED: mount: %v", err)
	}
	defer unix.Unmount(mnt, unix.MNT_DETACH)
	d := virtiotest.New(t, open(t, dir, false))
	var slow []*virtiotest.Request
	for range 10 {
		slow = append(slow, d.Rings[1].Send([][]byte{request(opLookup, rootID, "sub")}, []int{16, 128}))
	}
	for range 100 {
		if written, out := d.Request(1, [][]byte{request(opLookup, rootID, "file")}, []int{16, 128}); errno(t, written, out) != 0 {
			t.Fatalf("lookup: %x", out)
		}
	}
	for _, r := range slow {
		if r.Done() {
			t.Error("a file system that doesn't answer has answered")
		}
	}
	dev.Close() // which ends the wait
	for _, r := range slow {
		if written, out, ok := r.Wait(); !ok || errno(t, written, out) != unix.ENOTCONN {
			t.Errorf("%v, %x", ok, out)
		}
	}
}

// FuzzShare has a driver that does anything with the queues and the requests in them.
func FuzzShare(f *testing.F) {
	step := func(queue byte, room uint16, msg []byte) []byte {
		return append(append([]byte{4, queue, byte(len(msg))}, msg...), 0, byte(room), byte(room>>8), 0)
	}
	var all []byte
	for _, s := range [][]byte{
		step(1, 144, request(opLookup, rootID, "file")),
		step(1, 32, request(opOpen, 2, uint64(2))),
		step(1, 4096, request(opRead, 2, uint64(1), uint64(0), uint32(4000), make([]byte, 20))),
		step(1, 24, request(opWrite, 2, uint64(1), uint64(0), uint32(4), make([]byte, 20), []byte("data"))),
		step(0, 0, request(opForget, 2, uint64(1))),
		step(1, 4096, request(opReadlink, 3)),
		step(0, 0, request(opBatchForget, 0, uint64(1<<32-1), uint64(2), uint64(2))),
	} {
		f.Add(true, s)
		f.Add(false, s)
		all = append(all, s...)
	}
	f.Add(true, all)
	dir := populate(f)
	f.Fuzz(func(t *testing.T, writable bool, script []byte) {
		s := open(t, dir, writable)
		virtiotest.Hostile(t, s, script)
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		got, err := os.ReadFile(filepath.Dir(dir) + "/outside/secret")
		if err != nil || string(got) != "secret" {
			t.Errorf("outside: %q, %v", got, err)
		}
		if err := errors.Join(os.RemoveAll(dir), os.MkdirAll(dir+"/sub", 0o755),
			os.WriteFile(dir+"/file", []byte("contents"), 0o644), os.Symlink("../outside/secret", dir+"/link")); err != nil {
			t.Fatal(err)
		}
	})
}
