package bounce

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"offmap/memory"
	"offmap/memory/memtest"
)

// holdEnv has the test binary fill a buffer, say so, and never give it back.
const holdEnv = "OFFMAP_TEST_BOUNCE_HOLD"

func TestMain(m *testing.M) {
	if os.Getenv(holdEnv) == "" {
		os.Exit(m.Run())
	}
	p, err := New(2, memory.PageSize)
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	b, _ := p.Get(memory.PageSize)
	copy(b, bytes.Repeat([]byte("secret"), memory.PageSize/6))
	fmt.Println(p.fd)
	select {}
}

func newPool(t *testing.T, count, size int) *Pool {
	t.Helper()
	p, err := New(count, size)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	return p
}

// TestPool follows buffers through a request with O_DIRECT: they are zeros before,
// counted meanwhile, and zeros after.
func TestPool(t *testing.T) {
	p := newPool(t, 2, 2*memory.PageSize)
	content := bytes.Repeat([]byte("content."), memory.PageSize/8)
	path := filepath.Join(t.TempDir(), "image")
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(path, os.O_RDWR|unix.O_DIRECT, 0)
	if err != nil {
		t.Logf("no O_DIRECT here: %v", err)
		if f, err = os.OpenFile(path, os.O_RDWR, 0); err != nil {
			t.Fatal(err)
		}
	}
	defer f.Close()
	for range 3 {
		a, err := p.Get(memory.PageSize)
		if err != nil || !bytes.Equal(a, make([]byte, memory.PageSize)) || cap(a) > 2*memory.PageSize {
			t.Fatalf("Get: %v, or a buffer that isn't clean", err)
		}
		if _, err := f.ReadAt(a, 0); err != nil || !bytes.Equal(a, content) {
			t.Fatalf("read to a bounce buffer: %v", err)
		}
		b, err := p.Get(512)
		if err != nil || len(b) != 512 {
			t.Fatalf("Get = %d bytes, %v", len(b), err)
		}
		copy(b, content)
		if now, peak := p.Held(); now != memory.PageSize+512 || peak != now {
			t.Errorf("%d bytes lent, %d at the peak", now, peak)
		}
		p.Put(a)
		p.Put(b)
		if !bytes.Equal(p.mem, make([]byte, len(p.mem))) {
			t.Fatal("a buffer was taken back with what was in it")
		}
	}
	if now, peak := p.Held(); now != 0 || peak != memory.PageSize+512 {
		t.Errorf("%d bytes lent, %d at the peak", now, peak)
	}
	if _, err := p.Get(2*memory.PageSize + 1); err == nil {
		t.Error("Get of more than a buffer has")
	}
}

// TestPoolIsBounded holds that there are never more buffers, and that who waits for
// one gets the one that is given back.
func TestPoolIsBounded(t *testing.T) {
	p := newPool(t, 1, memory.PageSize)
	a, err := p.Get(1)
	if err != nil {
		t.Fatal(err)
	}
	got := make(chan []byte)
	go func() {
		b, _ := p.Get(1)
		got <- b
	}()
	select {
	case <-got:
		t.Fatal("there were two buffers")
	case <-time.After(50 * time.Millisecond):
	}
	p.Put(a)
	if b := <-got; &b[0] != &a[0] {
		t.Error("it isn't the one that was given back")
	} else {
		p.Put(b)
	}
}

func TestPoolIsSecluded(t *testing.T) {
	p := newPool(t, 1, memory.PageSize)
	at := reflect.ValueOf(p.mem).Pointer()
	memtest.CheckSecluded(t, "the pool", at)
	if !slices.Contains(memtest.VmFlags(t, at), "lo") {
		t.Error("the pool isn't locked in memory")
	}
}

// TestKilled kills a process with a buffer in use, and wants its memory wiped.
func TestKilled(t *testing.T) {
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	c := exec.Command(exe)
	c.Env = append(os.Environ(), holdEnv+"=1")
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	defer c.Wait()
	defer c.Process.Kill()
	line, err := bufio.NewReader(out).ReadString('\n')
	var fd int
	if _, no := fmt.Sscan(line, &fd); err != nil || no != nil {
		t.Fatalf("the process said %q, %v", line, err)
	}
	f, err := os.Open(fmt.Sprintf("/proc/%d/fd/%d", c.Process.Pid, fd))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b := make([]byte, memory.PageSize)
	if _, err := f.ReadAt(b, 0); err != nil || !bytes.Contains(b, []byte("secret")) {
		t.Fatalf("the buffer can't be seen from here, %v: nothing would be tested", err)
	}
	if err := c.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	for hang := time.Now().Add(time.Minute); time.Now().Before(hang); time.Sleep(time.Millisecond) {
		if _, err := unix.Seek(int(f.Fd()), 0, unix.SEEK_DATA); errors.Is(err, unix.ENXIO) {
			return
		}
	}
	t.Error("the buffers of a process that was killed are there still")
}

// TestScrubberKilled holds that nothing is lent that nobody would wipe.
func TestScrubberKilled(t *testing.T) {
	p, err := New(1, memory.PageSize)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close() // which says so again
	if err := unix.Kill(p.wiper.PID(), unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	<-p.wiper.Done()
	if _, err := p.Get(1); !errors.Is(err, errScrubber) {
		t.Errorf("Get = %v", err)
	}
}

func TestNothingLeft(t *testing.T) {
	newPool(t, 1, memory.PageSize).Close() // it starts what stays
	leaks := memtest.Leaks(t)
	for range 5 {
		p, err := New(4, memory.PageSize)
		if err != nil {
			t.Fatal(err)
		}
		if err := p.Close(); err != nil {
			t.Error(err)
		}
		for _, bad := range [][2]int{{1, 100}, {0, memory.PageSize}, {1, 0}, {1, -4096}} {
			if _, err := New(bad[0], bad[1]); err == nil {
				t.Errorf("New(%d, %d) succeeded", bad[0], bad[1])
			}
		}
	}
	leaks()
}
