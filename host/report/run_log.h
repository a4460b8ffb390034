/* run_log.h: the metrics.jsonl of a run, read back: figures over steps. */
#ifndef PF_REPORT_RUN_LOG_H
#define PF_REPORT_RUN_LOG_H
#include <stddef.h>
#include "prefpga/error.h"

enum { PF_LOG_KEYS = 12, PF_LOG_SEEN = 64, PF_LOG_NAME = 48 };

struct pf_run_log {
	size_t  steps, room;
	double *step;                          /* [steps], ascending */
	double *value[PF_LOG_KEYS];            /* [steps] each: of the keys asked for; NaN: absent */
	char    seen[PF_LOG_SEEN][PF_LOG_NAME];        /* names of numbers that its lines have */
	unsigned names;
};

/* keys <= PF_LOG_KEYS. A last line that is still being written (no line feed) is left out. Errors name file and line;
 * then, too, *log is to be closed */
int  pf_run_log_read(const char *path, const char *const *key, unsigned keys, struct pf_run_log *log,
                     struct pf_error *error);
void pf_run_log_close(struct pf_run_log *log);
#endif
