/* bench.h: how fast a device does a piece of work, beside what this machine can do at most.
 *
 * A work is opened with its data on the device, compared with the plain reference (plain.h) on a part, and only then
 * timed: what computes wrong numbers has no speed. Warm-up runs are not counted. A sample lasts at least 2 ms (short
 * work is repeated within it) and has the yardstick measured right behind it, so that a machine that is busy with other
 * things slows both.
 *
 * One thread calls. */
#ifndef PF_BENCH_BENCH_H
#define PF_BENCH_BENCH_H
#include <signal.h>
#include <stdint.h>
#include "prefpga/cycles.h"
#include "prefpga/device.h"
#include "prefpga/energy.h"
#include "prefpga/reports.h"
#include "yardstick.h"

struct pf_bench_shape {
	uint32_t tokens, vocab, dim, layers;
}; /* dim 0: no hidden states, works on logits only */

struct pf_bench_task {
	struct pf_device *device;
	struct pf_bench_shape shape;
	unsigned threads;      /* of the host's own computing */
	uint64_t memory_bytes; /* of the device; 0: half of it */
};

enum pf_bench_limit { PF_BENCH_COPY, PF_BENCH_SGEMM };

struct pf_bench_work {
	const char *name, *type; /* "logit_grad", "bf16" */
	enum pf_bench_limit limit;
	int needs_dim;
	int kernel; /* enum pf_kernel of which a run is played on the model of a card; -1: none */
	/* Bytes that must move, or operations that must be done, at least */
	double (*amount)(const struct pf_bench_shape *shape);
	double (*pairs)(const struct pf_bench_shape *shape); /* pairs of a run; NULL: none */
	int (*open)(const struct pf_bench_task *task, void **state, struct pf_error *error);
	int (*check)(void *state, struct pf_error *error); /* PF_E_DATA: says what differs */
	int (*run)(void *state, struct pf_error *error);
	void (*close)(void *state); /* NULL is allowed */
	/* Scalars of the kernel that are not 0, in the order of its arguments. For kernel != -1 */
	void (*scalars)(const struct pf_bench_shape *shape, uint32_t rows, uint32_t *value);
	const char *kernels; /* that it runs, by name with blanks between: an image must have them */
};
/* Work number i, NULL past the last */
const struct pf_bench_work *pf_bench_work(unsigned i);
/* By name, with "-bf16" or "-mxint8" behind it for these types; the error names the nearest */
int pf_bench_find(const char *name, const struct pf_bench_work **work, struct pf_error *error);

/* "1024,32000,768" or a preset ("gpt2"). Errors name the text and what is possible */
int pf_bench_shape(const char *text, struct pf_bench_shape *shape, struct pf_error *error);
/* Name and shape of preset i, NULL past the last */
const char *pf_bench_preset(unsigned i, struct pf_bench_shape *shape);

enum { PF_BENCH_REPEATS_LEAST = 3, PF_BENCH_REPEATS_MOST = 99 };

struct pf_bench_times {
	unsigned repeats;
	double second[PF_BENCH_REPEATS_MOST]; /* of one run */
	double limit[PF_BENCH_REPEATS_MOST];  /* of the same bytes or operations at the yardstick's rate, beside it */
};
/* Compares, warms up, times. PF_E_DATA: the work computes wrong numbers, nothing was timed. done(context) after each
 * sample, may be NULL; *stop (may be NULL) ends it with PF_E_INTERRUPTED */
int pf_bench_measure(const struct pf_bench_work *work, void *state, const struct pf_bench_shape *shape,
                     struct pf_yardstick *yardstick, struct pf_bench_times *times, void (*done)(void *context),
                     void *context, const volatile sig_atomic_t *stop, struct pf_error *error);

/* A run on the model of a card whose `cus` compute units share the tokens; line_s: what its busiest port needs at
 * least, at the rate of its width and clock; joule: the card at rest included; reported: the share of its cycles that
 * reports (of the synthesis, or NULL) gave. PF_E_UNSUPPORTED for works that are more than a kernel */
struct pf_bench_modelled {
	double seconds, line_s, reported;
	struct pf_interval joule;
};
int pf_bench_model(const struct pf_bench_work *work, const struct pf_bench_shape *shape, const char *card, uint32_t cus,
                   const struct pf_reports *reports, struct pf_bench_modelled *modelled, struct pf_error *error);

extern const struct pf_bench_work pf_bench_logprob, pf_bench_logprob_bf16, pf_bench_logit_grad,
	pf_bench_logit_grad_bf16, pf_bench_linear_logprob, pf_bench_linear_logprob_bf16, pf_bench_linear_logprob_mxint8,
	pf_bench_linear_grad, pf_bench_linear_grad_bf16, pf_bench_linear_recompute, pf_bench_linear_recompute_bf16,
	pf_bench_pref, pf_bench_step;
#endif
