/*
 * Memory accesses. The operations are those of the guest payload "bench", in
 * guest/payload/asm/bench*.S and .inc.
 */
#ifndef MEMORY_H
#define MEMORY_H

#include <stdint.h>
#include <stddef.h>

#define MULTIPLIER 0x9e3779b97f4a7c15UL

/* work is an operation, and its state between calls. */
struct work {
	char *mem;		/* this thread's share */
	size_t size;
	size_t all;		/* bytes of all threads: the distance of a copy */
	size_t stride;		/* bytes of a ring's node */
	uint64_t value;		/* to write: one byte, eight times */
	uint64_t seed;		/* of this thread */

	uint64_t sum;		/* of the words read */
	uint64_t state;		/* of the random numbers */
	void **node;		/* the chase's current node */
};

struct kind {
	const char *name;
	void (*begin)(struct work *w);	/* may be NULL */
	/* run goes over n bytes from p on, or makes n accesses; NULL if begin does all */
	void (*run)(struct work *w, char *p, size_t n);
	void (*check)(struct work *w, size_t n);	/* after n in all; dies */
	int accesses;		/* n counts accesses anywhere in the share */
	int once;		/* it goes over the share once at most */
};

extern const struct kind kinds[];
extern const size_t nr_kinds;

/* wrong dies because a word has a wrong value. */
_Noreturn void wrong(const char *what, const void *at, uint64_t expected, uint64_t found);

/* covered is the end of the memory that n bytes cover, which wrap at its end. */
char *covered(const struct work *w, size_t n);

/* Streams, in memory_stream.c. */
void fill(struct work *w);
void touch_pages(struct work *w, char *p, size_t n);
void check_touch(struct work *w, size_t n);
void read_8(struct work *w, char *p, size_t n);
void read_16(struct work *w, char *p, size_t n);
void read_32(struct work *w, char *p, size_t n);
void check_read(struct work *w, size_t n);
void write_8(struct work *w, char *p, size_t n);
void write_16(struct work *w, char *p, size_t n);
void write_32(struct work *w, char *p, size_t n);
void write_rep(struct work *w, char *p, size_t n);
void write_nt(struct work *w, char *p, size_t n);
void check_write(struct work *w, size_t n);
void copy_8(struct work *w, char *p, size_t n);
void copy_16(struct work *w, char *p, size_t n);
void copy_32(struct work *w, char *p, size_t n);
void copy_rep(struct work *w, char *p, size_t n);
void copy_nt(struct work *w, char *p, size_t n);
void check_copy(struct work *w, size_t n);

/* Accesses anywhere, in memory_random.c. */
void link_ring(struct work *w);
void scatter(struct work *w);
void begin_chase(struct work *w);
void chase(struct work *w, char *p, size_t n);
void check_chase(struct work *w, size_t n);
void begin_random(struct work *w);
void random_read(struct work *w, char *p, size_t n);
void check_random_read(struct work *w, size_t n);
void random_write(struct work *w, char *p, size_t n);
void check_random_write(struct work *w, size_t n);

#endif
