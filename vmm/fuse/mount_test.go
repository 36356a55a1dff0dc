package fuse

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// servedEnv has the directory that a server process is to serve, and kindEnv its kind.
const (
	servedEnv = "OFFMAP_TEST_SERVED"
	kindEnv   = "OFFMAP_TEST_KIND"
)

// kinds are the servers that the tests mount: the lab's, it without a cache, and those of guests.
var kinds = map[string]func(dir string) *Server{
	"lab": func(dir string) *Server {
		return NewSet([]string{dir}, Options{Writable: true, Privileged: true, Validity: Validity})
	},
	"uncached": func(dir string) *Server { return NewSet([]string{dir}, Options{Writable: true, Privileged: true}) },
	"rw":       func(dir string) *Server { return must(New(dir, Options{Writable: true, Validity: Validity})) },
	"ro":       func(dir string) *Server { return must(New(dir, Options{Validity: Validity})) },
}

func must(s *Server, err error) *Server {
	if err != nil {
		panic(err)
	}
	return s
}

func TestMain(m *testing.M) {
	if dir := os.Getenv(servedEnv); dir != "" {
		if err := serveDevice(3, kinds[os.Getenv(kindEnv)](dir)); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// mount serves a new directory and mounts it, with this host's kernel as the client.
// It returns the paths of both.
//
// The server is a process of its own. In some calls on files, such as epoll_ctl, Go's
// runtime waits without giving its processor to another goroutine. In the same
// process, all processors could wait for the server that way.
func mount(t *testing.T, kind string) (served, mounted string) {
	t.Helper()
	served, root := t.TempDir(), t.TempDir()
	dev, err := os.OpenFile("/dev/fuse", os.O_RDWR, 0)
	if err != nil {
		t.Skipf("SKIPPED: %v", err)
	}
	defer dev.Close()
	opts := fmt.Sprintf("fd=%d,rootmode=40000,user_id=0,group_id=0,default_permissions,allow_other", dev.Fd())
	if err := unix.Mount("test", root, "fuse.offmap-test", unix.MS_NOSUID|unix.MS_NODEV, opts); err != nil {
		t.Skipf("SKIPPED: mount: %v", err)
	}
	server := exec.Command("/proc/self/exe")
	server.Env = append(os.Environ(), servedEnv+"="+served, kindEnv+"="+kind)
	server.ExtraFiles = []*os.File{dev}
	server.Stderr = os.Stderr
	if err := server.Start(); err != nil {
		t.Fatal(errors.Join(err, unix.Unmount(root, unix.MNT_DETACH)))
	}
	t.Cleanup(func() {
		if err := unix.Unmount(root, unix.MNT_DETACH); err != nil {
			t.Errorf("unmount: %v", err)
		}
		if err := server.Wait(); err != nil {
			t.Errorf("the server: %v", err)
		}
	})
	if kind == "lab" || kind == "uncached" {
		return served, root + "/0"
	}
	return served, root
}

// serveDevice serves a directory to the kernel behind a descriptor of /dev/fuse,
// until it is unmounted.
func serveDevice(dev int, s *Server) error {
	defer s.Close()
	ours, theirs := net.Pipe()
	var work sync.WaitGroup
	work.Go(func() { s.Serve(ours) })
	refused := make(chan error, 1)
	work.Go(func() {
		buf := make([]byte, maxWrite+64<<10)
		for {
			if _, err := io.ReadFull(theirs, buf[:4]); err != nil {
				return
			}
			n := int(buf[0]) | int(buf[1])<<8 | int(buf[2])<<16
			if _, err := io.ReadFull(theirs, buf[4:n]); err != nil {
				return
			}
			if _, err := unix.Write(dev, buf[:n]); err != nil && !errors.Is(err, unix.ENOENT) {
				select {
				case refused <- fmt.Errorf("the kernel doesn't take an answer: %w", err):
				default:
				}
			}
		}
	})
	buf := make([]byte, maxWrite+64<<10)
	for {
		n, err := unix.Read(dev, buf)
		switch {
		case errors.Is(err, unix.EINTR), errors.Is(err, unix.ENOENT), errors.Is(err, unix.EAGAIN):
			continue
		case err != nil: // ENODEV: unmounted
			theirs.Close()
			work.Wait()
			select {
			case err := <-refused:
				return err
			default:
				return nil
			}
		}
		theirs.Write(buf[:n])
	}
}

// TestFiles does with a mounted directory what programs do, and compares the results
// with the served directory.
func TestFiles(t *testing.T) {
	for _, kind := range []string{"lab", "uncached", "rw"} {
		t.Run(kind, func(t *testing.T) { testFiles(t, kind) })
	}
}

func testFiles(t *testing.T, kind string) {
	served, mounted := mount(t, kind)
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	in, out := func(name string) string { return filepath.Join(mounted, name) }, func(name string) string { return filepath.Join(served, name) }
	data := bytes.Repeat([]byte("what is in a file "), 300_000) // more than a request holds
	check(os.WriteFile(in("new"), data, 0o640))
	check(os.WriteFile(out("old"), data, 0o600))
	for _, path := range []string{in("new"), out("new"), in("old")} {
		if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, data) {
			t.Errorf("%s: %d bytes of %d, %v", path, len(got), len(data), err)
		}
	}
	compare(t, served, mounted, "new", "old", ".")

	// The client sees what the host changes: at once, if it may not cache.
	if kind != "uncached" {
		time.Sleep(time.Second) // a client with cached attributes may be right until then
	}
	check(os.WriteFile(out("old"), []byte("short"), 0o600))
	if kind != "uncached" {
		time.Sleep(1100 * time.Millisecond)
	}
	if got, err := os.ReadFile(in("old")); string(got) != "short" {
		t.Errorf("after a change: %.20q, %v", got, err)
	}
	check(os.Remove(out("old")))
	check(os.Mkdir(out("old"), 0o700))
	if kind != "uncached" {
		time.Sleep(1100 * time.Millisecond)
	}
	if st, err := os.Stat(in("old")); err != nil || !st.IsDir() {
		t.Errorf("a file that became a directory: %v, %v", st, err)
	}

	check(os.Chmod(in("new"), 0o4711))
	check(os.Truncate(in("new"), 12345))
	then := time.Unix(1234567890, 987654321)
	check(os.Chtimes(in("new"), then, then))
	check(os.Symlink("new", in("link")))
	check(os.Link(in("new"), in("hard")))
	check(os.MkdirAll(in("a/b/c"), 0o755))
	check(os.WriteFile(in("a/b/c/deep"), []byte("deep"), 0o644))
	check(unix.Mkfifo(in("fifo"), 0o600))
	if os.Getuid() == 0 {
		check(os.Lchown(in("link"), 12, 34))
		check(os.Chown(in("hard"), 56, 78))
	}
	compare(t, served, mounted, "new", "hard", "link", "fifo", "a/b/c/deep")
	if target, err := os.Readlink(in("link")); target != "new" {
		t.Errorf("link: %q, %v", target, err)
	}

	// A directory is moved while a file in it is open, and a file over another.
	f, err := os.OpenFile(in("a/b/c/deep"), os.O_RDWR|os.O_APPEND, 0)
	check(err)
	check(os.Rename(in("a/b"), in("moved")))
	_, err = f.WriteString(" down")
	check(err)
	check(f.Close())
	if got, err := os.ReadFile(in("moved/c/deep")); string(got) != "deep down" {
		t.Errorf("in a moved directory: %q, %v", got, err)
	}
	check(os.Rename(in("hard"), in("moved/c/deep")))
	compare(t, served, mounted, "moved/c/deep")
	check(unix.Renameat2(unix.AT_FDCWD, in("moved"), unix.AT_FDCWD, in("old"), unix.RENAME_EXCHANGE))
	compare(t, served, mounted, "old/c/deep", "moved")
	if err := unix.Renameat2(unix.AT_FDCWD, in("new"), unix.AT_FDCWD, in("old"), unix.RENAME_NOREPLACE); !errors.Is(err, unix.EEXIST) {
		t.Errorf("rename over what must not be replaced: %v", err)
	}

	// A process that has a file open can use it after its name is gone.
	f, err = os.OpenFile(in("unlinked"), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	check(err)
	check(os.Remove(f.Name()))
	_, err = f.WriteString("still here")
	check(err)
	check(f.Chmod(0o400))
	check(f.Truncate(5))
	if st, err := f.Stat(); err != nil || st.Size() != 5 || st.Mode() != 0o400 {
		t.Errorf("a file without a name: %v, %v", st, err)
	}
	check(f.Sync())
	check(f.Close())
	if _, err := os.Stat(in("unlinked")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("its name: %v", err)
	}

	check(os.RemoveAll(in("old")))
	if err := os.Remove(in("nothing")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a file that isn't there: %v", err)
	}
	if err := unix.Setxattr(in("new"), "user.x", []byte("y"), 0); !errors.Is(err, unix.EOPNOTSUPP) {
		t.Errorf("extended attributes: %v", err)
	}
}

// compare compares the attributes of names in both places.
func compare(t *testing.T, served, mounted string, names ...string) {
	t.Helper()
	for _, name := range names {
		var a, b unix.Stat_t
		if err := errors.Join(unix.Lstat(filepath.Join(served, name), &a), unix.Lstat(filepath.Join(mounted, name), &b)); err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		a.Dev, b.Dev = 0, 0
		a.Blksize, b.Blksize = 0, 0
		a.Atim, b.Atim = unix.Timespec{}, unix.Timespec{}
		if a != b {
			t.Errorf("%s: %+v, and seen through the mount %+v", name, a, b)
		}
	}
}

// TestDirectory lists a directory that takes many requests, and removes all in it.
func TestDirectory(t *testing.T) {
	for _, kind := range []string{"lab", "uncached", "rw"} {
		t.Run(kind, func(t *testing.T) { testDirectory(t, kind) })
	}
}

func testDirectory(t *testing.T, kind string) {
	served, mounted := mount(t, kind)
	var want []string
	for i := range 3000 {
		name := fmt.Sprintf("a file with a name that is %d and of some length%*s", i, i%60, "")
		want = append(want, name)
		if err := os.WriteFile(filepath.Join(served, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	slices.Sort(want)
	entries, err := os.ReadDir(mounted)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range entries {
		got = append(got, e.Name())
		if !e.Type().IsRegular() {
			t.Errorf("%s is a %v", e.Name(), e.Type())
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("%d names, want %d", len(got), len(want))
	}
	if out, err := exec.Command("/bin/sh", "-c", `cd "$1" && rm -rf ./*`, "sh", mounted).CombinedOutput(); err != nil {
		t.Errorf("rm: %v: %s", err, out)
	}
	if left, err := os.ReadDir(served); err != nil || len(left) != 0 {
		t.Errorf("%d files left, %v", len(left), err)
	}
}

// TestTogether has many goroutines make, write, read, rename and remove.
func TestTogether(t *testing.T) {
	_, mounted := mount(t, "rw")
	var work sync.WaitGroup
	for i := range 8 {
		work.Go(func() {
			dir := filepath.Join(mounted, fmt.Sprint(i%3))
			for j := range 60 {
				name, data := filepath.Join(dir, fmt.Sprintf("%d-%d", i, j)), bytes.Repeat([]byte{byte(i), byte(j)}, 5000)
				err := errors.Join(os.MkdirAll(dir, 0o755), os.WriteFile(name, data, 0o600), os.Rename(name, name+"-"))
				got, readErr := os.ReadFile(name + "-")
				if err := errors.Join(err, readErr, os.Remove(name+"-")); err != nil || !bytes.Equal(got, data) {
					t.Errorf("%s: %d bytes, %v", name, len(got), err)
					return
				}
			}
		})
	}
	work.Wait()
}
