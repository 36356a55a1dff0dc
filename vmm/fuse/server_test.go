package fuse

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"offmap/memory/memtest"
)

// client makes requests without a kernel.
type client struct {
	t testing.TB
	s *Server
}

func newClient(t testing.TB, dir string, o Options) client {
	t.Helper()
	s, err := New(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return client{t, s}
}

// ask makes a request whose arguments are args, one after the other, and returns what
// follows the header of the reply.
func (c client) ask(op uint32, node uint64, args ...any) ([]byte, error) {
	c.t.Helper()
	m := message(op, node, args...)
	r, err := c.s.Answer(m)
	if err != nil {
		c.t.Fatal(err)
	}
	if len(r.Head) == 0 {
		return nil, nil
	}
	reply, data := append(r.Head, m.out...), r.Data
	h, err := take[outHeader](&Request{body: reply})
	if err != nil || int(h.Len) != len(reply) || data != len(m.out) || h.Unique != 77 {
		c.t.Fatalf("request %d: a reply of %d bytes, of which %d are data: %+v, %v", op, len(reply), data, h, err)
	}
	if h.Error != 0 {
		return nil, syscall.Errno(-h.Error)
	}
	return reply[headerOut:], nil
}

func message(op uint32, node uint64, args ...any) *buffered {
	body := []byte{}
	for _, a := range args {
		if s, ok := a.(string); ok {
			a = []byte(s + "\x00")
		}
		body = append(body, encode(a)...)
	}
	return &buffered{in: append(encode(inHeader{Len: uint32(headerIn + len(body)), Opcode: op, Unique: 77, Node: node, UID: 12, GID: 34}), body...)}
}

func decode[T any](t testing.TB, b []byte, err error) T {
	t.Helper()
	v, decodeErr := take[T](&Request{body: b})
	if err := errors.Join(err, decodeErr); err != nil {
		t.Fatal(err)
	}
	return v
}

// lookup looks a path up, one name after the other.
func (c client) lookup(path string) (entryOut, error) {
	e := entryOut{Node: rootID}
	for name := range strings.SplitSeq(path, "/") {
		b, err := c.ask(opLookup, e.Node, name)
		if err != nil {
			return e, err
		}
		e = decode[entryOut](c.t, b, nil)
	}
	return e, nil
}

func (c client) must(path string) entryOut {
	c.t.Helper()
	e, err := c.lookup(path)
	if err != nil {
		c.t.Fatalf("%s: %v", path, err)
	}
	return e
}

// populate makes a tree to be served, and next to it one that must stay as it is.
func populate(t testing.TB) (dir string, unchanged func()) {
	t.Helper()
	top := t.TempDir()
	dir = filepath.Join(top, "served")
	outside := filepath.Join(top, "outside")
	for _, err := range []error{
		os.MkdirAll(dir+"/sub/deeper", 0o755), os.Mkdir(outside, 0o755),
		os.WriteFile(outside+"/secret", []byte("what nobody may see"), 0o644),
		os.WriteFile(dir+"/file", []byte("contents"), 0o644),
		os.WriteFile(dir+"/sub/file", []byte("more contents"), 0o644),
		os.WriteFile(dir+"/setuid", []byte("program"), 0o755), os.Chmod(dir+"/setuid", 0o755|os.ModeSetuid),
		os.Symlink("../outside", dir+"/out"), os.Symlink(outside+"/secret", dir+"/absolute"),
		os.Symlink("../../outside/secret", dir+"/sub/up"), os.Symlink("/proc/self/root", dir+"/magic"),
		unix.Mkfifo(dir+"/fifo", 0o644),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	before := snapshot(t, outside)
	return dir, func() {
		t.Helper()
		if after := snapshot(t, outside); after != before {
			t.Fatalf("a file outside of the served directory was changed:\n%s\nit was\n%s", after, before)
		}
	}
}

// snapshot describes all that is in a directory, without times of access.
func snapshot(t testing.TB, dir string) string {
	t.Helper()
	var b strings.Builder
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err != nil {
			return err
		}
		st.Atim = unix.Timespec{}
		fmt.Fprintf(&b, "%s %+v\n", path, st)
		if d.Type().IsRegular() {
			text, err := os.ReadFile(path)
			fmt.Fprintf(&b, "%q %v\n", text, err)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// TestBadDirectories checks the errors for what can't be served.
func TestBadDirectories(t *testing.T) {
	defer memtest.Leaks(t)()
	dir, _ := populate(t)
	for path, want := range map[string]error{dir + "/missing": unix.ENOENT, dir + "/file": unix.ENOTDIR, dir + "/fifo": unix.ENOTDIR} {
		if _, err := New(path, Options{}); !errors.Is(err, want) || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v, want %v", path, err, want)
		}
	}
	// One of several is left out.
	s := NewSet([]string{dir + "/missing", dir}, Options{})
	defer s.Close()
	c := client{t, s}
	if _, err := c.lookup("0"); !errors.Is(err, unix.ENOENT) {
		t.Errorf("a directory that doesn't exist: %v", err)
	}
	if e, err := c.lookup("1/sub/file"); err != nil || e.Attr.Size != uint64(len("more contents")) {
		t.Errorf("a file in another: %+v, %v", e, err)
	}
}

// TestNames checks that a request reaches only entries of its directory.
func TestNames(t *testing.T) {
	dir, unchanged := populate(t)
	c := newClient(t, dir, Options{Writable: true})
	sub := c.must("sub").Node
	for _, k := range []struct {
		name string
		want error
	}{
		{"missing\x00", unix.ENOENT},
		{"..\x00", unix.EINVAL},
		{".\x00", unix.EINVAL},
		{"\x00", unix.EINVAL},
		{"a/b\x00", unix.EINVAL},
		{"../outside\x00", unix.EINVAL},
		{"/etc\x00", unix.EINVAL},
		{"no end", unix.EINVAL},
		{strings.Repeat("x", 256) + "\x00", unix.ENAMETOOLONG},
	} {
		for _, node := range []uint64{rootID, sub} {
			for _, op := range []uint32{opLookup, opUnlink, opRmdir} {
				if _, err := c.ask(op, node, []byte(k.name)); !errors.Is(err, k.want) {
					t.Errorf("request %d of %q in node %d: %v, want %v", op, k.name, node, err, k.want)
				}
			}
			if k.want == unix.ENOENT || k.name == "no end" { // or the next argument ends it
				continue
			}
			for op, in := range map[uint32]any{
				opCreate: createIn{Mode: 0o600}, opMkdir: mkdirIn{}, opMknod: mknodIn{Mode: unix.S_IFREG}, opSymlink: []byte{}, opLink: linkIn{Node: sub},
				opRename: renameIn{Dir: rootID},
			} {
				if _, err := c.ask(op, node, in, []byte(k.name), "new"); err == nil {
					t.Errorf("request %d of %q in node %d succeeded", op, k.name, node)
				}
			}
			if _, err := c.ask(opRename, node, renameIn{Dir: sub}, "file", []byte(k.name)); !errors.Is(err, k.want) {
				t.Errorf("rename to %q: %v", k.name, err)
			}
		}
	}
	for op := range uint32(64) { // every opcode, known or not, and no arguments
		c.ask(op, 99)
		c.ask(op, rootID)
	}
	unchanged()
}

// TestLinks checks that a link on the host is a text for the client, and no more.
func TestLinks(t *testing.T) {
	dir, unchanged := populate(t)
	c := newClient(t, dir, Options{Writable: true})
	for _, path := range []string{"out", "absolute", "sub/up", "magic"} {
		e := c.must(path)
		if e.Attr.Mode&unix.S_IFMT != unix.S_IFLNK {
			t.Errorf("%s has mode %o", path, e.Attr.Mode)
		}
		if b, err := c.ask(opReadlink, e.Node); err != nil || len(b) == 0 {
			t.Errorf("%s: %q, %v", path, b, err)
		}
		for op, in := range map[uint32]any{opOpen: openIn{}, opOpendir: openIn{}, opLookup: "secret", opMkdir: []any{mkdirIn{}}, opUnlink: "secret"} {
			if _, err := c.ask(op, e.Node, flat(in)...); err == nil {
				t.Errorf("request %d of link %s succeeded", op, path)
			}
		}
		c.ask(opSetattr, e.Node, setattrIn{Valid: setMode | setSize | setMtime, Size: 1, Mode: 0o4777})
		if _, err := c.ask(opCreate, rootID, createIn{Flags: unix.O_WRONLY | unix.O_TRUNC, Mode: 0o600}, filepath.Base(path)); path[0] != 's' && err == nil {
			t.Errorf("a CREATE of %s followed it", path)
		}
	}
	unchanged()
}

func flat(v any) []any {
	if l, ok := v.([]any); ok {
		return append(l, "name")
	}
	return []any{v}
}

// TestSpecialFiles checks that devices, sockets and FIFOs of the host are shown and
// never opened, and that nobody gets such devices or set-id bits from the client.
func TestSpecialFiles(t *testing.T) {
	dir, _ := populate(t)
	root := os.Getuid() == 0
	if root {
		if err := unix.Mknod(dir+"/null", unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))); err != nil {
			t.Fatal(err)
		}
	}
	c := newClient(t, dir, Options{Writable: true})
	e := c.must("fifo")
	if _, err := c.ask(opOpen, e.Node, openIn{Flags: unix.O_RDONLY}); !errors.Is(err, unix.ENXIO) {
		t.Errorf("open of a FIFO: %v", err)
	}
	if _, err := c.ask(opCreate, rootID, createIn{Flags: unix.O_WRONLY}, "fifo"); !errors.Is(err, unix.ENXIO) {
		t.Errorf("create of a FIFO: %v", err)
	}
	if root {
		e := c.must("null")
		if e.Attr.Mode&unix.S_IFMT != unix.S_IFCHR || e.Attr.Rdev != 0 {
			t.Errorf("a device: %+v", e.Attr)
		}
		if _, err := c.ask(opOpen, e.Node, openIn{}); !errors.Is(err, unix.ENXIO) {
			t.Errorf("open of a device: %v", err)
		}
		lab := newClient(t, dir, Options{Writable: true, Privileged: true})
		if e := lab.must("null"); e.Attr.Rdev != 1<<8|3 {
			t.Errorf("a device, for a privileged client: %+v", e.Attr)
		}
	}
	for _, mode := range []uint32{unix.S_IFCHR, unix.S_IFBLK} {
		if _, err := c.ask(opMknod, rootID, mknodIn{Mode: mode | 0o666, Rdev: 0x103}, "made"); !errors.Is(err, unix.EPERM) {
			t.Errorf("mknod: %v", err)
		}
	}
	c.ask(opMknod, rootID, mknodIn{Mode: unix.S_IFREG | 0o6755}, "made")
	c.ask(opCreate, rootID, createIn{Mode: unix.S_IFREG | 0o6755}, "created")
	c.ask(opSetattr, c.must("file").Node, setattrIn{Valid: setMode, Mode: 0o6755})
	b, err := c.ask(opOpen, c.must("setuid").Node, openIn{Flags: unix.O_WRONLY})
	decode[openOut](t, b, err)
	for _, name := range []string{"made", "created", "file", "setuid"} {
		st, err := os.Stat(filepath.Join(dir, name))
		if err != nil || st.Mode()&(os.ModeSetuid|os.ModeSetgid) != 0 || st.Mode().Perm()&0o111 == 0 {
			t.Errorf("%s: %v, %v", name, st.Mode(), err)
		}
		var sys unix.Stat_t
		if err := unix.Stat(filepath.Join(dir, name), &sys); err != nil {
			t.Error(err)
		}
		if made := name == "made" || name == "created"; root && made && (sys.Uid != 12 || sys.Gid != 34) {
			t.Errorf("%s belongs to %d:%d", name, sys.Uid, sys.Gid)
		}
	}
	// The kernel's own files, where a read may wait for ever.
	proc := newClient(t, "/proc", Options{})
	if _, err := proc.ask(opOpen, proc.must("version").Node, openIn{}); !errors.Is(err, unix.EACCES) {
		t.Errorf("open of a file in /proc: %v", err)
	}
}

// TestReadOnly checks that no request changes a read-only tree.
func TestReadOnly(t *testing.T) {
	dir, unchanged := populate(t)
	before := snapshot(t, dir)
	c := newClient(t, dir, Options{Validity: time.Second})
	file, sub := c.must("file").Node, c.must("sub").Node
	b, err := c.ask(opOpen, file, openIn{Flags: unix.O_RDONLY})
	h := decode[openOut](t, b, err).Handle
	for op, args := range map[uint32][]any{
		opSetattr: {setattrIn{Valid: setMode | setSize, Mode: 0o600}}, opSymlink: {"new", "target"}, opMknod: {mknodIn{Mode: unix.S_IFREG}, "new"},
		opMkdir: {mkdirIn{Mode: 0o700}, "new"}, opUnlink: {"file"}, opRmdir: {"deeper"}, opRename: {renameIn{rootID}, "file", "new"},
		opRename2: {rename2In{Dir: rootID}, "file", "new"}, opLink: {linkIn{file}, "new"}, opOpen: {openIn{Flags: unix.O_WRONLY}},
		opCreate: {createIn{Mode: 0o600, Flags: unix.O_RDWR}, "file"}, opWrite: {transferIn{Handle: h, Size: 1}, "x"},
		opFallocate: {fallocateIn{Handle: h, Length: 10}},
	} {
		for _, node := range []uint64{file, sub, rootID} {
			if _, err := c.ask(op, node, args...); !errors.Is(err, unix.EROFS) && !(op == opOpen && node != file && errors.Is(err, unix.EROFS)) {
				t.Errorf("request %d of node %d: %v", op, node, err)
			}
		}
	}
	if _, err := c.ask(opOpen, file, openIn{Flags: unix.O_RDONLY | unix.O_TRUNC}); !errors.Is(err, unix.EROFS) {
		t.Errorf("open with O_TRUNC: %v", err)
	}
	if b, err := c.ask(opRead, file, transferIn{Handle: h, Size: 100}); err != nil || string(b) != "contents" {
		t.Errorf("read: %q, %v", b, err)
	}
	if after := snapshot(t, dir); after != before {
		t.Errorf("changed:\n%s\nit was\n%s", after, before)
	}
	unchanged()
}

// TestTransfers checks sizes and offsets that no kernel asks for.
func TestTransfers(t *testing.T) {
	dir, _ := populate(t)
	c := newClient(t, dir, Options{Writable: true})
	e := c.must("file")
	b, err := c.ask(opOpen, e.Node, openIn{Flags: unix.O_RDWR})
	h := decode[openOut](t, b, err).Handle
	for _, in := range []transferIn{
		{Handle: h, Offset: 1<<64 - 1, Size: 1}, {Handle: h, Offset: 1 << 63, Size: 1}, {Handle: h, Size: 1<<32 - 1}, {Handle: h, Size: 100},
	} {
		if _, err := c.ask(opWrite, e.Node, in, "short"); !errors.Is(err, unix.EINVAL) {
			t.Errorf("write %+v: %v", in, err)
		}
	}
	for _, in := range []transferIn{{Handle: h, Offset: 1<<64 - 1, Size: 1}, {Handle: h, Size: 1<<32 - 1}} {
		if _, err := c.ask(opRead, e.Node, in); !errors.Is(err, unix.EINVAL) {
			t.Errorf("read %+v: %v", in, err)
		}
	}
	// With O_APPEND, the end is where the host says.
	in := transferIn{Handle: h, Offset: 2, Size: 3, OpenFlags: unix.O_APPEND}
	if _, err := c.ask(opWrite, e.Node, in, []byte("end")); err != nil {
		t.Error(err)
	}
	in.Flags = writeCache // the handle is any that can write
	if _, err := c.ask(opWrite, e.Node, in, []byte("NTE")); err != nil {
		t.Error(err)
	}
	if got, err := os.ReadFile(dir + "/file"); string(got) != "coNTEntsend" {
		t.Errorf("%q, %v", got, err)
	}
	if _, err := c.ask(opRelease, e.Node, releaseIn{Handle: h}); err != nil {
		t.Error(err)
	}
	for op, in := range map[uint32]any{
		opRead: transferIn{Handle: h, Size: 1}, opReaddir: transferIn{Handle: h, Size: 100}, opFsync: fsyncIn{Handle: h},
		opLseek: lseekIn{Handle: h, Whence: unix.SEEK_DATA}, opRelease: releaseIn{Handle: h},
	} {
		if _, err := c.ask(op, e.Node, in); !errors.Is(err, unix.EBADF) {
			t.Errorf("request %d of a closed handle: %v", op, err)
		}
	}
}

// TestListing checks READDIRPLUS, which counts lookups.
func TestListing(t *testing.T) {
	dir, _ := populate(t)
	c := newClient(t, dir, Options{Validity: time.Second})
	b, err := c.ask(opOpendir, rootID, openIn{})
	h := decode[openOut](t, b, err).Handle
	seen := map[string]uint64{}
	for off := uint64(0); ; {
		b, err := c.ask(opReaddirplus, rootID, transferIn{Handle: h, Offset: off, Size: 512})
		if err != nil {
			t.Fatal(err)
		}
		if len(b) == 0 {
			break
		}
		for len(b) > 0 {
			r := Request{body: b}
			e, _ := take[entryOut](&r)
			d, err := take[dirent](&r)
			if err != nil {
				t.Fatal(err)
			}
			name := string(r.body[:d.Namelen])
			seen[name], off = e.Node, d.Off
			b = b[entryOutSize+(direntHeader+len(name)+7)&^7:]
			if name == ".." && d.Ino != unknownIno {
				t.Errorf("the number of the directory above is known")
			}
		}
	}
	if len(seen) != 9 {
		t.Errorf("%d entries: %v", len(seen), seen)
	}
	for name, node := range seen {
		if name == "." || name == ".." {
			continue
		}
		if e := c.must(name); e.Node != node {
			t.Errorf("%s is node %d, and in the listing %d", name, e.Node, node)
		}
		if c.s.tree.nodes[node].lookups != 2 {
			t.Errorf("%s has %d lookups", name, c.s.tree.nodes[node].lookups)
		}
	}
}

// TestForget checks that the server remembers as long as the client, and no longer.
func TestForget(t *testing.T) {
	defer memtest.Leaks(t)()
	dir, _ := populate(t)
	s, err := New(dir, Options{Writable: true})
	if err != nil {
		t.Fatal(err)
	}
	c := client{t, s}
	deep := c.must("sub/deeper").Node
	c.must("sub/deeper")
	sub := c.must("sub").Node
	c.ask(opForget, sub, forgetIn{Lookups: 1 << 40}) // more than there were
	c.ask(opForget, deep, forgetIn{Lookups: 1})
	if len(s.tree.nodes) != 3 {
		t.Errorf("%d nodes while the client knows a directory in another", len(s.tree.nodes))
	}
	c.ask(opForget, deep, forgetIn{Lookups: 1})
	c.ask(opForget, rootID, forgetIn{Lookups: 1 << 60})
	if len(s.tree.nodes) != 1 || len(s.tree.byFile) != 0 {
		t.Errorf("%d nodes are left", len(s.tree.nodes))
	}
	if _, err := c.ask(opGetattr, deep, getattrIn{}); !errors.Is(err, unix.ESTALE) {
		t.Errorf("a forgotten node: %v", err)
	}
	// A file with two names is one node. An open file outlives its names.
	file := c.must("file").Node
	if _, err := c.ask(opLink, rootID, linkIn{file}, "hard"); err != nil {
		t.Fatal(err)
	}
	if hard := c.must("hard").Node; hard != file {
		t.Errorf("nodes %d and %d for one file", file, hard)
	}
	b, err := c.ask(opOpen, file, openIn{Flags: unix.O_RDWR})
	h := decode[openOut](t, b, err).Handle
	for _, name := range []string{"file", "hard"} {
		if _, err := c.ask(opUnlink, rootID, name); err != nil {
			t.Error(err)
		}
	}
	if _, err := c.ask(opSetattr, file, setattrIn{Valid: setSize, Size: 3}); err != nil {
		t.Errorf("truncate of an open file without a name: %v", err)
	}
	// A new session begins with nothing.
	if _, err := c.ask(opInit, 0, initIn{Major: major, Minor: 99}); err != nil {
		t.Error(err)
	}
	if _, err := c.ask(opRead, file, transferIn{Handle: h, Size: 1}); !errors.Is(err, unix.EBADF) {
		t.Errorf("a handle of the session before: %v", err)
	}
	if len(s.tree.nodes) != 1 {
		t.Errorf("%d nodes in a new session", len(s.tree.nodes))
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

// TestReplaced checks that a node doesn't become another file of the host, and is
// found again after a rename.
func TestReplaced(t *testing.T) {
	dir, _ := populate(t)
	c := newClient(t, dir, Options{Writable: true})
	file := c.must("file")
	other := c.must("sub/file")
	if err := os.Rename(dir+"/sub/file", dir+"/file"); err != nil {
		t.Fatal(err)
	}
	for op, in := range map[uint32]any{opGetattr: getattrIn{}, opOpen: openIn{}, opSetattr: setattrIn{Valid: setMode}} {
		if _, err := c.ask(op, file.Node, in); !errors.Is(err, unix.ESTALE) {
			t.Errorf("request %d of a file that was replaced: %v", op, err)
		}
	}
	if e := c.must("file"); e.Node != other.Node {
		t.Errorf("node %d is %d at its new name", other.Node, e.Node)
	}
	if b, err := c.ask(opGetattr, other.Node, getattrIn{}); err != nil || decode[attrOut](t, b, nil).Attr.Ino != other.Attr.Ino {
		t.Errorf("a file with a new name: %v", err)
	}
	// Out of the served directory is out of reach, even for a directory that the
	// client knows.
	sub, deeper := c.must("sub").Node, c.must("sub/deeper").Node
	if err := os.Rename(dir+"/sub", dir+"/../outside/sub"); err != nil {
		t.Fatal(err)
	}
	if _, err := c.ask(opLookup, sub, "deeper"); !errors.Is(err, unix.ENOENT) {
		t.Errorf("a directory that was moved away: %v", err)
	}
	// Not even by a link to where it is now.
	if err := os.Symlink("../outside/sub", dir+"/sub"); err != nil {
		t.Fatal(err)
	}
	if _, err := c.ask(opOpendir, deeper, openIn{}); !errors.Is(err, unix.ELOOP) {
		t.Errorf("a directory behind a link: %v", err)
	}
}

// TestDescriptors checks that clients can't take all of this process's descriptors.
func TestDescriptors(t *testing.T) {
	defer memtest.Leaks(t)()
	dir, _ := populate(t)
	s, err := New(dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	had := maxDescriptors
	defer func() { maxDescriptors = had }()
	maxDescriptors = func() int64 { return 10 }
	c := client{t, s}
	file := c.must("file").Node
	for i := range 20 {
		_, err := c.ask(opOpen, file, openIn{})
		if full := i >= 10; full != errors.Is(err, unix.ENFILE) {
			t.Errorf("open file %d: %v", i, err)
		}
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if n := descriptors.Load(); n != 0 {
		t.Errorf("%d handles are counted after the end", n)
	}
}

// TestAttacker lets somebody on the host swap directories with links that lead out,
// while the client resolves names below them.
func TestAttacker(t *testing.T) {
	dir, unchanged := populate(t)
	c := newClient(t, dir, Options{Writable: true})
	var stop atomic.Bool
	var work sync.WaitGroup
	work.Go(func() {
		if err := os.Symlink("../outside", dir+"/trap"); err != nil {
			t.Error(err)
		}
		for !stop.Load() {
			if err := unix.Renameat2(unix.AT_FDCWD, dir+"/sub", unix.AT_FDCWD, dir+"/trap", unix.RENAME_EXCHANGE); err != nil {
				t.Error(err)
				return
			}
		}
	})
	var reached, refused atomic.Int64
	var clients sync.WaitGroup
	for range 4 {
		clients.Go(func() {
			for range 3000 {
				e, err := c.lookup("sub")
				if err != nil {
					continue
				}
				ops := []struct {
					op   uint32
					args []any
				}{
					{opLookup, []any{"secret"}}, {opUnlink, []any{"secret"}}, {opCreate, []any{createIn{Flags: unix.O_RDWR | unix.O_TRUNC, Mode: 0o600}, "secret"}},
					{opMkdir, []any{mkdirIn{Mode: 0o700}, "made"}}, {opRename, []any{renameIn{rootID}, "secret", "stolen"}}, {opOpendir, []any{openIn{}}},
				}
				for _, o := range ops {
					if _, err := c.ask(o.op, e.Node, o.args...); err == nil {
						reached.Add(1)
					} else {
						refused.Add(1)
					}
				}
				c.ask(opForget, e.Node, forgetIn{Lookups: 1})
				c.s.handles.reset()
			}
		})
	}
	clients.Wait()
	stop.Store(true)
	work.Wait()
	unchanged()
	t.Logf("%d requests succeeded, %d didn't", reached.Load(), refused.Load())
	if reached.Load() == 0 || refused.Load() == 0 {
		t.Error("the attacker and the client didn't meet")
	}
}

// FuzzAnswer checks that no sequence of requests ends the server, reaches beyond the
// served directory, or changes one that is read-only.
//
// A step of the script is a request: its opcode, its node, how many bytes of arguments,
// and these. Small numbers of nodes and handles are those that the client knows.
func FuzzAnswer(f *testing.F) {
	script := func(steps ...*buffered) (b []byte) {
		for _, m := range steps {
			b = append(b, m.in[4], m.in[16], byte(len(m.in)-headerIn))
			b = append(b, m.in[headerIn:]...)
		}
		return b
	}
	f.Add(true, script(message(opLookup, 1, "sub"), message(opLookup, 2, "up"), message(opReadlink, 3), message(opOpen, 3, openIn{})))
	f.Add(true, script(message(opCreate, 1, createIn{Flags: 2, Mode: 0o666}, "new"), message(opWrite, 2, transferIn{Handle: 1, Size: 4}, []byte("data")),
		message(opRead, 2, transferIn{Handle: 1, Size: 9}), message(opSetattr, 2, setattrIn{Valid: 0xffff}), message(opFallocate, 2, fallocateIn{Handle: 1, Length: 9})))
	f.Add(false, script(message(opOpendir, 1, openIn{}), message(opReaddirplus, 1, transferIn{Handle: 1, Size: 4096}), message(opRelease, 1, releaseIn{Handle: 1})))
	f.Add(true, script(message(opLookup, 1, "sub"), message(opRename2, 1, rename2In{Dir: 2}, "file", "file"), message(opUnlink, 2, "file"), message(opSymlink, 2, "l", "/etc")))
	f.Add(true, script(message(opMkdir, 1, mkdirIn{Mode: 0o7777}, "d"), message(opRename2, 1, rename2In{Dir: 2, Flags: 2}, "sub", "x"), message(opLink, 2, linkIn{2}, "l")))
	f.Add(true, script(message(opBatchForget, 0, batchIn{Count: 1<<32 - 1}, batchItem{2, 1 << 63}), message(opInit, 0, initIn{Major: 7}), message(opDestroy, 0)))
	f.Fuzz(func(t *testing.T, writable bool, script []byte) {
		dir, unchanged := populate(t)
		before := ""
		if !writable {
			before = snapshot(t, dir)
		}
		s, err := New(dir, Options{Writable: writable, Validity: time.Second})
		if err != nil {
			t.Fatal(err)
		}
		for range 40 {
			if len(script) < 3 {
				break
			}
			op, node, n := uint32(script[0]), uint64(script[1]), min(int(script[2]), len(script)-3)
			m := message(op, node, script[3:3+n])
			script = script[3+n:]
			if op == opFallocate || op == opSetattr || op == opWrite {
				small(m, op)
			}
			r, err := s.Answer(m)
			if err != nil {
				t.Fatal(err)
			}
			reply, data := r.Head, r.Data
			if reply != nil && (len(reply) < headerOut || int(binary.LittleEndian.Uint32(reply)) != len(reply)+data || data != len(m.out)) {
				t.Fatalf("request %d: a reply of %d bytes and %d, which says %x", op, len(reply), data, reply[:4])
			}
		}
		if len(s.handles.open) > 40 || len(s.tree.nodes) > 4000 {
			t.Errorf("%d handles, %d nodes", len(s.handles.open), len(s.tree.nodes))
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		if n := descriptors.Load(); n != 0 {
			t.Errorf("%d handles are left", n)
		}
		if !writable {
			if after := snapshot(t, dir); after != before {
				t.Errorf("a read-only tree was changed:\n%s\nit was\n%s", after, before)
			}
		}
		unchanged()
	})
}

// small makes the sizes in a request small, since this host's disk is.
func small(m *buffered, op uint32) {
	at := map[uint32][]int{opFallocate: {8, 16}, opSetattr: {16}, opWrite: {8}}[op]
	for _, off := range at {
		if b := m.in[headerIn:]; len(b) >= off+8 {
			clear(b[off+3 : off+8])
		}
	}
}
