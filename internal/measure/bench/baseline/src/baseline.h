/*
 * What the commands share. Each lies in a file of its own, prints its figures
 * on stdout with printf, and ends the program with die or usage where it can't.
 */
#ifndef BASELINE_H
#define BASELINE_H

#include <stdint.h>
#include <stddef.h>

#define PAGE 4096UL

struct command {
	const char *name;
	const char *args;	/* for people */
	void (*run)(int argc, char **argv);	/* arguments only */
	int argc;	/* how many it takes */
};

/* now is CLOCK_MONOTONIC in nanoseconds. */
int64_t now(void);

/* number reads a positive decimal number, of bytes with a suffix K, M or G. */
uint64_t number(const char *text);

/* die prints the message and what errno says, and exits with 1. */
_Noreturn void die(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* must returns what a system call does, or dies of -1. */
#define must(call) ({ long r_ = (long)(call); if (r_ == -1) die("%s", #call); r_; })

/*
 * area is fresh memory of a backend: "anon", "memfd" or "secret". It is mapped
 * and not populated. The file, or -1, goes to *fd.
 */
char *area(const char *backend, size_t size, int *fd);

/* open_uffd is a userfaultfd that catches the kernel's own faults. */
int open_uffd(void);

/* parallel runs body(arg) for 0 to n-1 in n threads, and returns when all ended. */
void parallel(int n, void (*body)(int i, void *arg), void *arg);

void create(int argc, char **argv);
void exits(int argc, char **argv);
void fault(int argc, char **argv);
void memory(int argc, char **argv);
void pager(int argc, char **argv);
void touch(int argc, char **argv);

#endif
