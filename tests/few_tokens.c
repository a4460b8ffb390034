/* Few tokens on many compute units of a card, simulated ones or those that are named: strips of single blocks and
 * ranges of words keep every unit at work and change no bit of records, sums, gradients and filter, whatever the number
 * of units, the precision and the way back. What one unit computes is held against the reference by tests of the
 * kernels. */
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "host/train/fused.h"
#include "prefpga/internal/kernels.h"
#include "tests/head_numbers.h"

enum { D = 48, T_MOST = 1200, V_MOST = 1300, B = 2 };

struct shape {
	uint32_t tokens, vocab;
	enum pf_precision precision;
	enum pf_way way;
	int dweight;
	float filter, entropy;
};

struct numbers {
	float          hidden[T_MOST * D], weight[V_MOST * D], coef[T_MOST], dhidden[T_MOST * D], dweight[V_MOST * D];
	int32_t        target[T_MOST];
	struct pf_seq  sum[B];
	struct pf_row  row[T_MOST];
	struct pf_filtered filtered[T_MOST];
};

/* Some of everything: words that are equal, ignored and impossible targets, a token without numbers */
static struct numbers *make_numbers(const struct shape *s)
{
	struct numbers *n = calloc(1, sizeof *n);
	assert_non_null(n);
	draw_state = s->tokens * 31 + s->vocab;
	for (size_t i = 0; i < s->tokens * D; i++)
		n->hidden[i] = draw(1);
	for (size_t i = 0; i < s->vocab * D; i++)
		n->weight[i] = draw(1);
	for (uint32_t v = 0; v < 40 && v < s->vocab / 2; v++)  /* the largest logit is often there twice */
		for (size_t d = 0; d < D; d++)
			n->weight[(s->vocab - 1 - v) * D + d] = n->weight[v * D + d] *= 3;
	for (uint32_t t = 0; t < s->tokens; t++) {
		n->coef[t] = draw(1);
		n->target[t] = t % 40 == 7 ? PF_IGNORE : (int32_t)(t * 7919 % s->vocab);
	}
	if (s->tokens > 20 && s->precision != PF_PRECISION_MXINT8) {
		n->hidden[11 * D + 5] = NAN;
		n->target[12] = (int32_t)s->vocab;
		n->target[13] = INT32_MAX;
	}
	return n;
}

/* Runs of the forward's kernel and of seq_sum, runs of the backward's; tokens of the longest of these */
struct runs { uint64_t forward, backward; uint32_t longest; };

static _Atomic uint32_t longest;

static void look(void *context, const struct pf_operation *o)
{
	(void)context;
	uint32_t before = longest;
	const int back = o->kernel == PF_KERNEL_linear_grad || o->kernel == PF_KERNEL_linear_grad_bf16;
	while (o->kind == PF_OP_RUN && back && o->value[0] > before &&
	       !atomic_compare_exchange_weak(&longest, &before, o->value[0]))
		;
}

static struct runs run(const char *spec, const struct shape *s, struct numbers *n)
{
	struct pf_device *device = open_device_with(spec, &(struct pf_device_options){ .operation = look });
	const struct pf_fused_options options = { .device = device, .vocab = s->vocab, .dim = D, .backward = 1,
		                                  .precision = s->precision, .way = s->way, .filter = s->filter,
		                                  .form = { 1.25f, s->filter > 0 ? 0 : 20, 0.9f, 0, s->entropy } };
	const uint32_t third = s->tokens / 3;
	const struct pf_span span[B] = { { 0, third, third, 0 }, { third, s->tokens, s->tokens, 0 } };
	const struct pf_fused_weight weight = { n->weight, NULL, 1, s->precision };
	const struct pf_fused_tokens tokens = { n->hidden, n->target, span, s->tokens, B, 0, 0 };
	struct pf_device_counts count[3];
	struct pf_error error = { 0 };
	struct pf_fused *fused;
	longest = 0;
	if (pf_fused_open(&options, &fused, &error))
		fail_msg("%s", error.text);
	for (int turn = 0; turn < 2; turn++) {         /* the second finds all buffers there */
		pf_device_counts(device, &count[0]);
		if (pf_fused_forward(fused, &weight, &tokens, n->sum, n->row, &error) || pf_fused_wait(fused, &error))
			fail_msg("%s: %s", spec, error.text);
		pf_device_counts(device, &count[1]);
		if (pf_fused_backward(fused, n->coef, n->dhidden, s->dweight ? n->dweight : NULL, NULL, &error) ||
		    pf_fused_wait(fused, &error))
			fail_msg("%s: %s", spec, error.text);
		pf_device_counts(device, &count[2]);
	}
	if (s->filter > 0)
		memcpy(n->filtered, pf_fused_filtered(fused), s->tokens * sizeof *n->filtered);
	pf_fused_close(fused);
	pf_device_close(device);
	return (struct runs){ count[1].runs - count[0].runs, count[2].runs - count[1].runs, longest };
}

static char *simulated[] = { "sim:u55c*2", "sim:u250*3", "sim:u55c*8@v1", "sim:u55c*16" };
static char **card = simulated;
static int cards = sizeof simulated / sizeof *simulated;

static void no_bit_depends_on_the_units(void **state)
{
	static const struct shape shapes[] = {
		{ 1, 1300, PF_PRECISION_FP32, PF_WAY_SPILL, 1, 0, 0 },
		{ 63, 1037, PF_PRECISION_FP32, PF_WAY_RECOMPUTE, 1, 0, 0.01f },
		{ 64, 1035, PF_PRECISION_BF16, PF_WAY_SPILL, 0, 0, 0 },
		{ 65, 700, PF_PRECISION_MXINT8, PF_WAY_SPILL, 1, 0, 0 },
		{ 100, 515, PF_PRECISION_FP32, PF_WAY_SPILL, 1, 1e-4f, 0 },
		{ 130, 1038, PF_PRECISION_FP32, PF_WAY_SPILL, 0, 1e-4f, 0 },
		{ 200, 259, PF_PRECISION_FP32, PF_WAY_SPILL, 1, 0, 0 },
		{ 700, 301, PF_PRECISION_BF16, PF_WAY_RECOMPUTE, 1, 0, 0.01f },
		{ 1200, 301, PF_PRECISION_FP32, PF_WAY_SPILL, 1, 1e-4f, 0 },
	};
	(void)state;
	for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
		struct numbers *want = make_numbers(&shapes[i]);
		run("sim:u55c*1", &shapes[i], want);
		for (int k = 0; k < cards; k++) {
			struct numbers *n = make_numbers(&shapes[i]);
			run(card[k], &shapes[i], n);
			assert_memory_equal(n->row, want->row, sizeof n->row);
			assert_memory_equal(n->sum, want->sum, sizeof n->sum);
			assert_memory_equal(n->dhidden, want->dhidden, sizeof n->dhidden);
			assert_memory_equal(n->dweight, want->dweight, sizeof n->dweight);
			assert_memory_equal(n->filtered, want->filtered, sizeof n->filtered);
			free(n);
		}
		free(want);
	}
}

/* One run of seq_sum beside: as many runs forward as there are units, if tokens and words are enough for that,
 * and about as many tokens for each on the way back */
static void every_unit_has_work(void **state)
{
	static const struct { const char *spec; uint32_t tokens, vocab; uint64_t forward, backward; uint32_t longest; }
	cases[] = {
		{ "sim:u55c*1", 40, 1300, 1, 1, 40 },    { "sim:u55c*2", 40, 1300, 2, 1, 40 },
		{ "sim:u55c*8", 40, 1300, 5, 1, 40 },    { "sim:u55c*8", 40, 259, 1, 1, 40 },
		{ "sim:u55c*4", 100, 1300, 4, 2, 64 },   { "sim:u55c*3", 100, 1300, 2, 2, 64 },
		{ "sim:u55c*3", 192, 301, 3, 3, 64 },    { "sim:u55c*2", 1200, 301, 2, 2, 640 },
		{ "sim:u55c*2", 1100, 301, 2, 2, 576 },  { "sim:u55c*8", 1200, 301, 7, 7, 192 },
		{ "sim:u55c*16", 1200, 1300, 10, 10, 128 }, { "sim:u55c*16", 200, 1300, 16, 4, 64 },
	};
	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		const struct shape s = { cases[i].tokens, cases[i].vocab, PF_PRECISION_FP32, PF_WAY_SPILL, 0, 0, 0 };
		struct numbers *n = make_numbers(&s);
		const struct runs got = run(cases[i].spec, &s, n);
		if (got.forward != cases[i].forward + 1 || got.backward != cases[i].backward ||
		    got.longest != cases[i].longest)
			fail_msg("%s, %u tokens, %u words: %llu runs forward, %llu back, of at most %u tokens",
			         cases[i].spec, s.tokens, s.vocab, (unsigned long long)got.forward,
			         (unsigned long long)got.backward, got.longest);
		free(n);
	}
}

/* Arguments: other cards than the simulated ones */
int main(int argc, char **argv)
{
	card = argc > 1 ? argv + 1 : card;
	cards = argc > 1 ? argc - 1 : cards;
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(no_bit_depends_on_the_units),
		cmocka_unit_test(every_unit_has_work),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
