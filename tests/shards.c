/* The vocabulary shared by parts of a device or several: the same bits of log-probs, sums, records and dW for any
 * number of ranges, dhidden within its bound; and the filter of the gradient against plain loops, on whole
 * vocabularies and ranges. */
#include <stdlib.h>
#include <string.h>
#include "host/train/head.h"
#include "host/train/shard.h"
#include "tests/head_numbers.h"

enum { V = 700, D = 32, T = 150, B = 3, RANGES = 11 };        /* 700 words are 11 blocks of 64 */

struct numbers {
	float          hidden[T * D], weight[V * D], bias[V], coef[T], dhidden[T * D], dweight[V * D], dbias[V];
	int32_t        target[T];
	struct pf_seq  sum[B];
	struct pf_row  row[T];
	struct pf_filtered filtered[T];
};

static const struct pf_span span[B] = { { 0, 70, 70, 0 }, { 70, 71, 70, 0 }, { 71, T, 100, 0 } };

/* Some of everything: ignored and impossible targets, forbidden words, hidden states without numbers */
static struct numbers *make_numbers(int odd)
{
	struct numbers *n = calloc(1, sizeof *n);
	assert_non_null(n);
	draw_state = 9;
	for (size_t i = 0; i < T * D; i++)
		n->hidden[i] = draw(2);
	for (size_t i = 0; i < V * D; i++)
		n->weight[i] = draw(1);
	for (size_t v = 0; v < V; v++)
		n->bias[v] = odd && v % 9 == 4 ? -INFINITY : draw(1);
	for (size_t t = 0; t < T; t++) {
		n->coef[t] = draw(1);
		n->target[t] = t % 40 == 7 ? PF_IGNORE : (int32_t)(t * 7919 % V);
	}
	if (odd) {
		n->hidden[3 * D + 5] = NAN;
		n->target[10] = V;
		n->target[11] = INT32_MAX;
		n->target[12] = 13;                    /* forbidden */
	}
	return n;
}

static struct pf_fused_options options_of(float filter)
{
	return (struct pf_fused_options){ .vocab = V, .dim = D, .bias = 1, .backward = 1, .way = PF_WAY_SPILL,
		.filter = filter,
		.form = { 1.25f, filter > 0 ? 0 : 6, 0.8f, filter > 0 ? 0 : 0.01f, filter > 0 ? 0 : 0.05f } };
}

static struct pf_fused_tokens tokens_of(const struct numbers *n)
{
	return (struct pf_fused_tokens){ n->hidden, n->target, span, T, B, PF_WANT_STATS, 0 };
}

/* All words in one range, without shards */
static void whole(const char *spec, struct numbers *n, float filter)
{
	struct pf_device *device = open_device(spec);
	struct pf_fused_options options = options_of(filter);
	const struct pf_fused_weight weight = { n->weight, n->bias, 1, PF_PRECISION_FP32 };
	const struct pf_fused_tokens tokens = tokens_of(n);
	struct pf_error error = { 0 };
	struct pf_fused *fused;
	options.device = device;
	if (pf_fused_open(&options, &fused, &error) ||
	    pf_fused_forward(fused, &weight, &tokens, n->sum, n->row, &error) || pf_fused_wait(fused, &error) ||
	    pf_fused_backward(fused, n->coef, n->dhidden, n->dweight, n->dbias, &error) || pf_fused_wait(fused, &error))
		fail_msg("%s: %s", spec, error.text);
	if (filter > 0)
		memcpy(n->filtered, pf_fused_filtered(fused), sizeof n->filtered);
	pf_fused_close(fused);
	pf_device_close(device);
}

/* parts ranges, round the devices */
static void shared(const char *const *spec, unsigned devices, unsigned parts, struct numbers *n, float filter)
{
	struct pf_device *device[2], *own[RANGES];
	const struct pf_fused_options options = options_of(filter);
	const struct pf_fused_weight weight = { n->weight, n->bias, 1, PF_PRECISION_FP32 };
	const struct pf_fused_tokens tokens = tokens_of(n);
	struct pf_error error = { 0 };
	struct pf_shards *shards;
	for (unsigned i = 0; i < devices; i++)
		device[i] = open_device(spec[i]);
	for (unsigned i = 0; i < parts; i++)
		own[i] = device[i % devices];
	if (pf_shards_open(&options, own, parts, &shards, &error) ||
	    pf_shards_forward(shards, &weight, &tokens, n->sum, n->row, &error) ||
	    pf_shards_backward(shards, n->coef, n->dhidden, n->dweight, n->dbias, &error))
		fail_msg("%s in %u parts: %s", spec[0], parts, error.text);
	assert_int_equal(pf_shards_parts(shards), parts);
	if (filter > 0)
		memcpy(n->filtered, pf_shards_filtered(shards), sizeof n->filtered);
	pf_shards_close(shards);
	for (unsigned i = 0; i < devices; i++)
		pf_device_close(device[i]);
}

static void any_number_of_ranges_gives_the_same_bits(void **unused)
{
	static const char *const one[] = { "sim:u55c*1" }, *const units[] = { "sim:u50*3" },
				 *const two[] = { "sim:u55c*2", "sim:u250*1" };
	(void)unused;
	for (int odd = 0; odd < 2; odd++) {
		struct numbers *want = make_numbers(odd);
		whole("sim:u55c*1", want, 0);
		for (unsigned parts = 1; parts <= RANGES; parts += parts < 3 ? 1 : 4) {
			struct numbers *n = make_numbers(odd), *again = make_numbers(odd);
			shared(one, 1, parts, n, 0);
			assert_memory_equal(n->row, want->row, sizeof n->row);
			assert_memory_equal(n->sum, want->sum, sizeof n->sum);
			assert_memory_equal(n->dweight, want->dweight, sizeof n->dweight);
			assert_memory_equal(n->dbias, want->dbias, sizeof n->dbias);
			/* sums of absolute terms are below 32 here: (2 V / 64 + 128) 2^-24 of them */
			agree("dhidden", n->dhidden, want->dhidden, T * D, 32 * (2 * V / 64.0 + 128) * 0x1p-24);
			shared(parts % 2 ? units : two, parts % 2 ? 1 : 2, parts, again, 0);
			assert_memory_equal(n, again, sizeof *n);
			free(n);
			free(again);
		}
		free(want);
	}
}

/* The host counts in double and says it in the kernels' integers */
static void the_host_takes_part(void **unused)
{
	static const char *const cpu[] = { "cpu" }, *const mixed[] = { "cpu", "sim" };
	(void)unused;
	for (int odd = 0; odd < 2; odd++) {
		struct numbers *want = make_numbers(odd);
		whole("sim", want, 0);
		for (unsigned k = 0; k < 4; k++) {
			struct numbers *n = make_numbers(odd);
			shared(k % 2 ? mixed : cpu, k % 2 ? 2 : 1, k < 2 ? 2 : 5, n, 0);
			for (size_t t = 0; t < T; t++) {
				const struct pf_row *a = &n->row[t], *b = &want->row[t];
				assert_int_equal(a->status, b->status);
				assert_int_equal(a->argmax, b->argmax);
				if (b->status)
					continue;
				agree("logp", &a->logp, &b->logp, 1, 4e-6);
				agree("log_sum", &a->log_sum, &b->log_sum, 1, 4e-6);
				agree("rest", &a->rest, &b->rest, 1, 4e-6);
				agree("entropy", &a->entropy, &b->entropy, 1, 2e-5);
				agree("log_sum_p2", &a->log_sum_p2, &b->log_sum_p2, 1, 2e-5);
				if (!odd)
					agree("mean", &a->mean, &b->mean, 1, 4e-6);
				else
					assert_true(a->mean == b->mean);       /* -inf */
			}
			agree("dhidden", n->dhidden, want->dhidden, T * D, 2e-5);
			agree("dweight", n->dweight, want->dweight, V * D, 2e-5);
			agree("dbias", n->dbias, want->dbias, V, 2e-5);
			free(n);
		}
		free(want);
	}
}

static void too_many_ranges_are_refused(void **unused)
{
	struct pf_device *device[12];
	const struct pf_fused_options options = options_of(0);
	struct pf_shards *shards;
	struct pf_error error;
	(void)unused;
	device[0] = open_device("cpu");
	for (int i = 1; i < 12; i++)
		device[i] = device[0];
	assert_int_equal(pf_shards_open(&options, device, 12, &shards, &error), PF_E_RANGE);
	assert_non_null(strstr(error.text, "1 to 11"));
	assert_null(shards);
	pf_device_close(device[0]);
}

/* A head that one card's banks for weights do not take (u50: 8 of 256 MiB) is cut without being asked */
static void a_head_that_does_not_fit_is_cut(void **unused)
{
	struct pf_device *device[2] = { open_device("sim:u50*1"), open_device("sim:u50*1") };
	struct pf_head_options options = { .device = device, .devices = 2, .vocab = 150000, .dim = 2048, .fused = 1,
		                           .backward = 1 };
	struct pf_error error = { 0 };
	struct pf_head *head;
	(void)unused;
	if (pf_head_open(&options, &head, &error))
		fail_msg("%s", error.text);
	assert_int_equal(pf_head_shards(head), 2);
	pf_head_close(head);
	options.vocab = 15000;
	assert_int_equal(pf_head_open(&options, &head, &error), 0);
	assert_int_equal(pf_head_shards(head), 1);
	pf_head_close(head);
	options.precision = PF_PRECISION_MXINT8;       /* 170000 * 2048 * (1.0625 + 4) bytes fit 2 GiB, with 2 more not */
	for (unsigned cut = 0; cut < 2; cut++) {
		options.vocab = cut ? 170000 : 140000;
		assert_int_equal(pf_head_open(&options, &head, &error), 0);
		assert_int_equal(pf_head_shards(head), 1 + cut);
		pf_head_close(head);
	}
	pf_device_close(device[0]);
	pf_device_close(device[1]);
}

/* ---- the filter ---- */
#define EPS 1e-3

/* Words of few topics are likely, others hardly; a token of each block is certain of its target */
static struct numbers *make_topics(void)
{
	struct numbers *n = make_numbers(0);
	for (size_t v = 0; v < V; v++) {
		n->bias[v] = 0;
		for (size_t d = 0; d < D; d++)
			n->weight[v * D + d] = (d == v / 48 ? 1 : 0) + draw(0.02f);
	}
	for (size_t t = 0; t < T; t++) {
		const size_t topic = t / PF_TOKENS * 2 + t % 2;
		for (size_t d = 0; d < D; d++)
			n->hidden[t * D + d] = d == topic ? 12 : draw(0.02f);
		n->target[t] = n->target[t] < 0 ? n->target[t] : (int32_t)(48 * topic + t * 7 % 48);
	}
	for (size_t d = 0; d < D; d++)
		n->weight[690 * D + d] = d == 20 ? 1.5f : 0;
	for (size_t t = 20; t < T; t += 60) {
		for (size_t d = 0; d < D; d++)
			n->hidden[t * D + d] = d == 20 ? 12 : 0;
		n->target[t] = 690;
	}
	return n;
}

static double reference_p[T][V];

static void find_probabilities(const struct numbers *n)
{
	for (size_t t = 0; t < T; t++) {
		double total = 0;
		for (size_t v = 0; v < V; v++) {
			double z = (double)n->bias[v];
			for (size_t d = 0; d < D; d++)
				z += (double)n->hidden[t * D + d] * (double)n->weight[v * D + d];
			reference_p[t][v] = exp(1.25 * z / (double)0.8f);
			total += reference_p[t][v];
		}
		for (size_t v = 0; v < V; v++)
			reference_p[t][v] /= total;
	}
}

static double far_from(const struct numbers *n, size_t t, size_t v)
{
	return n->target[t] < 0 ? 0 : fabs(reference_p[t][v] - ((int32_t)v == n->target[t]));
}

/* keep[block][word]: the rule, group by group of each range; groups must not be near the limit */
static void find_kept(const struct numbers *n, unsigned parts, int keep[3][V])
{
	for (unsigned i = 0; i < parts; i++) {
		const size_t first = (size_t)RANGES * i / parts * 64, cut = (size_t)RANGES * (i + 1) / parts * 64;
		const size_t words = (cut < V ? cut : V) - first, share = (words + 3) / 4;
		for (size_t b = 0; b < 3; b++)
			for (size_t w = 0; w < words; w++) {
				const size_t port = w / share, group = port * share + (w - port * share) / 16 * 16;
				double largest = 0;
				for (size_t v = group; v < group + 16 && v < words && v < (port + 1) * share; v++)
					for (size_t t = b * 64; t < T && t < b * 64 + 64; t++)
						largest = fmax(largest, far_from(n, t, first + v));
				assert_true(largest < EPS / 2 || largest > EPS * 2);
				keep[b][first + w] = largest >= EPS;
			}
	}
}

static void check_filtered(const struct numbers *n, unsigned parts, double *share)
{
	static int keep[3][V];
	static double dw[V * D], size[V * D];
	uint64_t dropped = 0;
	memset(dw, 0, sizeof dw);
	memset(size, 0, sizeof size);
	find_kept(n, parts, keep);
	for (size_t t = 0; t < T; t++) {
		double mass = 0, dh[D] = { 0 };
		uint32_t words = 0;
		for (size_t v = 0; v < V && n->target[t] >= 0; v++) {
			const double p = reference_p[t][v] - ((int32_t)v == n->target[t]);
			const double dz = 1.25 / (double)0.8f * (double)n->coef[t] * p;
			words += !keep[t / 64][v];
			mass += keep[t / 64][v] ? 0 : fabs(p);
			for (size_t d = 0; d < D && keep[t / 64][v]; d++) {
				dh[d] += dz * (double)n->weight[v * D + d];
				dw[v * D + d] += dz * (double)n->hidden[t * D + d];
				size[v * D + d] += fabs(dz * (double)n->hidden[t * D + d]);
			}
		}
		const double got = (double)n->filtered[t].mass_q40 * 0x1p-40;
		if (!(fabs(got - mass) <= 2e-5 * mass + V * 0x1p-40) || n->filtered[t].words != words)
			fail_msg("token %zu: %.9g in %u words dropped, by the rule %.9g in %u", t, got,
			         n->filtered[t].words, mass, words);
		assert_true(n->filtered[t].saved <= words);
		dropped += words;
		for (size_t d = 0; d < D; d++)
			if (!(fabs(dh[d] - (double)n->dhidden[t * D + d]) <= 2e-5))
				fail_msg("dhidden[%zu, %zu]: %.9g, by the rule %.9g", t, d,
				         (double)n->dhidden[t * D + d], dh[d]);
	}
	for (size_t i = 0; i < V * D; i++)
		if (!(fabs(dw[i] - (double)n->dweight[i]) <= 1e-5 * size[i] + 1e-6))
			fail_msg("dweight[%zu]: %.9g, by the rule %.9g", i, (double)n->dweight[i], dw[i]);
	*share = (double)dropped / ((double)T * V);
}

static void the_filter_leaves_out_what_it_says(void **unused)
{
	static const char *const specs[] = { "sim:u55c*2", "cpu" };
	struct pf_left_out out = { 0 };
	double share;
	(void)unused;
	for (size_t i = 0; i < 2; i++)
		for (unsigned parts = 1; parts <= 4; parts += 3) {
			struct numbers *n = make_topics();
			find_probabilities(n);
			if (parts == 1)
				whole(specs[i], n, (float)EPS);
			else
				shared(&specs[i], 1, parts, n, (float)EPS);
			check_filtered(n, parts, &share);
			print_message("%s, %u ranges: %.2f of the words\n", specs[i], parts, share);
			assert_true(share > 0.5);
			pf_left_out_count(&out, n->filtered, n->target, T);
			free(n);
		}
	assert_int_equal(out.tokens, 4 * (T - 4));             /* 4 targets are ignored */
	assert_true(out.most > 0 && out.most < 0.5 && out.mass > 0 && out.mass <= out.most * (double)out.tokens);
}

/* A limit that nothing is below changes no bit */
static void nothing_below_changes_nothing(void **unused)
{
	struct numbers *n = make_numbers(0), *filtered = make_numbers(0);
	struct pf_device *device = open_device("sim");
	(void)unused;
	for (int k = 0; k < 2; k++) {
		struct numbers *own = k ? filtered : n;
		struct pf_fused_options options = options_of(k ? 1e-30f : 0);
		const struct pf_fused_weight weight = { own->weight, own->bias, 1, PF_PRECISION_FP32 };
		const struct pf_fused_tokens tokens = tokens_of(own);
		struct pf_error error = { 0 };
		struct pf_fused *fused;
		options.device = device;
		options.form = (struct pf_fused_form)PF_FUSED_PLAIN;
		if (pf_fused_open(&options, &fused, &error) ||
		    pf_fused_forward(fused, &weight, &tokens, own->sum, own->row, &error) ||
		    pf_fused_wait(fused, &error) ||
		    pf_fused_backward(fused, own->coef, own->dhidden, own->dweight, own->dbias, &error) ||
		    pf_fused_wait(fused, &error))
			fail_msg("%s", error.text);
		pf_fused_close(fused);
	}
	assert_memory_equal(n, filtered, sizeof *n);
	pf_device_close(device);
	free(n);
	free(filtered);
}

static void a_filter_beside_other_terms_is_refused(void **unused)
{
	struct pf_fused_options options = options_of(0.01f);
	struct pf_fused *fused;
	struct pf_error error;
	(void)unused;
	options.device = open_device("cpu");
	options.form.zloss = 0.1f;
	assert_int_equal(pf_fused_open(&options, &fused, &error), PF_E_RANGE);
	assert_non_null(strstr(error.text, "filter"));
	options.form.zloss = 0;
	options.filter = NAN;
	assert_int_equal(pf_fused_open(&options, &fused, &error), PF_E_RANGE);
	pf_device_close(options.device);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(any_number_of_ranges_gives_the_same_bits),
		cmocka_unit_test(the_host_takes_part),
		cmocka_unit_test(too_many_ranges_are_refused),
		cmocka_unit_test(a_head_that_does_not_fit_is_cut),
		cmocka_unit_test(the_filter_leaves_out_what_it_says),
		cmocka_unit_test(nothing_below_changes_nothing),
		cmocka_unit_test(a_filter_beside_other_terms_is_refused),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
