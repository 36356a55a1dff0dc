/*
 * The first touch of memory. One or several threads write one byte to each page;
 * each has its own share.
 *
 * Prints nanoseconds: to make the memory (the file and its mapping), for the first
 * write to a page, and to release a page.
 */
#define _GNU_SOURCE
#include "baseline.h"

#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

struct share {
	volatile char *mem;
	size_t size;	/* bytes for each thread */
};

static void write_pages(int i, void *arg)
{
	struct share *s = arg;
	volatile char *p = s->mem + i * s->size;

	for (size_t off = 0; off < s->size; off += PAGE)
		p[off] = 1;
}

void touch(int argc, char **argv)
{
	size_t size = number(argv[1]);
	int fd, threads = number(argv[2]);
	int64_t start, made, written, released;
	struct share share;
	char *mem;

	(void)argc;
	if (threads > 1024)
		die("%d threads: at most 1024", threads);
	share.size = size / threads / PAGE * PAGE;
	size = share.size * threads;
	if (!size)
		die("less than a page for a thread");

	start = now();
	mem = area(argv[0], size, &fd);
	made = now();
	share.mem = mem;
	parallel(threads, write_pages, &share);
	written = now();
	must(munmap(mem, size));
	if (fd >= 0)
		must(close(fd));
	released = now();
	printf("%.1f %.2f %.2f\n", (double)(made - start), (double)(written - made) / (size / PAGE),
	       (double)(released - written) / (size / PAGE));
}
