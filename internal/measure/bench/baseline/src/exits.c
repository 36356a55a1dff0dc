/*
 * VM exits to user space and back: a loop around ioctl(KVM_RUN) and nothing
 * else. The machine has what KVM provides to offmap's (interrupt controllers,
 * timer, the CPUID that KVM supports). Its one vCPU runs the loops of offmap's
 * payload "exits", at CPL 3, which runs natively on every kind of KVM.
 *
 * Prints the nanoseconds of a round trip: an exit, user space, and the guest
 * until the next exit.
 */
#define _GNU_SOURCE
#include "baseline.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

/* Guest-physical addresses. They are also the linear addresses. */
#define RAM	0x100000UL
#define TSS	0x1000
#define GDT	0x2000
#define CODE	0x3000
#define PML4	0x4000
#define PDPT	0x5000
#define PD	0x6000
#define NOTHING	RAM	/* no memory there */

#define PORT	0x80	/* no device there */
#define WARM_UP	100

static const struct guest {
	const char *name;
	uint32_t exit;
	uint8_t code[12];
} guests[] = {
	/* 1: out dx, al; dec ecx; jnz 1b; jmp 1b */
	{ "out", KVM_EXIT_IO, { 0xee, 0xff, 0xc9, 0x75, 0xfb, 0xeb, 0xf9 } },
	/* 1: in al, dx; dec ecx; jnz 1b; jmp 1b */
	{ "in", KVM_EXIT_IO, { 0xec, 0xff, 0xc9, 0x75, 0xfb, 0xeb, 0xf9 } },
	/* 1: mov eax, [rbx]; dec ecx; jnz 1b; jmp 1b */
	{ "mmio", KVM_EXIT_MMIO, { 0x8b, 0x03, 0xff, 0xc9, 0x75, 0xfa, 0xeb, 0xf8 } },
};

static void load(char *ram, const struct guest *g)
{
	const uint64_t table = 0x27, large = 0xe7;	/* user, writable, accessed; and dirty, 2 MiB */
	const size_t bitmap = PORT / 8 + 1;

	memcpy(ram + CODE, g->code, sizeof g->code);
	*(uint64_t *)(ram + PML4) = PDPT | table;
	*(uint64_t *)(ram + PDPT) = PD | table;
	*(uint64_t *)(ram + PD) = large;
	*(uint64_t *)(ram + GDT + 0x10) = 0x00affb000000ffff;	/* code, DPL 3 */
	*(uint64_t *)(ram + GDT + 0x18) = 0x00cff3000000ffff;	/* data, DPL 3 */
	*(uint64_t *)(ram + GDT + 0x20) = 0x00008b0000000000 | (uint64_t)TSS << 16 | (104 + bitmap);
	/* All ports up to PORT are open; a byte of ones ends the bitmap. */
	*(uint16_t *)(ram + TSS + 102) = 104;
	ram[TSS + 104 + bitmap] = 0xff;
}

static void set_cpuid(int kvm, int cpu)
{
	enum { MOST = 256 };
	struct kvm_cpuid2 *c = calloc(1, sizeof *c + MOST * sizeof *c->entries);

	if (!c)
		die("calloc");
	c->nent = MOST;
	must(ioctl(kvm, KVM_GET_SUPPORTED_CPUID, c));
	must(ioctl(cpu, KVM_SET_CPUID2, c));
	free(c);
}

static void set_state(int cpu)
{
	struct kvm_segment code = { .selector = 0x13, .type = 11, .present = 1, .dpl = 3, .s = 1,
				    .l = 1, .g = 1, .limit = 0xffffffff };
	struct kvm_segment data = { .selector = 0x1b, .type = 3, .present = 1, .dpl = 3, .s = 1,
				    .db = 1, .g = 1, .limit = 0xffffffff };
	struct kvm_segment task = { .selector = 0x20, .type = 11, .present = 1, .base = TSS,
				    .limit = 104 + PORT / 8 + 1 };
	struct kvm_regs r = { .rip = CODE, .rbx = NOTHING, .rdx = PORT, .rflags = 0x3002 };
	struct kvm_sregs s;

	must(ioctl(cpu, KVM_GET_SREGS, &s));
	s.cs = code, s.tr = task;
	s.ds = s.es = s.fs = s.gs = s.ss = data;
	s.ldt = (struct kvm_segment){ .unusable = 1 };
	s.gdt.base = GDT, s.gdt.limit = 0x2f;
	s.idt.base = 0, s.idt.limit = 0;
	s.cr0 = 0x80010033;	/* PG, WP, NE, ET, MP, PE */
	s.cr3 = PML4;
	s.cr4 = 0x20;		/* PAE */
	s.efer = 0x500;		/* LMA, LME */
	must(ioctl(cpu, KVM_SET_SREGS, &s));
	must(ioctl(cpu, KVM_SET_REGS, &r));
}

void exits(int argc, char **argv)
{
	struct kvm_userspace_memory_region slot = { .memory_size = RAM };
	struct kvm_pit_config pit = { 0 };
	const struct guest *g = guests;
	uint64_t identity = 0xfffbc000, n = number(argv[1]);
	int kvm, vm, cpu, fd;
	int64_t start = 0;
	struct kvm_run *run;
	char *ram;

	(void)argc;
	while (strcmp(g->name, argv[0]))
		if (++g == guests + sizeof guests / sizeof *guests)
			die("%s: no such exit", argv[0]);

	kvm = must(open("/dev/kvm", O_RDWR | O_CLOEXEC));
	vm = must(ioctl(kvm, KVM_CREATE_VM, 0));
	must(ioctl(vm, KVM_SET_IDENTITY_MAP_ADDR, &identity));
	must(ioctl(vm, KVM_SET_TSS_ADDR, 0xfffbd000));
	must(ioctl(vm, KVM_CREATE_IRQCHIP, 0));
	must(ioctl(vm, KVM_CREATE_PIT2, &pit));
	ram = area("memfd", RAM, &fd);
	load(ram, g);
	slot.userspace_addr = (uintptr_t)ram;
	must(ioctl(vm, KVM_SET_USER_MEMORY_REGION, &slot));
	cpu = must(ioctl(vm, KVM_CREATE_VCPU, 0));
	run = (void *)must(mmap(NULL, must(ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0)),
				PROT_READ | PROT_WRITE, MAP_SHARED, cpu, 0));
	set_cpuid(kvm, cpu);
	set_state(cpu);

	for (uint64_t i = 0; i < WARM_UP + n; i++) {
		if (i == WARM_UP)
			start = now();
		must(ioctl(cpu, KVM_RUN, 0));
		if (run->exit_reason != g->exit) {
			errno = 0;
			die("the guest left with exit reason %u instead of %u", run->exit_reason, g->exit);
		}
	}
	printf("%.1f\n", (double)(now() - start) / n);
}
