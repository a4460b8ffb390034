#include "bench.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "../train/seconds.h"
#include "prefpga/internal/kernels.h"
#include "prefpga/internal/nearest.h"

#define SAMPLE_S 2e-3 /* a clock read costs nothing beside it */
enum { WARM_UP = 2 };

/* ---- what there is ---- */
static const struct pf_bench_work *const works[] = {
	&pf_bench_logprob,
	&pf_bench_logprob_bf16,
	&pf_bench_logit_grad,
	&pf_bench_logit_grad_bf16,
	&pf_bench_linear_logprob,
	&pf_bench_linear_logprob_bf16,
	&pf_bench_linear_logprob_mxint8,
	&pf_bench_linear_grad,
	&pf_bench_linear_grad_bf16,
	&pf_bench_linear_recompute,
	&pf_bench_linear_recompute_bf16,
	&pf_bench_pref,
	&pf_bench_step,
};
enum { WORKS = sizeof works / sizeof *works };

const struct pf_bench_work *pf_bench_work(unsigned i)
{
	return i < WORKS ? works[i] : NULL;
}

int pf_bench_find(const char *name, const struct pf_bench_work **work, struct pf_error *error)
{
	char known[WORKS][48], list[sizeof known + 2 * WORKS] = "";
	const char *best = NULL;
	for (unsigned i = 0; i < WORKS; i++) {
		const int low = works[i]->type[0] != 'f';
		snprintf(known[i], sizeof known[i], "%s%s%s", works[i]->name, low ? "-" : "",
		         low ? works[i]->type : "");
		if (strcmp(known[i], name) == 0)
			return *work = works[i], 0;
		pf_name_nearest(name, known[i], &best);
		snprintf(list + strlen(list), sizeof list - strlen(list), "%s%s", i ? ", " : "", known[i]);
	}
	return pf_fail(error, PF_E_UNKNOWN, "no work \"%s\"; known: %s%s%s%s", name, list,
	               best ? "; did you mean " : "", best ? best : "", best ? "?" : "");
}

/* ---- shapes ---- */
/* Heads of published models (their config.json), with tokens and layers that a small machine can do */
static const struct {
	const char *name;
	struct pf_bench_shape shape;
} presets[] = {
	{ "demo", { 2048, 260, 128, 3 } },          { "gpt2", { 2048, 50257, 768, 2 } },
	{ "qwen2-0.5b", { 1024, 151936, 896, 2 } }, { "llama3-1b", { 1024, 128256, 2048, 1 } },
	{ "llama2-7b", { 1024, 32000, 4096, 1 } },
};
enum { PRESETS = sizeof presets / sizeof *presets, LAYERS = 2 };

const char *pf_bench_preset(unsigned i, struct pf_bench_shape *shape)
{
	if (i >= PRESETS)
		return NULL;
	*shape = presets[i].shape;
	return presets[i].name;
}

static int not_a_shape(const char *text, struct pf_error *error)
{
	char list[256] = "";
	const char *best = NULL;
	for (unsigned i = 0; i < PRESETS; i++) {
		pf_name_nearest(text, presets[i].name, &best);
		snprintf(list + strlen(list), sizeof list - strlen(list), "%s%s", i ? ", " : "", presets[i].name);
	}
	return pf_fail(error, PF_E_ARGUMENT,
	               "\"%s\" is no shape: give tokens,vocabulary[,width], or one of %s, with blanks or ; between "
	               "shapes%s%s%s", text, list, best ? "; did you mean " : "", best ? best : "", best ? "?" : "");
}

static int check_number(double value, double most, const char *what, const char *text, struct pf_error *error)
{
	if (value >= 1 && value <= most)
		return 0;
	return pf_fail(error, PF_E_RANGE, "shape \"%s\": %s of %.0f; 1 to %.0f are possible", text, what, value, most);
}

int pf_bench_shape(const char *text, struct pf_bench_shape *shape, struct pf_error *error)
{
	double value[3] = { 0 };
	const char *at = text;
	unsigned count = 0;
	for (unsigned i = 0; i < PRESETS; i++)
		if (strcmp(text, presets[i].name) == 0)
			return *shape = presets[i].shape, 0;
	for (char *end; count < 3 && *at >= '0' && *at <= '9'; at = end + (*end == ',')) {
		value[count++] = (double)strtoull(at, &end, 10);
		if (*end != ',' || !end[1]) {
			at = end;
			break;
		}
	}
	if (*at || count < 2)
		return not_a_shape(text, error);
	int code = check_number(value[0], PF_ROWS_MAX, "tokens", text, error);
	if (!code)
		code = check_number(value[1], PF_VOCAB_MAX, "a vocabulary", text, error);
	if (!code && count == 3)
		code = check_number(value[2], PF_DEPTH_MAX * 16, "a width", text, error);
	*shape = (struct pf_bench_shape){ (uint32_t)value[0], (uint32_t)value[1], (uint32_t)value[2], LAYERS };
	return code;
}

/* ---- timing ---- */
static int time_runs(const struct pf_bench_work *work, void *state, unsigned count, double *seconds,
                     struct pf_error *error)
{
	const double began = pf_seconds();
	int code = 0;
	for (unsigned i = 0; !code && i < count; i++)
		code = work->run(state, error);
	*seconds = (pf_seconds() - began) / count;
	return code;
}

static double limit_seconds(const struct pf_bench_work *work, const struct pf_bench_shape *shape,
                            struct pf_yardstick *yardstick)
{
	return work->amount(shape) /
	       (work->limit == PF_BENCH_COPY ? pf_yardstick_copy(yardstick) : pf_yardstick_sgemm(yardstick));
}

int pf_bench_measure(const struct pf_bench_work *work, void *state, const struct pf_bench_shape *shape,
                     struct pf_yardstick *yardstick, struct pf_bench_times *times, void (*done)(void *context),
                     void *context, const volatile sig_atomic_t *stop, struct pf_error *error)
{
	double once = 0;
	int code = work->check(state, error);
	for (unsigned i = 0; !code && i < WARM_UP; i++)
		code = time_runs(work, state, 1, &once, error);
	const unsigned count = once > 0 && once < SAMPLE_S ? (unsigned)ceil(SAMPLE_S / once) : 1;
	for (unsigned i = 0; !code && i < times->repeats; i++) {
		if (stop && *stop)
			return pf_fail(error, PF_E_INTERRUPTED, "interrupted");
		code = time_runs(work, state, count, &times->second[i], error);
		times->limit[i] = limit_seconds(work, shape, yardstick);
		if (done)
			done(context);
	}
	return code;
}

/* ---- the model of a card ---- */
static const unsigned scalars[PF_KERNEL_COUNT] = {
#define SCALARS(kernel, file, state, lanes, brief) PF_SCALARS_##kernel,
	PF_KERNELS(SCALARS)
#undef SCALARS
};

int pf_bench_model(const struct pf_bench_work *work, const struct pf_bench_shape *shape, const char *name, uint32_t cus,
                   const struct pf_reports *reports, struct pf_bench_modelled *m, struct pf_error *error)
{
	enum { CUS_MOST = 64 };
	struct pf_job job[CUS_MOST];
	struct pf_cycles_card card;
	struct pf_energy_modelled energy;
	if (work->kernel < 0)
		return pf_fail(error, PF_E_UNSUPPORTED, "%s is more than a kernel: prefpga advise plays steps",
		               work->name);
	cus = cus < 1 ? 1 : cus > CUS_MOST ? CUS_MOST : cus;
	int code = pf_cycles_card(name, &card, error);
	if (!code)
		pf_reports_clock(reports, &card);
	const uint32_t each = (shape->tokens + cus - 1) / cus;
	uint32_t jobs = 0;
	for (uint32_t first = 0; !code && first < shape->tokens; first += each, jobs++) {
		uint32_t value[PF_OPERATION_VALUES] = { 0 };
		const uint32_t rows = shape->tokens - first < each ? shape->tokens - first : each;
		work->scalars(shape, rows, value);
		job[jobs] = (struct pf_job){ .kind = PF_JOB_RUN,
			                     .kernel = work->kernel,
			                     .after = { PF_JOB_NONE, PF_JOB_NONE, PF_JOB_NONE } };
		code = pf_reports_cost(reports, card.array, work->kernel, value, scalars[work->kernel], &job[jobs].cost,
		                       error);
	}
	if (!code)
		code = pf_energy_play(name, &card, 1, cus, job, jobs, &energy, error);
	if (code)
		return code;
	m->seconds = energy.seconds.value;
	m->joule = energy.total;
	m->reported = job[0].cost.cycles > 0 ? job[0].cost.cycles_reported / job[0].cost.cycles : 0;
	m->line_s = job[0].cost.port_most / (card.port_bytes * card.clock_hz);
	return 0;
}
