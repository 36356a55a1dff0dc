// Package power has the registers that a guest ends or restarts itself with:
// the fixed ACPI power management block, and the two reset registers of a PC.
// vmm/boot's ACPI tables describe them, with the constants here.
package power

// I/O ports and sizes in bytes.
const (
	PMBase = 0x600 // PM1 event and control block
	PMSize = 6

	ResetPort      = 0xcf9 // reset control register, 1 byte among the ports of PCI
	KeyboardPort   = 0x64  // 8042 command and status
	KeyboardSize   = 1
	ResetCPU       = 0x06 // what ACPI's RESET_REG writes to ResetPort
	keyboardPulse  = 0xfe // 8042 command: pulse the CPU's reset line
	resetControlGo = 1 << 2
)

// Offsets in the PM block, ACPI 6.5 §4.8.3.
const (
	PM1Status  = 0 // 16 bits, write one to clear
	PM1Enable  = 2 // 16 bits
	PM1Control = 4 // 16 bits
)

// SleepS5 is SLP_TYP for soft-off; DSDT's \_S5 says so to the guest.
const SleepS5 = 5

// PM1 control register, ACPI 6.5 §4.8.3.2.1.
const (
	sciEnable    = 1 << 0
	sleepShift   = 10
	sleepMask    = 7
	sleepEnable  = 1 << 13
	controlStays = sciEnable | sleepMask<<sleepShift // SLP_EN is write-only
)
