#define _GNU_SOURCE
#include "baseline.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#ifndef SYS_memfd_secret
#define SYS_memfd_secret 447
#endif

int64_t now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000LL + t.tv_nsec;
}

_Noreturn void die(const char *format, ...)
{
	int e = errno;
	va_list args;

	va_start(args, format);
	fprintf(stderr, "baseline: ");
	vfprintf(stderr, format, args);
	va_end(args);
	if (e)
		fprintf(stderr, ": %s", strerror(e));
	fputc('\n', stderr);
	exit(1);
}

uint64_t number(const char *text)
{
	char *end;
	uint64_t n;
	int shift = 0;

	errno = 0;
	n = strtoull(text, &end, 10);
	switch (*end) {
	case 'G':
		shift += 10;
		/* fall through */
	case 'M':
		shift += 10;
		/* fall through */
	case 'K':
		shift += 10;
		end++;
	}
	if (errno || *text < '0' || *text > '9' || *end || !n || n > UINT64_MAX >> shift)
		die("%s: not a positive number", text);
	return n << shift;
}

char *area(const char *backend, size_t size, int *fd)
{
	struct rlimit all = { RLIM_INFINITY, RLIM_INFINITY };
	int flags = MAP_SHARED;

	*fd = -1;
	if (!strcmp(backend, "anon")) {
		flags = MAP_PRIVATE | MAP_ANONYMOUS;
	} else if (!strcmp(backend, "memfd")) {
		*fd = must(memfd_create("offmap-baseline", MFD_CLOEXEC));
	} else if (!strcmp(backend, "secret")) {
		/* Past RLIMIT_MEMLOCK some kernels raise SIGBUS at the first touch. */
		setrlimit(RLIMIT_MEMLOCK, &all);
		*fd = must(syscall(SYS_memfd_secret, O_CLOEXEC));
	} else {
		errno = 0;
		die("%s: no such memory", backend);
	}
	if (*fd >= 0)
		must(ftruncate(*fd, size));
	return (char *)must(mmap(NULL, size, PROT_READ | PROT_WRITE, flags | MAP_NORESERVE, *fd, 0));
}

struct part {
	void (*body)(int i, void *arg);
	void *arg;
	int i;
};

static void *run(void *p)
{
	struct part *part = p;

	part->body(part->i, part->arg);
	return NULL;
}

void parallel(int n, void (*body)(int i, void *arg), void *arg)
{
	pthread_t thread[n];
	struct part part[n];

	for (int i = 1; i < n; i++) {
		part[i] = (struct part){ body, arg, i };
		errno = pthread_create(&thread[i], NULL, run, &part[i]);
		if (errno)
			die("pthread_create");
	}
	body(0, arg);
	for (int i = 1; i < n; i++)
		pthread_join(thread[i], NULL);
}
