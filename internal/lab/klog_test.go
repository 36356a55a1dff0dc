package lab

import (
	"strings"
	"testing"
)

// The samples are lines of real kernel logs, most of them of the machines
// that this project's facts were found on.
func TestCheckLog(t *testing.T) {
	const boot = "[    0.000000] Linux version 6.1.0-56-cloud-amd64 (debian-kernel@lists.debian.org)\n"
	tests := []struct {
		name string
		log  string
		want []string // what of each finding, in order
	}{
		{"empty", "", nil},
		{"healthy", boot + `[    0.000000] Command line: console=ttyS0 oops=panic panic=-1 -- lab-init
[    0.012345] Spectre V2 : Mitigation: Retpolines
[    0.034543] rcu: 	RCU restricting CPUs from NR_CPUS=512 to nr_cpu_ids=2.
[    0.034543] rcu: RCU calculated value of scheduler-enlistment delay is 25 jiffies.
[    0.098765] NMI watchdog: Perf NMI watchdog permanently disabled
[    0.099999] rcu: Hierarchical SRCU implementation.
[    0.123456] MCE: In-kernel MCE decoding enabled.
[    1.654321] ACPI: bus type drm_connector registered
[    2.000000] workqueue: Round-robin CPU selection forced, expect performance impact
[    3.000000] offmap: loading out-of-tree module taints kernel.
[    3.000001] offmap: module verification failed: signature and/or required key missing - tainting kernel
[    3.100000] kvm: Nested Virtualization enabled
[    3.100001] SVM: kvm: Nested Paging enabled
`, nil},
		{"a guest's own crash is not the host's", boot +
			"[   12.000000] traps: probe[77] general protection fault ip:401000 sp:7ffd error:0 in probe[401000+1000]\n" +
			"[   12.000000] probe[78]: segfault at 0 ip 0000000000401000 sp 00007ffd error 4 in probe\n", nil},
		{"kvm-clock oops", boot + `[    8.404031] BUG: unable to handle page fault for address: ffff9d4c05a01000
[    8.404542] #PF: supervisor write access in kernel mode
[    8.404926] #PF: error_code(0x0002) - not-present page
[    8.405306] PGD 4a01067 P4D 4a01067 PUD 4a02067 PMD 1000f6063 PTE 800ffffffa5fe062
[    8.405818] Oops: 0002 [#1] PREEMPT SMP NOPTI
[    8.406129] CPU: 0 PID: 131 Comm: clock Tainted: G           OE      6.1.0-56-cloud-amd64 #1
[    8.407325] RIP: 0010:kvm_setup_guest_pvclock+0x5b/0x100 [kvm]
[    8.411042] Call Trace:
[    8.411241]  <TASK>
[    8.421842] Kernel panic - not syncing: Fatal exception
`, []string{"bug", "oops", "panic"}},
		{"warning", boot + `[    4.000000] ------------[ cut here ]------------
[    4.000000] WARNING: CPU: 1 PID: 200 at arch/x86/kvm/x86.c:9000 kvm_arch_vcpu_ioctl_run+0x10/0x20 [kvm]
[    4.000000] Call Trace:
[    4.000000]  <TASK>
[    4.000000] ---[ end trace 0000000000000000 ]---
`, []string{"warning", "warning"}},
		{"warning without PID, as from 6.17 on", boot +
			"[    4.000000] WARNING: arch/x86/kvm/x86.c:9000 at kvm_arch_vcpu_ioctl_run+0x10/0x20 [kvm], CPU#1: qemu/200\n",
			[]string{"warning"}},
		{"self-detected stall", boot + "[   60.1] x\n[   60.004000] rcu: INFO: rcu_preempt self-detected stall on CPU\n", []string{"stall"}},
		{"stall on others", boot + "[   60.004000] rcu: INFO: rcu_sched detected stalls on CPUs/tasks:\n", []string{"stall"}},
		{"starved", boot + "[   60.004000] rcu: rcu_preempt kthread starved for 5250 jiffies! g-1 f0x0\n", []string{"stall"}},
		{"soft lockup", boot + "[   48.144000] watchdog: BUG: soft lockup - CPU#1 stuck for 26s! [offmap:93]\n", []string{"lockup"}},
		{"hard lockup", boot + "[   48.144000] NMI watchdog: Watchdog detected hard LOCKUP on cpu 0\n", []string{"lockup"}},
		{"hung task", boot + "[  242.761000] INFO: task offmap:92 blocked for more than 120 seconds.\n", []string{"hung task"}},
		{"atomic", boot + "[    5.000000] BUG: scheduling while atomic: offmap/91/0x00000002\n", []string{"atomic"}},
		{"sleeping", boot + "[    5.000000] BUG: sleeping function called from invalid context at mm/memory.c:1\n", []string{"atomic"}},
		{"corrupted stack", boot + "[    5.000000] Kernel panic - not syncing: corrupted stack end detected inside scheduler\n", []string{"panic"}},
		{"double fault", boot + "[    5.000000] traps: PANIC: double fault, error_code: 0x0\n[    5.000000] double fault: 0000 [#1] PREEMPT SMP NOPTI\n",
			[]string{"bug", "oops"}},
		{"general protection fault", boot + "[    5.000000] general protection fault, probably for non-canonical address 0xdead000000000100: 0000 [#1] SMP\n", []string{"oops"}},
		{"oops as from 6.10 on", boot + "[    5.000000] Oops: general protection fault, probably for non-canonical address 0xdead000000000100: 0000 [#1] SMP\n", []string{"oops"}},
		{"kernel BUG", boot + "[    5.000000] kernel BUG at mm/secretmem.c:77!\n[    5.000000] invalid opcode: 0000 [#1] PREEMPT SMP\n", []string{"bug", "oops"}},
		{"bad page", boot + "[    5.000000] BUG: Bad page state in process offmap  pfn:1234\n", []string{"memory corruption"}},
		{"bad page map", boot + "[    5.000000] BUG: Bad page map in process offmap  pte:8000000\n", []string{"memory corruption"}},
		{"Bad rss-counter", boot + "[    5.000000] BUG: Bad rss-counter state mm:00000000 type:MM_ANONPAGES val:1\n", []string{"bug"}},
		{"refcount", boot + "[    5.000000] refcount_t: underflow; use-after-free.\n", []string{"memory corruption"}},
		{"list", boot + "[    5.000000] list_del corruption. prev->next should be ffff, but was 0\n", []string{"memory corruption"}},
		{"a trace that nothing announced", boot + "[    5.000000] Call Trace:\n", []string{"trace"}},
		{"out of memory", boot + "[    5.000000] offmap invoked oom-killer: gfp_mask=0x140cca\n", []string{"lost memory"}},
		{"came up twice", boot + "[    1.0] x\n" + boot, []string{"reboot"}},
		{"caller's number in the stamp", boot + "[    5.000000][  T123] BUG: Bad rss-counter state\n", []string{"bug"}},
		{"carriage returns of the console", strings.ReplaceAll(boot+"[    5.000000] Kernel panic - not syncing: x\n", "\n", "\r\n"), []string{"panic"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := CheckLog(tt.log)
			var what []string
			for _, f := range got {
				what = append(what, f.What)
				if line := strings.Split(tt.log, "\n")[f.Line-1]; strings.TrimRight(line, "\r") != f.Text {
					t.Errorf("finding on line %d quotes %q, the line is %q", f.Line, f.Text, line)
				}
			}
			if strings.Join(what, ",") != strings.Join(tt.want, ",") {
				t.Errorf("found %q, want %q", what, tt.want)
			}
		})
	}
}

func FuzzCheckLog(f *testing.F) {
	f.Add("[    0.000000] Linux version 6.1\n[    5.0] Call Trace:\n")
	f.Add("\n\n<4>[ 1.2] BUG: x")
	f.Fuzz(func(t *testing.T, log string) {
		n := strings.Count(log, "\n") + 1
		for _, f := range CheckLog(log) {
			if f.Line < 1 || f.Line > n {
				t.Fatalf("finding on line %d of %d", f.Line, n)
			}
		}
	})
}
