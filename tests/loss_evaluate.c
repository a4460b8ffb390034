/* loss_evaluate.c: items of a whole step on a device: launches split between groups, mixtures,
 * invalid members, errors. */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "host/train/loss_program.h"
#include "prefpga/internal/backend.h"
#include "prefpga/loss.h"
#include "tests/cmocka.h"
#include "tests/ref/ref.h"
#include "tests/wrap.h"

extern const struct pf_backend pf_backend_sim;

enum { PAIRS = 3 * PF_ITEMS_MAX / 2 + 5 }; /* three launches and a bit, the border inside a pair */

static struct pf_device *device;
static struct pf_error error;

static struct pf_loss parsed(const char *text)
{
	struct pf_loss loss;

	if (pf_loss_parse(text, &loss, &error))
		fail_msg("%s", error.text);
	return loss;
}

static struct pf_loss_item item(int kind, double policy, double reference, uint32_t n)
{
	return (struct pf_loss_item){ .policy = llrint(ldexp(policy, 32)),
		                      .reference = llrint(ldexp(reference, 32)),
		                      .n = n,
		                      .kind = kind,
		                      .weight = 1 };
}

static void close_to(double got, double want)
{
	if (!(fabs(got - want) <= 1e-12 * (1 + fabs(want))))
		fail_msg("%.17g instead of %.17g", got, want);
}

static int evaluate(const char *name, struct pf_loss_batch batch, const struct pf_loss_item *items,
                    size_t count, const uint32_t *groups, size_t group_count,
                    struct pf_loss_result *result)
{
	struct pf_loss loss = parsed(name);

	memset(&error, 0, sizeof error);
	return pf_loss_evaluate(device, &loss, &batch, items, count, groups, group_count, result,
	                        &error);
}

static void many_launches_give_what_single_pairs_give(void **state)
{
	struct pf_loss_item *items = calloc(2 * PAIRS, sizeof *items);
	struct pf_loss_result *result = calloc(2 * PAIRS, sizeof *result);
	uint32_t *groups = calloc(PAIRS + 1, sizeof *groups);
	const struct pf_loss_batch batch = { .divisor = PAIRS };
	struct pf_loss loss = parsed("sigmoid:beta=0.5");
	double sum = 0;
	size_t invalid;

	(void)state;
	for (uint32_t i = 0; i < PAIRS; i++) {
		items[2 * i] = item(PF_KIND_CHOSEN, -10 + 0.001 * i, -10, 5);
		items[2 * i + 1] = item(PF_KIND_REJECTED, -20 + 3.5 * (i % 7), -20, 9);
		groups[i] = 2 * i;
	}
	groups[PAIRS] = 2 * PAIRS;
	assert_int_equal(evaluate("sigmoid:beta=0.5", batch, items, 2 * PAIRS, groups, PAIRS,
	                          result),
	                 0);
	for (uint32_t i = 0; i < PAIRS; i++) {
		double u = ldexp((double)(items[2 * i].policy - items[2 * i].reference), -32),
		       x = 0.5 * (u - 3.5 * (i % 7));
		close_to(result[2 * i].loss, log1p(exp(-x)));
		assert_true(result[2 * i].loss == result[2 * i + 1].loss);
		close_to(result[2 * i].grad * PAIRS, -0.5 / (1 + exp(x)));
		assert_true(result[2 * i].grad == -result[2 * i + 1].grad);
		assert_true(result[2 * i].group == i && result[2 * i + 1].group == i &&
		            result[2 * i].status == 0);
		sum += result[2 * i].loss;
	}
	close_to(pf_loss_total(&loss, &batch, result, 2 * PAIRS, &invalid), sum / PAIRS);
	assert_int_equal(invalid, 0);
	free(items);
	free(result);
	free(groups);
}

static void likelihood_mixes_with_pairs(void **state)
{
	const struct pf_loss_item items[] = {
		item(PF_KIND_CHOSEN, -3, -4, 4), item(PF_KIND_REJECTED, -5, -4, 2),
		item(PF_KIND_CHOSEN, -7, -7, 6), item(PF_KIND_REJECTED, -7, -7, 3),
	};
	const uint32_t groups[] = { 0, 2, 4 };
	const struct pf_loss_batch batch = { .divisor = 2, .tokens = 10 };
	struct pf_loss loss = parsed("sigmoid:beta=1+sft:weight=0.5");
	struct pf_loss_result result[4];
	double first = log1p(exp(-2)), second = log(2), nll = (3 + 7) / 10.0;

	(void)state;
	assert_int_equal(evaluate("sigmoid:beta=1+sft:weight=0.5", batch, items, 4, groups, 2,
	                          result),
	                 0);
	close_to(pf_loss_total(&loss, &batch, result, 4, NULL), (first + second) / 2 + 0.5 * nll);
	close_to(result[0].grad, -1 / (1 + exp(2)) / 2 - 0.5 / 10);
	close_to(result[1].grad, 1 / (1 + exp(2)) / 2);
	close_to(result[3].grad, 0.25);
}

static void samples_have_their_own_losses(void **state)
{
	const struct pf_loss_item items[] = {
		item(PF_KIND_CHOSEN, -3, -4, 4),
		item(PF_KIND_REJECTED, -5, -4, 2),
		item(PF_KIND_CHOSEN, -7, -7, 6),
	};
	const uint32_t groups[] = { 0, 3 };
	const struct pf_loss_batch batch = { .divisor = 3, .z0 = 0.5 };
	struct pf_loss loss = parsed("kto:beta=1");
	struct pf_loss_result result[3];

	(void)state;
	assert_int_equal(evaluate("kto:beta=1", batch, items, 3, groups, 1, result), 0);
	close_to(result[0].loss, 1 / (1 + exp(0.5)));
	close_to(result[1].loss, 1 / (1 + exp(1.5)));
	close_to(result[2].loss, 1 / (1 + exp(-0.5)));
	close_to(pf_loss_total(&loss, &batch, result, 3, NULL),
	         (result[0].loss + result[1].loss + result[2].loss) / 3);
}

static void a_step_without_chosen_items_has_no_likelihood(void **state)
{
	const struct pf_loss_item items[] = { item(PF_KIND_REJECTED, -5, -4, 2) };
	const uint32_t groups[] = { 0, 1 };
	struct pf_loss_result result[1];

	(void)state;
	assert_int_equal(evaluate("kto:beta=1+sft", (struct pf_loss_batch){ .divisor = 1 }, items,
	                          1, groups, 1, result),
	                 0);
	close_to(result[0].loss, 1 / (1 + exp(1)));
}

static void invalid_groups_are_counted_and_left_out(void **state)
{
	struct pf_loss_item items[] = {
		item(PF_KIND_CHOSEN, -3, -4, 4), item(PF_KIND_REJECTED, -5, -4, 0),
		item(PF_KIND_CHOSEN, -7, -7, 6), item(PF_KIND_REJECTED, -7, -7, 3),
		item(PF_KIND_CHOSEN, -7, -7, 6), item(PF_KIND_REJECTED, -7, -7, 3),
	};
	const uint32_t groups[] = { 0, 2, 4, 6 };
	const struct pf_loss_batch batch = { .divisor = 1 };
	struct pf_loss loss = parsed("sigmoid");
	struct pf_loss_result result[6];
	size_t invalid;

	(void)state;
	items[2].status = PF_ROW_MASKED;
	items[2].policy = PF_Q32_NONE;
	assert_int_equal(evaluate("sigmoid", batch, items, 6, groups, 3, result), 0);
	assert_int_equal(result[0].status, PF_ITEM_NO_TOKENS);
	assert_int_equal(result[3].status, PF_ITEM_BAD_ROW);
	assert_true(isnan(result[0].loss) && result[0].grad == 0 && isnan(result[3].loss) &&
	            result[3].grad == 0);
	close_to(pf_loss_total(&loss, &batch, result, 6, &invalid), log(2));
	assert_int_equal(invalid, 2);
}

static void overflow_is_marked(void **state)
{
	const struct pf_loss_item items[] = { item(PF_KIND_CHOSEN, -3, -4, 4),
		                              item(PF_KIND_REJECTED, -5, -4, 2) };
	const uint32_t groups[] = { 0, 2 };
	struct pf_loss_result result[2];

	(void)state;
	assert_int_equal(evaluate("ipo:beta=1e-200", (struct pf_loss_batch){ .divisor = 1 }, items,
	                          2, groups, 1, result),
	                 0);
	assert_int_equal(result[0].status, PF_ITEM_NOT_FINITE);
	assert_true(isnan(result[0].loss) && result[1].grad == 0);
}

static void nothing_is_something(void **state)
{
	const uint32_t groups[] = { 0 };

	(void)state;
	assert_int_equal(evaluate("sigmoid", (struct pf_loss_batch){ .divisor = 1 }, NULL, 0, groups, 0, NULL), 0);
}

/* ---- errors ---- */

static void refuses(const char *loss, struct pf_loss_batch batch, const struct pf_loss_item *items,
                    size_t count, const uint32_t *groups, size_t group_count, int code,
                    const char *wanted)
{
	struct pf_loss_result result[64];

	assert_int_equal(evaluate(loss, batch, items, count, groups, group_count, result), code);
	if (!strstr(error.text, wanted))
		fail_msg("\"%s\" instead of \"%s\"", error.text, wanted);
}

static void mistakes_name_item_or_group(void **state)
{
	struct pf_loss_item items[] = { item(PF_KIND_CHOSEN, -3, -4, 4),
		                        item(PF_KIND_REJECTED, -5, -4, 2),
		                        item(PF_KIND_REJECTED, -5, -4, 2) };
	const uint32_t pair[] = { 0, 2 }, three[] = { 0, 3 }, tail[] = { 0, 2, 3 },
		       backwards[] = { 0, 3, 2, 3 };
	const struct pf_loss_batch one = { .divisor = 1 };

	(void)state;
	refuses("sigmoid", one, items, 3, three, 1, PF_E_DATA,
	        "group 0 has 1 chosen, 2 rejected and 0 extra items");
	refuses("sigmoid", one, items, 3, tail, 2, PF_E_DATA, "group 1 has 0 chosen");
	refuses("slic_hf", one, items, 2, pair, 1, PF_E_DATA, "which is no triple");
	refuses("sigmoid", one, items, 3, pair, 1, PF_E_SHAPE,
	        "groups run from 0 to 2 instead of from 0 to 3");
	refuses("kto", one, items, 3, backwards, 3, PF_E_SHAPE,
	        "group 1 is empty or runs backwards");
	refuses("sigmoid", (struct pf_loss_batch){ 0 }, items, 2, pair, 1, PF_E_RANGE,
	        "divisor = 0 must be finite and above");
	refuses("sft", one, items, 2, pair, 1, PF_E_RANGE, "tokens = 0 must be finite and above 0");
	refuses("kto", (struct pf_loss_batch){ .divisor = 1, .z0 = NAN }, items, 2, pair, 1,
	        PF_E_RANGE, "z0 = nan");
	items[1].kind = PF_KIND_PROMPT;
	refuses("kto", one, items, 2, pair, 1, PF_E_DATA, "and 1 prompts, which is no binary");
	items[1].kind = 16;
	refuses("kto", one, items, 2, pair, 1, PF_E_DATA, "neither chosen nor rejected nor extra nor a prompt");
}

static void ratios_stay_in_range(void **state)
{
	struct pf_loss_item items[] = { item(PF_KIND_CHOSEN, -3, -4, 4),
		                        item(PF_KIND_REJECTED, -5, -4, 2) };
	const uint32_t pair[] = { 0, 2 };

	(void)state;
	items[1].policy = INT64_MAX;
	items[1].reference = -1;
	refuses("sigmoid", (struct pf_loss_batch) { .divisor = 1 }, items, 2, pair, 1, PF_E_RANGE,
	        "item 1: the log-ratio 2147483648 - -2.328306437e-10 leaves the range");
}

static void long_lists_are_refused(void **state)
{
	static struct pf_loss_item items[8193];
	const uint32_t groups[] = { 0, 8193 };
	uint32_t pairs[8193 / 2 + 1];

	(void)state;
	for (int i = 0; i < 8193; i++)
		items[i] = item(i % 2 ? PF_KIND_REJECTED : PF_KIND_CHOSEN, -i, -3, 4);
	for (uint32_t g = 0; g <= 8192 / 2; g++)
		pairs[g] = 2 * g;
	refuses("pl_dpo", (struct pf_loss_batch) { .divisor = 1 }, items, 8193, groups, 1, PF_E_RANGE,
	        "group 0: 8193 items are too many; a group has at most 8192");
	items[8192].kind = PF_KIND_CHOSEN;
	refuses("aot", (struct pf_loss_batch) { .divisor = 1 }, items, 1, groups, 1, PF_E_SHAPE, "groups run from");
	items[3].n = 0;
	refuses("aot", (struct pf_loss_batch) { .divisor = 2 }, items, 4, pairs, 2, PF_E_NOT_FINITE,
	        "item 3 has no log-prob, and loss aot looks at all items of a step");
}

/* ---- beyond a launch ---- */

enum { BIG = PF_ITEMS_MAX + 6 };

/* Results against the reference machine, which knows no limit */
static void agrees_with_reference(const char *name, struct pf_loss_batch batch, const struct pf_loss_item *items,
                                  const uint32_t *groups, uint32_t group_count)
{
	struct pf_loss_result *result = calloc(BIG, sizeof *result);
	struct ref_item_out *want = calloc(BIG, sizeof *want);
	struct pf_item *item = calloc(BIG, sizeof *item);
	struct pf_program program;
	struct pf_loss loss = parsed(name);
	double par[PF_PAR_COUNT];

	assert_true(result && want && item);
	assert_int_equal(evaluate(name, batch, items, BIG, groups, group_count, result), 0);
	assert_int_equal(pf_program_build(&program, &loss, &error), 0);
	pf_program_par(&program, &loss, &batch, par);
	for (uint32_t i = 0; i < BIG; i++)
		item[i] = (struct pf_item){ .policy = items[i].policy, .reference = items[i].reference,
			                    .old = items[i].old, .n = items[i].n, .kind = (uint32_t)items[i].kind,
			                    .weight = 1, .advantage = items[i].advantage };
	ref_pref(par, program.word, item, BIG, groups, group_count, want);
	for (uint32_t i = 0; i < BIG; i++)
		if (!(fabsl(result[i].loss - want[i].loss) <= 1e-11L * (1 + fabsl(want[i].loss))) ||
		    !(fabsl(result[i].grad - want[i].grad) * batch.divisor <= 1e-11L) || result[i].status ||
		    result[i].group != want[i].group)
			fail_msg("loss %s, item %u: %.17g, %.17g instead of %.17Lg, %.17Lg", name, i, result[i].loss,
			         result[i].grad, want[i].loss, want[i].grad);
	free(result);
	free(want);
	free(item);
}

static void steps_beyond_a_launch(void **state)
{
	static const char *const losses[] = { "disco_dbaql", "disco_aqfl", "kto_pair_attached", "aot_unpaired",
		                              "disco_aql:weight=0.5+sft:weight=0.25" };
	struct pf_loss_item *items = calloc(BIG, sizeof *items);
	uint32_t *groups = calloc(BIG / 2 + 1, sizeof *groups);

	(void)state;
	assert_true(items && groups);
	for (uint32_t i = 0; i < BIG; i++)
		items[i] = item(i % 2 ? PF_KIND_REJECTED : PF_KIND_CHOSEN, -20 - (double)(i * 7919 % 4001) / 512,
		                -20 - (double)(i * 104729 % 3001) / 512, 1 + i % 13);
	for (uint32_t g = 0; g <= BIG / 2; g++)
		groups[g] = 2 * g;
	for (size_t k = 0; k < sizeof losses / sizeof *losses; k++)
		agrees_with_reference(losses[k], (struct pf_loss_batch){ .divisor = BIG / 2, .tokens = 28700 }, items,
		                      groups, BIG / 2);
	free(items);
	free(groups);
}

/* A completion of more tokens than a launch holds, and others that share launches around it */
static void sequences_beyond_a_launch(void **state)
{
	static const char *const losses[] = { "grpo:beta=0.05", "gspo", "luspo:beta=0.1", "reinforce", "dapo" };
	const uint32_t groups[] = { 0, 2, 4, BIG - 1, BIG }, small[] = { 0, 4, 4 + PF_ITEMS_MAX, BIG };
	struct pf_loss_item *items = calloc(BIG, sizeof *items);

	(void)state;
	assert_non_null(items);
	for (uint32_t i = 0; i < BIG; i++) {
		items[i] = item(PF_KIND_CHOSEN, -2 - (double)(i * 7919 % 1009) / 512, -3, 1);
		items[i].old = items[i].policy + ((int64_t)(i % 5) - 2) * (1 << 28);
		items[i].advantage = i < 4 ? 1.0f : -0.5f;
	}
	for (size_t k = 0; k < sizeof losses / sizeof *losses; k++) {
		const struct pf_loss_batch batch = { .divisor = 4, .tokens = BIG };
		agrees_with_reference(losses[k], batch, items, groups, 4);
		agrees_with_reference(losses[k], batch, items, small, 3);
	}
	free(items);
}

/* Every backend call of an evaluation fails once: an error with text, nothing kept, nothing hanging
 */
static void a_failing_device_is_an_error(void **state)
{
	const struct pf_loss_item items[] = { item(PF_KIND_CHOSEN, -3, -4, 4),
		                              item(PF_KIND_REJECTED, -5, -4, 2) };
	const struct pf_loss_batch one = { .divisor = 1 };
	const struct pf_loss loss = parsed("sigmoid");
	const uint32_t pair[] = { 0, 2 };
	struct pf_loss_result result[2];
	unsigned n = 1;

	(void)state;
	for (int failed = 1; failed; n++) {
		struct pf_device *wrapped;
		wrap_reset(&pf_backend_sim);
		wrap_fail_at(n, -EIO);
		assert_int_equal(pf_device_open_backend(wrap_backend(), "", NULL, &wrapped, &error),
		                 0);
		memset(&error, 0, sizeof error);
		int code =
			pf_loss_evaluate(wrapped, &loss, &one, items, 2, pair, 1, result, &error);
		failed = wrap_failed();
		assert_true(failed ? code < 0 && *error.text : code == 0);
		pf_device_close(wrapped);
	}
	assert_true(n > 10);
}

static int open_device(void **state)
{
	(void)state;
	return pf_device_open("cpu", NULL, &device, &error);
}

static int close_device(void **state)
{
	(void)state;
	return pf_device_close(device);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(many_launches_give_what_single_pairs_give),
		cmocka_unit_test(likelihood_mixes_with_pairs),
		cmocka_unit_test(samples_have_their_own_losses),
		cmocka_unit_test(a_step_without_chosen_items_has_no_likelihood),
		cmocka_unit_test(invalid_groups_are_counted_and_left_out),
		cmocka_unit_test(overflow_is_marked),
		cmocka_unit_test(nothing_is_something),
		cmocka_unit_test(mistakes_name_item_or_group),
		cmocka_unit_test(ratios_stay_in_range),
		cmocka_unit_test(long_lists_are_refused),
		cmocka_unit_test(steps_beyond_a_launch),
		cmocka_unit_test(sequences_beyond_a_launch),
		cmocka_unit_test(a_failing_device_is_an_error),
	};
	return cmocka_run_group_tests(tests, open_device, close_device);
}
