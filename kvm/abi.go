package kvm

// The part of KVM's ABI that offmap uses, as data: request numbers, limits and
// structures from include/uapi/linux/kvm.h and arch/x86/include/uapi/asm/kvm.h,
// each with its section in Documentation/virt/kvm/api.rst. Sizes and offsets
// are held against the kernel's own headers by a test.

// apiVersion is the only value that KVM_GET_API_VERSION returns (api.rst 4.1).
const apiVersion = 12

// Requests: _IO('\xAE', nr), with the structure's size and direction where
// there is one (include/uapi/asm-generic/ioctl.h).
const (
	kvmGetAPIVersion     = 0xae00     // 4.1
	kvmCreateVM          = 0xae01     // 4.2
	kvmCheckExtension    = 0xae03     // 4.4
	kvmGetVCPUMmapSize   = 0xae04     // 4.5
	kvmGetSupportedCPUID = 0xc008ae05 // 4.46
	kvmCreateVCPU        = 0xae41     // 4.7
	kvmSetUserMemory     = 0x4020ae46 // 4.35
	kvmSetTSSAddr        = 0xae47     // 4.36
	kvmSetIdentityMap    = 0x4008ae48 // 4.41
	kvmSetUserMemory2    = 0x40a0ae49 // 4.140
	kvmSetMSRFilter      = 0x4188aec6 // 4.97
	kvmCreateIRQChip     = 0xae60     // 4.24
	kvmCreateGuestMemfd  = 0xc040aed4 // 4.142
	kvmIRQLine           = 0x4008ae61 // 4.25
	kvmGetIRQChip        = 0xc208ae62 // 4.26
	kvmCreatePIT2        = 0x4040ae77 // 4.71
	kvmIOEventFD         = 0x4040ae79 // 4.59
	kvmSignalMSI         = 0x4020aea5 // 4.70
	kvmRun               = 0xae80     // 4.10
	kvmGetRegs           = 0x8090ae81 // 4.11
	kvmSetRegs           = 0x4090ae82 // 4.12
	kvmGetSRegs          = 0x8138ae83 // 4.13
	kvmSetSRegs          = 0x4138ae84 // 4.14
	kvmGetMSRs           = 0xc008ae88 // 4.18
	kvmGetLAPIC          = 0x8400ae8e // 4.57
	kvmSetCPUID2         = 0x4008ae90 // 4.20
	kvmGetMPState        = 0x8004ae98 // 4.38
	kvmSetMPState        = 0x4004ae99 // 4.39
	kvmGetPIT2           = 0x8070ae9f // 4.72
	kvmGetVCPUEvents     = 0x8040ae9f // 4.31
	kvmGetTSCKHz         = 0xaea3     // 4.56
	kvmSetXCRS           = 0x4188aea7 // 4.45
	kvmEnableCap         = 0x4068aea3 // 4.37
	kvmGetStatsFD        = 0xaece     // 4.133
)

// Cap is a KVM capability number (KVM_CAP_*).
type Cap uint32

// Capabilities that offmap asks for (include/uapi/linux/kvm.h).
const (
	CapTSCDeadlineTimer   Cap = 72
	CapMSRFilter          Cap = 189
	CapBusLockExit        Cap = 193
	CapEnforcePVFeatures  Cap = 190
	CapHyperVEnforceCPUID Cap = 199
	CapPMUCapability      Cap = 212
	CapNotifyVMExit       Cap = 219
	CapMemoryFaultInfo    Cap = 232
	CapGuestMemfd         Cap = 234
	CapVMTypes            Cap = 235 // a bit for each type that KVM_CREATE_VM takes
	CapGuestMemfdFlags    Cap = 244
)

// Flags of capabilities: what KVM offers, and the first argument of EnableCap.
const (
	PMUDisable          = 1 << 0 // CapPMUCapability, Linux 5.18 (api.rst 8.35)
	NotifyVMExitEnabled = 1 << 0 // CapNotifyVMExit, Linux 6.0; bits 32 to 63 are the window beyond KVM's own (7.31)
	BusLockExit         = 1 << 1 // CapBusLockExit, Linux 5.12 (7.22)
)

// NotifyContextInvalid is the flag of an ExitNotify after which the vCPU can't go on
// (KVM_NOTIFY_CONTEXT_INVALID).
const NotifyContextInvalid = 1 << 0

// Memory slot flags (api.rst 4.35).
const (
	MemLogDirtyPages uint32 = 1 << 0
	MemGuestMemfd    uint32 = 1 << 2
)

// userspaceMemoryRegion is struct kvm_userspace_memory_region.
type userspaceMemoryRegion struct {
	slot          uint32
	flags         uint32
	guestPhysAddr uint64
	memorySize    uint64
	userspaceAddr uint64
}

// userspaceMemoryRegion2 is struct kvm_userspace_memory_region2.
type userspaceMemoryRegion2 struct {
	userspaceMemoryRegion
	guestMemfdOffset uint64
	guestMemfd       uint32
	_                uint32
	_                [14]uint64
}

// createGuestMemfd is struct kvm_create_guest_memfd (api.rst 4.142).
type createGuestMemfd struct {
	size  uint64
	flags uint64
	_     [6]uint64
}

// Regs is struct kvm_regs (api.rst 4.11).
type Regs struct {
	RAX, RBX, RCX, RDX uint64
	RSI, RDI, RSP, RBP uint64
	R8, R9, R10, R11   uint64
	R12, R13, R14, R15 uint64
	RIP, RFLAGS        uint64
}

// Segment is struct kvm_segment: one segment register with its hidden part.
type Segment struct {
	Base     uint64
	Limit    uint32
	Selector uint16
	Type     uint8
	Present  uint8
	DPL      uint8
	DB       uint8
	S        uint8
	L        uint8
	G        uint8
	AVL      uint8
	Unusable uint8
	_        uint8
}

// DTable is struct kvm_dtable: GDTR or IDTR.
type DTable struct {
	Base  uint64
	Limit uint16
	_     [3]uint16
}

// SRegs is struct kvm_sregs (api.rst 4.13).
type SRegs struct {
	CS, DS, ES, FS, GS, SS  Segment
	TR, LDT                 Segment
	GDT, IDT                DTable
	CR0, CR2, CR3, CR4, CR8 uint64
	EFER                    uint64
	APICBase                uint64
	InterruptBitmap         [4]uint64
}

// CPUIDEntry is struct kvm_cpuid_entry2 (api.rst 4.20).
type CPUIDEntry struct {
	Function uint32
	Index    uint32
	Flags    uint32
	EAX      uint32
	EBX      uint32
	ECX      uint32
	EDX      uint32
	_        [3]uint32
}

// CPUIDSignificantIndex marks an entry that is told apart by ECX as well
// (KVM_CPUID_FLAG_SIGNIFCANT_INDEX, spelled so in the kernel).
const CPUIDSignificantIndex uint32 = 1

// maxCPUIDEntries is KVM_MAX_CPUID_ENTRIES, the most that KVM takes.
const maxCPUIDEntries = 256

// cpuid2 is struct kvm_cpuid2 with room for all entries.
type cpuid2 struct {
	nent    uint32
	_       uint32
	entries [maxCPUIDEntries]CPUIDEntry
}

// xcr is struct kvm_xcr: an extended control register (api.rst 4.45).
type xcr struct {
	number uint32
	_      uint32
	value  uint64
}

// xcrs is struct kvm_xcrs.
type xcrs struct {
	count uint32
	_     uint32 // flags
	list  [16]xcr
	_     [16]uint64
}

// enableCap is struct kvm_enable_cap (api.rst 4.37).
type enableCap struct {
	capability uint32
	_          uint32 // flags
	args       [4]uint64
	_          [64]uint8
}

// irqLevel is struct kvm_irq_level (api.rst 4.25).
type irqLevel struct {
	irq   uint32
	level uint32
}

// msi is struct kvm_msi (api.rst 4.70).
type msi struct {
	addr uint64 // address_lo, address_hi
	data uint32
	_    uint32 // flags
	_    uint32 // devid
	_    [12]byte
}

// ioEventFD is struct kvm_ioeventfd (api.rst 4.59).
type ioEventFD struct {
	_     uint64 // datamatch
	addr  uint64
	len   uint32
	fd    int32
	flags uint32
	_     [36]byte
}

// ioEventFDDeassign is KVM_IOEVENTFD_FLAG_DEASSIGN.
const ioEventFDDeassign = 1 << 2

// pitConfig is struct kvm_pit_config (api.rst 4.71).
type pitConfig struct {
	flags uint32
	_     [15]uint32
}

// pitSpeakerDummy makes KVM answer port 0x61, which the TSC calibration of
// kernels without a given frequency polls.
const pitSpeakerDummy = 1

// pitChannel is struct kvm_pit_channel_state.
type pitChannel struct {
	_        [13]byte
	mode     uint8
	_        [2]byte
	loadTime int64 // CLOCK_MONOTONIC, ns
}

// pitState is struct kvm_pit_state2 (api.rst 4.72).
type pitState struct {
	channels [3]pitChannel
	_        [10]uint32
}

// irqChip is struct kvm_irqchip (api.rst 4.26): the state of one chip.
type irqChip struct {
	id   uint32
	_    uint32
	chip [512]byte
}

// The chips, and offsets in the state of each.
const (
	chipPIC       = 0
	chipIOAPIC    = 2
	picIMR        = 2
	ioapicEntries = 24 // 64 bits each
	ioapicPins    = 24
)

// msr is struct kvm_msrs with one kvm_msr_entry (api.rst 4.18).
type msr struct {
	count uint32
	_     uint32
	index uint32
	_     uint32
	value uint64
}

// lapic is struct kvm_lapic_state (api.rst 4.57): the registers where the
// guest sees them.
type lapic struct{ regs [1024]byte }

// vcpuEvents is struct kvm_vcpu_events (api.rst 4.31).
type vcpuEvents struct {
	exceptionInjected uint8
	_                 [2]byte
	exceptionPending  uint8
	_                 [4]byte
	interruptInjected uint8
	_                 [3]byte
	nmiInjected       uint8
	nmiPending        uint8
	_                 [2]byte
	_                 uint32 // SIPI vector
	_                 uint32 // flags
	smm               uint8
	smiPending        uint8
	_                 uint8
	latchedInit       uint8
	_                 [36]byte
}

// msrFilterRange is struct kvm_msr_filter_range (api.rst 4.97). The bitmap has
// a bit for each MSR from base on; a clear bit denies.
type msrFilterRange struct {
	flags  uint32
	count  uint32
	base   uint32
	bitmap *byte
}

// Bounds of a filter's ranges.
const (
	maxMSRRanges = 16   // KVM_MSR_FILTER_MAX_RANGES
	msrBlock     = 4096 // registers of a range that AllowMSRs makes; KVM takes three times as many
)

// msrFilterDefaultDeny denies what no range names.
const msrFilterDefaultDeny = 1 << 0

// msrFilter is struct kvm_msr_filter.
type msrFilter struct {
	flags  uint32
	ranges [maxMSRRanges]msrFilterRange
}

// Accesses that a range speaks of.
const (
	msrFilterRead  = 1 << 0
	msrFilterWrite = 1 << 1
)

// MPState is a vCPU's multiprocessing state (api.rst 4.38).
type MPState uint32

// The multiprocessing states of x86.
const (
	MPRunnable      MPState = 0
	MPUninitialized MPState = 1 // waits for INIT
	MPInitReceived  MPState = 2 // waits for a SIPI
	MPHalted        MPState = 3
)

// Offsets in struct kvm_run (api.rst 5).
const (
	runImmediateExit = 1
	runExitReason    = 8
	runUnion         = 32
	runSize          = 2352
)

// Offsets within the union of struct kvm_run, from its start.
const (
	ioDirection  = 0
	ioSize       = 1
	ioPort       = 2
	ioCount      = 4
	ioDataOffset = 8

	mmioPhysAddr = 0
	mmioData     = 8
	mmioLen      = 16
	mmioIsWrite  = 20

	debugException = 0
	debugPC        = 8
	debugDR6       = 16

	failEntryReason = 0

	internalSuberror = 0

	systemEventType = 0

	notifyFlags = 0

	memoryFaultFlags = 0
	memoryFaultGPA   = 8
	memoryFaultSize  = 16
)

// GuestRequests returns the ioctl requests that a machine makes once its guest runs. None
// of them makes a VM or a vCPU, or changes what memory the guest has.
func GuestRequests() []uint64 {
	return []uint64{
		kvmRun, kvmSignalMSI, kvmIRQLine, kvmIOEventFD, kvmGetStatsFD, kvmGetMPState, kvmSetMPState,
		kvmGetRegs, kvmSetRegs, kvmGetSRegs, kvmSetSRegs, kvmGetMSRs, kvmGetLAPIC, kvmGetIRQChip, kvmGetPIT2, kvmGetVCPUEvents,
		kvmGetTSCKHz, kvmTranslate, kvmSetGuestDebug,
	}
}
