package kvm

import (
	"testing"
	"unsafe"

	"offmap/internal/abitest"
)

// TestABI holds every request number, size and offset against the kernel's own
// headers.
func TestABI(t *testing.T) {
	var (
		run  userspaceMemoryRegion2
		regs Regs
		sr   SRegs
		seg  Segment
		cp   CPUIDEntry
		tab  cpuid2
		cap_ enableCap
		pit  pitConfig
		log  dirtyLog
	)
	abitest.Compare(t, "#include <linux/kvm.h>\n", []abitest.Entry{
		{C: "KVM_API_VERSION", Want: apiVersion},
		{C: "KVM_GET_API_VERSION", Want: kvmGetAPIVersion},
		{C: "KVM_CREATE_VM", Want: kvmCreateVM},
		{C: "KVM_CHECK_EXTENSION", Want: kvmCheckExtension},
		{C: "KVM_GET_VCPU_MMAP_SIZE", Want: kvmGetVCPUMmapSize},
		{C: "KVM_GET_SUPPORTED_CPUID", Want: kvmGetSupportedCPUID},
		{C: "KVM_CREATE_VCPU", Want: kvmCreateVCPU},
		{C: "KVM_SET_USER_MEMORY_REGION", Want: kvmSetUserMemory},
		{C: "KVM_SET_USER_MEMORY_REGION2", Want: kvmSetUserMemory2, Macro: "KVM_SET_USER_MEMORY_REGION2"},
		{C: "KVM_CREATE_GUEST_MEMFD", Want: kvmCreateGuestMemfd, Macro: "KVM_CREATE_GUEST_MEMFD"},
		{C: "GUEST_MEMFD_FLAG_MMAP", Want: uint64(GuestMemfdMmap), Macro: "GUEST_MEMFD_FLAG_MMAP"},
		{C: "GUEST_MEMFD_FLAG_INIT_SHARED", Want: uint64(GuestMemfdInitShared), Macro: "GUEST_MEMFD_FLAG_INIT_SHARED"},
		{C: "GUEST_MEMFD_FLAG_NO_DIRECT_MAP", Want: uint64(GuestMemfdNoDirectMap), Macro: "GUEST_MEMFD_FLAG_NO_DIRECT_MAP"},
		{C: "sizeof(struct kvm_create_guest_memfd)", Want: uint64(unsafe.Sizeof(createGuestMemfd{})), Macro: "KVM_CREATE_GUEST_MEMFD"},
		{C: "KVM_SET_TSS_ADDR", Want: kvmSetTSSAddr},
		{C: "KVM_SET_IDENTITY_MAP_ADDR", Want: kvmSetIdentityMap},
		{C: "KVM_CREATE_IRQCHIP", Want: kvmCreateIRQChip},
		{C: "KVM_IRQ_LINE", Want: kvmIRQLine},
		{C: "KVM_CREATE_PIT2", Want: kvmCreatePIT2},
		{C: "KVM_X86_SET_MSR_FILTER", Want: kvmSetMSRFilter},
		{C: "KVM_CAP_X86_MSR_FILTER", Want: uint64(CapMSRFilter)},
		{C: "KVM_MSR_FILTER_MAX_RANGES", Want: maxMSRRanges},
		{C: "KVM_MSR_FILTER_READ", Want: msrFilterRead},
		{C: "KVM_MSR_FILTER_WRITE", Want: msrFilterWrite},
		{C: "sizeof(struct kvm_msr_filter)", Want: uint64(unsafe.Sizeof(msrFilter{}))},
		{C: "sizeof(struct kvm_msr_filter_range)", Want: uint64(unsafe.Sizeof(msrFilterRange{}))},
		{C: "offsetof(struct kvm_msr_filter, ranges)", Want: uint64(unsafe.Offsetof(msrFilter{}.ranges))},
		{C: "offsetof(struct kvm_msr_filter_range, bitmap)", Want: uint64(unsafe.Offsetof(msrFilterRange{}.bitmap))},
		{C: "KVM_RUN", Want: kvmRun},
		{C: "KVM_GET_REGS", Want: kvmGetRegs},
		{C: "KVM_SET_REGS", Want: kvmSetRegs},
		{C: "KVM_GET_SREGS", Want: kvmGetSRegs},
		{C: "KVM_SET_SREGS", Want: kvmSetSRegs},
		{C: "KVM_SET_CPUID2", Want: kvmSetCPUID2},
		{C: "KVM_GET_MP_STATE", Want: kvmGetMPState},
		{C: "KVM_SET_MP_STATE", Want: kvmSetMPState},
		{C: "KVM_GET_TSC_KHZ", Want: kvmGetTSCKHz},
		{C: "KVM_SET_XCRS", Want: kvmSetXCRS},
		{C: "sizeof(struct kvm_xcrs)", Want: uint64(unsafe.Sizeof(xcrs{}))},
		{C: "offsetof(struct kvm_xcrs, xcrs)", Want: uint64(unsafe.Offsetof(xcrs{}.list))},
		{C: "offsetof(struct kvm_xcr, value)", Want: uint64(unsafe.Offsetof(xcr{}.value))},
		{C: "KVM_ENABLE_CAP", Want: kvmEnableCap},
		{C: "KVM_GET_STATS_FD", Want: kvmGetStatsFD},

		{C: "KVM_CAP_NR_MEMSLOTS", Want: uint64(CapNRMemslots)},
		{C: "KVM_CAP_MAX_VCPUS", Want: uint64(CapMaxVCPUs)},
		{C: "KVM_CAP_TSC_DEADLINE_TIMER", Want: uint64(CapTSCDeadlineTimer)},
		{C: "KVM_CAP_IMMEDIATE_EXIT", Want: uint64(CapImmediateExit)},
		{C: "KVM_CAP_ENFORCE_PV_FEATURE_CPUID", Want: uint64(CapEnforcePVFeatures)},
		{C: "KVM_CAP_HYPERV_ENFORCE_CPUID", Want: uint64(CapHyperVEnforceCPUID)},
		{C: "KVM_CAP_BINARY_STATS_FD", Want: uint64(CapBinaryStatsFD)},
		{C: "KVM_CAP_USER_MEMORY2", Want: uint64(CapUserMemory2), Macro: "KVM_CAP_USER_MEMORY2"},
		{C: "KVM_CAP_MEMORY_FAULT_INFO", Want: uint64(CapMemoryFaultInfo), Macro: "KVM_CAP_MEMORY_FAULT_INFO"},
		{C: "KVM_CAP_GUEST_MEMFD", Want: uint64(CapGuestMemfd), Macro: "KVM_CAP_GUEST_MEMFD"},
		{C: "KVM_CAP_VM_TYPES", Want: uint64(CapVMTypes), Macro: "KVM_CAP_VM_TYPES"},
		{C: "KVM_CAP_GUEST_MEMFD_FLAGS", Want: uint64(CapGuestMemfdFlags), Macro: "KVM_CAP_GUEST_MEMFD_FLAGS"},
		{C: "KVM_GET_DIRTY_LOG", Want: kvmGetDirtyLog},
		{C: "sizeof(struct kvm_dirty_log)", Want: uint64(unsafe.Sizeof(log))},
		{C: "offsetof(struct kvm_dirty_log, dirty_bitmap)", Want: uint64(unsafe.Offsetof(log.bitmap))},
		{C: "KVM_MEM_LOG_DIRTY_PAGES", Want: uint64(MemLogDirtyPages)},
		{C: "KVM_MEM_READONLY", Want: uint64(MemReadonly)},
		{C: "KVM_MEM_GUEST_MEMFD", Want: uint64(MemGuestMemfd), Macro: "KVM_MEM_GUEST_MEMFD"},
		{C: "KVM_PIT_SPEAKER_DUMMY", Want: pitSpeakerDummy},
		{C: "KVM_CPUID_FLAG_SIGNIFCANT_INDEX", Want: uint64(CPUIDSignificantIndex)},
		{C: "KVM_MP_STATE_RUNNABLE", Want: uint64(MPRunnable)},
		{C: "KVM_MP_STATE_UNINITIALIZED", Want: uint64(MPUninitialized)},
		{C: "KVM_MP_STATE_HALTED", Want: uint64(MPHalted)},

		{C: "KVM_EXIT_IO", Want: uint64(ExitIO)},
		{C: "KVM_EXIT_HLT", Want: uint64(ExitHLT)},
		{C: "KVM_EXIT_MMIO", Want: uint64(ExitMMIO)},
		{C: "KVM_EXIT_SHUTDOWN", Want: uint64(ExitShutdown)},
		{C: "KVM_EXIT_FAIL_ENTRY", Want: uint64(ExitFailEntry)},
		{C: "KVM_EXIT_INTERNAL_ERROR", Want: uint64(ExitInternalError)},
		{C: "KVM_EXIT_SYSTEM_EVENT", Want: uint64(ExitSystemEvent)},
		{C: "KVM_EXIT_MEMORY_FAULT", Want: uint64(ExitMemoryFault), Macro: "KVM_EXIT_MEMORY_FAULT"},

		{C: "sizeof(struct kvm_userspace_memory_region)", Want: uint64(unsafe.Sizeof(run.userspaceMemoryRegion))},
		{C: "sizeof(struct kvm_userspace_memory_region2)", Want: uint64(unsafe.Sizeof(run)), Macro: "KVM_SET_USER_MEMORY_REGION2"},
		{C: "offsetof(struct kvm_userspace_memory_region2, guest_memfd_offset)", Want: uint64(unsafe.Offsetof(run.guestMemfdOffset)), Macro: "KVM_SET_USER_MEMORY_REGION2"},
		{C: "offsetof(struct kvm_userspace_memory_region2, guest_memfd)", Want: uint64(unsafe.Offsetof(run.guestMemfd)), Macro: "KVM_SET_USER_MEMORY_REGION2"},
		{C: "offsetof(struct kvm_userspace_memory_region, userspace_addr)", Want: uint64(unsafe.Offsetof(run.userspaceAddr))},
		{C: "sizeof(struct kvm_regs)", Want: uint64(unsafe.Sizeof(regs))},
		{C: "offsetof(struct kvm_regs, rip)", Want: uint64(unsafe.Offsetof(regs.RIP))},
		{C: "offsetof(struct kvm_regs, rsp)", Want: uint64(unsafe.Offsetof(regs.RSP))},
		{C: "sizeof(struct kvm_segment)", Want: uint64(unsafe.Sizeof(seg))},
		{C: "offsetof(struct kvm_segment, dpl)", Want: uint64(unsafe.Offsetof(seg.DPL))},
		{C: "offsetof(struct kvm_segment, unusable)", Want: uint64(unsafe.Offsetof(seg.Unusable))},
		{C: "sizeof(struct kvm_sregs)", Want: uint64(unsafe.Sizeof(sr))},
		{C: "offsetof(struct kvm_sregs, tr)", Want: uint64(unsafe.Offsetof(sr.TR))},
		{C: "offsetof(struct kvm_sregs, gdt)", Want: uint64(unsafe.Offsetof(sr.GDT))},
		{C: "offsetof(struct kvm_sregs, efer)", Want: uint64(unsafe.Offsetof(sr.EFER))},
		{C: "offsetof(struct kvm_sregs, cr0)", Want: uint64(unsafe.Offsetof(sr.CR0))},
		{C: "sizeof(struct kvm_cpuid_entry2)", Want: uint64(unsafe.Sizeof(cp))},
		{C: "offsetof(struct kvm_cpuid2, entries)", Want: uint64(unsafe.Offsetof(tab.entries))},
		{C: "sizeof(struct kvm_enable_cap)", Want: uint64(unsafe.Sizeof(cap_))},
		{C: "offsetof(struct kvm_enable_cap, args)", Want: uint64(unsafe.Offsetof(cap_.args))},
		{C: "sizeof(struct kvm_pit_config)", Want: uint64(unsafe.Sizeof(pit))},
		{C: "sizeof(struct kvm_irq_level)", Want: uint64(unsafe.Sizeof(irqLevel{}))},

		{C: "offsetof(struct kvm_run, immediate_exit)", Want: runImmediateExit},
		{C: "offsetof(struct kvm_run, exit_reason)", Want: runExitReason},
		{C: "offsetof(struct kvm_run, io)", Want: runUnion},
		{C: "offsetof(struct kvm_run, io.direction)", Want: runUnion + ioDirection},
		{C: "offsetof(struct kvm_run, io.size)", Want: runUnion + ioSize},
		{C: "offsetof(struct kvm_run, io.port)", Want: runUnion + ioPort},
		{C: "offsetof(struct kvm_run, io.count)", Want: runUnion + ioCount},
		{C: "offsetof(struct kvm_run, io.data_offset)", Want: runUnion + ioDataOffset},
		{C: "offsetof(struct kvm_run, mmio.phys_addr)", Want: runUnion + mmioPhysAddr},
		{C: "offsetof(struct kvm_run, mmio.data)", Want: runUnion + mmioData},
		{C: "offsetof(struct kvm_run, mmio.len)", Want: runUnion + mmioLen},
		{C: "offsetof(struct kvm_run, mmio.is_write)", Want: runUnion + mmioIsWrite},
		{C: "offsetof(struct kvm_run, memory_fault.flags)", Want: runUnion + memoryFaultFlags, Macro: "KVM_EXIT_MEMORY_FAULT"},
		{C: "offsetof(struct kvm_run, memory_fault.gpa)", Want: runUnion + memoryFaultGPA, Macro: "KVM_EXIT_MEMORY_FAULT"},
		{C: "offsetof(struct kvm_run, memory_fault.size)", Want: runUnion + memoryFaultSize, Macro: "KVM_EXIT_MEMORY_FAULT"},
		{C: "sizeof(struct kvm_run)", Want: runSize},
		{C: "sizeof(struct kvm_stats_header)", Want: statsHeader},
		{C: "sizeof(struct kvm_stats_desc)", Want: statsDesc},
	})
}
