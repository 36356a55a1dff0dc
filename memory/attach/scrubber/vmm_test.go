package scrubber

import (
	"bufio"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// vmmEnv makes the test binary a VMM that tests can kill. Its value says what the
// VMM does. The VMM has the window as descriptor 3, not close-on-exec, and prints
// the PID of its scrubber first.
const vmmEnv = "OFFMAP_TEST_VMM"

func TestMain(m *testing.M) {
	if mode, ok := os.LookupEnv(vmmEnv); ok {
		vmm(mode)
	}
	os.Exit(m.Run())
}

func vmm(mode string) {
	switch mode {
	case "children":
		for range 4 {
			go children()
		}
		time.Sleep(20 * time.Millisecond)
	case "catching":
		signal.Notify(make(chan os.Signal, 1), unix.SIGTERM, unix.SIGINT, unix.SIGHUP, unix.SIGTSTP)
	}
	if mode == "no scrubber" {
		fmt.Println(0)
	} else {
		s, err := Start(3)
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		fmt.Println(s.PID())
	}
	switch mode {
	case "panic":
		panic("as told")
	case "exit":
		os.Exit(0)
	case "segfault":
		unix.Kill(os.Getpid(), unix.SIGSEGV)
	case "writing":
		for range 2 {
			go scribble(3)
		}
	}
	time.Sleep(time.Minute)
	os.Exit(1)
}

// scribble writes pages of the window at random until the process dies.
func scribble(window int) {
	var stat unix.Stat_t
	if err := unix.Fstat(window, &stat); err != nil {
		panic(err)
	}
	mem, err := unix.Mmap(window, 0, int(stat.Size), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		panic(err)
	}
	page := []byte(strings.Repeat("secret! ", 512))
	for {
		at := rand.N(len(mem)/len(page)) * len(page)
		if copy(mem[at:], page); at&(7<<12) == 0 {
			unix.Pwrite(window, page, int64(at))
		}
	}
}

// children starts processes that run as long as the test does.
func children() {
	for range 50 {
		cat := exec.Command("cat")
		cat.Stdin = os.NewFile(4, "the test's pipe")
		if err := cat.Start(); err != nil {
			panic(err)
		}
	}
}

// vmmEnviron returns the environment that makes the test binary a VMM. The race
// detector doesn't delay its end.
func vmmEnviron(mode string) []string {
	return append(os.Environ(), vmmEnv+"="+mode, "GORACE=atexit_sleep_ms=0")
}

// process is a running vmm and its scrubber.
type process struct {
	*exec.Cmd
	scrubber int // PID, 0 without one
	pidfd    int // the scrubber's
}

func startVMM(t *testing.T, mode string, window *os.File, more ...*os.File) *process {
	t.Helper()
	p := &process{Cmd: exec.Command("/proc/self/exe")}
	p.Env = vmmEnviron(mode)
	p.ExtraFiles = append([]*os.File{window}, more...)
	p.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	out, err := p.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Process.Kill(); p.Wait() })
	line, _ := bufio.NewReader(out).ReadString('\n')
	if p.scrubber, err = strconv.Atoi(strings.TrimSpace(line)); err != nil {
		t.Fatalf("the VMM says: %s", line)
	}
	if p.scrubber == 0 {
		return p
	}
	if p.pidfd, err = unix.PidfdOpen(p.scrubber, 0); err != nil {
		if err == unix.ESRCH && (mode == "exit" || mode == "panic" || mode == "segfault") {
			p.pidfd = -1 // it has ended already
			return p
		}
		t.Fatalf("pidfd_open of scrubber %d: %v", p.scrubber, err)
	}
	t.Cleanup(func() { unix.Close(p.pidfd) })
	return p
}

// scrubberGone waits for the end of the scrubber's process, and reports whether it
// came.
func (p *process) scrubberGone(timeout time.Duration) bool {
	if p.pidfd < 0 {
		return true
	}
	for end := time.Now().Add(timeout); ; {
		left := max(0, time.Until(end).Milliseconds())
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(p.pidfd), Events: unix.POLLIN}}, int(left))
		if err != unix.EINTR {
			return n == 1 && err == nil
		}
	}
}

// newWindow creates a memfd of size bytes.
func newWindow(t *testing.T, size int64) *os.File {
	t.Helper()
	fd, err := unix.MemfdCreate("window", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		t.Fatal(err)
	}
	f := os.NewFile(uintptr(fd), "window")
	t.Cleanup(func() { f.Close() })
	if err := f.Truncate(size); err != nil {
		t.Fatal(err)
	}
	return f
}

// fill writes n pages, one every stride bytes.
func fill(t *testing.T, window *os.File, n int, stride int64) {
	t.Helper()
	page := []byte(strings.Repeat("secret! ", os.Getpagesize()/8))
	for i := range int64(n) {
		if _, err := window.WriteAt(page, i*stride); err != nil {
			t.Fatal(err)
		}
	}
}

// pages returns the number of pages that the window's file has.
func pages(t *testing.T, window *os.File) int64 {
	t.Helper()
	var stat unix.Stat_t
	if err := unix.Fstat(int(window.Fd()), &stat); err != nil {
		t.Fatal(err)
	}
	if _, err := unix.Seek(int(window.Fd()), 0, unix.SEEK_DATA); (err == unix.ENXIO) != (stat.Blocks == 0) {
		t.Fatalf("%d blocks, SEEK_DATA: %v", stat.Blocks, err)
	}
	return stat.Blocks * 512 / int64(os.Getpagesize())
}
