/*
 * Makes a VM whose RAM nothing touches: opens KVM, makes the VM, its memory and its
 * slot.
 *
 * Prints the nanoseconds to make it and to close it.
 */
#define _GNU_SOURCE
#include "baseline.h"

#include <fcntl.h>
#include <linux/kvm.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

void create(int argc, char **argv)
{
	struct kvm_userspace_memory_region slot = { .memory_size = number(argv[1]) / PAGE * PAGE };
	int64_t start, made;
	int kvm, vm, fd;
	char *ram;

	(void)argc;
	start = now();
	kvm = must(open("/dev/kvm", O_RDWR | O_CLOEXEC));
	vm = must(ioctl(kvm, KVM_CREATE_VM, 0));
	ram = area(argv[0], slot.memory_size, &fd);
	slot.userspace_addr = (uintptr_t)ram;
	must(ioctl(vm, KVM_SET_USER_MEMORY_REGION, &slot));
	made = now();
	must(close(vm));
	must(munmap(ram, slot.memory_size));
	if (fd >= 0)
		must(close(fd));
	must(close(kvm));
	printf("%ld %ld\n", made - start, now() - made);
}
