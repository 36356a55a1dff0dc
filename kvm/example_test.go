package kvm_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"log"
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"offmap/kvm"
	"offmap/memory"
	"offmap/vmm"
	"offmap/vmm/boot"
)

// A guest of seven instructions at CPL 3, which every KVM runs natively, adds up
// the numbers from 1 to 10 and writes the sum to a port.
func Example() {
	sum := []byte{
		0x31, 0xc0, // xor eax, eax
		0xb9, 10, 0, 0, 0, // mov ecx, 10
		0x01, 0xc8, // add eax, ecx
		0xff, 0xc9, // dec ecx
		0x75, 0xfa, // jnz -6
		0xe7, 0x80, // out 0x80, eax
		0xeb, 0xfe, // jmp .
	}
	sys, err := kvm.Open("")
	if err != nil {
		log.Fatal(err)
	}
	defer sys.Close()
	layout, err := memory.NewLayout(memory.MinSize)
	if err != nil {
		log.Fatal(err)
	}
	ram, err := memory.New(memory.Memfd, layout)
	if err != nil {
		log.Fatal(err)
	}
	defer ram.Close()
	vm, err := sys.CreateVM()
	if err != nil {
		log.Fatal(err)
	}
	defer vm.Close()
	if err := vm.SetSlot(kvm.Slot{Size: layout.Size(), Memory: ram.Pointer()}); err != nil {
		log.Fatal(err)
	}
	cpu, err := vm.CreateVCPU(0)
	if err != nil {
		log.Fatal(err)
	}
	defer cpu.Close()
	cpuid, err := sys.SupportedCPUID()
	if err != nil {
		log.Fatal(err)
	}
	if err := cpu.SetCPUID(cpuid); err != nil {
		log.Fatal(err)
	}
	// Payload puts the code and page tables for it into RAM.
	states, err := boot.Payload(ram, sum, boot.PayloadConfig{CPUs: 1, Ring: 3})
	if err != nil {
		log.Fatal(err)
	}
	if err := vmm.SetState(cpu, states[0]); err != nil {
		log.Fatal(err)
	}
	exit, err := cpu.Run()
	for errors.Is(err, unix.EINTR) { // a signal of the Go runtime's
		exit, err = cpu.Run()
	}
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s of %d bytes at port 0x%x: %d\n", exit.Reason, exit.Size, exit.Addr, binary.LittleEndian.Uint32(exit.Data))
	// It prints where there is KVM:
	// io of 4 bytes at port 0x80: 55
}

// TestExample runs Example where there is KVM, which an Output comment can't ask
// for.
func TestExample(t *testing.T) {
	sys, err := kvm.Open("")
	if err != nil {
		t.Skipf("SKIPPED: no usable /dev/kvm (%v); the lab has one", err)
	}
	sys.Close()
	out, err := os.CreateTemp(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	stdout := os.Stdout
	os.Stdout = out
	Example()
	os.Stdout = stdout
	text, err := os.ReadFile(out.Name())
	if err != nil || string(text) != "io of 4 bytes at port 0x80: 55\n" {
		t.Errorf("%v, %q", err, text)
	}
}
