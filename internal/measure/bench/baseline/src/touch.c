/*
 * The first touch of memory: one byte is written to each page, by one thread
 * or by several that have a share each.
 *
 * Prints nanoseconds: of making the memory (the file and its mapping), of a
 * page's first write, and of a page's release.
 */
#define _GNU_SOURCE
#include "baseline.h"

#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

struct share {
	volatile char *mem;
	size_t size;	/* bytes of each thread */
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
