/* loss_vectors.c: every loss on every backend against tests/vectors: losses.json (made by generate.py from the
 * formulas) and official.json (the specification's oracle at its own points, made by official.py). Error rule:
 * |got - want| <= 4 u (|want| + sum |input * derivative|), u = 2^-24, plus 2^-1022, below which pref says 0. */
#include <float.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "host/cli/loss_case.h"
#include "tests/cmocka.h"

static json_t *vectors, *official;
static unsigned checked;

enum { OFFICIAL_NUMBERS = 3819 };      /* values and derivatives of 73 losses at 12 points */

static long double number(const json_t *value)
{
	assert_true(json_is_string(value));
	return strtold(json_string_value(value), NULL);
}

static int within(double got, long double want, long double cond)
{
	return fabsl(got - want) <= 4 * 0x1p-24L * (fabsl(want) + cond) + DBL_MIN;
}

static void check(double got, const json_t *want, const json_t *cond, const char *loss, size_t i,
                  const char *output)
{
	checked++;
	if (!within(got, number(want), number(cond)))
		fail_msg("%s, case %zu, %s: %.17g instead of %s, condition %s", loss, i, output,
		         got, json_string_value(want), json_string_value(cond));
}

static void check_grad(const struct pf_cases *cases, size_t i, unsigned key, const json_t *record,
                       const char *loss)
{
	const char *name = cases->key[key].name;
	const json_t *want = json_object_get(json_object_get(record, "grad"), name);
	const json_t *cond = json_object_get(json_object_get(record, "grad_cond"), name);

	if (!json_is_array(want)) {
		check(pf_cases_grad(cases, i, key, 0), want, cond, loss, i, name);
		return;
	}
	assert_int_equal(json_array_size(want), pf_cases_length(cases, i, key));
	for (uint32_t at = 0; at < json_array_size(want); at++)
		check(pf_cases_grad(cases, i, key, at), json_array_get(want, at),
		      json_array_get(cond, at), loss, i, name);
}

static void check_case(const struct pf_cases *cases, size_t i, const json_t *record,
                       const char *loss)
{
	struct pf_error error;
	double value;

	if (pf_cases_loss(cases, i, &value, &error))
		fail_msg("%s, case %zu: %s", loss, i, error.text);
	check(value, json_object_get(record, "loss"), json_object_get(record, "cond"), loss, i,
	      "loss");
	for (unsigned key = 0; key < cases->keys; key++)
		if (cases->key[key].field == PF_CASE_POLICY)
			check_grad(cases, i, key, record, loss);
}

static void add_case(struct pf_cases *cases, const json_t *record, size_t line)
{
	struct pf_error error;
	char *text = json_dumps(json_object_get(record, "in"), 0);

	if (pf_cases_add(cases, text, strlen(text), line, &error))
		fail_msg("%s: %s", text, error.text);
	free(text);
}

static void check_loss(const json_t *entry, struct pf_device *device)
{
	const char *name = json_string_value(json_object_get(entry, "loss"));
	const json_t *list = json_object_get(entry, "cases"), *record;
	struct pf_error error;
	struct pf_cases cases;
	struct pf_loss loss;
	size_t i;

	if (pf_loss_parse(name, &loss, &error) || pf_cases_init(&cases, &loss, &error))
		fail_msg("%s: %s", name, error.text);
	json_array_foreach(list, i, record)
		add_case(&cases, record, i + 1);
	if (pf_cases_evaluate(&cases, device, &error))
		fail_msg("%s: %s", name, error.text);
	json_array_foreach(list, i, record)
		check_case(&cases, i, record, name);
	pf_cases_free(&cases);
}

static void check_backend(const char *backend)
{
	struct pf_device *device;
	struct pf_error error;
	json_t *entry;
	size_t i;

	if (pf_device_open(backend, NULL, &device, &error)) {
		print_message("%s is skipped: %s\n", backend, error.text);
		skip();
	}
	checked = 0;
	json_array_foreach(vectors, i, entry)
		check_loss(entry, device);
	assert_true(checked > 2000);
	checked = 0;
	json_array_foreach(official, i, entry)
		check_loss(entry, device);
	assert_int_equal(checked, OFFICIAL_NUMBERS);
	pf_device_close(device);
}

static void on_cpu(void **state)
{
	(void)state;
	check_backend("cpu");
}

static void on_sim(void **state)
{
	(void)state;
	check_backend("sim");
}

/* ---- formulas that say what a built-in says, against the built-in's vectors ---- */

static const struct { const char *builtin, *formula, *from[2], *to[2]; } formulas[] = {
	{ "sigmoid", "softplus(-x)", { 0 }, { 0 } },
	{ "sigmoid", "-logsigmoid(beta*((lw - rw) - (ll - rl)))", { 0 }, { 0 } },
	{ "ipo", "((lw - rw)/nw - (ll - rl)/nl - 1/(2*beta))^2", { 0 }, { 0 } },
	{ "ipo_sum", "(x/beta - 0.5/beta)^2", { 0 }, { 0 } },
	{ "hinge", "max(0, 1 - x)", { 0 }, { 0 } },
	{ "kto", "where(y, p0*sigmoid(-(beta*(l - r - z0))), p1*sigmoid(beta*(l - r - z0)))", { "lamD", "lamU" }, { "p0", "p1" } },
	{ "discopop", "blend(sigmoid(x/p0), softplus(-x), exp(-x))", { "tau" }, { "p0" } },
	{ "discopop", "sigmoid(-(x/p0))*softplus(-x) + exp(-x - softplus(-(x/p0)))", { "tau" }, { "p0" } },
	{ "cdpo", "(1 - p0)*softplus(-x) + p0*softplus(x)", { "eps" }, { "p0" } },
	{ "dpo_offset", "softplus(-(x - margin))", { "delta" }, { "margin" } },
	{ "gpo_exponential", "exp(-x)", { 0 }, { 0 } },
	{ "gpo_savage", "sigmoid(-x)^2", { 0 }, { 0 } },
	{ "gpo_truncated_squared", "max(0, 1 - x)^2", { 0 }, { 0 } },
	{ "nca_pair", "softplus(-beta*(lw - rw)) + 0.5*softplus(beta*(lw - rw)) + 0.5*softplus(beta*(ll - rl))", { 0 }, { 0 } },
	{ "apo_down", "sigmoid(beta*(lw - rw)) + sigmoid(-x)", { 0 }, { 0 } },
	{ "orpo", "-lw/nw + beta*softplus(-(min(lw/nw, -1e-6) - log1mexp(min(lw/nw, -1e-6)) - min(ll/nl, -1e-6) + "
	          "log1mexp(min(ll/nl, -1e-6))))", { 0 }, { 0 } },
	{ "infonca", "gsum(exp(score/p0 - glse(score/p0))*(glse(x) - x))", { "tau" }, { "p0" } },
	{ "nca", "gsum(exp(score/p0 - glse(score/p0))*softplus(-x) + softplus(x)/gcount)", { "tau" }, { "p0" } },
};

static const json_t *entry_of(const char *loss)
{
	const json_t *entry;
	size_t i;

	json_array_foreach(vectors, i, entry)
		if (strcmp(json_string_value(json_object_get(entry, "loss")), loss) == 0)
			return entry;
	return NULL;
}

/* The built-in's case with its keys under the formula's names */
static json_t *renamed(const json_t *record, size_t f)
{
	json_t *copy = json_deep_copy(record), *in = json_object_get(copy, "in");

	for (int k = 0; k < 2 && formulas[f].from[k]; k++) {
		json_object_set(in, formulas[f].to[k], json_object_get(in, formulas[f].from[k]));
		json_object_del(in, formulas[f].from[k]);
	}
	return copy;
}

static void check_formula(size_t f, struct pf_device *device)
{
	char name[512];
	const json_t *list = json_object_get(entry_of(formulas[f].builtin), "cases"), *record;
	struct pf_error error;
	struct pf_cases cases;
	struct pf_loss loss;
	size_t i;

	snprintf(name, sizeof name, "expr:%s", formulas[f].formula);
	if (pf_loss_parse(name, &loss, &error) || pf_cases_init(&cases, &loss, &error))
		fail_msg("%s: %s", name, error.text);
	json_array_foreach(list, i, record) {
		json_t *copy = renamed(record, f);
		add_case(&cases, copy, i + 1);
		json_decref(copy);
	}
	if (pf_cases_evaluate(&cases, device, &error))
		fail_msg("%s: %s", name, error.text);
	json_array_foreach(list, i, record)
		check_case(&cases, i, record, name);
	pf_cases_free(&cases);
}

static void formulas_meet_the_bound(void **state)
{
	static const char *const backends[] = { "cpu", "sim" };

	(void)state;
	for (int b = 0; b < 2; b++) {
		struct pf_device *device;
		struct pf_error error;
		if (pf_device_open(backends[b], NULL, &device, &error))
			fail_msg("%s", error.text);
		for (size_t f = 0; f < sizeof formulas / sizeof *formulas; f++)
			check_formula(f, device);
		pf_device_close(device);
	}
}

/* A backend from the command line */
static const char *further;

static void on_further(void **state)
{
	(void)state;
	check_backend(further);
}

static void every_loss_has_vectors(void **state)
{
	const struct pf_loss_row *row;

	(void)state;
	for (unsigned i = 0; (row = pf_loss_row(i)) != NULL; i++) {
		const json_t *entry;
		size_t at, found = 0;
		json_array_foreach(vectors, at, entry) found +=
			strcmp(json_string_value(json_object_get(entry, "loss")), row->name) == 0;
		if (found != 1)
			fail_msg("loss %s has no entry in tests/vectors/losses.json; add it to "
			         "generate.py",
			         row->name);
	}
}

/* "oracle:NAME" among the other names of a row and an entry of official.json go together */
static void official_names_and_vectors_agree(void **state)
{
	const struct pf_loss_row *row;
	const json_t *entry;
	size_t i, names = 0;

	(void)state;
	json_array_foreach(official, i, entry) {
		const char *name = json_string_value(json_object_get(entry, "loss"));
		if (!pf_loss_find(name))
			fail_msg("no row of losses.def answers to %s", name);
	}
	for (unsigned r = 0; (row = pf_loss_row(r)) != NULL; r++)
		for (const char *at = row->aliases; (at = strstr(at, "oracle:")) != NULL; at++)
			names++;
	assert_int_equal(names, json_array_size(official));
}

static void the_rule_notices_mistakes(void **state)
{
	(void)state;
	assert_true(within(1.0 + 0x1p-24, 1, 0));
	assert_false(within(NAN, 1, 1) || within(INFINITY, 1, 1) || within(1.0 + 0x1p-21, 1, 0) ||
	             within(1e-300, 0, 0));
}

static json_t *load_file(const char *path)
{
	json_error_t error;
	json_t *file = json_load_file(path, 0, &error);

	if (!file)
		fprintf(stderr, "%s:%d: %s\n", error.source, error.line, error.text);
	return file;
}

static int load(void **state)
{
	(void)state;
	vectors = load_file("tests/vectors/losses.json");
	official = load_file("tests/vectors/official.json");
	return vectors && official ? 0 : -1;
}

static int unload(void **state)
{
	(void)state;
	json_decref(vectors);
	json_decref(official);
	return 0;
}

int main(int argc, char **argv)
{
	if (argc > 1) {
		const struct CMUnitTest alone[] = { cmocka_unit_test(on_further) };
		further = argv[1];
		return cmocka_run_group_tests(alone, load, unload);
	}
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_loss_has_vectors),
		cmocka_unit_test(official_names_and_vectors_agree),
		cmocka_unit_test(the_rule_notices_mistakes),
		cmocka_unit_test(on_cpu),
		cmocka_unit_test(on_sim),
		cmocka_unit_test(formulas_meet_the_bound),
	};
	return cmocka_run_group_tests(tests, load, unload);
}
