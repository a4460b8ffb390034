/* coupled.c: losses that look at a whole step see the same step however it was computed: 1, 2 or 7 chunks, 1, 2 or 8
 * compute units give the same bits of loss, gradient and dz on the simulated card, in steps of more sequences than a
 * launch of kernel pref holds too. And their smallest steps. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "host/train/score.h"
#include "prefpga/loss.h"
#include "tests/cmocka.h"

enum { FEW = 7, MANY = 4099, SEQS_MOST = 2 * MANY, LONGEST = 9, VOCAB = 50 };
enum { ROWS_MOST = SEQS_MOST, VALUES = 8 * ROWS_MOST };

static const char *const losses[] = { "aot:label_smoothing=0.1",
	                              "aot_unpaired",
	                              "disco_dbaql",
	                              "disco_aql",
	                              "disco_aqfl",
	                              "kto_pair",
	                              "kto_pair_attached",
	                              "kto",
	                              "bco",
	                              "disco_dbaql:weight=0.5+sft:weight=0.25" };

/* Ready logits of a policy and a reference, and the sequences in them */
static float logits[2][VALUES];
static int32_t target[ROWS_MOST];
static uint32_t start[SEQS_MOST + 1], pairs, seqs, vocab;

struct outcome {
	struct pf_loss_result result[SEQS_MOST];
	float grad[VALUES];
};

static uint64_t state = 88172645463325252u;

static double uniform(void)
{
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return (double)(state >> 11) * 0x1p-53;
}

static void make(uint32_t how_many, uint32_t longest, uint32_t words)
{
	pairs = how_many;
	seqs = 2 * pairs;
	vocab = words;
	for (uint32_t q = 0; q < seqs; q++)
		start[q + 1] = start[q] + 1 + (uint32_t)(uniform() * longest) % longest;
	assert_true(start[seqs] <= ROWS_MOST && start[seqs] * vocab <= VALUES);
	for (uint32_t t = 0; t < start[seqs]; t++)
		target[t] = (int32_t)(uniform() * vocab);
	for (size_t i = 0; i < (size_t)start[seqs] * vocab; i++) {
		logits[1][i] = (float)(8 * uniform() - 4);
		logits[0][i] = logits[1][i] + (float)(uniform() - 0.5);
	}
}

/* ---- a step, cut into chunks of whole pairs ---- */

struct sink { struct pf_row *row; float *grad; uint64_t first; };

static int collect(void *context, const struct pf_score_batch *batch, struct pf_error *error)
{
	struct sink *to = context;
	(void)error;
	memcpy(to->row + to->first + batch->first, batch->row, batch->rows * sizeof *batch->row);
	if (to->grad)
		memcpy(to->grad + (to->first + batch->first) * vocab, batch->grad, batch->rows * vocab * sizeof(float));
	return 0;
}

static void score(struct pf_device *device, const float *z, unsigned chunks, const float *coef, struct sink *to)
{
	struct pf_error error;
	for (unsigned c = 0; c < chunks; c++) {
		const uint32_t from = start[2 * (pairs * c / chunks)], end = start[2 * (pairs * (c + 1) / chunks)];
		const struct pf_score_input in = { .logits = z + (size_t)from * vocab,
			                           .type = PF_F32,
			                           .rows = end - from,
			                           .vocab = vocab,
			                           .target = target + from,
			                           .want_grad = coef != NULL,
			                           .coef = coef ? coef + from : NULL };
		to->first = from;
		if (pf_score(device, &in, collect, to, &error))
			fail_msg("%s", error.text);
	}
}

static void sum_up(const struct pf_row *row, int reference, struct pf_loss_item *item)
{
	for (uint32_t q = 0; q < seqs; q++)
		for (uint32_t t = start[q]; t < start[q + 1]; t++)
			*(reference ? &item[q].reference : &item[q].policy) += row[t].logp_q32;
}

static struct pf_loss_batch scalars(const struct pf_loss *loss, const struct pf_loss_item *item)
{
	struct pf_loss_batch b = { .divisor = pf_loss_per_item(loss) ? seqs : pairs };
	for (uint32_t q = 0; q < seqs; q++) {
		b.z0 += (double)(item[q].policy - item[q].reference) * 0x1p-32 / seqs;
		b.tokens += q % 2 ? 0 : item[q].n;
	}
	b.delta = 0.1 * b.z0;
	b.z0 = fmax(b.z0, 0.0);
	return b;
}

static void run(struct pf_device *device, const char *name, unsigned chunks, struct outcome *out)
{
	static struct pf_row row[ROWS_MOST];
	static struct pf_loss_item item[SEQS_MOST];
	static uint32_t group[SEQS_MOST + 1];
	static float coef[ROWS_MOST];
	struct pf_loss loss;
	struct pf_error error;
	memset(out, 0, sizeof *out);
	if (pf_loss_parse(name, &loss, &error))
		fail_msg("%s", error.text);
	const uint32_t each = pf_loss_form(&loss) == PF_FORM_BINARY ? 1 : 2;
	for (uint32_t q = 0; q < seqs; q++)
		item[q] = (struct pf_loss_item){ .n = start[q + 1] - start[q],
			                         .kind = q % 2 ? PF_KIND_REJECTED : PF_KIND_CHOSEN,
			                         .weight = 1 };
	for (uint32_t g = 0; g <= seqs / each; g++)
		group[g] = g * each;
	for (int reference = 0; reference < 2; reference++) {
		score(device, logits[reference], chunks, NULL, &(struct sink){ row, NULL, 0 });
		sum_up(row, reference, item);
	}
	const struct pf_loss_batch batch = scalars(&loss, item);
	if (pf_loss_evaluate(device, &loss, &batch, item, seqs, group, seqs / each, out->result, &error))
		fail_msg("%s", error.text);
	for (uint32_t q = 0; q < seqs; q++)
		for (uint32_t t = start[q]; t < start[q + 1]; t++)
			coef[t] = (float)-out->result[q].grad;
	score(device, logits[0], chunks, coef, &(struct sink){ row, out->grad, 0 });
}

static void compare_all(const char *const *names, size_t count)
{
	static const char *const specs[] = { "sim:*1", "sim:*2", "sim:*8" };
	static const unsigned cuts[] = { 1, 2, 7 };
	static struct outcome first[sizeof losses / sizeof *losses], now;
	for (size_t d = 0; d < 3; d++) {
		struct pf_device *device;
		struct pf_error error;
		if (pf_device_open(specs[d], NULL, &device, &error))
			fail_msg("%s", error.text);
		for (size_t k = 0; k < count; k++)
			for (size_t c = 0; c < 3; c++) {
				run(device, names[k], cuts[c], d || c ? &now : &first[k]);
				assert_true(first[k].result[0].status == 0 && first[k].result[0].grad != 0);
				if ((d || c) && memcmp(&now, &first[k], sizeof now) != 0)
					fail_msg("%s: %u chunks on %s give other bits", names[k], cuts[c], specs[d]);
			}
		pf_device_close(device);
	}
}

static void chunks_and_units_change_no_bit(void **unused)
{
	(void)unused;
	make(FEW, LONGEST, VOCAB);
	compare_all(losses, sizeof losses / sizeof *losses);
}

/* One token a sequence, a few words */
static void nor_in_steps_beyond_a_launch(void **unused)
{
	static const char *const some[] = { "aot", "disco_aqfl", "kto_pair:weight=0.5+sft" };
	(void)unused;
	make(MANY, 1, 8);
	compare_all(some, sizeof some / sizeof *some);
}

/* ---- smallest steps ---- */

static int evaluate(const char *name, const struct pf_loss_item *item, uint32_t count, struct pf_loss_result *result)
{
	const uint32_t group[] = { 0, 2, 4 };
	const struct pf_loss_batch batch = { .divisor = count, .tokens = 4 };
	struct pf_device *device;
	struct pf_loss loss;
	struct pf_error error;
	if (pf_loss_parse(name, &loss, &error) || pf_device_open("sim", NULL, &device, &error))
		fail_msg("%s", error.text);
	int code = pf_loss_evaluate(device, &loss, &batch, item, 2 * count, group, count, result, &error);
	pf_device_close(device);
	return code;
}

static struct pf_loss_item item(int kind, double policy, double reference)
{
	return (struct pf_loss_item){ .policy = llrint(ldexp(policy, 32)),
		                      .reference = llrint(ldexp(reference, 32)),
		                      .n = 2,
		                      .kind = kind,
		                      .weight = 1 };
}

static void one_pair_alone(void **unused)
{
	const struct pf_loss_item pair[] = { item(PF_KIND_CHOSEN, -3, -5), item(PF_KIND_REJECTED, -9, -8) };
	struct pf_loss_result dpo[2], got[2];
	(void)unused;
	assert_int_equal(evaluate("sigmoid", pair, 1, dpo), 0);
	for (int k = 0; k < 2; k++) {
		assert_int_equal(evaluate(k ? "aot_unpaired" : "aot", pair, 1, got), 0);
		assert_true(got[0].loss == dpo[0].loss && got[0].grad == dpo[0].grad && got[1].grad == dpo[1].grad);
	}
	assert_int_equal(evaluate("disco_aql", pair, 1, got), 0);      /* needs a mean, no variance */
	assert_true(got[0].status == 0 && isfinite(got[0].loss));
	for (int k = 0; k < 2; k++) {
		assert_int_equal(evaluate(k ? "disco_aqfl" : "disco_dbaql", pair, 1, got), 0);
		assert_true(got[0].status != 0 && isnan(got[0].loss) && got[0].grad == 0 && got[1].grad == 0);
	}
}

/* Ties in what is sorted: equal losses for equal pairs, and a variance of 0 */
static void ties(void **unused)
{
	const struct pf_loss_item both[] = { item(PF_KIND_CHOSEN, -3, -5), item(PF_KIND_REJECTED, -9, -8),
		item(PF_KIND_CHOSEN, -3, -5), item(PF_KIND_REJECTED, -9, -8) };
	struct pf_loss_result got[4];
	(void)unused;
	for (size_t k = 0; k < sizeof losses / sizeof *losses; k++)
		if (strcmp(losses[k], "kto") != 0 && strcmp(losses[k], "bco") != 0) {
			assert_int_equal(evaluate(losses[k], both, 2, got), 0);
			assert_true(got[0].status == 0 && got[0].loss == got[2].loss && got[0].grad == got[2].grad &&
			            got[1].grad == got[3].grad && isfinite(got[0].loss) && got[0].grad != 0);
		}
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(chunks_and_units_change_no_bit),
		                            cmocka_unit_test(nor_in_steps_beyond_a_launch),
		                            cmocka_unit_test(one_pair_alone), cmocka_unit_test(ties) };
	return cmocka_run_group_tests(tests, NULL, NULL);
}
