package initramfs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"offmap/guest/protocol"
	"offmap/internal/lab/debian"
)

// machine is a stock kernel with offmap's initramfs, in plain QEMU. Unlike offmap,
// it has a port for the exit code and none for the event.
type machine struct {
	t    *testing.T
	cmd  *exec.Cmd
	in   io.WriteCloser
	out  chan []byte
	text []byte // what the console printed since the last expect
}

// start boots the kernel of series; offmap, built for the purpose, is the init.
func start(t *testing.T, series, append string) *machine {
	t.Helper()
	return startWith(t, series, "console=ttyS0 quiet panic=-1 "+append, nil, "-serial", "stdio")
}

// startWith boots with devices, arguments of QEMU, and modules for them.
func startWith(t *testing.T, series, cmdline string, modules []string, devices ...string) *machine {
	t.Helper()
	if testing.Short() {
		t.Skip("boots a machine")
	}
	qemu, err := exec.LookPath("qemu-system-x86_64")
	if err != nil {
		t.Skipf("SKIPPED, no guest was booted: %v", err)
	}
	kernel, err := debian.Cached(series)
	if err != nil {
		t.Skipf("SKIPPED, no guest was booted: %v; offmap lab fetch gets it", err)
	}
	have, err := kernel.Modules()
	if err != nil {
		t.Fatal(err)
	}
	files, err := have.Files(modules...)
	if err != nil {
		t.Fatal(err)
	}
	image, err := New(Options{Init: buildOffmap(t), Modules: files})
	if err != nil {
		t.Fatal(err)
	}
	initrd := filepath.Join(t.TempDir(), "initrd")
	if err := os.WriteFile(initrd, readAll(t, image), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	m := &machine{t: t, out: make(chan []byte, 1)}
	m.cmd = exec.CommandContext(ctx, qemu, slices.Concat([]string{
		"-M", "q35,accel=tcg", "-cpu", "EPYC", "-m", "256", "-nodefaults", "-display", "none", "-no-reboot",
		"-device", "isa-debug-exit,iobase=0x6f1,iosize=1",
		"-kernel", kernel.Image, "-initrd", initrd, "-append", cmdline,
	}, devices)...)
	if m.in, err = m.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := m.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := m.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(m.out)
		for {
			b := make([]byte, 4096)
			n, err := out.Read(b)
			if n > 0 {
				m.out <- b[:n]
			}
			if err != nil {
				return
			}
		}
	}()
	t.Cleanup(func() {
		cancel()
		for range m.out {
		}
		m.cmd.Wait()
	})
	return m
}

// scratch is a directory for all tests, removed at the end.
var scratch string

func TestMain(m *testing.M) {
	var err error
	if scratch, err = os.MkdirTemp("", "offmap-initramfs-"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	os.RemoveAll(scratch)
	os.Exit(code)
}

// buildOffmap builds offmap as users have it, once. The test binary itself
// won't do as an init: with the race detector it isn't static.
func buildOffmap(t *testing.T) string {
	t.Helper()
	offmap := filepath.Join(scratch, "offmap")
	if _, err := os.Stat(offmap); err == nil {
		return offmap
	}
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", offmap, "offmap/cmd/offmap")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build offmap: %v\n%s", err, out)
	}
	return offmap
}

// expect waits for s on the console, and drops the text up to the end of s.
func (m *machine) expect(s string) {
	m.t.Helper()
	for {
		before, after, ok := bytes.Cut(m.text, []byte(s))
		if ok {
			m.t.Logf("%s%s", before, s)
			m.text = after
			return
		}
		b, ok := <-m.out
		if !ok {
			m.t.Fatalf("the machine ended before it wrote %q; last on its console:\n%s", s, m.text)
		}
		m.text = append(m.text, b...)
	}
}

func (m *machine) send(s string) {
	m.t.Helper()
	if _, err := io.WriteString(m.in, s); err != nil {
		m.t.Fatal(err)
	}
}

// end waits for the machine's end. It returns the rest of the console's text, and the
// exit code written to the port, or -1 if there was none.
func (m *machine) end() (rest string, code int) {
	m.t.Helper()
	for b := range m.out {
		m.text = append(m.text, b...)
	}
	err := m.cmd.Wait()
	var exit *exec.ExitError
	switch {
	case err == nil:
		return string(m.text), -1
	case errors.As(err, &exit) && exit.ExitCode()&1 == 1: // isa-debug-exit's 2*code+1
		return string(m.text), exit.ExitCode() >> 1
	}
	m.t.Fatalf("%v; last on the console:\n%s", err, m.text)
	return "", 0
}

// eachKernel runs f for every kernel that offmap knows.
func eachKernel(t *testing.T, f func(t *testing.T, series string)) {
	for _, s := range debian.KnownSeries() {
		t.Run(s, func(t *testing.T) { f(t, s) })
	}
}

func execWord(command string) string { return " " + protocol.ExecWord(command) }

func TestBootExec(t *testing.T) {
	eachKernel(t, func(t *testing.T, series string) {
		m := start(t, series, protocol.PortWord+execWord("canary -pages 10; echo $PATH; exit 35"))
		m.expect(protocol.UserlandLine + "\r\n")
		m.expect("offmap-canary: ")
		m.expect(" pages=10\r\n")
		m.expect("/bin\r\n")
		if rest, code := m.end(); code != 35 {
			t.Errorf("exit code %d; last on the console: %q", code, rest)
		}
	})
}

// TestBootKilled sends signals to the shell, which ends, and to process 1, which
// doesn't.
func TestBootKilled(t *testing.T) {
	m := start(t, "6.1", protocol.PortWord+execWord("kill 1; kill -2 1; sleep 1; kill $$; sleep 1000"))
	m.expect(protocol.UserlandLine + "\r\n")
	// QEMU's exit code has room for seven bits of the guest's, 128 + 15.
	if rest, code := m.end(); code != 15 {
		t.Errorf("exit code %d; last on the console: %q", code, rest)
	}
}

// TestBootOutputIsWhole writes, right before the end, more than any buffer on the way
// holds.
func TestBootOutputIsWhole(t *testing.T) {
	m := start(t, "6.1", protocol.PortWord+execWord("i=0; while [ $i -lt 2000 ]; do echo line $i; i=$((i+1)); done; exit 1"))
	m.expect(protocol.UserlandLine + "\r\n")
	rest, code := m.end()
	var want strings.Builder
	for i := range 2000 {
		fmt.Fprintf(&want, "line %d\r\n", i)
	}
	if rest != want.String() || code != 1 {
		t.Errorf("exit code %d, %d bytes of output, want 1 and %d; its end: %q", code, len(rest), want.Len(), rest[max(0, len(rest)-50):])
	}
}

func TestBootInteractive(t *testing.T) {
	m := start(t, "6.1", protocol.PortWord)
	m.expect("offmap: userland\r\n# ")
	m.send("echo $((6*7)); pwd\r")
	m.expect("\r\n42\r\n/root\r\n# ")
	// Ctrl-C ends a command of another process, one of the shell's own, and
	// nothing else.
	m.send("sleep 1000\r")
	m.expect("sleep 1000\r\n")
	time.Sleep(time.Second)
	m.send("\x03")
	m.expect("# ")
	m.send("while :; do :; done\r")
	m.expect("done\r\n")
	time.Sleep(time.Second)
	m.send("\x03")
	m.expect("# ")
	m.send("\x03")
	m.expect("# ")
	m.send("echo (\r")
	m.expect("sh: ")
	m.expect("# ")
	m.send("for i in a b; do\r")
	m.expect("> ")
	m.send("echo x$i; done\r")
	m.expect("\r\nxa\r\nxb\r\n# ")
	// An orphan's parent is process 1, which must not let it stay a zombie.
	m.send("sh -c 'sh -c \"sleep 0.1\" & exit 0'; sleep 1; ps | grep -c ' Z '\r")
	m.expect("\r\n0\r\n# ")
	m.send("canary -pages 300 -hold\r")
	m.expect(protocol.CanaryPlanted + "\r\n")
	m.send("\r")
	m.expect("held in 300 of 300 pages\r\n# ")
	m.send("exit 9\r")
	if rest, code := m.end(); code != 9 {
		t.Errorf("exit code %d; last on the console: %q", code, rest)
	}
}

// TestBootEnds ends machines without the port: by the end of the shell's command, and
// by poweroff and its like. With -no-reboot QEMU ends at a reboot too.
func TestBootEnds(t *testing.T) {
	for _, command := range []string{"exit 5", "poweroff; sleep 1000", "reboot; sleep 1000"} {
		t.Run(command, func(t *testing.T) {
			m := start(t, "6.1", execWord(command))
			m.expect(protocol.UserlandLine + "\r\n")
			if rest, code := m.end(); code != -1 {
				t.Errorf("exit code %d from nowhere; last on the console: %q", code, rest)
			}
		})
	}
}

// TestBootExits has the guest time exits.
func TestBootExits(t *testing.T) {
	m := start(t, "6.1", protocol.PortWord+execWord("exits -n 1000"))
	m.expect(protocol.ExitsStart(1000) + "\r\n")
	rest, code := m.end()
	line, _, _ := strings.Cut(rest, "\r\n")
	if n, took, ok := protocol.ParseExitsLine(line); code != 0 || !ok || n != 1000 || took <= 0 {
		t.Errorf("exit code %d; last on the console: %q", code, rest)
	}
}

// TestBootBadCmdline passes a command that can't be read: the console must
// say so, and the exit code must not be a success.
func TestBootBadCmdline(t *testing.T) {
	m := start(t, "6.1", protocol.PortWord+" offmap.exec=%%%")
	m.expect(protocol.UserlandLine + "\r\n")
	m.expect("init: kernel command line: offmap.exec: ")
	if rest, code := m.end(); code != 2 {
		t.Errorf("exit code %d; last on the console: %q", code, rest)
	}
}

// TestBootDevices boots with devices whose drivers are modules, and with a virtio
// console. QEMU's devices stand for offmap's.
func TestBootDevices(t *testing.T) {
	disk := filepath.Join(t.TempDir(), "disk")
	if err := os.WriteFile(disk, append([]byte("on the disk"), make([]byte, 1<<20)...), 0o600); err != nil {
		t.Fatal(err)
	}
	eachKernel(t, func(t *testing.T, series string) {
		command := "cat /sys/class/misc/hw_random/rng_current; head -n 1 /dev/vda | grep -c 'on the disk'; ls /sys/bus/acpi/drivers; echo end; exit 3"
		m := startWith(t, series, "console=hvc0 quiet panic=-1 "+protocol.PortWord+execWord(command),
			[]string{"virtio_pci", "virtio_console", "virtio_blk", "virtio_rng", "pvpanic_mmio"},
			"-chardev", "stdio,id=c", "-device", "virtio-serial-pci", "-device", "virtconsole,chardev=c",
			"-device", "virtio-rng-pci", "-device", "pvpanic",
			"-drive", "if=none,id=d,format=raw,readonly=on,file="+disk, "-device", "virtio-blk-pci,drive=d")
		m.expect(protocol.UserlandLine + "\r\n")
		m.expect("virtio_rng.0\r\n1\r\n")
		if rest, code := m.end(); code != 3 {
			t.Errorf("exit code %d; last on the console: %q", code, rest)
		}
	})
}
