package vmm

import "offmap/kvm"

// allowedCPUID are the leaves and bits of CPUID that a guest with hidden RAM may have, if
// the host has them. What a later CPU or KVM adds is closed until somebody has looked at
// it. A leaf that isn't here reads as zero. The numbers and names are those of Intel SDM
// vol. 2A, CPUID, and AMD APM vol. 3, appendix E.
//
// Left out, each with its reason:
//
//   - VMX, SVM: KVM maps a nested guest's control structures through the direct map, and
//     the host oopses.
//   - SGX, TDX, SEV: memory of a kind that hidden RAM isn't.
//   - the PMU, PEBS, DS, IBS, Intel PT, LBR: the CPU or KVM writes records to guest memory,
//     which nobody has tried with hidden RAM, and what they tell of other guests helps only
//     an attacker.
//   - AMX, with tiles of 8 KiB of the guest's data in the host's ordinary memory; CET, MPX
//     and user interrupts, whose registers KVM would hold there too.
//   - MONITOR, WAITPKG, thermal and power management, RDT: they are the host's.
//   - TSX, KL, ENQCMD, TME, PCONFIG, bus-lock detection: a test guest doesn't need them.
var allowedCPUID = []kvm.CPUIDEntry{
	{Function: 0, EAX: all, EBX: all, ECX: all, EDX: all},
	{Function: 1, EAX: all, EBX: all,
		// SSE3, PCLMULQDQ, SSSE3, FMA, CMPXCHG16B, PCID, SSE4.1, SSE4.2, x2APIC, MOVBE, POPCNT,
		// the TSC deadline, AES, XSAVE, OSXSAVE, AVX, F16C, RDRAND, hypervisor
		ECX: only(0, 1, 9, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31),
		// FPU to CX8, APIC, SEP to PSE36, CLFLUSH, MMX to SS, HTT
		EDX: only(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 12, 13, 14, 15, 16, 17, 19, 23, 24, 25, 26, 27, 28)},
	{Function: 2, EAX: all, EBX: all, ECX: all, EDX: all}, // caches and TLBs
	{Function: 4, EAX: all, EBX: all, ECX: all, EDX: all}, // caches
	{Function: 6, EAX: only(2)},                           // the APIC timer runs in all C-states
	{Function: 7, Index: 0, EAX: all, // the highest subleaf; later ones are left out
		// FSGSBASE, TSC_ADJUST, BMI1, AVX2, FDP, SMEP, BMI2, ERMS, INVPCID, FCS, AVX512F and DQ,
		// RDSEED, ADX, SMAP, IFMA, CLFLUSHOPT, CLWB, AVX512PF, ER and CD, SHA, AVX512BW and VL
		EBX: only(0, 1, 3, 5, 6, 7, 8, 9, 10, 13, 16, 17, 18, 19, 20, 21, 23, 24, 26, 27, 28, 29, 30, 31),
		// PREFETCHWT1, AVX512VBMI, UMIP, PKU, OSPKE, VBMI2, GFNI, VAES, VPCLMULQDQ, VNNI, BITALG,
		// VPOPCNTDQ, LA57, RDPID, CLDEMOTE, MOVDIRI, MOVDIR64B
		ECX: only(0, 1, 2, 3, 4, 6, 8, 9, 10, 11, 12, 14, 16, 22, 25, 27, 28),
		// AVX512 4VNNIW and 4FMAPS, FSRM, VP2INTERSECT, SRBDS_CTRL, MD_CLEAR, RTM_ALWAYS_ABORT,
		// TSX_FORCE_ABORT, SERIALIZE, AVX512 FP16, SPEC_CTRL, STIBP, L1D_FLUSH, ARCH_CAPABILITIES, SSBD
		EDX: only(2, 3, 4, 8, 9, 10, 11, 13, 14, 23, 26, 27, 28, 29, 31)},
	{Function: 7, Index: 1,
		EAX: only(4, 5, 7, 10, 11, 12, 23), // AVX-VNNI, AVX512-BF16, CMPCCXADD, FZRM, FSRS, FSRC, AVX-IFMA
		EDX: only(4, 5, 10, 14)},           // AVX-VNNI-INT8, AVX-NE-CONVERT, AVX-VNNI-INT16, PREFETCHI
	{Function: 7, Index: 2, EDX: only(0, 1, 2, 3, 4, 5)}, // controls and immunities of speculation
	{Function: xsaveLeaf, Index: 0, EAX: allowedStates, EBX: all, ECX: all},
	{Function: xsaveLeaf, Index: 1, EAX: only(0, 1, 2, 3), EBX: all}, // XSAVEOPT, XSAVEC, XGETBV1, XSAVES
	{Function: 0x15, EAX: all, EBX: all, ECX: all},                   // the TSC's clock
	{Function: 0x16, EAX: all, EBX: all, ECX: all},                   // frequencies
	{Function: kvmSignature, EAX: all, EBX: all, ECX: all, EDX: all},
	{Function: kvmFeatures, EAX: all, EDX: all},
	{Function: 0x80000000, EAX: all, EBX: all, ECX: all, EDX: all},
	{Function: extFeatures, EAX: all, EBX: all,
		// LAHF, CmpLegacy, extended APIC, CR8, ABM, SSE4A, misaligned SSE, PREFETCHW, OSVW, XOP, FMA4,
		// TBM, the topology leaf
		ECX: only(0, 1, 3, 4, 5, 6, 7, 8, 9, 11, 16, 21, 22),
		// as in leaf 1, SYSCALL, NX, MMX, FXSR, 1 GiB pages, RDTSCP, long mode, 3DNow
		EDX: only(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 12, 13, 14, 15, 16, 17, 20, 22, 23, 24, 25, 26, 27, 29, 30, 31)},
	{Function: 0x80000002, EAX: all, EBX: all, ECX: all, EDX: all}, // the CPU's name
	{Function: 0x80000003, EAX: all, EBX: all, ECX: all, EDX: all},
	{Function: 0x80000004, EAX: all, EBX: all, ECX: all, EDX: all},
	{Function: 0x80000005, EAX: all, EBX: all, ECX: all, EDX: all}, // caches and TLBs
	{Function: 0x80000006, EAX: all, EBX: all, ECX: all, EDX: all},
	{Function: 0x80000007, EDX: only(8)}, // the TSC runs at one rate
	{Function: extSizes, EAX: all, ECX: all,
		// CLZERO, XSAVEERPTR, WBNOINVD, IBPB, IBRS, STIBP, always on, IBRS preferred, SSBD and how,
		// PSFD, BTC_NO, IBPB_RET
		EBX: only(0, 2, 9, 12, 14, 15, 16, 17, 18, 24, 25, 26, 28, 29, 30)},
	{Function: 0x80000019, EAX: all, EBX: all, ECX: all, EDX: all}, // TLBs
	{Function: 0x8000001a, EAX: all},                               // hints for performance
	{Function: 0x8000001d, EAX: all, EBX: all, ECX: all, EDX: all}, // caches
	{Function: extAPIC, EAX: all, EBX: all, ECX: all},
	{Function: 0x80000021,
		// no nested data breakpoints, LFENCE serializes, VERW clears, null selectors clear bases,
		// automatic IBRS, no SMM_CTL, PREFETCHI, SBPB, IBPB and branch types, SRSO_NO
		EAX: only(0, 2, 5, 6, 8, 9, 20, 27, 28, 29, 30),
		ECX: only(1, 2)}, // immunities to TSA
}

const (
	all       = ^uint32(0)
	xsaveLeaf = 0xd
	// The states of XSAVE: x87, SSE, AVX, the three of AVX-512, PKRU.
	allowedStates = 1<<0 | 1<<1 | 1<<2 | 1<<5 | 1<<6 | 1<<7 | 1<<9
)

// only is a register with these bits.
func only(bits ...uint) (r uint32) {
	for _, b := range bits {
		r |= 1 << b
	}
	return r
}

// allow leaves of e what allowedCPUID has, and reports whether it has the leaf.
func allow(e kvm.CPUIDEntry) (kvm.CPUIDEntry, bool) {
	if e.Function == xsaveLeaf && e.Index > 1 {
		return e, e.Index < 32 && allowedStates&(1<<e.Index) != 0
	}
	for _, a := range allowedCPUID {
		if a.Function != e.Function || a.Index != e.Index && bySubleaf(a.Function) {
			continue
		}
		e.EAX, e.EBX, e.ECX, e.EDX = e.EAX&a.EAX, e.EBX&a.EBX, e.ECX&a.ECX, e.EDX&a.EDX
		return e, true
	}
	return kvm.CPUIDEntry{}, false
}

// bySubleaf reports whether allowedCPUID has a leaf's subleaves one by one. All of those of
// others mean the same.
func bySubleaf(function uint32) bool { return function == 7 || function == xsaveLeaf }

// fitXSAVE corrects what leaf 0xd says of the states together, after some were left out:
// the size of the area with all of them, in the standard format (SDM vol. 1, 13.2). KVM
// itself keeps the sizes that depend on XCR0 and IA32_XSS.
func fitXSAVE(entries []kvm.CPUIDEntry) {
	const legacyAndHeader = 512 + 64
	size := uint32(legacyAndHeader)
	for _, e := range entries {
		if e.Function == xsaveLeaf && e.Index > 1 {
			size = max(size, e.EBX+e.EAX) // the state's offset and size
		}
	}
	for i, e := range entries {
		if e.Function == xsaveLeaf && e.Index == 0 {
			entries[i].ECX = size
		}
	}
}
