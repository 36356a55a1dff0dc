package attach

import (
	"encoding/binary"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"offmap/internal/process/unavailable"
	"offmap/kvm"
	"offmap/memory"
)

// The probe's guest: four pages, and a handful of instructions at CPL 3.
//
// It runs at CPL 3, because a guest at CPL 0 proves nothing on every KVM. A software
// KVM (kvm_pvm) interprets code at CPL 0 in the kernel and reads guest memory with
// copy_from_user, which secret memory allows. Every KVM runs code at CPL 3 natively
// and has to map its pages for that.
const (
	probePages = 4
	probeCode  = 3 * memory.PageSize
	probeData  = probeCode + 0xf00
	probePort  = 0x80
	probeMagic = 0x70616d6f
)

// probeProgram stores probeMagic to memory, loads it back and sends it to
// probePort.
var probeProgram = []byte{
	0xc7, 0x04, 0x25, probeData & 0xff, probeData >> 8, 0, 0, // mov dword [probeData], probeMagic
	probeMagic & 0xff, probeMagic >> 8 & 0xff, probeMagic >> 16 & 0xff, probeMagic >> 24,
	0x8b, 0x04, 0x25, probeData & 0xff, probeData >> 8, 0, 0, // mov eax, [probeData]
	0xe7, probePort, // out probePort, eax
	0xeb, 0xfe, // jmp .
}

var errGUP = unavailable.New("KVM takes guest pages with GUP", "a KVM that takes pages without GUP, which no stock kernel has")

// ProbeDirect finds out whether KVM can use a backend's own mapping as a
// memory slot, by running a guest of four pages in it. It returns nil if so,
// and otherwise an error that explains the refusal.
func ProbeDirect(sys *kvm.System, b memory.Backend) error {
	err := withRAM(sys, b, probePages*memory.PageSize, func(v *VM) error {
		if err := loadProbe(v.RAM); err != nil {
			return err
		}
		return runProbe(sys, v.KVM, direct{v.RAM}.slots())
	})
	var fault *kvm.FaultError
	if errors.As(err, &fault) {
		return &refusal{fmt.Sprintf("KVM refused the first access of a test guest to %s memory (%v): it takes guest pages with GUP (get_user_pages), which refuses secretmem on this kernel; the bridge module gives KVM a view without GUP", b, unix.EFAULT), fmt.Errorf("%w: %w", errGUP, err)}
	}
	return err
}

// loadProbe writes identity page tables, one 2 MiB page for the user, and the
// program. Page 0 is the PML4, 1 the PDPT, 2 the page directory (Intel SDM
// vol. 3, 4.5).
func loadProbe(g memory.Guest) error {
	const present, write, user, large = 1 << 0, 1 << 1, 1 << 2, 1 << 7
	for _, e := range []struct {
		gpa   memory.GPA
		value uint64
	}{
		{0 * memory.PageSize, 1*memory.PageSize | present | write | user},
		{1 * memory.PageSize, 2*memory.PageSize | present | write | user},
		{2 * memory.PageSize, present | write | user | large},
	} {
		if _, err := g.WriteAt(binary.LittleEndian.AppendUint64(nil, e.value), e.gpa); err != nil {
			return err
		}
	}
	_, err := g.WriteAt(probeProgram, probeCode)
	return err
}

// runProbe runs the program on a new VM until it has said that it can write
// and read its memory.
func runProbe(sys *kvm.System, vm *kvm.VM, slots []kvm.Slot) error {
	if err := setSlots(vm, slots, 0); err != nil {
		return err
	}
	cpu, err := vm.CreateVCPU(0)
	if err != nil {
		return err
	}
	defer cpu.Close()
	cpuid, err := sys.SupportedCPUID()
	if err != nil {
		return err
	}
	if err := cpu.SetCPUID(cpuid); err != nil {
		return err
	}
	if err := setProbeState(cpu); err != nil {
		return err
	}
	exit, err := cpu.Run()
	for errors.Is(err, unix.EINTR) { // a signal of the Go runtime's
		exit, err = cpu.Run()
	}
	if err != nil {
		return err
	}
	if exit.Reason != kvm.ExitIO || exit.Addr != probePort || len(exit.Data) != 4 ||
		binary.LittleEndian.Uint32(exit.Data) != probeMagic {
		return fmt.Errorf("the test guest ended with exit %s instead of its answer", exit.Reason)
	}
	return nil
}

// setProbeState starts the vCPU in 64-bit mode at CPL 3, free to use the port:
// by IOPL 3, and for kvm_pvm, which runs CPL 3 without it, by the I/O
// permission bitmap of a TSS at address 0. Its page is the PML4, all zeros but
// for the first entry, which reads as a bitmap at offset 0 that allows
// probePort (Intel SDM vol. 1, 19.5.2).
func setProbeState(cpu *kvm.VCPU) error {
	s, err := cpu.SRegs()
	if err != nil {
		return err
	}
	const (
		cr0PE, cr0ET, cr0PG = 1 << 0, 1 << 4, 1 << 31
		cr4PAE              = 1 << 5
		eferLME, eferLMA    = 1 << 8, 1 << 10
		flagsOne, iopl3     = 1 << 1, 3 << 12
	)
	code := kvm.Segment{Limit: 0xffffffff, Selector: 0x1b, Type: 11, Present: 1, DPL: 3, S: 1, L: 1, G: 1}
	data := kvm.Segment{Limit: 0xffffffff, Selector: 0x23, Type: 3, Present: 1, DPL: 3, S: 1, DB: 1, G: 1}
	s.CS, s.DS, s.ES, s.FS, s.GS, s.SS = code, data, data, data, data, data
	s.TR = kvm.Segment{Limit: 0xffff, Type: 11, Present: 1}
	s.LDT = kvm.Segment{Unusable: 1}
	s.CR0, s.CR3, s.CR4, s.EFER = cr0PE|cr0ET|cr0PG, 0, cr4PAE, eferLME|eferLMA
	if err := cpu.SetSRegs(s); err != nil {
		return err
	}
	return cpu.SetRegs(kvm.Regs{RIP: probeCode, RFLAGS: flagsOne | iopl3})
}
