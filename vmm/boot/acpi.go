package boot

import (
	"encoding/binary"

	"offmap/memory"
	"offmap/vmm/power"
)

// ACPI specification 6.5, chapter 5: offsets in table headers and in the FADT
// (§5.2.9, table 5.9). Fields that aren't named are zero.
const (
	sdtHeaderSize = 36
	sdtLength     = 4
	sdtChecksum   = 9

	rsdpSize        = 36
	rsdpV1Size      = 20 // what the first checksum covers
	rsdpChecksum    = 8
	rsdpRevision    = 15
	rsdpLength      = 20
	rsdpXSDT        = 24
	rsdpExtChecksum = 32

	facsSize  = 64 // and its alignment
	facsLen   = 4
	facsVer   = 32
	acpiAlign = 16

	fadtSize      = 276
	fadtRevision  = 6
	fadtMinor     = 5
	fadtFACS      = 36
	fadtDSDT      = 40
	fadtSCI       = 46
	fadtPM1Event  = 56
	fadtPM1Ctl    = 64
	fadtPM1EvtLen = 88
	fadtPM1CtlLen = 89
	fadtC2Latency = 96
	fadtC3Latency = 98
	fadtBootArch  = 109
	fadtFlags     = 112
	fadtResetReg  = 116
	fadtResetVal  = 128
	fadtMinorVer  = 131
	fadtXDSDT     = 140

	noC2 = 101 // worst-case latency in µs that says "not supported"
	noC3 = 1001

	// IAPC_BOOT_ARCH, §5.2.9.3. The keyboard controller's bit stays clear,
	// and so Linux doesn't look for it.
	bootLegacyDevices = 1 << 0
	bootNoVGA         = 1 << 2

	// Fixed feature flags, §5.2.9, table 5.10.
	fixedWBINVD      = 1 << 0
	fixedC1          = 1 << 2
	fixedNoPwrButton = 1 << 4
	fixedNoSlpButton = 1 << 5
	fixedNoRTCWake   = 1 << 6
	fixedResetReg    = 1 << 10
	fixedHeadless    = 1 << 12

	gasIO = 1 // generic address structure, §5.2.3.2: I/O port

	// MADT, §5.2.12.
	madtPCAT      = 1 // flags: there are 8259s, too
	madtLocalAPIC = 0
	madtIOAPIC    = 1
	madtOverride  = 2
	madtLocalNMI  = 4
	madtEnabled   = 1
	madtAllCPUs   = 0xff
	activeHigh    = 1 << 0
	level         = 3 << 2
)

// acpi is what acpiTables makes: the root pointer, and the rest in one piece.
type acpi struct{ rsdp, tables []byte }

// acpiTables makes the tables of a machine with cpus processors, to lie at at:
// FACS, DSDT, FADT, MADT and XSDT. It is always in ACPI mode (no SMI command)
// and has no general-purpose events and no PM timer: Linux needs neither.
func acpiTables(at memory.GPA, cpus int) acpi {
	var b []byte
	place := func(t []byte, align uint64) uint64 {
		pad := alignUp(uint64(at)+uint64(len(b)), align) - uint64(at) - uint64(len(b))
		b = append(b, make([]byte, pad)...)
		addr := uint64(at) + uint64(len(b))
		b = append(b, t...)
		return addr
	}
	facs := place(facsTable(), facsSize)
	dsdt := place(sdt("DSDT", 2, dsdtCode()), acpiAlign)
	fadt := place(fadtTable(facs, dsdt), acpiAlign)
	madt := place(madtTable(cpus), acpiAlign)
	var entries []byte
	for _, a := range []uint64{fadt, madt} {
		entries = binary.LittleEndian.AppendUint64(entries, a)
	}
	xsdt := place(sdt("XSDT", 1, entries), acpiAlign)
	return acpi{rsdp: rsdpTable(xsdt), tables: b}
}

// sdt puts the header of a system description table (§5.2.6) before body.
func sdt(signature string, revision byte, body []byte) []byte {
	b := make([]byte, 0, sdtHeaderSize+len(body))
	b = append(b, signature...)
	b = binary.LittleEndian.AppendUint32(b, uint32(sdtHeaderSize+len(body)))
	b = append(b, revision, 0)
	b = append(b, "OFFMAP"...)
	b = append(b, "GUEST   "...)
	b = binary.LittleEndian.AppendUint32(b, 1) // OEM revision
	b = append(b, "OFMP"...)
	b = binary.LittleEndian.AppendUint32(b, 1) // creator revision
	b = append(b, body...)
	seal(b, sdtChecksum)
	return b
}

func rsdpTable(xsdt uint64) []byte {
	b := make([]byte, rsdpSize)
	copy(b, "RSD PTR ")
	copy(b[9:], "OFFMAP")
	b[rsdpRevision] = 2
	binary.LittleEndian.PutUint32(b[rsdpLength:], rsdpSize)
	binary.LittleEndian.PutUint64(b[rsdpXSDT:], xsdt)
	seal(b[:rsdpV1Size], rsdpChecksum)
	seal(b, rsdpExtChecksum)
	return b
}

func facsTable() []byte {
	b := make([]byte, facsSize)
	copy(b, "FACS")
	binary.LittleEndian.PutUint32(b[facsLen:], facsSize)
	b[facsVer] = 2
	return b
}

func fadtTable(facs, dsdt uint64) []byte {
	le := binary.LittleEndian
	// Offsets are those of the whole table.
	t := make([]byte, fadtSize)
	le.PutUint32(t[fadtFACS:], uint32(facs))
	le.PutUint32(t[fadtDSDT:], uint32(dsdt))
	le.PutUint64(t[fadtXDSDT:], dsdt)
	le.PutUint16(t[fadtSCI:], sciIRQ)
	le.PutUint32(t[fadtPM1Event:], power.PMBase+power.PM1Status)
	le.PutUint32(t[fadtPM1Ctl:], power.PMBase+power.PM1Control)
	t[fadtPM1EvtLen] = power.PM1Control - power.PM1Status
	t[fadtPM1CtlLen] = power.PMSize - power.PM1Control
	le.PutUint16(t[fadtC2Latency:], noC2)
	le.PutUint16(t[fadtC3Latency:], noC3)
	le.PutUint16(t[fadtBootArch:], bootLegacyDevices|bootNoVGA)
	le.PutUint32(t[fadtFlags:], fixedWBINVD|fixedC1|fixedNoPwrButton|fixedNoSlpButton|
		fixedNoRTCWake|fixedResetReg|fixedHeadless)
	t[fadtResetReg], t[fadtResetReg+1], t[fadtResetReg+3] = gasIO, 8, 1 // bits wide, byte access
	le.PutUint64(t[fadtResetReg+4:], power.ResetPort)
	t[fadtResetVal] = power.ResetCPU
	t[fadtMinorVer] = fadtMinor
	return sdt("FACP", fadtRevision, t[sdtHeaderSize:])
}

func madtTable(cpus int) []byte {
	le := binary.LittleEndian
	b := le.AppendUint32(nil, localAPICAddr)
	b = le.AppendUint32(b, madtPCAT)
	for id := range cpus {
		b = append(b, madtLocalAPIC, 8, byte(id), byte(id))
		b = le.AppendUint32(b, madtEnabled)
	}
	b = append(b, madtIOAPIC, 12, ioAPICID(cpus), 0)
	b = le.AppendUint32(b, ioAPICAddr)
	b = le.AppendUint32(b, 0) // its first global interrupt
	// The SCI is level-triggered, unlike other ISA interrupts.
	b = append(b, madtOverride, 10, 0, sciIRQ)
	b = le.AppendUint32(b, sciIRQ)
	b = le.AppendUint16(b, activeHigh|level)
	b = append(b, madtLocalNMI, 6, madtAllCPUs, 0, 0, 1) // LINT1
	return sdt("APIC", 5, b)
}
