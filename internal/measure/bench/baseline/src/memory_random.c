/*
 * Accesses anywhere in a share, whose size is a power of two. Random accesses are
 * independent of each other. In a chase, a load can't begin before the previous
 * load has ended. guest/payload/asm/bench_chase.inc and bench_random.inc explain the
 * order of a ring and the random numbers, which are the same there.
 */
#include "baseline.h"
#include "memory.h"

#define FIRST		MULTIPLIER
#define SECOND		0xbf58476d1ce4e5b9UL
#define UNFIRST		0xf1de83e19937733dUL	/* FIRST * UNFIRST is 1 modulo 2^64 */
#define UNSECOND	0x96de1b173f119089UL

/* ring has the parameters of a ring, whose number of nodes is a power of two. */
struct ring {
	uint64_t mask;
	int half;	/* half of a number's bits */
};

static struct ring ring(const struct work *w)
{
	uint64_t n = w->size / w->stride;

	return (struct ring){ n - 1, (64 - __builtin_clzl(n)) / 2 };
}

static uint64_t shuffle(struct ring r, uint64_t x)
{
	x = x * FIRST & r.mask;
	x ^= x >> r.half;
	x = x * SECOND & r.mask;
	return x ^ x >> r.half;
}

static uint64_t unshuffle(struct ring r, uint64_t x)
{
	x ^= x >> r.half;
	x = x * UNSECOND & r.mask;
	x ^= x >> r.half;
	return x * UNFIRST & r.mask;
}

static void **node(const struct work *w, uint64_t i)
{
	return (void *)(w->mem + i * w->stride + (i * 21 * 64 & (w->stride - 1)));
}

void link_ring(struct work *w)
{
	struct ring r = ring(w);

	for (uint64_t i = 0; i <= r.mask; i++)
		*node(w, i) = node(w, shuffle(r, (unshuffle(r, i) + 1) & r.mask));
}

void scatter(struct work *w)
{
	struct ring r = ring(w);

	for (uint64_t i = 0; i <= r.mask; i++) {
		void **n = node(w, shuffle(r, i));

		*n = n;
	}
}

void begin_chase(struct work *w)
{
	w->node = node(w, shuffle(ring(w), 0));
}

void chase(struct work *w, char *p, size_t n)
{
	void **at = w->node;

	(void)p;
	while (n--)
		at = *at;
	w->node = at;
}

void check_chase(struct work *w, size_t n)
{
	struct ring r = ring(w);
	void **want = node(w, shuffle(r, n & r.mask));

	if (w->node != want)
		wrong("where the chase has come to", w->node, (uintptr_t)want, (uintptr_t)w->node);
}

#define SHIFT 24	/* the lowest bits have short periods */

static inline uint64_t next(uint64_t state)
{
	return state * 0x5851f42d4c957f2dUL + 0x14057b7ef767814fUL;
}

/* share is the memory of a loop that writes some of its words. */
struct share {
	char *mem;
	uint64_t mask;
};

static inline struct share share(const struct work *w)
{
	return (struct share){ w->mem, w->size - 8 };
}

static inline uint64_t *word(struct share s, uint64_t state)
{
	return (void *)(s.mem + (state >> SHIFT & s.mask));
}

void begin_random(struct work *w)
{
	w->state = w->seed;
	w->sum = 0;
}

void random_read(struct work *w, char *p, size_t n)
{
	uint64_t x = w->state, sum = w->sum;
	struct share s = share(w);

	(void)p;
	while (n--) {
		x = next(x);
		sum += *word(s, x);
	}
	w->state = x;
	w->sum = sum;
}

void check_random_read(struct work *w, size_t n)
{
	uint64_t sum = 0, x = w->seed;
	struct share s = share(w);

	while (n--) {
		x = next(x);
		sum += (uintptr_t)word(s, x) * MULTIPLIER;
	}
	if (sum != w->sum)
		wrong("sum of what was read at random", w->mem, sum, w->sum);
}

void random_write(struct work *w, char *p, size_t n)
{
	uint64_t x = w->state, v = w->value;
	struct share s = share(w);

	(void)p;
	while (n--) {
		x = next(x);
		*word(s, x) = v;
	}
	w->state = x;
}

void check_random_write(struct work *w, size_t n)
{
	uint64_t x = w->seed;
	struct share s = share(w);

	while (n--) {
		x = next(x);
		if (*word(s, x) != w->value)
			wrong("word written at random", word(s, x), w->value, *word(s, x));
	}
}
