package limits

import (
	"context"
	"errors"
	"fmt"

	"offmap/guest/protocol"
	"offmap/memory"
	"offmap/memory/attach"
	"offmap/vmm/boot"
)

// paravirtualLimits are about guest pages that KVM itself uses.
func paravirtualLimits() []Limit {
	return []Limit{{
		ID:       "paravirtual-pages",
		Title:    "Hidden guest RAM rules out kvm-clock and other paravirtual features, for which KVM writes to guest RAM through the direct map",
		Source:   "Firecracker's kernel patches for kvm-clock, for guests whose RAM is not in the direct map: KVM writes to the page that the guest names through the direct map (KVM's documentation of its MSRs says only that the guest names a page). If the page isn't there, that is an oops of the host (measured on 6.1, 6.12 and 7.3)",
		Link:     "https://github.com/firecracker-microvm/firecracker/pull/5552",
		How:      "A guest at CPL 0 writes every MSR by which a hypervisor is handed a guest page (KVM's, Hyper-V's, Xen's): with hidden RAM, over each attach that works here, and with anonymous RAM.",
		Expected: "With hidden RAM each write is #GP in the guest; with anonymous RAM some are accepted",
		Means:    "A VMM that hides RAM must leave these features out of CPUID, have KVM enforce that, and deny the MSRs: a hostile guest also writes MSRs that CPUID doesn't announce. The guest does without kvm-clock, steal time and async page faults.",
		check: func(ctx context.Context) (Observation, error) {
			return checkParavirtual(ctx, memory.Secret, attach.ViaBridge, attach.ViaWindow)
		},
	}, {
		ID:       "nested-guests",
		Title:    "Hidden guest RAM rules out nested guests",
		Source:   "KVM's documentation of nested guests, which need SVM or VMX in the guest's CPUID. KVM maps pages of their control structures through the direct map (kvm_vcpu_map)",
		Link:     "https://docs.kernel.org/virt/kvm/x86/running-nested-guests.html",
		How:      "What CPUID tells a guest of SVM, VMX and KVM's paravirtual features, with hidden and with anonymous RAM.",
		Expected: "With hidden RAM nothing; with anonymous RAM what this KVM has",
		Means:    "No virtual machines inside a guest with hidden RAM. A VMM must mask SVM and VMX: a guest that uses them could crash the host.",
		check:    func(ctx context.Context) (Observation, error) { return checkNested(ctx, memory.Secret) },
	}}
}

func checkParavirtual(ctx context.Context, b memory.Backend, methods ...attach.Method) (o Observation, err error) {
	accepted, _, err := runPayload(ctx, memory.Anon, attach.Direct, "kvmclock", boot.PayloadConfig{}, nil)
	if err != nil {
		return o, err
	}
	if accepted == 0 {
		return o, skipped("this KVM accepts none of these MSRs from any guest")
	}
	o.Holds = true
	for _, m := range methods {
		hidden, _, err := runPayload(ctx, b, m, "kvmclock", boot.PayloadConfig{}, nil)
		switch {
		case errors.Is(err, ErrSkipped):
			continue
		case err != nil:
			return o, fmt.Errorf("%s: %w", m, err)
		}
		o.Holds = o.Holds && hidden == 0
		o.Text += fmt.Sprintf("%d MSRs accepted over the %s, ", hidden, m)
	}
	if o.Text == "" {
		return o, skipped("neither the bridge nor the window works: offmap doctor says why")
	}
	o.Text += fmt.Sprintf("%d from a guest with anonymous RAM", accepted)
	return o, nil
}

// cpuidProgram exits with a bit for each feature that CPUID shows: 1 VMX, 2
// SVM, 4 any of KVM's own. It is for CPL 0, where every KVM answers CPUID
// itself.
var cpuidProgram = []byte{
	0xb8, 1, 0, 0, 0, // mov eax, 1
	0x0f, 0xa2, // cpuid
	0x0f, 0xba, 0xe1, 5, // bt ecx, 5
	0x41, 0x0f, 0x92, 0xc0, // setc r8b
	0xb8, 1, 0, 0, 0x80, // mov eax, 0x80000001
	0x0f, 0xa2, // cpuid
	0x0f, 0xba, 0xe1, 2, // bt ecx, 2
	0x41, 0x0f, 0x92, 0xc1, // setc r9b
	0xb8, 1, 0, 0, 0x40, // mov eax, 0x40000001
	0x31, 0xc9, // xor ecx, ecx
	0x0f, 0xa2, // cpuid
	0x85, 0xc0, // test eax, eax
	0x0f, 0x95, 0xc0, // setnz al
	0x00, 0xc0, // add al, al
	0x44, 0x00, 0xc8, // add al, r9b
	0x00, 0xc0, // add al, al
	0x44, 0x00, 0xc0, // add al, r8b
	0x66, 0xba, protocol.ExitPort & 0xff, protocol.ExitPort >> 8, // mov dx, ExitPort
	0xee,       // out dx, al
	0xeb, 0xfe, // jmp .
}

func checkNested(ctx context.Context, b memory.Backend) (o Observation, err error) {
	var shown [2]int
	for i, kind := range []memory.Backend{memory.Anon, b} {
		if shown[i], _, err = runImage(ctx, kind, attach.Auto, cpuidProgram, boot.PayloadConfig{Ring: 0}, nil); err != nil {
			return o, err
		}
	}
	o.Text = fmt.Sprintf("hidden RAM: %s; anonymous RAM: %s", cpuidText(shown[1]), cpuidText(shown[0]))
	if shown[0] == 0 {
		return o, skipped("nothing to mask here: %s", o.Text)
	}
	o.Holds = shown[1] == 0
	return o, nil
}

func cpuidText(bits int) string {
	text := ""
	for i, name := range []string{"VMX", "SVM", "KVM's features"} {
		if bits>>i&1 != 0 {
			text += ", " + name
		}
	}
	if text == "" {
		return "none shown"
	}
	return text[2:]
}
