/* Whether to offload: answers against arithmetic, verdicts at both ends, break-even asked back, images by their ports
 * and logic. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "host/report/chart.h"
#include "host/report/offload.h"
#include "tests/cmocka.h"

static struct pf_offload ask_in(enum pf_precision precision, const char *card, uint32_t cards, uint32_t units,
                                double flops, uint32_t tokens, enum pf_offload_head head)
{
	struct pf_offload_shape shape = pf_offload_plain(768, 50257, 12, tokens);
	const struct pf_offload_place place = { card, cards, units, flops, NULL };
	struct pf_offload x;
	struct pf_error error;
	shape.precision = precision;
	if (pf_offload_ask(&place, &shape, head, &x, &error))
		fail_msg("%s: %s", card, error.text);
	return x;
}

static struct pf_offload ask_on(const char *card, uint32_t cards, uint32_t units, double flops, uint32_t tokens,
                                enum pf_offload_head head)
{
	return ask_in(PF_PRECISION_FP32, card, cards, units, flops, tokens, head);
}

/* Operations by hand: 2 T V D a product, three, two or one of them */
static void hosts_times(void **state)
{
	const double product = 2.0 * 8192 * 50257 * 768;
	static const double products[PF_OFFLOAD_HEADS] = { 3, 3, 2, 1 };
	(void)state;
	for (enum pf_offload_head h = 0; h < PF_OFFLOAD_HEADS; h++) {
		const struct pf_offload x = ask_on("u55c", 1, 0, 1e11, 8192, h);
		assert_true(fabs(x.operations / (products[h] * product) - 1) <= 1e-12);
		assert_true(fabs(x.host_s * 1e11 / x.operations - 1) <= 1e-12);
		assert_true(fabs(x.body_s * 1e11 / (6.0 * 8192 * 12 * 12 * 768 * 768) - 1) <= 1e-12);
	}
}

/* A unit has 256 multiply-adds a cycle of at most 300 MHz; a link moves at most 12.2 GB/s. Nothing is faster, and the
 * pieces are intervals in order */
static void cards_obey_their_limits(void **state)
{
	static const char *const cards[] = { "u50", "u55c", "u200", "u250", "u280" };
	(void)state;
	for (int i = 0; i < 5; i++)
		for (enum pf_offload_head h = 0; h < PF_OFFLOAD_HEADS; h++)
			for (uint32_t units = 1; units <= 4; units *= 2) {
				const struct pf_offload x = ask_on(cards[i], 1, units, 1e11, 2048, h);
				assert_int_equal(x.units, units);
				assert_true(x.way == PF_COST_SPILL || x.way == PF_COST_RECOMPUTE);
				assert_true(x.head_s.value >= x.operations / (units * 512.0 * 300e6));
				assert_true(x.head_s.value >= x.plan.bytes_in / 12.2e9 &&
				            x.head_s.value >= x.plan.bytes_out / 12.2e9);
				assert_true(x.head_s.low > 0 && x.head_s.low <= x.head_s.value &&
				            x.head_s.value <= x.head_s.high);
				assert_true(x.energy.total.low > 0 && x.energy.total.low <= x.energy.total.value &&
				            x.energy.total.value <= x.energy.total.high);
				assert_true(fabs(x.head_s.value - x.plan.seconds) <= 1e-9 * x.plan.seconds);
			}
}

static void verdicts(void **state)
{
	(void)state;
	assert_int_equal(ask_on("u55c", 1, 1, 1e8, 8192, PF_OFFLOAD_TRAINED).verdict, PF_VERDICT_YES);
	assert_int_equal(ask_on("u55c", 1, 1, 1e15, 8192, PF_OFFLOAD_TRAINED).verdict, PF_VERDICT_NO);
	const struct pf_offload x = ask_on("u55c", 1, 1, 1e11, 8192, PF_OFFLOAD_TRAINED);
	const struct pf_offload equal = ask_on("u55c", 1, 1, x.host_flops_equal, 8192, PF_OFFLOAD_TRAINED);
	assert_int_equal(equal.verdict, PF_VERDICT_OPEN);
	assert_true(fabs(equal.host_s / equal.head_s.value - 1) <= 1e-9);
	assert_true(fabs(equal.kernels_faster - 1) <= 1e-6);
	assert_true(isinf(ask_on("u55c", 1, 1, 1e15, 8192, PF_OFFLOAD_TRAINED).kernels_faster));
}

/* Where W goes over the link every step, few tokens do not pay for it; the number is asked back on both sides */
static void break_even(void **state)
{
	const struct pf_offload_shape shape = pf_offload_plain(768, 50257, 12, 8192);
	const struct pf_offload far = ask_on("u55c", 1, 1, 1e11, 65536, PF_OFFLOAD_TRAINED);
	const struct pf_offload_place place = { "u55c", 1, 1, 0.9 * far.host_flops_equal, NULL };
	uint32_t most;
	const uint32_t tokens = pf_offload_tokens(&place, &shape, PF_OFFLOAD_TRAINED, &most);
	(void)state;
	assert_true(tokens > 64 && tokens <= 65536);
	struct pf_offload x = ask_on("u55c", 1, 1, place.host_flops, tokens, PF_OFFLOAD_TRAINED);
	assert_true(x.head_s.value < x.host_s);
	x = ask_on("u55c", 1, 1, place.host_flops, tokens / 2, PF_OFFLOAD_TRAINED);
	assert_true(x.head_s.value >= x.host_s);
	const struct pf_offload_place fast = { "u55c", 1, 1, 1e15, NULL };
	assert_int_equal(pf_offload_tokens(&fast, &shape, PF_OFFLOAD_TRAINED, &most), 0);
	assert_int_equal(most, 0);
}

/* 4 T V bytes of logits do not fit 16 GiB from 85,000 tokens on; forming them again is a fourth product, for which a
 * host of 120 GFLOP/s is fast enough, and not for three */
static void break_even_ends_where_memory_does(void **state)
{
	const struct pf_offload_shape shape = pf_offload_plain(768, 50257, 12, 8192);
	const struct pf_offload_place place = { "u55c", 1, 1, 1.2e11, NULL };
	uint32_t most;
	const uint32_t tokens = pf_offload_tokens(&place, &shape, PF_OFFLOAD_TRAINED, &most);
	(void)state;
	assert_true(tokens >= 64 && tokens <= 8192);
	assert_int_equal(most, 65536);
	const struct pf_offload fits = ask_on("u55c", 1, 1, 1.2e11, 65536, PF_OFFLOAD_TRAINED);
	const struct pf_offload beyond = ask_on("u55c", 1, 1, 1.2e11, 131072, PF_OFFLOAD_TRAINED);
	assert_true(fits.head_s.value < fits.host_s && beyond.head_s.value >= beyond.host_s);
	const struct pf_offload_place slow = { "u55c", 1, 1, 1e9, NULL };
	assert_true(pf_offload_tokens(&slow, &shape, PF_OFFLOAD_TRAINED, &most) && most == 1048576);
}

/* One token and one word: two launches of 119 us are most of the time, and kernels that take none do not help */
static void launches_bound_a_small_head(void **state)
{
	const struct pf_offload_place place = { "u55c", 1, 1, 1e11, NULL };
	const struct pf_offload_shape shape = pf_offload_plain(100, 1, 1, 1);
	struct pf_offload x;
	(void)state;
	assert_int_equal(pf_offload_ask(&place, &shape, PF_OFFLOAD_TRAINED, &x, NULL), 0);
	assert_true(x.plan.card_s > 2 * 119e-6 && x.plan.card_s > x.head_s.value / 2);
	assert_int_equal(x.bound, PF_BOUND_WAITING);
	assert_true(fabs(x.busy[PF_BOUND_ARRAY] + x.busy[PF_BOUND_PORT] - (x.plan.card_s - 2 * 119e-6)) <= 1e-9);
	const struct pf_offload_place slow = { "u55c", 1, 1, x.operations / 200e-6, NULL };
	assert_int_equal(pf_offload_ask(&slow, &shape, PF_OFFLOAD_TRAINED, &x, NULL), 0);
	assert_true(isinf(x.kernels_faster));
}

static struct pf_offload_image image_of(const char *card, enum pf_precision precision, enum pf_offload_head head,
                                        uint32_t units)
{
	struct pf_offload_image image;
	pf_offload_find_image(card, precision, head, units, &image);
	return image;
}

/* By hand, from bitstreams/KERNELS.md: seq_sum and pref have 2 + 4 ports, a unit 7 + 7 (1, 4, 2 by class, twice). HBM
 * has 30 for all, DDR 15 a class */
static void ports(void **state)
{
	(void)state;
	assert_int_equal(image_of("u55c", PF_PRECISION_FP32, PF_OFFLOAD_TRAINED, 0).by_ports, (30 - 6) / 14);
	assert_int_equal(image_of("u280", PF_PRECISION_BF16, PF_OFFLOAD_FROZEN, 0).by_ports, (30 - 6) / 14);
	assert_int_equal(image_of("u250", PF_PRECISION_FP32, PF_OFFLOAD_TRAINED, 0).by_ports, 15 / 8);
	/* only the forward is more than once there: 30 less 6 and 7 of linear_grad */
	assert_int_equal(image_of("u55c", PF_PRECISION_FP32, PF_OFFLOAD_REFERENCE, 0).by_ports, (30 - 13) / 7);
	assert_int_equal(image_of("nothing", PF_PRECISION_FP32, PF_OFFLOAD_TRAINED, 0).by_ports, 0);
}

/* DSPs by hand, from operations.def: seq_sum 9, pref 637, linear_logprob 2,521, linear_grad 2,682, of 9,024; with half
 * the array 1,881 and 2,042, of the U50's 5,952 */
static void logic(void **state)
{
	struct pf_offload_image i = image_of("u55c", PF_PRECISION_FP32, PF_OFFLOAD_TRAINED, 0);
	(void)state;
	assert_string_equal(i.name, "fused");
	assert_string_equal(i.resource, "dsp");
	assert_true(fabs(i.share - (9 + 637 + 2521 + 2682) / 9024.0) <= 1e-9);
	assert_true(i.placed && i.units == 1 && i.by_logic == 1);
	i = image_of("u55c", PF_PRECISION_FP32, PF_OFFLOAD_TRAINED, 2);
	assert_true(!i.placed && i.units == 2 && fabs(i.share - (9 + 637 + 2 * (2521 + 2682)) / 9024.0) <= 1e-9);
	i = image_of("u50", PF_PRECISION_FP32, PF_OFFLOAD_TRAINED, 0);
	assert_true(i.placed && i.units == 1 && fabs(i.share - (9 + 637 + 1881 + 2042) / 5952.0) <= 1e-9);
	assert_string_equal(image_of("u55c", PF_PRECISION_FP32, PF_OFFLOAD_RESIDENT, 0).name, "resident");
	assert_string_equal(image_of("u55c", PF_PRECISION_BF16, PF_OFFLOAD_TRAINED, 0).name, "low");
	i = image_of("u200", PF_PRECISION_FP32, PF_OFFLOAD_TRAINED, 0); /* nobody says what it has */
	assert_true(i.placed && isnan(i.share) && i.by_logic == PF_OFFLOAD_UNITS && i.units == 1);
}

/* A time that is no help without an image that can be placed: two units on a card that has ports and DSPs for one */
static void what_is_not_placed(void **state)
{
	const struct pf_offload x = ask_on("u55c", 1, 2, 1e8, 8192, PF_OFFLOAD_TRAINED);
	(void)state;
	assert_true(x.head_s.high < x.host_s);
	assert_int_equal(x.verdict, PF_VERDICT_UNPLACED);
	assert_int_equal(ask_on("u55c", 1, 2, 1e15, 8192, PF_OFFLOAD_TRAINED).verdict, PF_VERDICT_NO);
}

/* MXINT8 has eight times the products a cycle. By hand for one tile of 64 x 64 at D = 768: 12 beats of 64 take 128
 * cycles, 12 pieces of fp32 1,037; the scan goes by beside them. What both do besides is at most 250 and 200 */
static void low_bits_are_faster(void **state)
{
	const struct pf_offload fp32 = ask_in(PF_PRECISION_FP32, "u55c", 1, 1, 1e11, 8192, PF_OFFLOAD_REFERENCE);
	const struct pf_offload bf16 = ask_in(PF_PRECISION_BF16, "u55c", 1, 1, 1e11, 8192, PF_OFFLOAD_REFERENCE);
	const struct pf_offload mx = ask_in(PF_PRECISION_MXINT8, "u55c", 1, 1, 1e11, 8192, PF_OFFLOAD_REFERENCE);
	const double tiles = 128.0 * 786, hz = 300e6;  /* 8192 tokens by 64, 50257 words by 64 */
	(void)state;
	assert_true(bf16.head_s.value <= fp32.head_s.value && mx.head_s.value < bf16.head_s.value / 4);
	assert_true(fp32.plan.card_s >= tiles * 12 * 1037 / hz && fp32.plan.card_s <= tiles * (12 * 1037 + 250) / hz);
	assert_true(mx.plan.card_s >= tiles * 12 * 128 / hz && mx.plan.card_s <= tiles * (12 * 128 + 200) / hz);
	assert_true(mx.host_s == fp32.host_s && mx.operations == fp32.operations);
	assert_true(mx.plan.bytes_in < 0.3 * fp32.plan.bytes_in);
	/* a cycle of products, by operations.def and energy.def: 2,368 DSPs and 152,384 LUTs for 2,048 of them, 1,280
	 * and 70,720 for 256 of fp32; beside it every logit is scanned, which D = 768 products share */
	const double own = (2368 * 8.28e-12 + 152384 * 0.318e-12) / 2048;
	const double fp = (1280 * 8.28e-12 + 70720 * 0.318e-12) / 256;
	assert_true(mx.joule_mac.value >= own && mx.joule_mac.value <= own + 30e-12);
	assert_true(fp32.joule_mac.value >= fp && fp32.joule_mac.value <= fp + 30e-12);
	assert_true(mx.joule_mac.low <= mx.joule_mac.value && mx.joule_mac.value <= mx.joule_mac.high);
}

/* Monotone in size, in every precision and with every head that has it */
static void more_takes_longer(void **state)
{
	(void)state;
	for (enum pf_precision p = 0; p < PF_PRECISIONS; p++)
		for (enum pf_offload_head h = 0; h < PF_OFFLOAD_HEADS; h++) {
			double before = 0;
			for (uint32_t tokens = 64; tokens <= 16384 && (h != PF_OFFLOAD_RESIDENT || !p); tokens *= 4) {
				const struct pf_offload x = ask_in(p, "u280", 1, 0, 1e11, tokens, h);
				assert_true(x.head_s.value > before);
				before = x.head_s.value;
			}
		}
}

static void no_optimizer_of_low_bits(void **state)
{
	struct pf_offload_shape shape = pf_offload_plain(64, 64, 1, 64);
	const struct pf_offload_place place = { "u55c", 1, 1, 1e11, NULL };
	struct pf_offload x;
	struct pf_error error;
	(void)state;
	shape.precision = PF_PRECISION_BF16;
	assert_int_equal(pf_offload_ask(&place, &shape, PF_OFFLOAD_RESIDENT, &x, &error), PF_E_UNSUPPORTED);
	assert_non_null(strstr(error.text, "bf16"));
}

/* The optimizer's runs are counted: by hand 154 MB of dW for its norm and four such arrays for AdamW, each through one
 * port of 13.17 GB/s, less what need not cross the link; and it is on one card */
static void a_resident_optimizer_takes_its_time(void **state)
{
	const struct pf_offload x = ask_on("u55c", 1, 1, 1e11, 8192, PF_OFFLOAD_RESIDENT);
	const double trained = ask_on("u55c", 1, 1, 1e11, 8192, PF_OFFLOAD_TRAINED).head_s.value;
	const double array = 50257.0 * 768 * 4, link = array / 11.009e9 + array / 12.152e9;
	const struct pf_offload_shape shape = pf_offload_plain(768, 50257, 12, 8192);
	const struct pf_offload_place two = { "u55c", 2, 1, 1e11, NULL };
	struct pf_offload y;
	struct pf_error error;
	(void)state;
	assert_true(fabs(x.head_s.value - (trained - link + 5 * array / 13.17e9)) <= 2e-3);
	assert_int_equal(pf_offload_ask(&two, &shape, PF_OFFLOAD_RESIDENT, &y, &error), PF_E_UNSUPPORTED);
	assert_non_null(strstr(error.text, "--cards 1"));
}

static void shapes(void **state)
{
	struct pf_model_config c = {
		.vocab = 260, .dim = 128, .layers = 3, .heads = 4, .kv_heads = 2, .head_dim = 32, .ffn = 344
	};
	(void)state;
	/* q and o 128 x 128, k and v 128 x 64, three of 128 x 344 */
	assert_true(pf_offload_of(&c, 5).body_weights == 3.0 * (2 * 128 * 128 + 2 * 128 * 64 + 3 * 128 * 344));
	c.mlp = PF_MLP_GELU;
	assert_true(pf_offload_of(&c, 5).body_weights == 3.0 * (2 * 128 * 128 + 2 * 128 * 64 + 2 * 128 * 344));
	assert_int_equal(pf_offload_of(&c, 5).tokens, 5);
}

/* What was typed off: times and rates of a row belong together (8 T V D, forward 2 T V D, as its source counts) */
static void anchors_are_consistent(void **state)
{
	unsigned i = 0;
	(void)state;
	for (const struct pf_gpu_anchor *g; (g = pf_gpu_anchor(i)); i++) {
		const double count = strncmp(g->what, "forward,", 8) == 0 ? 2 : 8;
		assert_true(fabs(g->seconds * g->flops / (count * g->tokens * (double)g->vocab * g->dim) - 1) <= 0.005);
		assert_true(g->source && strlen(g->source) > 10);
	}
	assert_true(i >= 3);
}

static void unknown_cards(void **state)
{
	const struct pf_offload_shape shape = pf_offload_plain(64, 64, 1, 64);
	const struct pf_offload_place place = { "u56c", 1, 1, 1e11, NULL };
	struct pf_offload x;
	struct pf_error error;
	(void)state;
	assert_int_equal(pf_offload_ask(&place, &shape, PF_OFFLOAD_FROZEN, &x, &error), PF_E_UNKNOWN);
	assert_non_null(strstr(error.text, "did you mean u55c?"));
}

/* Charts: text is escaped, gaps leave no marks, one point alone draws */
static void charts(void **state)
{
	struct pf_chart c = { .title = "a < b & c",
		              .across = "x",
		              .up = "y",
		              .points = 1,
		              .lines = 1,
		              .name = { "one" },
		              .x = { 4 },
		              .y = { { 0 } } };
	char *text;
	size_t size;
	(void)state;
	FILE *out = open_memstream(&text, &size);
	pf_chart_svg(&c, out);
	c.points = 3;
	c.x[1] = 8, c.x[2] = 16;
	c.y[0][0] = 1, c.y[0][1] = NAN, c.y[0][2] = 100;
	pf_chart_svg(&c, out);
	fclose(out);
	assert_non_null(strstr(text, "a &#60; b &#38; c"));
	assert_null(strstr(text, "nan"));
	assert_null(strstr(text, "inf"));
	unsigned dots = 0;
	for (const char *at = text; (at = strstr(at, "r=\"3\"")); at++)
		dots++;
	assert_int_equal(dots, 2);
	free(text);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(hosts_times),
		cmocka_unit_test(cards_obey_their_limits),
		cmocka_unit_test(verdicts),
		cmocka_unit_test(break_even),
		cmocka_unit_test(break_even_ends_where_memory_does),
		cmocka_unit_test(launches_bound_a_small_head),
		cmocka_unit_test(ports),
		cmocka_unit_test(logic),
		cmocka_unit_test(what_is_not_placed),
		cmocka_unit_test(low_bits_are_faster),
		cmocka_unit_test(more_takes_longer),
		cmocka_unit_test(no_optimizer_of_low_bits),
		cmocka_unit_test(a_resident_optimizer_takes_its_time),
		cmocka_unit_test(shapes),
		cmocka_unit_test(anchors_are_consistent),
		cmocka_unit_test(unknown_cards),
		cmocka_unit_test(charts),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
