package vmm_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"testing"

	"offmap/guest/initramfs"
	"offmap/guest/payload"
	"offmap/guest/protocol"
	"offmap/memory"
	"offmap/vmm"
	"offmap/vmm/boot"
)

// A guest that needs no kernel, in 64 MiB of secret memory.
func Example() {
	hello, err := payload.Lookup("hello")
	if err != nil {
		log.Fatal(err)
	}
	m, err := vmm.New(vmm.Config{
		Memory:  64 << 20,
		Guest:   boot.PayloadLoader(hello.Image(), boot.PayloadConfig{Ring: hello.Ring}),
		Console: os.Stdout,
	})
	if err != nil {
		log.Fatal(err)
	}
	defer m.Close()
	result, err := m.Run(context.Background())
	fmt.Println(result.Outcome.Reason, result.Outcome.Code, err)
}

// Linux in secret memory, with a command typed into its shell. The program that
// this is part of calls userland.Program first, since it is also what runs in the
// guest.
func ExampleNew_linux() {
	kernel, err := os.ReadFile("bzImage")
	if err != nil {
		log.Fatal(err)
	}
	initrd, err := initramfs.New(initramfs.Options{})
	if err != nil {
		log.Fatal(err)
	}
	m, err := vmm.New(vmm.Config{
		Guest: boot.LinuxLoader(boot.LinuxConfig{
			Kernel: bytes.NewReader(kernel), Initrd: initrd, Words: protocol.PortWord,
		}),
		Console: os.Stdout,
	})
	if err != nil {
		log.Fatal(err)
	}
	defer m.Close()
	go io.WriteString(m.Input(), "free; exit\n")
	result, err := m.Run(context.Background())
	fmt.Println(result.Outcome.Reason, result.Exposed, err)
}

// TestExample runs Example, whose output depends on the host too much for an
// Output comment: it takes KVM and secret memory.
func TestExample(t *testing.T) {
	m, err := vmm.New(vmm.Config{Memory: 64 << 20, Guest: boot.PayloadLoader([]byte{0xf4}, boot.PayloadConfig{})})
	if errors.Is(err, memory.ErrUnavailable) {
		t.Skipf("SKIPPED: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	out, err := os.CreateTemp(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	stdout := os.Stdout
	os.Stdout = out
	Example()
	os.Stdout = stdout
	text, err := os.ReadFile(out.Name())
	if err != nil || string(text) != "hello from vCPU 0 of 1, 64 MiB of RAM\npoweroff 0 <nil>\n" {
		t.Errorf("%v, %q", err, text)
	}
}
