/* conformance.h: one launch of a built kernel with everything it reads, made from a seed, and how its results are
 * judged.
 *
 * To add a kernel: a function in conformance_logits.c, _pref.c or _head.c that makes its cases, a function in
 * conformance_judge.c that compares its results with the reference, a line in each one's table. */
#ifndef PF_TESTS_CONFORMANCE_H
#define PF_TESTS_CONFORMANCE_H
#include "prefpga/internal/backend.h"
#include "tests/ref/linear.h"

struct conf_case {
	char            name[96];
	enum pf_kernel  kernel;
	int             in_place;              /* the first output lies where the first input does */
	int             bits_only;             /* no bound is stated: exact devices compare, others skip it */
	uint64_t        offset;                /* of every region in its buffer */
	uint32_t        value[PF_ARGS_MAX];    /* scalars, as bits */
	uint64_t        bytes[PF_ARGS_MAX];    /* of every region; 0 for scalars */
	unsigned char  *input[PF_ARGS_MAX];    /* NULL for outputs and scalars */
};

/* All cases, with random values from `first_seed`; *count of them. Freed by conf_free */
struct conf_case *conf_cases(uint64_t first_seed, unsigned *count);
void conf_free(struct conf_case *cases, unsigned count);

/* A case of the fused head as its reference wants it: matrices without ports and padding; freed by conf_head_free */
struct conf_head { struct ref_linear ref; float *hidden, *weight; };
void conf_head_make(const struct conf_case *c, struct conf_head *head);
void conf_head_free(struct conf_head *head);

/* NULL, or what is wrong with the outputs (output[i] for output argument i): a static text */
const char *conf_judge(const struct conf_case *c, unsigned char *const *output);
#endif
