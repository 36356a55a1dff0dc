/*
 * The floor that BenchmarkFault is held against: the same system calls as the
 * pager's, one page at a time, first in first out, and nothing else.
 *
 *	floor PAGES WINDOW TOUCHES STEP
 *
 * prints the nanoseconds of a touch, and the median and the 99th percentile of
 * the nanoseconds from a fault's event to the wake-up.
 */
#define _GNU_SOURCE
#include <err.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#ifndef SYS_memfd_secret
#define SYS_memfd_secret 447
#endif
#define PAGE 4096UL
#define must(call) do { if ((long)(call) < 0) err(1, "%s", #call); } while (0)

static char *store, *kvm, zeros[PAGE];
static long pages, window, touches, step, answered;
static int64_t *latency, elapsed;

static int64_t now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static int order(const void *a, const void *b)
{
	int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;

	return x < y ? -1 : x > y;
}

/* The guest: like KVM, it takes its faults inside system calls. */
static void *guest(void *unused)
{
	int64_t start = now();
	int pipe[2];

	(void)unused;
	must(pipe2(pipe, O_CLOEXEC));
	for (long i = 0, page = 0; i < touches; i++) {
		page = (page + step) % pages;
		must(write(pipe[1], "x", 1));
		must(read(pipe[0], kvm + page * PAGE, 1));
	}
	elapsed = now() - start;
	qsort(latency, answered, sizeof *latency, order);
	printf("%ld %ld %ld\n", elapsed / touches, latency[answered / 2], latency[answered * 99 / 100]);
	exit(0);
}

int main(int argc, char **argv)
{
	struct rlimit all = { RLIM_INFINITY, RLIM_INFINITY };
	struct uffdio_api api = { .api = UFFD_API,
		.features = UFFD_FEATURE_MISSING_SHMEM | UFFD_FEATURE_MINOR_SHMEM };
	struct uffdio_register reg = { .mode = UFFDIO_REGISTER_MODE_MISSING | UFFDIO_REGISTER_MODE_MINOR };
	long *fifo, next = 0, used = 0;
	pthread_t thread;
	int secret, file, uffd;

	if (argc != 5)
		errx(2, "usage: floor PAGES WINDOW TOUCHES STEP");
	pages = atol(argv[1]), window = atol(argv[2]), touches = atol(argv[3]), step = atol(argv[4]);
	latency = calloc(touches + 1, sizeof *latency);
	fifo = calloc(window, sizeof *fifo);

	setrlimit(RLIMIT_MEMLOCK, &all);
	must(secret = syscall(SYS_memfd_secret, O_CLOEXEC));
	must(ftruncate(secret, pages * PAGE));
	must(store = mmap(NULL, pages * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, secret, 0));
	memset(store, 1, pages * PAGE);
	must(file = memfd_create("floor", MFD_CLOEXEC));
	must(ftruncate(file, pages * PAGE));
	must(kvm = mmap(NULL, pages * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0));
	must(uffd = syscall(SYS_userfaultfd, O_CLOEXEC));
	must(ioctl(uffd, UFFDIO_API, &api));
	reg.range.start = (uintptr_t)kvm, reg.range.len = pages * PAGE;
	must(ioctl(uffd, UFFDIO_REGISTER, &reg));

	if (pthread_create(&thread, NULL, guest, NULL))
		errx(1, "pthread_create");
	for (;;) {
		struct uffdio_continue map = { .range.len = PAGE };
		struct uffd_msg msg;
		int64_t start;
		long off;

		must(read(uffd, &msg, sizeof msg));
		start = now();
		if (used == window) {
			off = fifo[next];
			must(madvise(kvm + off, PAGE, MADV_DONTNEED));
			must(pread(file, store + off, PAGE, off));
			must(pwrite(file, zeros, PAGE, off));
			must(fallocate(file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, off, PAGE));
		} else {
			used++;
		}
		off = (msg.arg.pagefault.address - (uintptr_t)kvm) & ~(PAGE - 1);
		fifo[next] = off, next = (next + 1) % window;
		must(pwrite(file, store + off, PAGE, off));
		map.range.start = (uintptr_t)kvm + off;
		must(ioctl(uffd, UFFDIO_CONTINUE, &map));
		latency[answered++] = now() - start;
	}
}
