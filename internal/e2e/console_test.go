package e2e

import (
	"bytes"
	"context"
	"io"
	"math/rand/v2"
	"os"
	"strings"
	"testing"

	"offmap/guest/initramfs"
	"offmap/guest/protocol"
	"offmap/internal/lab/debian"
	"offmap/memory"
	"offmap/memory/attach"
	"offmap/vmm"
	"offmap/vmm/boot"
	"offmap/vmm/virtio"
	"offmap/vmm/virtio/console"
	"offmap/vmm/virtio/rng"
)

// labSeries is the series of the lab's own kernel. Of Debian's kernels 6.1 has all
// drivers as modules, and the others have some built in.
func labSeries(t *testing.T) string {
	t.Helper()
	release := kernelRelease(t)
	for _, s := range debian.KnownSeries() {
		if strings.HasPrefix(release+".", strings.TrimSuffix(s+".", "x.")) {
			return s
		}
	}
	t.Fatalf("the kernel %s is of no series", release)
	return ""
}

// linuxMachine is a machine with Linux that runs a command.
func linuxMachine(t *testing.T, words, command string, out io.Writer, modules []string, devices ...virtio.Device) *vmm.Machine {
	t.Helper()
	k, err := debian.Cached(labSeries(t))
	if err != nil {
		t.Fatal(err)
	}
	have, err := k.Modules()
	if err != nil {
		t.Fatal(err)
	}
	files, err := have.Files(modules...)
	if err != nil {
		t.Fatal(err)
	}
	initrd, err := initramfs.New(initramfs.Options{Init: "./offmap", Modules: files})
	if err != nil {
		t.Fatal(err)
	}
	image, err := os.ReadFile(k.Image)
	if err != nil {
		t.Fatal(err)
	}
	m, err := vmm.New(vmm.Config{
		Backend: memory.Secret, Attach: attach.Auto, Dumpable: true, Console: out, Devices: devices,
		Guest: boot.LinuxLoader(boot.LinuxConfig{Kernel: bytes.NewReader(image), Initrd: initrd, Words: words + " " + protocol.PortWord + " " + protocol.ExecWord(command)}),
		Warn:  func(err error) { t.Log(err) },
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	})
	return m
}

// TestConsolePorts talks to a guest on a virtio console, and passes a stream through a
// command in it, with an end of file in both directions.
func TestConsolePorts(t *testing.T) {
	needInside(t)
	onlyOn(t, "6.12")
	stream := make([]byte, 1<<20)
	rand.NewChaCha8([32]byte{1}).Read(stream)
	keys, keyboard := io.Pipe()
	defer keyboard.Close()
	var serial, screen, got syncBuffer
	closed := make(chan struct{}, 1)
	con, err := console.New(
		console.Port{Console: true, In: keys, Out: &screen},
		console.Port{Name: "to.guest", In: bytes.NewReader(stream)},
		console.Port{Name: "from.guest", Out: &got, Closed: func() { closed <- struct{}{} }},
	)
	if err != nil {
		t.Fatal(err)
	}
	entropy, err := rng.New()
	if err != nil {
		t.Fatal(err)
	}
	m := linuxMachine(t, quiet+" console=hvc0", `cat /sys/class/virtio-ports/vport0p1/name /sys/class/virtio-ports/vport0p2/name
cat /sys/class/misc/hw_random/rng_current
dd if=/dev/hwrng of=/tmp/random bs=64 count=4
wc /tmp/random
cat /dev/vport0p1 > /dev/vport0p2
read line
echo "typed: $line"
exit 4`,
		&serial, []string{"virtio_pci", "virtio_console", "virtio_rng"}, con, entropy)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	go func() {
		select {
		case <-closed:
			io.WriteString(keyboard, "hello there\n")
		case <-ctx.Done():
		}
	}()
	r, err := m.Run(ctx)
	if err != nil || r.Outcome != (vmm.Outcome{Reason: vmm.PowerOff, Code: 4}) {
		t.Errorf("%+v, %v", r.Outcome, err)
	}
	if !bytes.Equal([]byte(got.String()), stream) {
		t.Errorf("%d bytes have come through, of %d, or others", len(got.String()), len(stream))
	}
	said := strings.ReplaceAll(screen.String(), "\r\n", "\n")
	for _, want := range []string{protocol.UserlandLine + "\n", "to.guest\nfrom.guest\nvirtio_rng.0\n", "256 bytes copied\n", "hello there\ntyped: hello there\n"} {
		if !strings.Contains(said, want) {
			t.Errorf("no %q on the console", want)
		}
	}
	t.Logf("%+v", r.Devices)
	if t.Failed() {
		t.Logf("serial port:\n%s\nvirtio console:\n%s", serial.String(), said)
	}
}
