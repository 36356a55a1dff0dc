package kvm

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"unsafe"
)

// TestABI holds every request number, size and offset against the kernel's
// own headers, through a C program. OFFMAP_UAPI names an include directory to
// use instead of the system's, which may be too old for the newest entries.
func TestABI(t *testing.T) {
	cc, err := exec.LookPath("cc")
	if err != nil {
		t.Skip("SKIPPED: no C compiler, so the ABI is not compared with the kernel's headers")
	}
	type entry struct {
		c    string
		want uint64
		// macro guards an entry that older headers don't have.
		macro string
	}
	var (
		run  userspaceMemoryRegion2
		regs Regs
		sr   SRegs
		seg  Segment
		cp   CPUIDEntry
		tab  cpuid2
		cap_ enableCap
		pit  pitConfig
	)
	entries := []entry{
		{c: "KVM_API_VERSION", want: apiVersion},
		{c: "KVM_GET_API_VERSION", want: kvmGetAPIVersion},
		{c: "KVM_CREATE_VM", want: kvmCreateVM},
		{c: "KVM_CHECK_EXTENSION", want: kvmCheckExtension},
		{c: "KVM_GET_VCPU_MMAP_SIZE", want: kvmGetVCPUMmapSize},
		{c: "KVM_GET_SUPPORTED_CPUID", want: kvmGetSupportedCPUID},
		{c: "KVM_CREATE_VCPU", want: kvmCreateVCPU},
		{c: "KVM_SET_USER_MEMORY_REGION", want: kvmSetUserMemory},
		{c: "KVM_SET_USER_MEMORY_REGION2", want: kvmSetUserMemory2, macro: "KVM_SET_USER_MEMORY_REGION2"},
		{c: "KVM_CREATE_GUEST_MEMFD", want: kvmCreateGuestMemfd, macro: "KVM_CREATE_GUEST_MEMFD"},
		{c: "GUEST_MEMFD_FLAG_MMAP", want: uint64(GuestMemfdMmap), macro: "GUEST_MEMFD_FLAG_MMAP"},
		{c: "GUEST_MEMFD_FLAG_INIT_SHARED", want: uint64(GuestMemfdInitShared), macro: "GUEST_MEMFD_FLAG_INIT_SHARED"},
		{c: "GUEST_MEMFD_FLAG_NO_DIRECT_MAP", want: uint64(GuestMemfdNoDirectMap), macro: "GUEST_MEMFD_FLAG_NO_DIRECT_MAP"},
		{c: "sizeof(struct kvm_create_guest_memfd)", want: uint64(unsafe.Sizeof(createGuestMemfd{})), macro: "KVM_CREATE_GUEST_MEMFD"},
		{c: "KVM_SET_TSS_ADDR", want: kvmSetTSSAddr},
		{c: "KVM_SET_IDENTITY_MAP_ADDR", want: kvmSetIdentityMap},
		{c: "KVM_CREATE_IRQCHIP", want: kvmCreateIRQChip},
		{c: "KVM_IRQ_LINE", want: kvmIRQLine},
		{c: "KVM_CREATE_PIT2", want: kvmCreatePIT2},
		{c: "KVM_X86_SET_MSR_FILTER", want: kvmSetMSRFilter},
		{c: "KVM_CAP_X86_MSR_FILTER", want: uint64(CapMSRFilter)},
		{c: "KVM_MSR_FILTER_MAX_RANGES", want: maxMSRRanges},
		{c: "KVM_MSR_FILTER_READ", want: msrFilterRead},
		{c: "KVM_MSR_FILTER_WRITE", want: msrFilterWrite},
		{c: "sizeof(struct kvm_msr_filter)", want: uint64(unsafe.Sizeof(msrFilter{}))},
		{c: "sizeof(struct kvm_msr_filter_range)", want: uint64(unsafe.Sizeof(msrFilterRange{}))},
		{c: "offsetof(struct kvm_msr_filter, ranges)", want: uint64(unsafe.Offsetof(msrFilter{}.ranges))},
		{c: "offsetof(struct kvm_msr_filter_range, bitmap)", want: uint64(unsafe.Offsetof(msrFilterRange{}.bitmap))},
		{c: "KVM_RUN", want: kvmRun},
		{c: "KVM_GET_REGS", want: kvmGetRegs},
		{c: "KVM_SET_REGS", want: kvmSetRegs},
		{c: "KVM_GET_SREGS", want: kvmGetSRegs},
		{c: "KVM_SET_SREGS", want: kvmSetSRegs},
		{c: "KVM_SET_CPUID2", want: kvmSetCPUID2},
		{c: "KVM_GET_MP_STATE", want: kvmGetMPState},
		{c: "KVM_SET_MP_STATE", want: kvmSetMPState},
		{c: "KVM_GET_TSC_KHZ", want: kvmGetTSCKHz},
		{c: "KVM_ENABLE_CAP", want: kvmEnableCap},
		{c: "KVM_GET_STATS_FD", want: kvmGetStatsFD},

		{c: "KVM_CAP_NR_MEMSLOTS", want: uint64(CapNRMemslots)},
		{c: "KVM_CAP_MAX_VCPUS", want: uint64(CapMaxVCPUs)},
		{c: "KVM_CAP_TSC_DEADLINE_TIMER", want: uint64(CapTSCDeadlineTimer)},
		{c: "KVM_CAP_IMMEDIATE_EXIT", want: uint64(CapImmediateExit)},
		{c: "KVM_CAP_ENFORCE_PV_FEATURE_CPUID", want: uint64(CapEnforcePVFeatures)},
		{c: "KVM_CAP_HYPERV_ENFORCE_CPUID", want: uint64(CapHyperVEnforceCPUID)},
		{c: "KVM_CAP_BINARY_STATS_FD", want: uint64(CapBinaryStatsFD)},
		{c: "KVM_CAP_USER_MEMORY2", want: uint64(CapUserMemory2), macro: "KVM_CAP_USER_MEMORY2"},
		{c: "KVM_CAP_MEMORY_FAULT_INFO", want: uint64(CapMemoryFaultInfo), macro: "KVM_CAP_MEMORY_FAULT_INFO"},
		{c: "KVM_CAP_GUEST_MEMFD", want: uint64(CapGuestMemfd), macro: "KVM_CAP_GUEST_MEMFD"},
		{c: "KVM_CAP_VM_TYPES", want: uint64(CapVMTypes), macro: "KVM_CAP_VM_TYPES"},
		{c: "KVM_CAP_GUEST_MEMFD_FLAGS", want: uint64(CapGuestMemfdFlags), macro: "KVM_CAP_GUEST_MEMFD_FLAGS"},
		{c: "KVM_MEM_READONLY", want: uint64(MemReadonly)},
		{c: "KVM_MEM_GUEST_MEMFD", want: uint64(MemGuestMemfd), macro: "KVM_MEM_GUEST_MEMFD"},
		{c: "KVM_PIT_SPEAKER_DUMMY", want: pitSpeakerDummy},
		{c: "KVM_CPUID_FLAG_SIGNIFCANT_INDEX", want: uint64(CPUIDSignificantIndex)},
		{c: "KVM_MP_STATE_RUNNABLE", want: uint64(MPRunnable)},
		{c: "KVM_MP_STATE_UNINITIALIZED", want: uint64(MPUninitialized)},
		{c: "KVM_MP_STATE_HALTED", want: uint64(MPHalted)},

		{c: "KVM_EXIT_IO", want: uint64(ExitIO)},
		{c: "KVM_EXIT_HLT", want: uint64(ExitHLT)},
		{c: "KVM_EXIT_MMIO", want: uint64(ExitMMIO)},
		{c: "KVM_EXIT_SHUTDOWN", want: uint64(ExitShutdown)},
		{c: "KVM_EXIT_FAIL_ENTRY", want: uint64(ExitFailEntry)},
		{c: "KVM_EXIT_INTERNAL_ERROR", want: uint64(ExitInternalError)},
		{c: "KVM_EXIT_SYSTEM_EVENT", want: uint64(ExitSystemEvent)},
		{c: "KVM_EXIT_MEMORY_FAULT", want: uint64(ExitMemoryFault), macro: "KVM_EXIT_MEMORY_FAULT"},

		{c: "sizeof(struct kvm_userspace_memory_region)", want: uint64(unsafe.Sizeof(run.userspaceMemoryRegion))},
		{c: "sizeof(struct kvm_userspace_memory_region2)", want: uint64(unsafe.Sizeof(run)), macro: "KVM_SET_USER_MEMORY_REGION2"},
		{c: "offsetof(struct kvm_userspace_memory_region2, guest_memfd_offset)", want: uint64(unsafe.Offsetof(run.guestMemfdOffset)), macro: "KVM_SET_USER_MEMORY_REGION2"},
		{c: "offsetof(struct kvm_userspace_memory_region2, guest_memfd)", want: uint64(unsafe.Offsetof(run.guestMemfd)), macro: "KVM_SET_USER_MEMORY_REGION2"},
		{c: "offsetof(struct kvm_userspace_memory_region, userspace_addr)", want: uint64(unsafe.Offsetof(run.userspaceAddr))},
		{c: "sizeof(struct kvm_regs)", want: uint64(unsafe.Sizeof(regs))},
		{c: "offsetof(struct kvm_regs, rip)", want: uint64(unsafe.Offsetof(regs.RIP))},
		{c: "offsetof(struct kvm_regs, rsp)", want: uint64(unsafe.Offsetof(regs.RSP))},
		{c: "sizeof(struct kvm_segment)", want: uint64(unsafe.Sizeof(seg))},
		{c: "offsetof(struct kvm_segment, dpl)", want: uint64(unsafe.Offsetof(seg.DPL))},
		{c: "offsetof(struct kvm_segment, unusable)", want: uint64(unsafe.Offsetof(seg.Unusable))},
		{c: "sizeof(struct kvm_sregs)", want: uint64(unsafe.Sizeof(sr))},
		{c: "offsetof(struct kvm_sregs, tr)", want: uint64(unsafe.Offsetof(sr.TR))},
		{c: "offsetof(struct kvm_sregs, gdt)", want: uint64(unsafe.Offsetof(sr.GDT))},
		{c: "offsetof(struct kvm_sregs, efer)", want: uint64(unsafe.Offsetof(sr.EFER))},
		{c: "offsetof(struct kvm_sregs, cr0)", want: uint64(unsafe.Offsetof(sr.CR0))},
		{c: "sizeof(struct kvm_cpuid_entry2)", want: uint64(unsafe.Sizeof(cp))},
		{c: "offsetof(struct kvm_cpuid2, entries)", want: uint64(unsafe.Offsetof(tab.entries))},
		{c: "sizeof(struct kvm_enable_cap)", want: uint64(unsafe.Sizeof(cap_))},
		{c: "offsetof(struct kvm_enable_cap, args)", want: uint64(unsafe.Offsetof(cap_.args))},
		{c: "sizeof(struct kvm_pit_config)", want: uint64(unsafe.Sizeof(pit))},
		{c: "sizeof(struct kvm_irq_level)", want: uint64(unsafe.Sizeof(irqLevel{}))},

		{c: "offsetof(struct kvm_run, immediate_exit)", want: runImmediateExit},
		{c: "offsetof(struct kvm_run, exit_reason)", want: runExitReason},
		{c: "offsetof(struct kvm_run, io)", want: runUnion},
		{c: "offsetof(struct kvm_run, io.direction)", want: runUnion + ioDirection},
		{c: "offsetof(struct kvm_run, io.size)", want: runUnion + ioSize},
		{c: "offsetof(struct kvm_run, io.port)", want: runUnion + ioPort},
		{c: "offsetof(struct kvm_run, io.count)", want: runUnion + ioCount},
		{c: "offsetof(struct kvm_run, io.data_offset)", want: runUnion + ioDataOffset},
		{c: "offsetof(struct kvm_run, mmio.phys_addr)", want: runUnion + mmioPhysAddr},
		{c: "offsetof(struct kvm_run, mmio.data)", want: runUnion + mmioData},
		{c: "offsetof(struct kvm_run, mmio.len)", want: runUnion + mmioLen},
		{c: "offsetof(struct kvm_run, mmio.is_write)", want: runUnion + mmioIsWrite},
		{c: "offsetof(struct kvm_run, memory_fault.flags)", want: runUnion + memoryFaultFlags, macro: "KVM_EXIT_MEMORY_FAULT"},
		{c: "offsetof(struct kvm_run, memory_fault.gpa)", want: runUnion + memoryFaultGPA, macro: "KVM_EXIT_MEMORY_FAULT"},
		{c: "offsetof(struct kvm_run, memory_fault.size)", want: runUnion + memoryFaultSize, macro: "KVM_EXIT_MEMORY_FAULT"},
		{c: "sizeof(struct kvm_run)", want: runSize},
		{c: "sizeof(struct kvm_stats_header)", want: statsHeader},
		{c: "sizeof(struct kvm_stats_desc)", want: statsDesc},
	}

	var src strings.Builder
	src.WriteString("#include <stdio.h>\n#include <stddef.h>\n#include <linux/kvm.h>\nint main(void) {\n")
	for i, e := range entries {
		if e.macro != "" {
			fmt.Fprintf(&src, "#ifdef %s\n", e.macro)
		}
		fmt.Fprintf(&src, "printf(\"%d %%llu\\n\", (unsigned long long)(%s));\n", i, e.c)
		if e.macro != "" {
			src.WriteString("#endif\n")
		}
	}
	src.WriteString("return 0; }\n")

	dir := t.TempDir()
	file, bin := filepath.Join(dir, "abi.c"), filepath.Join(dir, "abi")
	if err := os.WriteFile(file, []byte(src.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	args := []string{"-o", bin, file}
	if inc := os.Getenv("OFFMAP_UAPI"); inc != "" {
		args = append(args, "-isystem", inc)
	}
	if out, err := exec.Command(cc, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", cc, err, out)
	}
	out, err := exec.Command(bin).Output()
	if err != nil {
		t.Fatal(err)
	}
	seen := make([]bool, len(entries))
	for line := range strings.Lines(string(out)) {
		var i int
		var got uint64
		if _, err := fmt.Sscanf(line, "%d %d", &i, &got); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		seen[i] = true
		if got != entries[i].want {
			t.Errorf("%s is %#x in the kernel's headers, %#x here", entries[i].c, got, entries[i].want)
		}
	}
	for i, ok := range seen {
		if !ok {
			t.Logf("NOT COMPARED: %s is not in these headers (OFFMAP_UAPI names newer ones)", entries[i].c)
		}
	}
}
