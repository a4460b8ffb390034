/* nearest.h: which known name somebody may have meant. Thread-safe. */
#ifndef PF_INTERNAL_NEAREST_H
#define PF_INTERNAL_NEAREST_H
#include <stddef.h>

/* How many single-letter insertions, deletions, replacements and swaps of neighbours lead from a to b (letter case
 * ignored, names beyond 63 letters cut) */
unsigned pf_name_distance(const char *a, const char *b);
/* Keeps the better of two candidates: call it for every known name, starting with *best = NULL. A name further off than
 * a third of its length (at least one) is no suggestion */
void pf_name_nearest(const char *name, const char *candidate, const char **best);
#endif
