/*
 * Declarations for all commands. Each command has its own file, prints its figures
 * on stdout with printf, and ends the program with die or usage if it fails.
 */
#ifndef BASELINE_H
#define BASELINE_H

#include <stdint.h>
#include <stddef.h>

#define PAGE 4096UL

struct command {
	const char *name;
	const char *args;	/* for the usage message */
	void (*run)(int argc, char **argv);	/* arguments only */
	int argc;	/* number of arguments */
};

/* now is CLOCK_MONOTONIC in nanoseconds. */
int64_t now(void);

/* number reads a positive decimal number, of bytes with a suffix K, M or G. */
uint64_t number(const char *text);

/* die prints the message and the error of errno, and exits with 1. */
_Noreturn void die(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* must returns a system call's result, or dies if it is -1. */
#define must(call) ({ long r_ = (long)(call); if (r_ == -1) die("%s", #call); r_; })

/*
 * area maps new memory of a backend, "anon", "memfd" or "secret", and doesn't
 * populate it. It stores the file, or -1, in *fd.
 */
char *area(const char *backend, size_t size, int *fd);

/* open_uffd opens a userfaultfd that also gets the kernel's own faults. */
int open_uffd(void);

/* parallel runs body(arg) for 0 to n-1 in n threads, and returns when all ended. */
void parallel(int n, void (*body)(int i, void *arg), void *arg);

void blk(int argc, char **argv);
void create(int argc, char **argv);
void exits(int argc, char **argv);
void fault(int argc, char **argv);
void memory(int argc, char **argv);
void pager(int argc, char **argv);
void touch(int argc, char **argv);

#endif
