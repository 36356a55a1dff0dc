package vmm

import "offmap/kvm"

// allowedMSRs are the model-specific registers that a guest with hidden RAM may access, if
// its KVM has them (Intel SDM vol. 4; AMD APM vol. 2, appendix A). An access to any other
// is a #GP. Linux as a guest reads some of those, and does without.
//
// Left out, each with its reason:
//
//   - the registers of hypervisors: KVM's (0x11, 0x12, 0x4b564d00 and on), Hyper-V's and Xen's
//     (0x40000000 and on). KVM writes guest memory through the direct map for them.
//   - nested virtualization: VMX (0x480 and on), SVM's VM_HSAVE_PA (0xc0010117) and TSC ratio.
//   - counters and traces: the PMU, PEBS and DS_AREA (0x600), Intel PT (0x560 and on), LBR, IBS.
//   - SGX, SEV's GHCB (0xc0010130), AMX (0x1c4, 0x1c5), CET (0x6a0 and on), IA32_XSS.
//   - RAPL, thermal and frequency control, RDT: they are the host's.
//   - updates of microcode (0x79, 0xc0010020).
var allowedMSRs = []kvm.MSRRange{
	{Base: 0x00, Count: 2},       // P5_MC_ADDR, P5_MC_TYPE: old names of machine checks
	{Base: 0x10, Count: 1},       // TSC
	{Base: 0x17, Count: 1},       // PLATFORM_ID
	{Base: 0x1b, Count: 1},       // APIC_BASE
	{Base: 0x2a, Count: 1},       // EBL_CR_POWERON
	{Base: 0x3a, Count: 2},       // FEAT_CTL, TSC_ADJUST
	{Base: 0x48, Count: 2},       // SPEC_CTRL, PRED_CMD
	{Base: 0x8b, Count: 1},       // the microcode's revision
	{Base: 0xce, Count: 1},       // PLATFORM_INFO
	{Base: 0xfe, Count: 1},       // MTRRCAP
	{Base: 0x10a, Count: 2},      // ARCH_CAPABILITIES, FLUSH_CMD
	{Base: 0x122, Count: 1},      // TSX_CTRL, by which TSX stays off
	{Base: 0x140, Count: 1},      // MISC_FEATURES_ENABLES
	{Base: 0x174, Count: 3},      // SYSENTER
	{Base: 0x179, Count: 3},      // MCG_CAP, MCG_STATUS, MCG_CTL
	{Base: 0x1a0, Count: 1},      // MISC_ENABLE
	{Base: 0x1d9, Count: 1},      // DEBUGCTL
	{Base: 0x200, Count: 0x20},   // variable MTRRs
	{Base: 0x250, Count: 1},      // fixed MTRRs
	{Base: 0x258, Count: 2},      //
	{Base: 0x268, Count: 8},      //
	{Base: 0x277, Count: 1},      // PAT
	{Base: 0x280, Count: 0x20},   // MCi_CTL2
	{Base: 0x2ff, Count: 1},      // MTRRdefType
	{Base: 0x400, Count: 0x80},   // banks of machine checks
	{Base: 0x6e0, Count: 1},      // TSC_DEADLINE
	{Base: 0xc0000080, Count: 5}, // EFER, STAR, LSTAR, CSTAR, FMASK
	{Base: 0xc0000100, Count: 4}, // bases of FS and GS, TSC_AUX
	{Base: 0xc0010010, Count: 1}, // SYSCFG
	{Base: 0xc0010015, Count: 1}, // HWCR
	{Base: 0xc001001a, Count: 1}, // TOP_MEM
	{Base: 0xc001001d, Count: 1}, // TOP_MEM2
	{Base: 0xc001001f, Count: 1}, // NB_CFG
	{Base: 0xc0010055, Count: 1}, // interrupt pending and CMP halt
	{Base: 0xc0010058, Count: 1}, // the base of memory-mapped configuration space
	{Base: 0xc0010112, Count: 2}, // TSEG
	{Base: 0xc0010114, Count: 1}, // VM_CR, which says that SVM is off
	{Base: 0xc001011f, Count: 1}, // VIRT_SPEC_CTRL
	{Base: 0xc0010140, Count: 2}, // OSVW
	{Base: 0xc0011020, Count: 4}, // LS_CFG, IC_CFG, DC_CFG, BU_CFG
	{Base: 0xc0011029, Count: 1}, // DE_CFG
	{Base: 0xc001102a, Count: 1}, // BU_CFG2
}
