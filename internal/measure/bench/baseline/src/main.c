/*
 * baseline measures the cost of the kernel and the processor alone, without a VMM
 * or Go. offmap's figures are compared with these.
 *
 *	baseline COMMAND ARGS...
 *
 * Figures go to stdout, separated by white space. Errors go to stderr, with exit
 * status 1.
 */
#define _GNU_SOURCE
#include "baseline.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct command commands[] = {
	{ "blk", "FILE read|write random|sequence anon|memfd|secret SIZE REQUESTS BUFFERS", blk, 7 },
	{ "create", "anon|memfd|secret BYTES", create, 2 },
	{ "exits", "out|in|mmio COUNT", exits, 2 },
	{ "fault", "copy|continue FAULTS", fault, 2 },
	{ "memory", "THREADS BYTES KIND:AT:SIZE:STRIDE:NS,...", memory, 3 },
	{ "pager", "PAGES WINDOW TOUCHES STEP", pager, 4 },
	{ "touch", "anon|memfd|secret BYTES THREADS", touch, 3 },
};

int main(int argc, char **argv)
{
	size_t n = sizeof commands / sizeof *commands;

	for (size_t i = 0; argc > 1 && i < n; i++) {
		const struct command *c = &commands[i];

		if (strcmp(argv[1], c->name))
			continue;
		if (argc - 2 != c->argc) {
			fprintf(stderr, "baseline: usage: baseline %s %s\n", c->name, c->args);
			return 1;
		}
		c->run(argc - 2, argv + 2);
		if (fflush(stdout) || ferror(stdout))
			die("write");
		return 0;
	}
	fprintf(stderr, "baseline: usage:\n");
	for (size_t i = 0; i < n; i++)
		fprintf(stderr, "  baseline %s %s\n", commands[i].name, commands[i].args);
	return 1;
}
