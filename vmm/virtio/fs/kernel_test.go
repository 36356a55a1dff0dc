package fs

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"offmap/vmm/virtio/virtiotest"
)

// sharedEnv has the directory that a child of this test is to share.
const sharedEnv = "OFFMAP_TEST_SHARED"

// mount shares a new directory, and mounts it. The client is this host's kernel: what
// it says to /dev/fuse goes through a virtqueue.
//
// The device is in a process of its own, see package fuse's tests.
func mount(t *testing.T, mode string) (shared, mounted string) {
	t.Helper()
	shared, mounted = t.TempDir(), t.TempDir()
	dev, err := os.OpenFile("/dev/fuse", os.O_RDWR, 0)
	if err != nil {
		t.Skipf("SKIPPED: %v", err)
	}
	defer dev.Close()
	opts := fmt.Sprintf("fd=%d,rootmode=40000,user_id=0,group_id=0,default_permissions,allow_other", dev.Fd())
	if err := unix.Mount("test", mounted, "fuse.offmap-test", unix.MS_NOSUID|unix.MS_NODEV, opts); err != nil {
		t.Skipf("SKIPPED: mount: %v", err)
	}
	child := exec.Command("/proc/self/exe", "-test.run=^TestChild$", "-test.timeout=2m")
	child.Env = append(os.Environ(), sharedEnv+"="+mode+shared)
	child.ExtraFiles = []*os.File{dev}
	var out bytes.Buffer
	child.Stdout, child.Stderr = &out, &out
	if err := child.Start(); err != nil {
		t.Fatal(errors.Join(err, unix.Unmount(mounted, unix.MNT_DETACH)))
	}
	t.Cleanup(func() {
		if err := unix.Unmount(mounted, unix.MNT_DETACH); err != nil {
			t.Errorf("unmount: %v", err)
		}
		if err := child.Wait(); err != nil {
			t.Errorf("the device's process: %v\n%s", err, out.Bytes())
		}
	})
	return shared, mounted
}

// TestChild is the other process of mount.
func TestChild(t *testing.T) {
	mode, dir, ok := strings.Cut(os.Getenv(sharedEnv), ":")
	if !ok {
		t.Skip("skipped: another test runs it")
	}
	s, err := Open(dir, "tag", mode == "rw")
	if err != nil {
		t.Fatal(err)
	}
	d := virtiotest.New(t, s)
	const dev = 3
	var busy sync.WaitGroup
	defer busy.Wait()
	buf := make([]byte, 1<<20+64<<10)
	for {
		n, err := unix.Read(dev, buf)
		switch {
		case errors.Is(err, unix.EINTR), errors.Is(err, unix.ENOENT), errors.Is(err, unix.EAGAIN):
			continue
		case err != nil: // unmounted
			return
		}
		msg := bytes.Clone(buf[:n])
		op := binary.LittleEndian.Uint32(msg[4:])
		if op == opForget || op == opBatchForget {
			d.Rings[hiprio].Send([][]byte{msg}, nil)
			continue
		}
		room := 8192
		if op == opRead || op == opReaddir || op == opReaddirplus {
			room = 16 + int(binary.LittleEndian.Uint32(msg[40+16:]))
		}
		busy.Go(func() {
			written, out := d.Request(1, [][]byte{msg[:40], msg[40:]}[:min(2, 1+len(msg)-40)], []int{16, room})
			if written == 0 { // as for an INTERRUPT
				return
			}
			if _, err := unix.Write(dev, bytes.Join(out, nil)[:written]); err != nil && !errors.Is(err, unix.ENOENT) {
				t.Errorf("the kernel doesn't take the answer to request %d: %v", op, err)
			}
		})
	}
}

// sums returns the checksum of each file in a directory, and what links say.
func sums(t *testing.T, dir string) string {
	t.Helper()
	var b strings.Builder
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(dir, path)
		switch {
		case d.Type()&fs.ModeSymlink != 0:
			target, err := os.Readlink(path)
			fmt.Fprintf(&b, "%s -> %s %v\n", rel, target, err)
		case d.Type().IsRegular():
			data, err := os.ReadFile(path)
			fmt.Fprintf(&b, "%s %x %v\n", rel, sha256.Sum256(data), err)
		default:
			fmt.Fprintf(&b, "%s %v\n", rel, d.Type())
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// plant makes a tree of files of many sizes.
func plant(t *testing.T, dir string) {
	t.Helper()
	random := rand.New(rand.NewPCG(1, 2))
	for i := range 60 {
		sub := filepath.Join(dir, fmt.Sprint(i%7), fmt.Sprint(i%3))
		data := make([]byte, random.IntN(1<<(i%23)))
		for j := range data {
			data[j] = byte(random.Uint32())
		}
		if err := errors.Join(os.MkdirAll(sub, 0o755), os.WriteFile(filepath.Join(sub, fmt.Sprint("file", i)), data, 0o644),
			os.Symlink(fmt.Sprintf("../%d/file", i), filepath.Join(sub, fmt.Sprint("link", i)))); err != nil {
			t.Fatal(err)
		}
	}
}

// TestKernelReads compares a tree with what a kernel reads of it, and checks that it
// can't write.
func TestKernelReads(t *testing.T) {
	shared, mounted := mount(t, "ro:")
	plant(t, shared)
	if got, want := sums(t, mounted), sums(t, shared); got != want {
		t.Errorf("mounted:\n%s\nshared:\n%s", got, want)
	}
	for name, err := range map[string]error{
		"write":  os.WriteFile(mounted+"/new", nil, 0o600),
		"append": os.WriteFile(mounted+"/0/0/file0", nil, 0o600),
		"mkdir":  os.Mkdir(mounted+"/dir", 0o700),
		"remove": os.Remove(mounted + "/0/0/file0"),
		"rename": os.Rename(mounted+"/0", mounted+"/new"),
		"chmod":  os.Chmod(mounted+"/0", 0o700),
	} {
		if !errors.Is(err, unix.EROFS) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestKernelWrites has a kernel make a tree, write to it through a mapping too, and
// rename in it.
func TestKernelWrites(t *testing.T) {
	shared, mounted := mount(t, "rw:")
	plant(t, mounted)
	if err := os.Rename(mounted+"/1", mounted+"/0/moved"); err != nil {
		t.Error(err)
	}
	f, err := os.OpenFile(mounted+"/mapped", os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.Write(make([]byte, 3<<20)); err != nil {
		t.Fatal(err)
	}
	mem, err := unix.Mmap(int(f.Fd()), 0, 3<<20, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		t.Fatal(err)
	}
	for i := range mem {
		mem[i] = byte(i >> 12)
	}
	if err := errors.Join(unix.Msync(mem, unix.MS_SYNC), unix.Munmap(mem)); err != nil {
		t.Error(err)
	}
	if got, want := sums(t, shared), sums(t, mounted); got != want {
		t.Errorf("shared:\n%s\nmounted:\n%s", got, want)
	}
	if got, err := os.ReadFile(shared + "/mapped"); err != nil || len(got) != 3<<20 || got[5<<12] != 5 {
		t.Errorf("the mapped file: %d bytes, %v", len(got), err)
	}
	// What the host changes is seen when what the kernel knows is a second old.
	if err := os.WriteFile(shared+"/mapped", []byte("from the host"), 0o600); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(virtiotest.Limit); ; {
		if got, err := os.ReadFile(mounted + "/mapped"); string(got) == "from the host" {
			break
		} else if time.Now().After(deadline) {
			t.Fatalf("%d bytes, %v", len(got), err)
		}
		time.Sleep(50 * time.Millisecond)
	}
}
