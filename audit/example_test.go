package audit_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"offmap/audit"
	"offmap/audit/canary"
	"offmap/memory"
)

// process_vm_readv(2) reads ordinary memory of a process, and is refused secret
// memory. The target is this process itself.
func ExampleAvenue() {
	avenue, err := audit.Lookup("process-vm-readv")
	if err != nil {
		fmt.Println(err)
		return
	}
	ordinary, err := unix.Mmap(-1, 0, memory.PageSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer unix.Munmap(ordinary)
	secret, err := memory.MapSecret(memory.PageSize)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer unix.Munmap(secret)
	for _, m := range []struct {
		name string
		mem  []byte
	}{{"control", ordinary}, {"secret", secret}} {
		c, err := canary.New()
		if err != nil {
			fmt.Println(err)
			return
		}
		c.Plant(m.mem)
		f, err := avenue.Attack(context.Background(), audit.Target{PID: os.Getpid(), Canary: c})
		fmt.Printf("%s: found in %d pages, %v\n", m.name, f.Pages, err)
	}
	// Prints, where there is secret memory:
	// control: found in 1 pages, <nil>
	// secret: found in 0 pages, <nil>
}

// TestExample runs the example where there is secret memory, which an example
// with output can't ask for.
func TestExample(t *testing.T) {
	mem, err := memory.MapSecret(memory.PageSize)
	if errors.Is(err, memory.ErrUnavailable) || errors.Is(err, unix.EAGAIN) {
		t.Skipf("SKIPPED: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	unix.Munmap(mem)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout := os.Stdout
	os.Stdout = w
	ExampleAvenue()
	os.Stdout = stdout
	w.Close()
	said := make([]byte, 4096)
	n, err := r.Read(said)
	if want := "control: found in 1 pages, <nil>\nsecret: found in 0 pages, <nil>\n"; err != nil || string(said[:n]) != want {
		t.Errorf("it prints %q, %v; want %q", said[:n], err, want)
	}
}
