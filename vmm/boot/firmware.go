package boot

import (
	"fmt"

	"offmap/memory"
	"offmap/vmm/power"
)

// Interrupts of the machine. KVM's default routing puts ISA interrupt n on the
// I/O APIC's pin n, the PIT's 0 included: no override to pin 2 as on a PC
// (kvm_setup_default_irq_routing, arch/x86/kvm/irq_comm.c).
const (
	isaIRQs    = 16
	cascadeIRQ = 2 // the second PIC; nothing is ever wired to it
	sciIRQ     = 9
)

// ioAPICID is a number that no local APIC has: those of the vCPUs are 0 up to
// one less than their count.
func ioAPICID(cpus int) byte { return byte(cpus) }

// resetCode is all that there is of a BIOS: who jumps to its entry point in real
// mode, as Linux does for reboot=bios and reboot=efi, wants the machine reset.
var resetCode = []byte{
	0xb0, power.ResetCPU, // mov al, ResetCPU
	0xba, power.ResetPort & 0xff, power.ResetPort >> 8, // mov dx, ResetPort
	0xee,       // out dx, al
	0xf4,       // 1: hlt
	0xeb, 0xfd, // jmp 1b
}

// writeFirmware writes the tables that describe the machine, in both of the
// forms that Linux understands: ACPI, and Intel MP for acpi=off; and the reset
// code.
func writeFirmware(g memory.Guest, cpus int) error {
	acpi := acpiTables(acpiAddr, cpus)
	mpc := mpTable(cpus)
	if end := acpiAddr + memory.GPA(len(acpi.tables)); end > mpcAddr {
		return fmt.Errorf("ACPI tables for %d vCPUs end at %s: room up to %s", cpus, end, mpcAddr)
	}
	if end := mpcAddr + memory.GPA(len(mpc)); end > resetAddr {
		return fmt.Errorf("MP table for %d vCPUs ends at %s: room up to %s", cpus, end, resetAddr)
	}
	for _, t := range []struct {
		at   memory.GPA
		b    []byte
		what string
	}{
		{rsdpAddr, acpi.rsdp, "ACPI root pointer"},
		{acpiAddr, acpi.tables, "ACPI tables"},
		{ebdaAddr, mpPointer(mpcAddr), "MP floating pointer"},
		{mpcAddr, mpc, "MP table"},
		{resetAddr, resetCode, "reset code"},
	} {
		if err := write(g, t.at, t.b, t.what); err != nil {
			return err
		}
	}
	return nil
}

// seal sets the checksum byte at off so that all of b sums to zero, as ACPI
// and MP tables do.
func seal(b []byte, off int) {
	b[off] = 0
	b[off] = -sum(b)
}

func sum(b []byte) (s byte) {
	for _, v := range b {
		s += v
	}
	return s
}
