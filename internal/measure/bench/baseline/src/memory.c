/*
 * Memory accesses on a shared mapping of a memfd. One or several threads run a
 * program of operations, as the vCPUs of the guest payload "bench" do. Each
 * thread has its own share of an operation's memory.
 *
 * The program is a list of KIND:AT:SIZE:STRIDE:NS, separated by commas: what to
 * do, where in the memory, on how many bytes, the size of a ring's node in bytes,
 * and the least time in nanoseconds. As in the payload, a measured operation goes
 * on in stretches until that time is over. Each stretch does as much as all before.
 *
 * Prints, for each measured operation and each thread, the start and the end in
 * nanoseconds, and the number of bytes or accesses.
 */
#define _GNU_SOURCE
#include "baseline.h"
#include "memory.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <x86intrin.h>

const struct kind kinds[] = {
	{ .name = "fill", .begin = fill },
	{ .name = "link", .begin = link_ring },
	{ .name = "scatter", .begin = scatter },
	{ .name = "touch", .run = touch_pages, .check = check_touch, .once = 1 },
	{ .name = "chase", .begin = begin_chase, .run = chase, .check = check_chase, .accesses = 1 },
	{ .name = "random-read", .begin = begin_random, .run = random_read, .check = check_random_read, .accesses = 1 },
	{ .name = "random-write", .begin = begin_random, .run = random_write, .check = check_random_write, .accesses = 1 },
	{ .name = "read-8", .run = read_8, .check = check_read },
	{ .name = "read-16", .run = read_16, .check = check_read },
	{ .name = "read-32", .run = read_32, .check = check_read },
	{ .name = "write-8", .run = write_8, .check = check_write },
	{ .name = "write-16", .run = write_16, .check = check_write },
	{ .name = "write-32", .run = write_32, .check = check_write },
	{ .name = "write-rep", .run = write_rep, .check = check_write },
	{ .name = "write-nt", .run = write_nt, .check = check_write },
	{ .name = "copy-8", .run = copy_8, .check = check_copy },
	{ .name = "copy-16", .run = copy_16, .check = check_copy },
	{ .name = "copy-32", .run = copy_32, .check = check_copy },
	{ .name = "copy-rep", .run = copy_rep, .check = check_copy },
	{ .name = "copy-nt", .run = copy_nt, .check = check_copy },
};
const size_t nr_kinds = sizeof kinds / sizeof *kinds;

struct op {
	const struct kind *kind;
	uint64_t at, size, stride, ns;
};

struct stretch { int64_t start, end; uint64_t units; };

struct program {
	char *mem;
	int threads;
	size_t ops;
	struct op *op;
	struct stretch *done;	/* by operation and thread */
	pthread_barrier_t meet;
};

_Noreturn void wrong(const char *what, const void *at, uint64_t expected, uint64_t found)
{
	errno = 0;
	die("%s at %p: expected %#" PRIx64 ", found %#" PRIx64, what, at, expected, found);
}

char *covered(const struct work *w, size_t n)
{
	return w->mem + (n < w->size ? n : w->size);
}

static uint64_t field(char **text)
{
	char *end;
	uint64_t n;

	errno = 0;
	if (**text != ':' || (*text)[1] < '0' || (*text)[1] > '9')
		die("%s: not :NUMBER", *text);
	n = strtoull(*text + 1, &end, 10);
	if (errno)
		die("%s", *text);
	*text = end;
	return n;
}

/* parse reads an operation on memory of size bytes. */
static struct op parse(char *text, size_t size, int threads)
{
	struct op o = { .kind = kinds };
	size_t n = strcspn(text, ":");
	const char *all = text;

	while (strlen(o.kind->name) != n || strncmp(o.kind->name, text, n))
		if (++o.kind == kinds + nr_kinds)
			die("%s: no such operation", text);
	text += n;
	o.at = field(&text);
	o.size = field(&text);
	o.stride = field(&text);
	o.ns = field(&text);
	if (*text)
		die("%s: more than an operation", text);
	uint64_t last = o.kind->check == check_copy ? 2 * o.size : o.size;

	if (o.size > size || o.at > size || last > size - o.at || o.at % 64 || o.size / threads < PAGE)
		die("%s: not in the memory", all);
	if ((o.kind->begin == link_ring || o.kind->begin == scatter || o.kind->run == chase) &&
	    (o.stride < 64 || o.stride > PAGE || o.stride & (o.stride - 1)))
		die("%s: no ring has such nodes", all);
	return o;
}

static struct stretch measure(const struct op *o, struct work *w)
{
	struct stretch s = { .start = now() };
	uint64_t stretch = o->kind->accesses ? 255 : 64 << 10;
	size_t position = 0;

	do {
		for (uint64_t left = stretch; left;) {
			size_t n = left;

			if (!o->kind->accesses && n > w->size - position)
				n = w->size - position;
			o->kind->run(w, w->mem + position, n);
			s.units += n;
			left -= n;
			if (o->kind->accesses)
				continue;
			position += n;
			if (position == w->size)
				position = 0;
			if (!position && o->kind->once)
				goto end;
		}
		/* A power of two less 1, so that a chase doesn't end where it began. */
		stretch = s.units + o->kind->accesses;
	} while (now() - s.start < (int64_t)o->ns);
end:
	_mm_mfence();
	s.end = now();
	return s;
}

static void thread(int i, void *arg)
{
	struct program *p = arg;

	for (size_t n = 0; n < p->ops; n++) {
		const struct op *o = p->op + n;
		struct work w = {
			.size = o->size / p->threads / PAGE * PAGE, .all = o->size, .stride = o->stride,
			.value = 0x0101010101010101 * (uint8_t)(n + 1),
		};

		w.mem = p->mem + o->at + i * w.size;
		w.seed = (w.value + i) * MULTIPLIER;
		pthread_barrier_wait(&p->meet);
		if (o->kind->begin)
			o->kind->begin(&w);
		if (!o->kind->run)
			continue;
		pthread_barrier_wait(&p->meet);
		p->done[n * p->threads + i] = measure(o, &w);
		o->kind->check(&w, p->done[n * p->threads + i].units);
	}
}

void memory(int argc, char **argv)
{
	size_t size = number(argv[1]);
	struct program p = { .threads = number(argv[0]) };
	int fd;

	(void)argc;
	if (p.threads > 1024)
		die("%d threads: at most 1024", p.threads);
	p.mem = area("memfd", size, &fd);
	p.op = calloc(strlen(argv[2]) + 1, sizeof *p.op);	/* enough: an operation takes several characters */
	if (!p.op)
		die("calloc");
	for (char *text = strtok(argv[2], ","); text; text = strtok(NULL, ","))
		p.op[p.ops++] = parse(text, size, p.threads);
	p.done = calloc(p.ops * p.threads, sizeof *p.done);
	if (!p.done)
		die("calloc");
	errno = pthread_barrier_init(&p.meet, NULL, p.threads);
	if (errno)
		die("pthread_barrier_init");
	parallel(p.threads, thread, &p);
	for (size_t i = 0; i < p.ops * p.threads; i++)
		if (p.done[i].units)
			printf("%" PRId64 " %" PRId64 " %" PRIu64 "\n", p.done[i].start, p.done[i].end, p.done[i].units);
}
