package lab

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"testing/iotest"
	"time"

	"offmap/guest/agent"
	"offmap/internal/lab/debian"
	"offmap/memory/kmod"
)

// TestLab runs real machines. It needs QEMU and a kernel in the cache, and
// says so loudly if they aren't there.
func TestLab(t *testing.T) {
	if testing.Short() {
		t.Skip("SKIPPED, no lab: -short")
	}
	if err := Check(t.Context()); err != nil {
		t.Skipf("SKIPPED, no lab: %v", err)
	}
	program := buildProgram(t)
	soonest := "" // the series that boots soonest: the oldest
	for _, series := range debian.KnownSeries() {
		l, err := newLabTest(series, program)
		if errors.Is(err, fs.ErrNotExist) {
			t.Logf("SKIPPED on %s: not in the cache; offmap lab fetch %s", series, series)
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		soonest = cmp.Or(soonest, series)
		t.Run(series, func(t *testing.T) {
			l.T = t
			t.Run("streams", l.streams)
			t.Run("machine", l.machine)
		})
	}
	if soonest == "" {
		t.Skip("SKIPPED, no lab: no kernel in the cache; offmap lab fetch")
	}
	l, err := newLabTest(soonest, program)
	if err != nil {
		t.Fatal(err)
	}
	l.T = t
	t.Run("input", l.input)
	t.Run("signal", l.signal)
	t.Run("second signal", l.secondSignal)
	t.Run("signal before the program", l.earlySignal)
	t.Run("timeout", l.timeout)
	t.Run("orphan", l.orphan)
	t.Run("killed", l.killed)
	t.Run("bad log", l.badLog)
	t.Run("crash", l.crash)
	t.Run("beats", l.beats)
	t.Run("no such directory", l.noDirectory)
	t.Run("output fails", l.outputFails)
}

// buildProgram builds testdata/program, static, whatever this test is.
func buildProgram(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "program")
	cmd := exec.Command("go", "build", "-o", path, "./testdata/program")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	return path
}

type labTest struct {
	*testing.T
	kernel  Kernel
	module  string // offmap.ko; it may not be built
	program string
}

// newLabTest prepares tests with a kernel from the cache. If the cache has none of that
// series, the error is fs.ErrNotExist.
func newLabTest(series, program string) (*labTest, error) {
	stock, err := debian.Cached(series)
	if err != nil {
		return nil, err
	}
	kernel, err := Stock(stock)
	if err != nil {
		return nil, err
	}
	module, err := debian.ModulePath(stock, kmod.Sources)
	return &labTest{kernel: kernel, module: module, program: program}, err
}

// A lab test's machine is up within this time even on a busy computer.
const patience = 10 * time.Minute

// run runs the program with args, checks that nothing is left of the machine,
// and returns what came of it.
func (l *labTest) run(t *testing.T, change func(*Config), args ...string) (res *Result, stdout, stderr string, err error) {
	t.Helper()
	var out, errOut bytes.Buffer
	cfg := Config{
		Kernel: l.kernel, Init: l.program, Program: l.program, Args: args,
		Dir: t.TempDir(), Memory: 512 << 20, Stdout: &out, Stderr: &errOut,
	}
	if change != nil {
		change(&cfg)
	}
	before := resources(t)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	res, err = Run(ctx, cfg)
	if ctx.Err() != nil {
		t.Errorf("not done after %s", patience)
	}
	before.compare(t)
	return res, out.String(), errOut.String(), err
}

// good is run where the machine has to be all right and the program to return
// code.
func (l *labTest) good(t *testing.T, code int, change func(*Config), args ...string) (stdout, stderr string) {
	t.Helper()
	res, stdout, stderr, err := l.run(t, change, args...)
	if err != nil {
		t.Fatal(err)
	}
	if err := res.Verdict(); err != nil {
		t.Error(err)
	}
	if res.Code != code {
		t.Errorf("exit code %d, want %d; stderr %q", res.Code, code, stderr)
	}
	if !strings.Contains(res.KernelLog, "Linux version "+l.kernel.Release) {
		t.Errorf("the kernel log doesn't begin with the kernel's version: %.200q", res.KernelLog)
	}
	t.Logf("up in %.1f s", res.Started.Seconds())
	return stdout, stderr
}

func (l *labTest) streams(t *testing.T) {
	var dir string
	stdout, stderr := l.good(t, 7, func(cfg *Config) {
		dir = cfg.Dir
		cfg.Stdin = strings.NewReader("12345")
		cfg.Env = []string{"LAB_TEST=yes"}
	}, "streams", "a b", "", "-c")
	if want := fmt.Sprintf("args [\"a b\" \"\" \"-c\"]\nstdin 5\ndir %s\nLAB_TEST yes\n", dir); stdout != want {
		t.Errorf("stdout %q, want %q", stdout, want)
	}
	if stderr != "this is stderr" {
		t.Errorf("stderr %q", stderr)
	}
}

// machine is all that a machine has, in one boot: the host's files, devices,
// the scan from outside, and the module if it has been built.
func (l *labTest) machine(t *testing.T) {
	src := filepath.Join(t.TempDir(), "in") // another directory than Dir
	want := bytes.Repeat([]byte("files are visible inside "), 200_000)
	if err := os.WriteFile(src, want, 0o600); err != nil {
		t.Fatal(err)
	}
	devices := []string{"/dev/kvm", "/dev/null", "/dev/mem", "/proc/kcore", "/proc/self", "/sys/kernel/debug/x86",
		"/dev/shm", "/lab/tmp", "/lib/modules/" + l.kernel.Release}
	module := l.module
	if _, err := os.Stat(module); err == nil {
		devices = append(devices, "/dev/offmap")
	} else {
		t.Logf("SKIPPED without the module: offmap lab fetch %s", l.kernel.Name)
		module = ""
	}
	var dst string
	stdout, _ := l.good(t, 0, func(cfg *Config) {
		cfg.Module = module
		cfg.Shares = []string{filepath.Dir(src)}
		dst = filepath.Join(cfg.Dir, "out")
	}, append([]string{"machine", src, "out"}, devices...)...)
	got, err := os.ReadFile(dst)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%d bytes arrived as %d, or changed", len(want), len(got))
	}
	if stdout != "canary on 0 pages, then on 4" {
		t.Errorf("scan: %s; want 0 pages, then 4", stdout)
	}
}

// input sends more than any buffer on the way holds, in small pieces.
func (l *labTest) input(t *testing.T) {
	data := bytes.Repeat([]byte("offmap reads standard input. "), 20_000)
	stdout, stderr := l.good(t, 0, func(cfg *Config) {
		cfg.Stdin = iotest.HalfReader(bytes.NewReader(data))
	}, "copy")
	if want := fmt.Sprintf("%x", sha256.Sum256(data)); stderr != want || stdout != string(data) {
		t.Errorf("%d bytes came back as %d, hash %s, want %s", len(data), len(stdout), stderr, want)
	}
}

// onOutput calls f when something is first written to it.
type onOutput struct {
	bytes.Buffer
	f func()
}

func (o *onOutput) Write(p []byte) (int, error) {
	if o.f != nil {
		o.f()
		o.f = nil
	}
	return o.Buffer.Write(p)
}

func (l *labTest) signal(t *testing.T) {
	signals := make(chan os.Signal, 2)
	out := &onOutput{f: func() { signals <- os.Interrupt }}
	l.good(t, 5, func(cfg *Config) { cfg.Signals, cfg.Stdout = signals, out }, "wait")
	if got := out.String(); got != "waiting\ninterrupt\n" {
		t.Errorf("stdout %q", got)
	}
}

func (l *labTest) secondSignal(t *testing.T) {
	signals := make(chan os.Signal, 2)
	out := &onOutput{f: func() { signals <- os.Interrupt; signals <- syscall.SIGTERM }}
	_, _, _, err := l.run(t, func(cfg *Config) { cfg.Signals, cfg.Stdout = signals, out }, "stubborn")
	if se, ok := errors.AsType[*agent.SignalError](err); !ok || se.Signal != syscall.SIGTERM {
		t.Errorf("error %v, want SIGTERM", err)
	}
}

func (l *labTest) earlySignal(t *testing.T) {
	signals := make(chan os.Signal, 1)
	signals <- os.Interrupt
	_, _, _, err := l.run(t, func(cfg *Config) { cfg.Signals = signals }, "wait")
	if se, ok := errors.AsType[*agent.SignalError](err); !ok || se.Signal != syscall.SIGINT {
		t.Errorf("error %v, want SIGINT", err)
	}
}

func (l *labTest) timeout(t *testing.T) {
	out := &onOutput{}
	cfg := Config{
		Kernel: l.kernel, Init: l.program, Program: l.program, Args: []string{"stubborn"},
		Dir: t.TempDir(), Memory: 512 << 20, Stdout: out,
	}
	before := resources(t)
	late := errors.New("too late")
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	out.f = func() { cancel(late) }
	if _, err := Run(ctx, cfg); !errors.Is(err, late) {
		t.Errorf("error %v, want the context's cause", err)
	}
	before.compare(t)
}

// orphan leaves a process that holds the streams: it must not hold up the end.
func (l *labTest) orphan(t *testing.T) { l.good(t, 0, nil, "orphan") }

func (l *labTest) killed(t *testing.T) { l.good(t, 128+9, nil, "killed") }

func (l *labTest) badLog(t *testing.T) {
	res, _, _, err := l.run(t, nil, "log", "BUG: made up for a test")
	if err != nil {
		t.Fatal(err)
	}
	if res.Code != 0 {
		t.Errorf("exit code %d", res.Code)
	}
	if err := res.Verdict(); !errors.Is(err, ErrKernel) || !strings.Contains(err.Error(), "made up for a test") {
		t.Errorf("verdict %v, want one that quotes the line", err)
	}
}

func (l *labTest) crash(t *testing.T) {
	_, _, _, err := l.run(t, nil, "crash")
	if !errors.Is(err, ErrKernel) || !strings.Contains(err.Error(), "Kernel panic") {
		t.Errorf("error %v, want one with the kernel's last words", err)
	}
}

// beats holds that an idle machine is interrupted, about once a second.
func (l *labTest) beats(t *testing.T) {
	stdout, _ := l.good(t, 0, nil, "interrupts")
	if n, err := strconv.Atoi(strings.TrimSpace(stdout)); err != nil || n < 2 || n > 50 {
		t.Errorf("%q interrupts in 5 s, want one a second", stdout)
	}
}

func (l *labTest) noDirectory(t *testing.T) {
	_, _, _, err := l.run(t, func(cfg *Config) { cfg.Dir = "/nowhere" }, "streams")
	if err == nil || !strings.Contains(err.Error(), "/nowhere") {
		t.Errorf("error %v, want one that names the directory", err)
	}
}

type failingWriter struct{}

func (failingWriter) Write([]byte) (int, error) { return 0, syscall.EPIPE }

func (l *labTest) outputFails(t *testing.T) {
	_, _, _, err := l.run(t, func(cfg *Config) { cfg.Stdout = failingWriter{} }, "streams")
	if !errors.Is(err, syscall.EPIPE) {
		t.Errorf("error %v, want EPIPE", err)
	}
}

// held is what this process holds of the system.
type held struct {
	goroutines int
	files      []string
	children   []string
}

func resources(t *testing.T) held {
	t.Helper()
	h := held{goroutines: runtime.NumGoroutine()}
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	for _, fd := range fds {
		if target, err := os.Readlink("/proc/self/fd/" + fd.Name()); err == nil {
			h.files = append(h.files, target)
		}
	}
	tasks, err := filepath.Glob("/proc/self/task/*/children")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range tasks {
		if text, err := os.ReadFile(path); err == nil {
			h.children = append(h.children, strings.Fields(string(text))...)
		}
	}
	return h
}

// compare reports what there is now and was not before.
func (h held) compare(t *testing.T) {
	t.Helper()
	var now held
	for range 1000 { // goroutines need a moment to unwind
		now = resources(t)
		if now.goroutines <= h.goroutines {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	if now.goroutines > h.goroutines {
		stacks := make([]byte, 64<<10)
		t.Errorf("%d goroutines, %d before\n%s", now.goroutines, h.goroutines, stacks[:runtime.Stack(stacks, true)])
	}
	if len(now.files) > len(h.files) {
		slices.Sort(now.files)
		t.Errorf("%d files are open, %d before: %q", len(now.files), len(h.files), now.files)
	}
	if len(now.children) > len(h.children) {
		t.Errorf("children %q, %q before", now.children, h.children)
	}
}
