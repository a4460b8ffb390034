/* metrics.h: metrics.jsonl: one JSON object a step, appended and flushed, cut back to a checkpoint on resume.
 *
 * Not thread-safe; one writer per file. */
#ifndef PF_REPORT_METRICS_H
#define PF_REPORT_METRICS_H
#include <stddef.h>
#include <stdint.h>
#include "prefpga/error.h"

struct pf_metrics;

/* Opens path for appending; keep >= 0 first cuts the file back to its first `keep` bytes (a checkpoint's position),
 * keep < 0 starts it anew; what is not a regular file (/dev/null, a FIFO) is never cut. path NULL: nothing is written,
 * every call succeeds. Fails if the file is shorter than keep */
int pf_metrics_open(const char *path, int64_t keep, struct pf_metrics **metrics, struct pf_error *error);
void pf_metrics_close(struct pf_metrics *metrics);              /* NULL is allowed */
/* A line is begun, given fields, ended. A value that is NaN or infinite is left out: absent, not 0 */
void pf_metrics_number(struct pf_metrics *metrics, const char *key, double value);
void pf_metrics_count(struct pf_metrics *metrics, const char *key, uint64_t value);
/* Appends an object of n fields to the list `key` of the line */
struct pf_metrics_field { const char *key, *text; double number; };     /* text NULL: the number */
void pf_metrics_append(struct pf_metrics *metrics, const char *key, const struct pf_metrics_field *field, size_t n);
/* Such an object by itself, jansson's; the caller owns the reference */
struct json_t *pf_metrics_object(const struct pf_metrics_field *field, size_t n);
int pf_metrics_end(struct pf_metrics *metrics, struct pf_error *error);
/* Bytes of the complete lines so far: what a checkpoint stores */
int64_t pf_metrics_position(const struct pf_metrics *metrics);

/* 95 % Wilson interval of a share of `hits` in `count` (Wilson 1927); 0..1 for count 0 */
void pf_wilson(uint64_t hits, uint64_t count, double *low, double *high);
#endif
