/* progress.h: how far a long job is, on stderr. On a terminal one line that is rewritten, elsewhere a line now and
 * then. One thread. */
#ifndef PF_PROGRESS_H
#define PF_PROGRESS_H
#include <stdint.h>
#include <stdio.h>

struct pf_progress {
	FILE       *out;
	const char *what;              /* "train": caller's string */
	uint64_t    first, total;      /* total 0: unknown */
	uint64_t    started_ns, shown_ns;
	int         terminal, width;   /* width: characters of the line now on the terminal */
};

/* `first`: how much is done already, for a resumed job; the remaining time is estimated from there */
void pf_progress_start(struct pf_progress *progress, FILE *out, const char *what, uint64_t first, uint64_t total);
/* Shows done and a short note ("loss 0.412"), at most ten times a second on a terminal, else every ten seconds */
void pf_progress_show(struct pf_progress *progress, uint64_t done, const char *note);
/* Shows the last state whatever the time, and ends the line. Call before printing anything else */
void pf_progress_finish(struct pf_progress *progress, uint64_t done, const char *note);
/* For callers that know the total: shows, and finishes when all is done. context: the progress */
void pf_progress_part(void *context, uint64_t done, uint64_t total);
#endif
