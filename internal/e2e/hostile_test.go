package e2e

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// hostileProgram is the driver of TestHostileDriver. The lab machine can't build it.
const hostileProgram = "hostile-driver"

// buildHostile builds it into dir.
func buildHostile(t *testing.T, dir string) {
	t.Helper()
	build := exec.Command("go", "build", "-ldflags=-s -w", "-o", filepath.Join(dir, hostileProgram), "offmap/internal/e2e/hostile")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}

// TestHostileDriver runs a guest that attacks the VMM by all of its devices. The VMM
// goes on, its devices work afterwards, files that aren't the guest's are as they were,
// and a guest beside it notices nothing.
func TestHostileDriver(t *testing.T) {
	needInside(t)
	oneIsEnough(t, "6.1")
	long := 20 * time.Second
	if *soak > 0 {
		long = 2 * time.Minute
	}
	for _, p := range placings(t) {
		t.Run(p.String(), func(t *testing.T) {
			dir := t.TempDir()
			path := func(name string) string { return filepath.Join(dir, name) }
			const marker = "as it was\n" // the program reads it
			for _, err := range []error{
				os.MkdirAll(path("above/ro"), 0o755), os.Mkdir(path("above/rw"), 0o755), os.Mkdir(path("disks"), 0o755),
				os.WriteFile(path("above/ro/marker"), []byte(marker), 0o644), os.WriteFile(path("above/secret"), []byte(marker), 0o600),
			} {
				if err != nil {
					t.Fatal(err)
				}
			}
			plantTree(t, path("above/ro"))
			copyFile(t, hostileProgram, path("above/ro/hostile"))
			before, _ := treeSums(t, path("above"))
			// The guest may fill what it can write.
			if err := unix.Mount("tmpfs", path("above/rw"), "tmpfs", 0, "size=32m,nr_inodes=20k"); err != nil {
				t.Fatal(err)
			}
			unmount := sync.OnceValue(func() error { return unix.Unmount(path("above/rw"), 0) })
			t.Cleanup(func() { unmount() })
			random(t, path("disks/a"), 8<<20)
			random(t, path("disks/b"), 8<<20)
			random(t, path("disks/c"), 8<<20)

			beside := startBeside(t)
			seed := rand.Uint32()
			exec := fmt.Sprintf(`set -e
cp /mnt/ro/hostile /tmp/hostile
umount /mnt/ro /mnt/rw
/tmp/hostile %d %d
mount -t virtiofs rw /mnt/rw
mount -t virtiofs ro /mnt/ro
cat /mnt/ro/marker
ls /mnt/rw > /dev/null
dd if=/dev/vda of=/dev/vdb bs=64K count=16
dd if=/dev/hwrng of=/tmp/random bs=64 count=1
echo drivers work`, int(long.Seconds()), seed)
			cmd := command(t, patience+2*long, "./offmap", append(append([]string{"run"}, p.args()...), "-k", guestKernel,
				"--timeout", (patience*3/4+2*long).String(), "--append", quiet+" console=ttyS0",
				"--disk", path("disks/a"), "--disk", loopDevice(t, path("disks/b"), 0)+",cache=none", "--disk", path("disks/c,overlay"),
				"--share", path("above/ro"), "--share", path("above/rw")+",rw", "--console", "virtio", "--rng", "--exec", exec)...)
			var out tail
			var stderr syncBuffer
			cmd.Stdout, cmd.Stderr = &out, &stderr
			cmd.Stdin, _ = os.Open(os.DevNull)
			err := cmd.Run()
			if err != nil || !strings.Contains(out.String(), "hostile: all devices work") || !strings.Contains(out.String(), "drivers work\r\n") {
				t.Errorf("seed %d: %v\n%s", seed, err, &out)
			}
			// Each device says once that it needs a reset, however often it is broken.
			const devices = 7
			said := stderr.String()
			if n := strings.Count(said, "until its driver resets it"); n != devices || strings.Count(said, "\n") > devices+10 || strings.Contains(said, "goroutine ") {
				t.Errorf("seed %d: %d devices of %d were broken, and the VMM says:\n%s", seed, n, devices, said)
			}
			for line := range strings.Lines(out.String()) {
				if strings.Contains(line, "hostile: ") {
					t.Log(strings.TrimSpace(line))
				}
			}
			if err := unmount(); err != nil {
				t.Errorf("the VMM has gone and something in its share is in use: %v", err)
			}
			if after, _ := treeSums(t, path("above")); before != after {
				t.Errorf("seed %d: the directory was\n%s\nand is\n%s", seed, before, after)
			}
			beside.check(t)
		})
	}
}

// besideGuest is a guest that uses its devices all the time, until a file is in its
// share.
type besideGuest struct {
	*guest
	dir  string
	want []byte
}

func startBeside(t *testing.T) besideGuest {
	t.Helper()
	dir := t.TempDir()
	b := besideGuest{dir: dir, want: random(t, filepath.Join(dir, "from"), 1<<20)}
	b.guest = startRun(t, "-k", guestKernel, "--append", quiet, "--backend", "secret", "-m", "256", "--share", dir+"=d,rw", "--exec", `set -e
echo beside is up
while ! [ -e /mnt/d/stop ]; do
	cp /mnt/d/from /mnt/d/copy
	mv /mnt/d/copy /mnt/d/to
	sleep 1
done
exit 7`)
	b.await(t, "beside is up")
	return b
}

// check ends the guest, and holds that it was as it should be.
func (b besideGuest) check(t *testing.T) {
	t.Helper()
	sameFile(t, filepath.Join(b.dir, "to"), b.want)
	if err := os.WriteFile(filepath.Join(b.dir, "stop"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if code := b.ended(); code != 7 {
		t.Errorf("the guest beside it ended with %d, want 7:\n%s", code, b.out.String())
	}
}

// tail keeps the end of what is written to it.
type tail struct {
	mu sync.Mutex
	b  []byte
}

const tailSize = 64 << 10

// Write implements io.Writer.
func (w *tail) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.b = append(w.b, p...)
	if len(w.b) > 2*tailSize {
		w.b = append(w.b[:0], w.b[len(w.b)-tailSize:]...)
	}
	return len(p), nil
}

// String returns the text in it, without what a hostile driver sends to its console.
func (w *tail) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return strings.Map(func(r rune) rune {
		if r == '\n' || r == '\r' || r >= ' ' && r <= '~' {
			return r
		}
		return -1
	}, string(w.b[max(0, len(w.b)-tailSize):]))
}

// loopDevice makes a block device of a file, until the test's end. flags are LO_FLAGS_*.
func loopDevice(t *testing.T, file string, flags uint32) string {
	t.Helper()
	ctl, err := os.OpenFile("/dev/loop-control", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer ctl.Close()
	n, err := unix.IoctlRetInt(int(ctl.Fd()), unix.LOOP_CTL_GET_FREE)
	if err != nil {
		t.Fatal(err)
	}
	mode := os.O_RDWR
	if flags&unix.LO_FLAGS_READ_ONLY != 0 {
		mode = os.O_RDONLY
	}
	f, err := os.OpenFile(file, mode, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	path := fmt.Sprint("/dev/loop", n)
	loop, err := os.OpenFile(path, mode, 0)
	if err != nil {
		t.Fatal(err)
	}
	config := unix.LoopConfig{Fd: uint32(f.Fd()), Info: unix.LoopInfo64{Flags: flags | unix.LO_FLAGS_AUTOCLEAR}}
	if err := unix.IoctlLoopConfigure(int(loop.Fd()), &config); err != nil {
		t.Fatalf("%s: %v", path, errors.Join(err, loop.Close()))
	}
	t.Cleanup(func() { loop.Close() }) // AUTOCLEAR frees it when nobody uses it
	return path
}
