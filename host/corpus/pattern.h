/* pattern.h: the regular expressions of tokenizer files, through PCRE2.
 *
 * Files are written for Oniguruma's Ruby syntax. What means the same in PCRE2 is taken as it is (UTF, multi-line
 * anchors); \s and \S become White_Space, which is what they are there; what has another meaning or none (\w, \b, \h,
 * inner sets, recursion, verbs, inline m and s) is refused by name. Matching is bounded: a pattern that backtracks
 * without end is an error, never a hang. A pattern is thread-safe, a matcher belongs to one thread. */
#ifndef PF_CORPUS_PATTERN_H
#define PF_CORPUS_PATTERN_H
#include <stddef.h>
#include "prefpga/error.h"

struct pf_pattern;
struct pf_matcher;                     /* NULL begins one; it is made when first needed */

/* `literal`: the text stands for itself. Error texts lack file and field. Free it; NULL is allowed there */
int  pf_pattern_open(const char *text, size_t length, int literal, struct pf_pattern **pattern, struct pf_error *error);
void pf_pattern_close(struct pf_pattern *pattern);
void pf_matcher_close(struct pf_matcher *matcher);              /* NULL is allowed */

/* A walk over all matches in a text from left to right. Zero-initialise but for text and length (valid UTF-8) */
struct pf_matches { const char *text; size_t length, from, begin, end; int started; };
/* The next match [begin, end). An empty match at the end of the last one is none. 1, 0 at the end, -ENOMEM, or
 * PF_E_DATA when the pattern gives up */
int  pf_pattern_next(const struct pf_pattern *pattern, struct pf_matcher **matcher, struct pf_matches *matches);
#endif
