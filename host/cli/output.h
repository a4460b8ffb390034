/* output.h: a file of results that is written through a stream and appears whole or not at all; pipes and
 * devices are written as they are. One thread per file. */
#ifndef PF_CLI_OUTPUT_H
#define PF_CLI_OUTPUT_H
#include <stdio.h>
#include "prefpga/error.h"

struct pf_output {
	FILE       *stream;                    /* in memory; whoever writes need not look at errors */
	const char *path;                      /* the caller's */
	char       *text;
	size_t      bytes;
};

/* Whether path can be written, for who computes for long before; NULL is fine */
int pf_output_check(const char *path, struct pf_error *error);
int pf_output_open(struct pf_output *o, const char *path, struct pf_error *error);
/* Replaces the file with what was written and frees it, also after an error, which leaves the file as it was */
int pf_output_close(struct pf_output *o, struct pf_error *error);
#endif
