/*
 * Accesses in sequence. fill writes to each word its address times MULTIPLIER, so
 * that the sum of any number of words is known.
 *
 * Each loop is written so that the compiler uses the instructions that it is named
 * after.
 */
#pragma GCC optimize("no-tree-vectorize", "no-tree-loop-distribute-patterns", "no-store-merging", "align-loops=64")

#include "baseline.h"
#include "memory.h"

#include <emmintrin.h>
#include <immintrin.h>

#define AVX2 __attribute__((target("avx2")))

void fill(struct work *w)
{
	for (char *p = w->mem; p < w->mem + w->size; p += 8)
		*(uint64_t *)p = (uintptr_t)p * MULTIPLIER;
}

void touch_pages(struct work *w, char *p, size_t n)
{
	(void)w;
	for (char *end = p + n; p < end; p += PAGE)
		*(char **)p = p;
}

void check_touch(struct work *w, size_t n)
{
	for (char *p = w->mem, *end = covered(w, n); p < end; p += PAGE)
		if (*(char **)p != p)
			wrong("touched page", p, (uintptr_t)p, *(uint64_t *)p);
}

/* Reads: four sums side by side, since an addition takes longer than a load. */

void read_8(struct work *w, char *p, size_t n)
{
	uint64_t a = 0, b = 0, c = 0, d = 0;

	for (uint64_t *q = (void *)p, *end = q + n / 8; q < end; q += 8) {
		a += q[0] + q[4], b += q[1] + q[5];
		c += q[2] + q[6], d += q[3] + q[7];
	}
	w->sum += a + b + c + d;
}

void read_16(struct work *w, char *p, size_t n)
{
	__m128i a = { 0 }, b = a, c = a, d = a;

	for (__m128i *q = (void *)p, *end = q + n / 16; q < end; q += 4) {
		a = _mm_add_epi64(a, q[0]);
		b = _mm_add_epi64(b, q[1]);
		c = _mm_add_epi64(c, q[2]);
		d = _mm_add_epi64(d, q[3]);
	}
	a = _mm_add_epi64(_mm_add_epi64(a, b), _mm_add_epi64(c, d));
	w->sum += (uint64_t)a[0] + (uint64_t)a[1];
}

AVX2 void read_32(struct work *w, char *p, size_t n)
{
	__m256i a = { 0 }, b = a, c = a, d = a;

	for (__m256i *q = (void *)p, *end = q + n / 32; q < end; q += 4) {
		a = _mm256_add_epi64(a, q[0]);
		b = _mm256_add_epi64(b, q[1]);
		c = _mm256_add_epi64(c, q[2]);
		d = _mm256_add_epi64(d, q[3]);
	}
	a = _mm256_add_epi64(_mm256_add_epi64(a, b), _mm256_add_epi64(c, d));
	w->sum += (uint64_t)a[0] + (uint64_t)a[1] + (uint64_t)a[2] + (uint64_t)a[3];
}

/* sum returns the sum of n words from address a on: MULTIPLIER * (n * a + 8 * n * (n - 1) / 2). */
static uint64_t sum(uint64_t a, uint64_t n)
{
	return MULTIPLIER * n * (a + 4 * n - 4);
}

void check_read(struct work *w, size_t n)
{
	uint64_t a = (uintptr_t)w->mem;
	uint64_t all = n / w->size * sum(a, w->size / 8) + sum(a, n % w->size / 8);

	if (w->sum != all)
		wrong("sum of what was read", w->mem, all, w->sum);
}

void write_8(struct work *w, char *p, size_t n)
{
	uint64_t v = w->value;

	for (uint64_t *q = (void *)p, *end = q + n / 8; q < end; q += 8) {
		q[0] = v, q[1] = v, q[2] = v, q[3] = v;
		q[4] = v, q[5] = v, q[6] = v, q[7] = v;
	}
}

void write_16(struct work *w, char *p, size_t n)
{
	__m128i v = _mm_set1_epi64x(w->value);

	for (__m128i *q = (void *)p, *end = q + n / 16; q < end; q += 4)
		q[0] = v, q[1] = v, q[2] = v, q[3] = v;
}

AVX2 void write_32(struct work *w, char *p, size_t n)
{
	__m256i v = _mm256_set1_epi64x(w->value);

	for (__m256i *q = (void *)p, *end = q + n / 32; q < end; q += 4)
		q[0] = v, q[1] = v, q[2] = v, q[3] = v;
}

void write_rep(struct work *w, char *p, size_t n)
{
	__asm__ volatile("rep stosb" : "+D"(p), "+c"(n) : "a"(w->value) : "memory");
}

void write_nt(struct work *w, char *p, size_t n)
{
	__m128i v = _mm_set1_epi64x(w->value);

	for (__m128i *q = (void *)p, *end = q + n / 16; q < end; q += 4) {
		_mm_stream_si128(q, v);
		_mm_stream_si128(q + 1, v);
		_mm_stream_si128(q + 2, v);
		_mm_stream_si128(q + 3, v);
	}
}

void check_write(struct work *w, size_t n)
{
	for (uint64_t *q = (void *)w->mem, *end = (void *)covered(w, n); q < end; q++)
		if (*q != w->value)
			wrong("word written", q, w->value, *q);
}

void copy_8(struct work *w, char *p, size_t n)
{
	uint64_t *to = (void *)(p + w->all);

	for (uint64_t *q = (void *)p, *end = q + n / 8; q < end; q += 8, to += 8) {
		uint64_t a = q[0], b = q[1];

		to[0] = a, to[1] = b;
		a = q[2], b = q[3];
		to[2] = a, to[3] = b;
		a = q[4], b = q[5];
		to[4] = a, to[5] = b;
		a = q[6], b = q[7];
		to[6] = a, to[7] = b;
	}
}

void copy_16(struct work *w, char *p, size_t n)
{
	__m128i *to = (void *)(p + w->all);

	for (__m128i *q = (void *)p, *end = q + n / 16; q < end; q += 4, to += 4) {
		__m128i a = q[0], b = q[1], c = q[2], d = q[3];

		to[0] = a, to[1] = b, to[2] = c, to[3] = d;
	}
}

AVX2 void copy_32(struct work *w, char *p, size_t n)
{
	__m256i *to = (void *)(p + w->all);

	for (__m256i *q = (void *)p, *end = q + n / 32; q < end; q += 4, to += 4) {
		__m256i a = q[0], b = q[1], c = q[2], d = q[3];

		to[0] = a, to[1] = b, to[2] = c, to[3] = d;
	}
}

void copy_rep(struct work *w, char *p, size_t n)
{
	char *to = p + w->all;

	__asm__ volatile("rep movsb" : "+D"(to), "+S"(p), "+c"(n) : : "memory");
}

void copy_nt(struct work *w, char *p, size_t n)
{
	__m128i *to = (void *)(p + w->all);

	for (__m128i *q = (void *)p, *end = q + n / 16; q < end; q += 4, to += 4) {
		__m128i a = q[0], b = q[1], c = q[2], d = q[3];

		_mm_stream_si128(to, a);
		_mm_stream_si128(to + 1, b);
		_mm_stream_si128(to + 2, c);
		_mm_stream_si128(to + 3, d);
	}
}

/* Spoil the copy after the check, or the next check would pass without a copy. */
void check_copy(struct work *w, size_t n)
{
	for (char *p = w->mem, *end = covered(w, n); p < end; p += 8) {
		uint64_t *to = (void *)(p + w->all);

		if (*to != *(uint64_t *)p)
			wrong("word copied", to, *(uint64_t *)p, *to);
		*to = ~*to;
	}
}
