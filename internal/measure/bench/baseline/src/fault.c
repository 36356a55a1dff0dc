/*
 * A userfaultfd round trip. One thread touches a missing page. The other thread
 * reads the event and resolves it: it copies a zero page into anonymous memory
 * with UFFDIO_COPY, or it writes a page of a memfd with pwrite(2) and maps it with
 * UFFDIO_CONTINUE.
 *
 * The first thread faults inside a system call, as KVM does: read(2) fills the page.
 *
 * Prints the nanoseconds of a fault, including the first thread's two system calls.
 */
#define _GNU_SOURCE
#include "baseline.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

struct resolver {
	int uffd, fd;	/* fd is -1 for UFFDIO_COPY */
	char *mem;
	size_t faults;
};

static char zeros[PAGE] __attribute__((aligned(4096)));

static void *resolve(void *arg)
{
	struct resolver *r = arg;
	struct uffd_msg msg;

	for (size_t i = 0; i < r->faults; i++) {
		uintptr_t page;

		must(read(r->uffd, &msg, sizeof msg));
		page = msg.arg.pagefault.address & ~(PAGE - 1);
		if (r->fd >= 0) {
			struct uffdio_continue map = { .range = { page, PAGE } };

			must(pwrite(r->fd, zeros, PAGE, page - (uintptr_t)r->mem));
			must(ioctl(r->uffd, UFFDIO_CONTINUE, &map));
		} else {
			struct uffdio_copy copy = { .dst = page, .src = (uintptr_t)zeros, .len = PAGE };

			must(ioctl(r->uffd, UFFDIO_COPY, &copy));
		}
	}
	return NULL;
}

/* Any user may handle faults from user mode; faults from the kernel take privileges. */
int open_uffd(void)
{
	int dev, uffd = syscall(SYS_userfaultfd, O_CLOEXEC);

	if (uffd >= 0 || errno != EPERM)
		return must(uffd);
	dev = must(open("/dev/userfaultfd", O_RDWR | O_CLOEXEC));
	uffd = must(ioctl(dev, USERFAULTFD_IOC_NEW, O_CLOEXEC));
	close(dev);
	return uffd;
}

void fault(int argc, char **argv)
{
	struct resolver r = { .faults = number(argv[1]) };
	size_t size = r.faults * PAGE;
	struct uffdio_api api = { .api = UFFD_API };
	struct uffdio_register reg = { .mode = UFFDIO_REGISTER_MODE_MISSING };
	int zero, shared = !strcmp(argv[0], "continue");
	pthread_t thread;
	int64_t start;

	(void)argc;
	if (!shared && strcmp(argv[0], "copy"))
		die("%s: neither copy nor continue", argv[0]);
	r.uffd = open_uffd();
	if (shared) {
		api.features = UFFD_FEATURE_MISSING_SHMEM | UFFD_FEATURE_MINOR_SHMEM;
		reg.mode |= UFFDIO_REGISTER_MODE_MINOR;
	}
	must(ioctl(r.uffd, UFFDIO_API, &api));
	r.mem = area(shared ? "memfd" : "anon", size, &r.fd);
	reg.range.start = (uintptr_t)r.mem, reg.range.len = size;
	must(ioctl(r.uffd, UFFDIO_REGISTER, &reg));
	zero = must(open("/dev/zero", O_RDONLY | O_CLOEXEC));
	errno = pthread_create(&thread, NULL, resolve, &r);
	if (errno)
		die("pthread_create");

	start = now();
	for (size_t off = 0; off < size; off += PAGE)
		must(read(zero, r.mem + off, 1));
	printf("%.1f\n", (double)(now() - start) / r.faults);
	pthread_join(thread, NULL);
}
