/*
 * Reads and writes of a file as a virtio disk does them for a guest: preadv and
 * pwritev, to a buffer for each request that a guest has in flight. They go in the
 * order of offmap's payload "blk".
 *
 * Prints the nanoseconds of a request.
 */
#define _GNU_SOURCE
#include "baseline.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#define MULTIPLIER 0x9e3779b97f4a7c15

struct load {
	int fd, write, random;
	char *buffers;
	uint64_t size, depth, blocks;
};

static void requests(const struct load *l, uint64_t count)
{
	for (uint64_t i = 0; i < count; i++) {
		struct iovec v = { l->buffers + i % l->depth * l->size, l->size };
		uint64_t block = i % l->blocks;
		ssize_t n;

		if (l->random) {
			block = i * MULTIPLIER;
			block = (block ^ block >> 32) * MULTIPLIER;
			block = (unsigned __int128)block * l->blocks >> 64;
		}
		if (l->write)
			n = pwritev(l->fd, &v, 1, block * l->size);
		else
			n = preadv(l->fd, &v, 1, block * l->size);
		if (n != (ssize_t)l->size)
			die("%zd bytes instead of %zu", must(n), v.iov_len);
	}
}

void blk(int argc, char **argv)
{
	struct load l = { .size = number(argv[4]), .depth = number(argv[6]) };
	uint64_t count = number(argv[5]);
	struct stat st;
	int64_t start;
	int fd;

	(void)argc;
	errno = 0;
	l.write = !strcmp(argv[1], "write");
	if (!l.write && strcmp(argv[1], "read"))
		die("%s: neither read nor write", argv[1]);
	l.random = !strcmp(argv[2], "random");
	if (!l.random && strcmp(argv[2], "sequence"))
		die("%s: neither random nor sequence", argv[2]);
	l.fd = must(open(argv[0], (l.write ? O_WRONLY : O_RDONLY) | O_CLOEXEC));
	must(fstat(l.fd, &st));
	l.blocks = st.st_size / l.size;
	if (!l.blocks)
		die("%s: smaller than a request", argv[0]);
	l.buffers = area(argv[3], l.size * l.depth, &fd);
	memset(l.buffers, 0, l.size * l.depth);

	requests(&l, l.depth);
	start = now();
	requests(&l, count);
	printf("%.1f\n", (double)(now() - start) / count);
}
