/* The cost model of the head: schedules worked out by hand, decisions that must come out, and that more work never
 * costs less, nor a faster machine more. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "host/train/cost.h"
#include "prefpga/internal/kernels.h"
#include "tests/cmocka.h"

/* A card that only its link and its cycles hold up: 1 GB/s each way, 1 GHz */
static struct pf_cost_place plain(uint32_t devices, uint32_t cus)
{
	struct pf_cost_place p = { .devices = devices, .cus = cus, .host_flops = 1e12 };
	p.card = (struct pf_cycles_card){ .clock_hz = 1e9, .port_bytes = 64, .bank_rate = 1e18, .link_in = 1e9,
		                          .link_out = 1e9, .port_latency_s = 1e-12, .memory_bytes = 1e12 };
	for (unsigned c = 0; c < PF_CYCLES_CLASSES; c++)
		p.card.class_rate[c] = 1e18;
	return p;
}

static struct pf_cost_head head_of(uint32_t tokens, uint32_t vocab, uint32_t dim, int trained)
{
	return (struct pf_cost_head){ tokens, vocab, dim, 1, trained, trained, PF_PRECISION_FP32, 0 };
}

static struct pf_cost cost_of(const struct pf_cost_place *p, const struct pf_cost_head *h)
{
	struct pf_cost cost;
	struct pf_error error = { 0 };
	if (pf_cost(p, h, &cost, &error))
		fail_msg("%s", error.text);
	return cost;
}

/* Seconds of one run of the fused head's kernels at 1 GHz */
static double run_s(int kernel, uint32_t tokens, uint32_t vocab, uint32_t depth, uint32_t mode)
{
	const uint32_t value[10] = { tokens, depth, vocab, mode };
	struct pf_run_cost c;
	const int back = kernel == PF_KERNEL_linear_grad || kernel == PF_KERNEL_linear_grad_bf16;
	assert_int_equal(pf_cycles_cost(kernel, value, back ? 10 : 7, &c, NULL), 0);
	return c.cycles / 1e9;
}

static void near(double got, double want)
{
	if (!(fabs(got - want) <= 1e-5 * fabs(want)))
		fail_msg("%.12g, by hand %.12g", got, want);
}

/* T = 128, V = 320, D = 64. One unit: everything follows everything */
static void one_unit_by_hand(void **state)
{
	const struct pf_cost_place p = plain(1, 1);
	struct pf_cost_head h = head_of(128, 320, 64, 1);
	struct pf_cost c = cost_of(&p, &h);
	const double w = 320 * 64 * 4e-9, x = 128 * 64 * 4e-9, records = 128 * 64e-9, coef = 128 * 4e-9;
	(void)state;
	near(c.plan[PF_COST_HOST].seconds, 3 * 2.0 * 128 * 320 * 64 / 1e12);
	near(c.plan[PF_COST_SPILL].seconds,
	     w + x + run_s(PF_KERNEL_linear_logprob, 128, 320, 4, PF_LINEAR_RAW) + records + coef +
	             run_s(PF_KERNEL_linear_grad, 128, 320, 4, PF_LINEAR_RAW | PF_LINEAR_DWEIGHT) + x + w);
	near(c.plan[PF_COST_RECOMPUTE].seconds,
	     w + x + run_s(PF_KERNEL_linear_logprob, 128, 320, 4, 0) + records + coef +
	             run_s(PF_KERNEL_linear_grad, 128, 320, 4, PF_LINEAR_DWEIGHT) + x + w);
	near(c.plan[PF_COST_SPILL].bytes_in, 1e9 * (w + x + coef));
	near(c.plan[PF_COST_SPILL].bytes_out, 1e9 * (records + x + w));
	near(c.plan[PF_COST_SPILL].card_bytes, 2e9 * w + 2e9 * x + 1e9 * records + 4.0 * 128 * 320);
	assert_int_equal(c.plan[PF_COST_SPILL].shards, 1);
	h.moves = 0;                           /* W and the optimizer's state stay on the card */
	c = cost_of(&p, &h);
	near(c.plan[PF_COST_SPILL].bytes_in, 1e9 * (x + coef));
	near(c.plan[PF_COST_SPILL].bytes_out, 1e9 * (records + x));
	h.backward = h.dweight = 0;            /* a reference: one product */
	c = cost_of(&p, &h);
	near(c.plan[PF_COST_HOST].seconds, 2.0 * 128 * 320 * 64 / 1e12);
	near(c.plan[PF_COST_RECOMPUTE].seconds, x + run_s(PF_KERNEL_linear_logprob, 128, 320, 4, 0) + records);
}

/* The same with a frozen reference in MXINT8: rows of a beat of elements and one of exponents, W resident */
static void a_reference_in_mxint8_by_hand(void **state)
{
	const struct pf_cost_place p = plain(1, 1);
	const struct pf_cost_head h = { .tokens = 128, .vocab = 320, .dim = 64, .precision = PF_PRECISION_MXINT8 };
	const struct pf_cost c = cost_of(&p, &h);
	const double x = 128 * 128e-9, records = 128 * 64e-9;
	(void)state;
	near(c.plan[PF_COST_HOST].seconds, 2.0 * 128 * 320 * 64 / 1e12);       /* the host's product is fp32 */
	near(c.plan[PF_COST_RECOMPUTE].seconds,
	     x + run_s(PF_KERNEL_linear_logprob_mxint8, 128, 320, 1, 0) + records);
	near(c.plan[PF_COST_RECOMPUTE].bytes_in, 1e9 * x);
	near(c.plan[PF_COST_RECOMPUTE].bytes_out, 1e9 * records);
	near(c.plan[PF_COST_RECOMPUTE].card_bytes, 320 * 128 + 1e9 * x + 1e9 * records);
}

/* A trained head in MXINT8 goes back in bf16, from kept logits: both forms of W and of the states go in */
static void a_policy_in_mxint8_by_hand(void **state)
{
	const struct pf_cost_place p = plain(1, 1);
	struct pf_cost_head h = head_of(128, 320, 64, 1);
	h.precision = PF_PRECISION_MXINT8;
	const struct pf_cost c = cost_of(&p, &h);
	const double w = 320 * (128 + 128) * 1e-9, x = 128 * (128 + 128) * 1e-9, dx = 128 * 128e-9;
	const double dw = 320 * 64 * 4e-9, records = 128 * 64e-9, coef = 128 * 4e-9;
	(void)state;
	assert_false(c.plan[PF_COST_RECOMPUTE].possible);
	near(c.plan[PF_COST_SPILL].seconds,
	     w + x + run_s(PF_KERNEL_linear_logprob_mxint8, 128, 320, 1, PF_LINEAR_RAW) + records + coef +
	             run_s(PF_KERNEL_linear_grad_bf16, 128, 320, 2, PF_LINEAR_RAW | PF_LINEAR_DWEIGHT) + dx + dw);
	near(c.plan[PF_COST_SPILL].card_bytes, 1e9 * (w + x + dx + dw + records) + 4.0 * 128 * 320);
}

/* 72 numbers are 3 beats of bf16, padded to 96; dW, which is fp32, is padded alike */
static void bf16_is_padded(void **state)
{
	const struct pf_cost_place p = plain(1, 1);
	struct pf_cost_head h = head_of(64, 64, 72, 1);
	h.precision = PF_PRECISION_BF16;
	const struct pf_cost c = cost_of(&p, &h);
	(void)state;
	near(c.plan[PF_COST_SPILL].bytes_in, 64 * 192 + 64 * 192 + 64 * 4);
	near(c.plan[PF_COST_SPILL].bytes_out, 64 * 64 + 64 * 192 + 64 * 96 * 4);
}

/* A host and kernels that take no time: eight blocks follow each other over the link, one way and back */
static void ready_logits_by_hand(void **state)
{
	struct pf_cost_place p = plain(1, 1);
	const struct pf_cost_head h = head_of(512, 1600, 64, 0);
	const double block = 64 * 1600 * 4e-9;
	(void)state;
	p.host_flops = 1e24;
	p.card.clock_hz = 1e18;
	const struct pf_cost c = cost_of(&p, &h);
	near(c.plan[PF_COST_LOGITS].seconds, 8 * block + 64 * 64e-9 + 64 * 4e-9 + 8 * block);
	near(c.plan[PF_COST_LOGITS].bytes_in, 8 * (1e9 * block + 64 * 4));
	p.host_flops = 2.0 * 512 * 1600 * 64;  /* one product a second: 8 blocks of 1/8 s, then 8 more */
	near(cost_of(&p, &h).plan[PF_COST_LOGITS].seconds,
	     1 + block + 64 * 64e-9 + 64 * 4e-9 + block + 1);
}

/* Four units, one block of tokens: only words can be shared. 1,024 are 256 a unit; the link takes no time */
static void few_tokens_share_the_words(void **state)
{
	struct pf_cost_place p = plain(1, 4);
	struct pf_cost_head h = head_of(64, 1024, 64, 0);
	(void)state;
	p.card.link_in = p.card.link_out = 1e18;
	const struct pf_cost few = cost_of(&p, &h);
	assert_int_equal(few.plan[PF_COST_RECOMPUTE].shards, 4);
	near(few.plan[PF_COST_RECOMPUTE].seconds, run_s(PF_KERNEL_linear_logprob, 64, 256, 4, PF_LINEAR_SHARD) +
	                                                  run_s(PF_KERNEL_linear_grad, 64, 256, 4, 0));
	p.card.link_in = p.card.link_out = 1e9;
	h.tokens = 4096;                       /* many tokens: states cost more than records */
	assert_int_equal(cost_of(&p, &h).plan[PF_COST_RECOMPUTE].shards, 1);
}

/* Of a schedule: what each card's jobs move into and out of its banks of W and of states, and whether a run of
 * linear_grad waits for another card's */
static void check_cards(const struct pf_cost_place *p, const struct pf_cost_head *h, uint32_t shards)
{
	double in[4] = { 0 }, out[4] = { 0 }, states[4] = { 0 };
	uint32_t runs[4] = { 0 };
	struct pf_job *job;
	size_t jobs;
	assert_true(p->devices <= 4);
	assert_int_equal(pf_cost_schedule(p, h, PF_COST_RECOMPUTE, shards, &job, &jobs, NULL), 0);
	for (size_t i = 0; i < jobs; i++) {
		const struct pf_job *j = &job[i], *before = NULL;
		in[j->device] += j->kind == PF_JOB_IN && j->bank == 1 ? j->bytes : 0;
		out[j->device] += j->kind == PF_JOB_OUT && j->bank == 1 ? j->bytes : 0;
		states[j->device] += j->kind == PF_JOB_IN && j->bank == 0 ? j->bytes : 0;
		runs[j->device] += j->kind == PF_JOB_RUN;
		if (j->kind != PF_JOB_RUN || j->kernel != PF_KERNEL_linear_grad)
			continue;
		for (int k = 0; k < PF_JOB_AFTER; k++) {
			before = j->after[k] != PF_JOB_NONE ? &job[j->after[k]] : NULL;
			assert_true(!before || before->kind == PF_JOB_HOST || before->device == j->device);
		}
	}
	double rows = 0, cards = 0;
	for (uint32_t d = 0; d < p->devices; d++) {
		const double words = shards > 1 ? (double)h->vocab / p->devices : h->vocab;
		near(in[d], runs[d] ? words * h->dim * 4 : 0);
		if (shards == 1)
			near(out[d], runs[d] ? words * h->dim * 4 : 0);
		rows += states[d] / (4.0 * h->dim);
		cards += runs[d] > 0;
	}
	near(rows, shards > 1 ? cards * h->tokens : h->tokens);
	free(job);
}

/* With fewer blocks than units the first or the last unit of a card may have nothing to do: W goes in, dW comes out and
 * the states go in all the same, once a card that has work, and cards do not wait for each other */
static void cards_whose_first_or_last_unit_rests(void **state)
{
	(void)state;
	for (uint32_t devices = 1; devices <= 4; devices++)
		for (uint32_t cus = 1; cus <= 4; cus++)
			for (uint32_t blocks = 1; blocks <= 18; blocks++) {
				const struct pf_cost_place p = plain(devices, cus);
				const struct pf_cost_head by_tokens = head_of(64 * blocks, 320, 64, 1);
				const struct pf_cost_head by_words = head_of(64, 64 * devices * cus, 64, 1);
				check_cards(&p, &by_tokens, 1);
				if (devices * cus > 1)
					check_cards(&p, &by_words, devices * cus);
			}
}

/* V = 320, D = 64: 1,280 beats. Behind dW on the card its norm, the norm to the host, AdamW; the states' gradient goes
 * out meanwhile. W, dW and two moments lie there */
static void an_optimizer_on_the_card_by_hand(void **state)
{
	const struct pf_cost_place p = plain(1, 1);
	const struct pf_cost_head without = { 128, 320, 64, 1, 1, 0, PF_PRECISION_FP32, 0 };
	struct pf_cost_head h = without;
	struct pf_cost c = cost_of(&p, &without);
	const double before = c.plan[PF_COST_SPILL].seconds, bytes = c.plan[PF_COST_SPILL].card_bytes;
	const double adamw = (4 * 1280 + 4 * 147) / 1e9;
	(void)state;
	h.optimizer = 1;
	c = cost_of(&p, &h);
	near(c.plan[PF_COST_SPILL].seconds, before + 32e-9 + adamw);   /* the norm takes 2 us, the states 33 */
	near(c.plan[PF_COST_SPILL].card_bytes, bytes + 2 * 320 * 64 * 4);
	h.moves = 1;
	assert_int_equal(pf_cost(&p, &h, &c, NULL), PF_E_UNSUPPORTED);
	h.moves = 0;
	const struct pf_cost_place two = plain(2, 1);
	assert_int_equal(pf_cost(&two, &h, &c, NULL), PF_E_UNSUPPORTED);
}

static void decisions(void **state)
{
	struct pf_cost_place p = plain(1, 1);
	struct pf_cost_head h = head_of(4096, 32000, 512, 0);
	struct pf_cost c;
	struct pf_error error;
	(void)state;
	c = cost_of(&p, &h);
	assert_int_equal(c.best, PF_COST_HOST);                /* 512 GFLOP/s of a unit against 1,000 */
	p.host_flops = 1e10;
	c = cost_of(&p, &h);
	assert_int_equal(c.best, PF_COST_SPILL);               /* 8 V bytes a token cost no 2 D V operations */
	assert_int_equal(c.best_card, c.best);
	p.card.memory_bytes = 4.0 * 4096 * 32000;              /* the spill alone takes it all */
	c = cost_of(&p, &h);
	assert_false(c.plan[PF_COST_SPILL].possible);
	assert_int_equal(c.best, PF_COST_RECOMPUTE);
	p.card.memory_bytes = 0.1 * 4096 * 32000;
	assert_int_equal(pf_cost(&p, &h, &c, &error), PF_E_MEMORY);
	assert_non_null(strstr(error.text, "smaller chunks"));
	assert_true(c.plan[PF_COST_HOST].possible);
	p = plain(1, 1);
	p.card.link_in = p.card.link_out = 1e14;               /* logits cost nothing, products the host does fast */
	p.card.clock_hz = 1e9;
	p.host_flops = 1e12;
	assert_int_equal(cost_of(&p, &h).best_card, PF_COST_LOGITS);
	h.vocab = PF_VOCAB_MAX + 1;
	assert_int_equal(pf_cost(&p, &h, &c, &error), PF_E_RANGE);
	h = head_of(1, 1, 1, 0);
	p.host_flops = NAN;
	assert_int_equal(pf_cost(&p, &h, &c, &error), PF_E_RANGE);
}

/* Copies and kernels share banks while they meet, and they meet less on a slower card: a schedule may gain a little */
#define ANOMALY 0.005

static void grows(const struct pf_cost *less, const struct pf_cost *more, const char *what)
{
	for (enum pf_cost_way w = 0; w < PF_COST_WAYS; w++)
		if (less->plan[w].possible && !(more->plan[w].seconds >= less->plan[w].seconds * (1 - ANOMALY)))
			fail_msg("%s: %s falls from %.9g to %.9g s", what, pf_cost_way_name(w), less->plan[w].seconds,
			         more->plan[w].seconds);
}

/* On every card that has figures, in a precision */
static void grow_all(enum pf_precision precision)
{
	static const char *const cards[] = { "u50", "u55c", "u200", "u250", "u280" };
	for (size_t i = 0; i < sizeof cards / sizeof *cards; i++) {
		struct pf_cost_place p = { .devices = 1, .cus = 1, .host_flops = 2e11 };
		assert_int_equal(pf_cycles_card(cards[i], &p.card, NULL), 0);
		p.card.memory_bytes = 1e13;
		struct pf_cost_head h = head_of(64, 4000, 128, 0);
		h.precision = precision;
		struct pf_cost before = cost_of(&p, &h), c;
		for (h.tokens = 128; h.tokens <= 8192; h.tokens *= 4, before = c)
			grows(&before, (c = cost_of(&p, &h), &c), "tokens");
		h.tokens = 1024;
		before = cost_of(&p, &h);
		for (h.vocab = 8000; h.vocab <= 256000; h.vocab *= 4, before = c)
			grows(&before, (c = cost_of(&p, &h), &c), "words");
		h.vocab = 32000;
		before = cost_of(&p, &h);
		for (h.dim = 256; h.dim <= 8192; h.dim *= 4, before = c)
			grows(&before, (c = cost_of(&p, &h), &c), "numbers");
		h.dim = 512;
		before = cost_of(&p, &h);
		h.dweight = 1;
		c = cost_of(&p, &h);
		grows(&before, &c, "dW");
		before = c;
		h.moves = 1;
		c = cost_of(&p, &h);
		grows(&before, &c, "W on its way");
		before = c;
		p.card.link_in /= 2;
		c = cost_of(&p, &h);
		grows(&before, &c, "a slower link");
		before = c;
		p.card.clock_hz /= 2;
		c = cost_of(&p, &h);
		grows(&before, &c, "a slower clock");
		before = c;
		p.host_flops /= 2;
		c = cost_of(&p, &h);
		grows(&before, &c, "a slower host");
	}
}

static void more_work_never_costs_less(void **state)
{
	(void)state;
	for (enum pf_precision p = 0; p < PF_PRECISIONS; p++)
		grow_all(p);
}

/* What host/train/fused.c relies on when it chooses between the two ways back: reading logits again is faster than
 * forming them again, on every card and at every size a model has */
static void spilling_is_faster_where_it_fits(void **state)
{
	static const char *const cards[] = { "u50", "u55c", "u200", "u250", "u280" };
	(void)state;
	for (size_t i = 0; i < sizeof cards / sizeof *cards; i++) {
		struct pf_cost_place p = { .devices = 1, .cus = 1, .host_flops = 2e11 };
		assert_int_equal(pf_cycles_card(cards[i], &p.card, NULL), 0);
		for (uint32_t dim = 64; dim <= 4096; dim *= 8)
			for (uint32_t tokens = 64; tokens <= 4096; tokens *= 8) {
				const struct pf_cost_head h = head_of(tokens, 32000, dim, 1);
				const struct pf_cost c = cost_of(&p, &h);
				assert_true(c.plan[PF_COST_SPILL].possible);
				assert_true(c.plan[PF_COST_SPILL].seconds < c.plan[PF_COST_RECOMPUTE].seconds);
			}
	}
}

static void what_it_is_told(void **state)
{
	const struct pf_device_facts sim = { .backend = "sim", .name = "simulated u55c" };
	const struct pf_device_facts cpu = { .backend = "cpu", .name = "host processor u55c" };
	const struct pf_cost_place p = plain(1, 1);
	const struct pf_cost_head h = head_of(64, 64, 64, 0);
	const struct pf_cost c = cost_of(&p, &h);
	char text[512];
	(void)state;
	assert_string_equal(pf_cost_card_of(&sim), "u55c");
	assert_null(pf_cost_card_of(&cpu));
	assert_true(pf_cost_host_flops(1) > 1e6);
	pf_cost_say(&c, "u55c", &p, text, sizeof text);
	assert_non_null(strstr(text, "modelled"));
	assert_non_null(strstr(text, "measured"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(one_unit_by_hand), cmocka_unit_test(a_reference_in_mxint8_by_hand),
		cmocka_unit_test(a_policy_in_mxint8_by_hand), cmocka_unit_test(bf16_is_padded),
		cmocka_unit_test(ready_logits_by_hand),
		cmocka_unit_test(few_tokens_share_the_words),
		cmocka_unit_test(cards_whose_first_or_last_unit_rests),
		cmocka_unit_test(an_optimizer_on_the_card_by_hand), cmocka_unit_test(decisions),
		cmocka_unit_test(more_work_never_costs_less), cmocka_unit_test(what_it_is_told),
		cmocka_unit_test(spilling_is_faster_where_it_fits),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
