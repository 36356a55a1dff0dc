/*
 * The baseline of attach window: the system calls of its pager and nothing else, one
 * page at a time, first in first out. All pages are in secret memory from the
 * start. The guest is a thread that writes a byte to every STEP-th page, again and
 * again.
 *
 * The guest faults inside a system call, as KVM does.
 *
 * Prints nanoseconds: of a touch, once the window is full, and the median and the
 * 99th percentile of the time from a fault's event to the wake-up, evictions
 * included.
 */
#define _GNU_SOURCE
#include "baseline.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

struct pager {
	int uffd, file;
	char *store, *kvm;
	size_t window;		/* pages */
	size_t *fifo;		/* offsets of the pages in the window */
	int64_t *latency;
	size_t answered, most;
};

static char zeros[PAGE];

static void evict(struct pager *p, size_t off)
{
	must(madvise(p->kvm + off, PAGE, MADV_DONTNEED));
	must(pread(p->file, p->store + off, PAGE, off));
	must(pwrite(p->file, zeros, PAGE, off));
	must(fallocate(p->file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, off, PAGE));
}

static void *answer(void *arg)
{
	struct pager *p = arg;

	for (size_t n = 0;; n++) {
		struct uffdio_continue map = { .range.len = PAGE };
		struct uffd_msg msg;
		int64_t start;
		size_t off;

		must(read(p->uffd, &msg, sizeof msg));
		start = now();
		if (n >= p->window)
			evict(p, p->fifo[n % p->window]);
		off = (msg.arg.pagefault.address - (uintptr_t)p->kvm) & ~(PAGE - 1);
		p->fifo[n % p->window] = off;
		must(pwrite(p->file, p->store + off, PAGE, off));
		map.range.start = (uintptr_t)p->kvm + off;
		must(ioctl(p->uffd, UFFDIO_CONTINUE, &map));
		if (n < p->most) {
			p->latency[n] = now() - start;
			__atomic_store_n(&p->answered, n + 1, __ATOMIC_RELEASE);
		}
	}
	return NULL;
}

static int order(const void *a, const void *b)
{
	int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;

	return x < y ? -1 : x > y;
}

static void *allocate(size_t n, size_t size)
{
	void *p = calloc(n, size);

	if (!p)
		die("calloc");
	return p;
}

void pager(int argc, char **argv)
{
	struct uffdio_api api = { .api = UFFD_API,
		.features = UFFD_FEATURE_MISSING_SHMEM | UFFD_FEATURE_MINOR_SHMEM };
	struct uffdio_register reg = { .mode = UFFDIO_REGISTER_MODE_MISSING | UFFDIO_REGISTER_MODE_MINOR };
	size_t pages = number(argv[0]), touches = number(argv[2]), step = number(argv[3]), n;
	static struct pager p;	/* the thread goes on until the program ends */
	int64_t start = 0, *l;
	int secret, zero;
	pthread_t thread;

	(void)argc;
	p.window = number(argv[1]);
	errno = 0;
	if (pages >= 1UL << 32 || touches >= 1UL << 32 || p.window >= pages)
		die("%s pages, of which %s are in the window: too many", argv[0], argv[1]);
	p.store = area("secret", pages * PAGE, &secret);
	memset(p.store, 1, pages * PAGE);
	p.kvm = area("memfd", pages * PAGE, &p.file);
	p.fifo = allocate(p.window, sizeof *p.fifo);
	p.most = p.window + touches;
	p.latency = allocate(p.most, sizeof *p.latency);
	p.uffd = open_uffd();
	must(ioctl(p.uffd, UFFDIO_API, &api));
	reg.range.start = (uintptr_t)p.kvm, reg.range.len = pages * PAGE;
	must(ioctl(p.uffd, UFFDIO_REGISTER, &reg));
	zero = must(open("/dev/zero", O_RDONLY | O_CLOEXEC));
	errno = pthread_create(&thread, NULL, answer, &p);
	if (errno)
		die("pthread_create");

	for (size_t i = 0, page = 0; i < p.window + touches; i++) {
		if (i == p.window)
			start = now();
		page = (page + step) % pages;
		must(read(zero, p.kvm + page * PAGE, 1));
	}
	start = now() - start;
	n = __atomic_load_n(&p.answered, __ATOMIC_ACQUIRE);
	errno = 0;
	if (n <= p.window)
		die("%zu faults for %zu touches", n, p.most);
	l = p.latency + p.window, n -= p.window;
	qsort(l, n, sizeof *l, order);
	printf("%.1f %ld %ld\n", (double)start / touches, (long)l[n / 2], (long)l[n * 99 / 100]);
}
