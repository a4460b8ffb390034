/* What the conformance suite runs: edges of every shape, every status, random values; from one seed. Here the
 * randomness, the list, and what the cases of several kernels share. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "tests/cmocka.h"
#include "tests/conformance_make.h"

/* ---- randomness: splitmix64 ---- */
static uint64_t seed;

uint64_t conf_draw(void)
{
	uint64_t z = seed += 0x9e3779b97f4a7c15u;
	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
	z = (z ^ z >> 27) * 0x94d049bb133111ebu;
	return z ^ z >> 31;
}

uint32_t conf_below(uint32_t n)
{
	return (uint32_t)(conf_draw() % n);
}

double conf_uniform(double low, double high)
{
	return low + (high - low) * (double)(conf_draw() >> 11) * 0x1p-53;
}

double conf_normal(double sigma)
{
	return sigma * sqrt(-2 * log(conf_uniform(1e-18, 1))) * cos(6.28318530717958648 * conf_uniform(0, 1));
}

/* ---- the list ---- */
static struct conf_case *list;
static unsigned listed, room;

struct conf_case *conf_add(enum pf_kernel kernel, const char *name)
{
	if (listed == room) {
		room = room ? 2 * room : 64;
		list = realloc(list, room * sizeof *list);
		assert_non_null(list);
	}
	struct conf_case *c = &list[listed];
	memset(c, 0, sizeof *c);
	c->kernel = kernel;
	c->offset = listed++ % 3 == 2 ? PF_PAGE_BYTES : 0;
	snprintf(c->name, sizeof c->name, "%s %s", pf_kernel_rows[kernel].name, name);
	return c;
}

void conf_fit(struct conf_case *c)
{
	const struct pf_kernel_row *row = &pf_kernel_rows[c->kernel];
	for (unsigned i = 0; i < row->count; i++) {
		if (row->arg[i].dir == PF_DIR_VAL)
			continue;
		c->bytes[i] = row->elements(i, c->value) * row->arg[i].size;
		if (row->arg[i].dir == PF_DIR_OUT)
			continue;
		c->input[i] = calloc(1, c->bytes[i] + 1);
		assert_non_null(c->input[i]);
	}
}

struct conf_case *conf_cases(uint64_t first_seed, unsigned *count)
{
	seed = first_seed;
	conf_logits_cases();
	conf_pref_cases();
	conf_head_cases();
	*count = listed;
	return list;
}

void conf_free(struct conf_case *cases, unsigned count)
{
	for (unsigned k = 0; k < count; k++)
		for (unsigned i = 0; i < PF_ARGS_MAX; i++)
			free(cases[k].input[i]);
	free(cases);
	list = NULL;
	listed = room = 0;
}

void conf_targets(int32_t *target, uint32_t rows, uint32_t vocab)
{
	for (uint32_t t = 0; t < rows; t++) {
		const int32_t edge[] = { 0, (int32_t)vocab - 1, (int32_t)vocab, PF_IGNORE, INT32_MIN, INT32_MAX, -1 };
		uint32_t pick = conf_below(16);
		target[t] = pick < 7 ? edge[pick] : (int32_t)conf_below(vocab);
	}
}

uint32_t *conf_scalar(struct conf_case *c, const char *name)
{
	const struct pf_kernel_row *row = &pf_kernel_rows[c->kernel];
	for (unsigned i = 0; i < row->count; i++)
		if (strcmp(row->arg[i].name, name) == 0)
			return &c->value[i];
	fail_msg("%s has no %s", row->name, name);
	return NULL;
}

struct pf_row conf_record(const double *z, uint32_t vocab, int32_t target)
{
	struct pf_row row = { 0 };
	struct ref_row want;
	ref_logprob(z, vocab, target, &want);
	row.status = want.status;
	if (row.status)
		return row;
	long double bits = (want.max + want.log_sum) / 0.693147180559945309417232121458L;
	row.exp2 = (int32_t)floorl(bits);
	row.inv = (float)exp2l(row.exp2 - bits);
	row.rest = (float)want.rest;
	row.max = (float)want.max;
	row.log_sum = (float)want.log_sum;
	row.target = (float)want.target;
	row.logp = (float)want.logp;
	return row;
}
