/* expr.c: formulas of losses: what is refused, where and with what advice; which data a formula wants; how strings with
 * formulas are read. That values and derivatives are right: loss_vectors.c and loss_gradient.c. */
#include <math.h>
#include <stdio.h>
#include <string.h>
#include "host/train/expr.h"
#include "host/train/loss_program.h"
#include "tests/cmocka.h"

static struct pf_loss loss;
static struct pf_error error;
static struct pf_expr compiled;

static void refuses(const char *formula, const char *wanted)
{
	memset(&error, 0, sizeof error);
	if (pf_expr_compile(formula, strlen(formula), &compiled, &error) >= 0 || !strstr(error.text, wanted))
		fail_msg("\"%s\" says \"%s\" instead of \"%s\"", formula, error.text, wanted);
}

static void mistakes_have_a_column(void **state)
{
	(void)state;
	refuses("", "column 1: the formula ends where a number");
	refuses("x +", "column 4: the formula ends where");
	refuses("softplsu(-x)", "column 1: unknown name \"softplsu\"; did you mean softplus?");
	refuses("x * qqqqqqqqq", "column 5: unknown name");
	refuses("2x", "column 2: an operator is missing");
	refuses("x $ 2", "column 3: \"$\" is not understood");
	refuses("x + \xd1\x85", "column 5: byte 0xd1 (formulas are ASCII) where a number");
	refuses("x \xff", "column 3: byte 0xff (formulas are ASCII) is not understood");
	refuses("(x", "column 3: \")\" is missing");
	refuses("x)", "column 2: \")\" is not understood");
	refuses("exp x", "column 5: \"(\" is missing behind exp");
	refuses("max(x)", "column 6: max has 2 arguments");
	refuses("max(x, 1, 2)", "column 9: max has 2 arguments");
	refuses("where(x < 0, 1", "where has 3 arguments");
	refuses("1e999*x", "column 1: not a finite number");
	refuses("x ++* 2", "\"*\" where a number");
	refuses("softplus(rw - rl)", "does not change with the policy");
	refuses("softplus(-y)", "does not change with the policy");
	refuses("sg(x)", "does not change with the policy");
	refuses("gsum(score)", "does not change with the policy");
	refuses("is_chosen*x", "column 1: unknown name");
	refuses("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "too long for a name");
	refuses("((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((x", "nested too deep");
}

static void unstable_forms_come_with_the_stable_one(void **state)
{
	(void)state;
	refuses("2 + log(1 - exp(x))", "column 5: the logarithm of a difference loses its digits; write log1mexp(x)");
	refuses("log(sigmoid(x))", "write logsigmoid(x)");
	refuses("log(1 - sigmoid(x))", "write logsigmoid(-(x))");
	refuses("log(1 + exp(-x))", "write softplus(-x)");
	refuses("log(1 + x^2)", "write log1p(x^2)");
	refuses("log(exp(lw) + exp(ll))", "write (lw) + softplus((ll) - (lw))");
	refuses("log(exp(lw) - exp(ll))", "write (lw) + log1mexp((ll) - (lw))");
	refuses("log(exp(x))", "write x");
	refuses("exp(-x)*sigmoid(x/0.05)", "can be infinity times 0; write exp((-x) - softplus(-(x/0.05)))");
	refuses("x*exp(-x)*sigmoid(x)", "can be infinity times 0; write exp((-x) - softplus(-(x)))");
	refuses("-sigmoid(x)/2*(x*exp(-x))", "can be infinity times 0; write exp((-x) - softplus(-(x)))");
	refuses("exp(x)*(lw*exp(-2*x))", "a product of exponentials can be infinity times 0");
	refuses("exp(-x)*exp(2*x)", "write exp((-x) + (2*x))");
	refuses("1 - sigmoid(x)", "write sigmoid(-(x))");
	refuses("1 - exp(x)", "write -expm1(x)");
	refuses("exp(x) - 1", "write expm1(x)");
	refuses("exp(x) - exp(2*x)", "write exp(2*x) * expm1((x) - (2*x))");
	refuses("exp(x)/(1 + exp(x))", "write sigmoid(x)");
	refuses("3/(exp(-x) + 1)", "write 3 * sigmoid(-(-x))");
}

static void domains_are_kept(void **state)
{
	(void)state;
	refuses("log(x)", "column 1: the logarithm of x, which can be negative");
	refuses("log(lw - ll)", "can be negative");
	refuses("1 + 1/x", "column 5: a division by x, which can be 0");
	refuses("1/(nw - nl)", "can be 0");
	refuses("log1p(x)", "can reach -1");
	refuses("log1mexp(lw/nw)", "can reach 0; bound it");
	refuses("x^0.5", "can be negative");
	refuses("sqrt(margin)", "can be negative");
	refuses("0/0", "column 1: a division by 0, which can be 0");
	refuses("x + 0/x", "column 5: a division by x, which can be 0");
	refuses("x*1e308*1e308", "give more than 1.8e308 together");
	refuses("(1e308 + 1e308)*x", "give more than 1.8e308 together");
	static const char *const good[] = { "log(beta)*x",
		                            "x/beta",
		                            "x/p0",
		                            "x/nw",
		                            "x*log(nw)",
		                            "sqrt(1 + x^2)",
		                            "log(softplus(x))",
		                            "1/(1e-3 + x^2)",
		                            "log(max(x, 1e-6))",
		                            "1/sigmoid(x)",
		                            "log1p(exp(min(x, 3)))",
		                            "pow(nw, -0.5)*x",
		                            "sqrt(1 + x^2) - 1",           /* a power is no exponential */
		                            "1 - sqrt(1 + x^2)",
		                            "sqrt(1 + x^2) - sqrt(2 + x^2)",
		                            "exp(x)*sqrt(1 + x^2)",
		                            "sqrt(1 + x^2)*sigmoid(x)",
		                            "pow(1 + x^2, 0.3)*pow(2 + x^2, 0.7)",
		                            "1/(1 + sqrt(1 + x^2))",
		                            "log(sqrt(1 + x^2))",
		                            "sqrt(sqrt(1 + x^2))",
		                            "log(sqrt(1 + x^2) + sqrt(2 + x^2))" };
	for (size_t i = 0; i < sizeof good / sizeof *good; i++)
		if (pf_expr_compile(good[i], strlen(good[i]), &compiled, &error))
			fail_msg("%s: %s", good[i], error.text);
}

static void names_decide_what_data_is_wanted(void **state)
{
	static const struct { const char *formula; enum pf_loss_form form; int per_item; enum pf_loss_reference reference; } cases[] = {
		{ "softplus(-x)", PF_FORM_PAIR, 0, PF_LOSS_REF },
		{ "softplus(ll - lw)", PF_FORM_PAIR, 0, PF_LOSS_FREE },
		{ "margin*(lw - ll)", PF_FORM_PAIR, 0, PF_LOSS_FREE }, { "y*l", PF_FORM_BINARY, 1, PF_LOSS_FREE },
		{ "y*x", PF_FORM_BINARY, 1, PF_LOSS_REF }, { "gsum(x)", PF_FORM_LIST, 0, PF_LOSS_REF },
		{ "l*score - glse(l)", PF_FORM_LIST, 0, PF_LOSS_FREE },
	};
	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		const char *f = cases[i].formula;
		if (pf_expr_compile(f, strlen(f), &compiled, &error))
			fail_msg("%s: %s", f, error.text);
		if (compiled.row.form != cases[i].form || compiled.row.per_item != cases[i].per_item ||
		    compiled.row.reference != cases[i].reference)
			fail_msg("%s: form %d, per item %d, reference %d", f, compiled.row.form, compiled.row.per_item,
			         compiled.row.reference);
	}
	refuses("lw - l", "column 6: l belongs to single samples");
	refuses("gsum(lw)", "column 6: lw belongs to pairs");
	refuses("gsum(l)*y", "y belongs to binary samples");
}

/* beta and p0 to p7 in one formula: one parameter more than the kernel's table holds, so that one is a constant */
static void all_parameters_in_one_formula(void **state)
{
	static const char text[] = "expr:x + (p0 + 2*p1 + 4*p2 + 8*p3 + 16*p4 + 32*p5 + 64*p6)*lw/nw + p7*ll:"
	                           "beta=0.5,p0=1,p1=0,p2=1,p3=1,p4=0,p5=0,p6=1,p7=0.25";
	const struct pf_loss_batch batch = { .divisor = 1 };
	const struct pf_loss_item items[] = {
		{ .policy = -(6LL << 32), .reference = -(5LL << 32), .n = 3, .kind = PF_KIND_CHOSEN, .weight = 1 },
		{ .policy = -(8LL << 32), .reference = -(4LL << 32), .n = 2, .kind = PF_KIND_REJECTED, .weight = 1 },
	};
	const uint32_t groups[] = { 0, 2 };
	struct pf_loss_result result[2];
	(void)state;
	for (int sim = 0; sim < 2; sim++) {
		struct pf_device *device;
		assert_int_equal(pf_device_open(sim ? "sim" : "cpu", NULL, &device, &error), 0);
		if (pf_loss_parse(text, &loss, &error) ||
		    pf_loss_evaluate(device, &loss, &batch, items, 2, groups, 1, result, &error))
			fail_msg("%s", error.text);
		/* x = 0.5 (-1 + 4), lw/nw = -2, 1 + 4 + 8 + 64 = 77 */
		assert_true(fabs(result[0].loss - (1.5 - 154 - 2)) <= 1e-12);
		assert_true(fabs(result[0].grad - (0.5 + 77.0 / 3)) <= 1e-12);
		assert_true(fabs(result[1].grad - (0.25 - 0.5)) <= 1e-12);
		pf_device_close(device);
	}
}

static void strings_with_formulas(void **state)
{
	struct pf_program program;
	(void)state;
	assert_int_equal(pf_loss_parse("expr:softplus(-x) + p0*lw/nw:beta=0.3,p0=2,weight=0.5", &loss, &error), 0);
	assert_true(loss.components == 1 && loss.component[0].weight == 0.5 && loss.component[0].param[0] == 0.3 &&
	            loss.component[0].param[1] == 2);
	assert_int_equal(pf_loss_parse("expr:{softplus(-x)}:beta=0.2+sft:weight=0.25", &loss, &error), 0);
	assert_true(loss.components == 2 && loss.component[0].param[0] == 0.2 && loss.component[1].weight == 0.25);
	assert_int_equal(pf_loss_parse("sigmoid:weight=2+expr:max(0, 1 - x)", &loss, &error), 0);
	assert_true(loss.components == 2);
	assert_int_equal(pf_program_build(&program, &loss, &error), 0);
	assert_true(pf_loss_parse("expr:{softplus(-x)+sft", &loss, &error) < 0);
	assert_non_null(strstr(error.text, "\"}\" is missing"));
	assert_true(pf_loss_parse("expr:softplus(-x):p0=2", &loss, &error) < 0);
	assert_non_null(strstr(error.text, "no parameter \"p0\""));
	const struct pf_loss_row *first, *again;
	assert_int_equal(pf_expr_row("x^2", 3, &first, &error), 0);
	assert_int_equal(pf_expr_row("x^2", 3, &again, &error), 0);
	assert_ptr_equal(first, again);
}

static void large_formulas(void **state)
{
	char text[2 * PF_EXPR_BYTES] = "x";
	(void)state;
	while (strlen(text) < PF_EXPR_BYTES - 20)
		strcat(text, "+softplus(x*lw)");
	memset(&error, 0, sizeof error);
	if (pf_expr_compile(text, strlen(text), &compiled, &error))
		assert_non_null(strstr(error.text, "too large"));
	while (strlen(text) < PF_EXPR_BYTES)
		strcat(text, "+x");
	refuses(text, "at most 1023 characters");
	strcpy(text, "softplus(x)");
	for (int i = 0; i < 40; i++) {       /* deep: the stack and the registers run out, and it is said */
		char deeper[2 * PF_EXPR_BYTES];
		snprintf(deeper, sizeof deeper, "(%.900s)*sigmoid(x)", text);
		strcpy(text, deeper);
	}
	pf_expr_compile(text, strlen(text), &compiled, &error);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(mistakes_have_a_column), cmocka_unit_test(unstable_forms_come_with_the_stable_one),
		cmocka_unit_test(domains_are_kept), cmocka_unit_test(names_decide_what_data_is_wanted),
		cmocka_unit_test(strings_with_formulas), cmocka_unit_test(large_formulas),
		cmocka_unit_test(all_parameters_in_one_formula),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
