/* loss_parse.c: loss strings, the table's promises, and the assembler's errors. */
#include <math.h>
#include <stdio.h>
#include <string.h>
#include "host/train/loss_program.h"
#include "tests/cmocka.h"

static struct pf_loss loss;
static struct pf_error error;

static void refuses(const char *text, int code, const char *wanted)
{
	memset(&error, 0, sizeof error);
	assert_int_equal(pf_loss_parse(text, &loss, &error), code);
	if (!strstr(error.text, wanted))
		fail_msg("\"%s\" says \"%s\" instead of \"%s\"", text, error.text, wanted);
}

static void accepts(const char *text)
{
	if (pf_loss_parse(text, &loss, &error))
		fail_msg("\"%s\": %s", text, error.text);
}

/* ---- strings ---- */

static void names_and_defaults(void **state)
{
	(void)state;
	accepts("sigmoid");
	assert_true(loss.components == 1 && loss.component[0].param[0] == 0.1 &&
	            loss.component[0].weight == 1);
	accepts("dpo:beta=0.25");
	assert_string_equal(loss.component[0].row->name, "sigmoid");
	assert_true(loss.component[0].param[0] == 0.25);
	accepts("oracle:dpo_cdpo:eps=0.2,beta=1e+1");
	assert_string_equal(loss.component[0].row->name, "cdpo");
	assert_true(loss.component[0].param[0] == 10 && loss.component[0].param[1] == 0.2);
	accepts("wpo:max_weight=inf");
	assert_true(isinf(loss.component[0].param[1]));
}

static void mixtures(void **state)
{
	(void)state;
	accepts("sigmoid:beta=1e+1,weight=.8+bco_pair:weight=0.2+sft");
	assert_int_equal(loss.components, 3);
	assert_true(loss.component[0].param[0] == 10 && loss.component[0].weight == 0.8 &&
	            loss.component[1].weight == 0.2);
	assert_true(pf_loss_form(&loss) == PF_FORM_PAIR && !pf_loss_per_item(&loss) &&
	            pf_loss_needs_reference(&loss));
	accepts("sft+kto");
	assert_true(pf_loss_form(&loss) == PF_FORM_BINARY && pf_loss_per_item(&loss));
	accepts("simpo+tpo");
	assert_true(pf_loss_form(&loss) == PF_FORM_TRIPLE && !pf_loss_needs_reference(&loss));
	refuses("kto+sigmoid", PF_E_ARGUMENT,
	        "loss sigmoid works on pair items and cannot be mixed with kto");
	refuses("pl_dpo+sft+kto", PF_E_ARGUMENT, "cannot be mixed");
	refuses("sft+sft+sft+sft+sft", PF_E_RANGE, "at most 4 losses");
}

/* Prompts are further items of a group: where gradients are per group or item, and nothing counts a group's items */
static void prompts_go_with_pairs_and_likelihood(void **state)
{
	static const char *const none[] = { "kto", "bco", "pl_dpo", "lipo", "grpo", "dft" };
	char text[64];

	(void)state;
	accepts("orpo_prompt");
	assert_true(pf_loss_prompts(&loss) && pf_loss_form(&loss) == PF_FORM_PAIR);
	accepts("orpo+sft_mean");
	assert_true(!pf_loss_prompts(&loss));
	accepts("orpo:nll_weight=0+sft_prompt");
	assert_true(pf_loss_prompts(&loss) && !pf_loss_per_item(&loss));
	accepts("sft_prompt+sft+aot");
	accepts("slic_hf+sft_prompt");
	accepts("ipo:ld_alpha=1+sft_prompt");
	for (size_t i = 0; i < sizeof none / sizeof *none; i++) {
		snprintf(text, sizeof text, "%s+sft_prompt", none[i]);
		refuses(text, PF_E_ARGUMENT, "counts the tokens of prompts and cannot be mixed with");
	}
	refuses("sft_prompt+kto", PF_E_ARGUMENT,
	        "loss sft_prompt counts the tokens of prompts and cannot be mixed with kto");
}

static void modifiers_go_with_losses_of_pairs(void **state)
{
	double value;

	(void)state;
	accepts("hinge:f_divergence_type=js_divergence,beta=0.2");
	assert_true(loss.component[0].param[0] == 0.2 && pf_loss_param(&loss, "f_divergence_type", &value));
	assert_true(value == 2);
	accepts("bco_pair:f_divergence_type=alpha_divergence,f_alpha_divergence_coef=0.25+sft:weight=0.5");
	assert_true(loss.component[1].weight == 0.5 && pf_loss_param(&loss, "f_alpha_divergence_coef", &value));
	assert_true(value == 0.25);
	accepts("ipo:use_weighting=1,max_weight=inf");
	assert_true(pf_loss_own_weights(&loss) && !pf_loss_tail(&loss));
	accepts("ipo:ld_alpha=0.5+hinge:ld_alpha=0.5");
	assert_true(pf_loss_tail(&loss) && pf_loss_param(&loss, "ld_alpha", &value) && value == 0.5);
	accepts("ipo:ld_alpha=1,use_weighting=0,f_divergence_type=reverse_kl");
	assert_true(!pf_loss_tail(&loss) && !pf_loss_own_weights(&loss));
	refuses("ipo:ld_alpha=0.5+hinge", PF_E_ARGUMENT, "sum log-probs differently");
	refuses("ipo:ld_alpha=0.5+hinge:ld_alpha=0.25", PF_E_ARGUMENT, "sum log-probs differently");
	refuses("ipo:ld_alpha=2", PF_E_RANGE, "ld_alpha = 2 is outside [0, 1]");
	refuses("apo_zero:f_divergence_type=forward_kl", PF_E_ARGUMENT, "apo_zero does not go with f_divergence_type");
	refuses("apo_down:f_divergence_type=forward_kl", PF_E_ARGUMENT, "does not go with");
	refuses("aot:f_divergence_type=forward_kl", PF_E_ARGUMENT, "does not go with");
	refuses("aot_unpaired:f_divergence_type=js_divergence", PF_E_ARGUMENT, "does not go with");
	refuses("fdpo_js:f_divergence_type=js_divergence", PF_E_ARGUMENT, "does not go with");
	refuses("simpo:f_divergence_type=js_divergence", PF_E_ARGUMENT, "does not go with");
	refuses("rpo:f_divergence_type=js_divergence", PF_E_ARGUMENT, "does not go with");
	refuses("kto:f_divergence_type=js_divergence", PF_E_ARGUMENT, "it is no loss of pairs");
	refuses("aot:use_weighting=1", PF_E_ARGUMENT, "compares pairs with each other");
	refuses("wpo:use_weighting=1", PF_E_ARGUMENT, "has weights already");
	refuses("cpo:ld_alpha=0.5", PF_E_ARGUMENT, "no function of log-ratios alone");
	refuses("hinge:f_divergence_type=hellinger", PF_E_ARGUMENT, "f_divergence_type=hellinger: it is reverse_kl");
	refuses("hinge:f_divergence_typ=js_divergence", PF_E_UNKNOWN, "did you mean f_divergence_type?");
}

static void mistakes_name_the_remedy(void **state)
{
	(void)state;
	refuses("sigmod", PF_E_UNKNOWN, "did you mean sigmoid?");
	refuses("oracle:dpo_sigmod", PF_E_UNKNOWN, "no loss is called \"oracle:dpo_sigmod\"");
	refuses("frobnicate", PF_E_UNKNOWN, "`prefpga losses` lists them");
	refuses("sigmoid:btea=1", PF_E_UNKNOWN, "did you mean beta?");
	refuses("cdpo:x=1", PF_E_UNKNOWN, "it has: weight, beta, label_smoothing");
	refuses("sigmoid:beta", PF_E_ARGUMENT, "write beta=NUMBER");
	refuses("sigmoid:beta=", PF_E_ARGUMENT, "is not a number");
	refuses("sigmoid:beta=one", PF_E_ARGUMENT, "\"one\" is not a number");
	refuses("sigmoid:beta=0.1,weight=2,beta=0.2", PF_E_ARGUMENT, "\"beta\" of loss sigmoid is given");
	refuses("sigmoid:f_divergence_type=js_divergence,f_divergence_type=reverse_kl", PF_E_ARGUMENT, "given twice");
	refuses("sigmoid:beta=1,", PF_E_ARGUMENT, "a parameter is missing");
	refuses("sigmoid:", PF_E_ARGUMENT, "a parameter is missing");
	refuses("sigmoid:beta=1x", PF_E_ARGUMENT, "\"x\" is not understood");
	refuses("", PF_E_ARGUMENT, "the name of a loss is missing");
	refuses("sigmoid+", PF_E_ARGUMENT, "the name of a loss is missing");
	refuses("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
	        PF_E_UNKNOWN, "too long");
}

static void ranges_are_kept(void **state)
{
	(void)state;
	refuses("sigmoid:beta=0", PF_E_RANGE, "beta = 0 is outside (0, inf)");
	refuses("sigmoid:beta=-1", PF_E_RANGE, "outside (0, inf)");
	refuses("sigmoid:beta=nan", PF_E_RANGE, "outside (0, inf)");
	refuses("sigmoid:beta=inf", PF_E_RANGE, "outside (0, inf)");
	refuses("robust:label_smoothing=0.5", PF_E_RANGE, "outside [0, 0.5)");
	accepts("cdpo:label_smoothing=0.5");
	accepts("cdpo:label_smoothing=0");
	refuses("exo_pair:label_smoothing=0", PF_E_RANGE, "outside (0, 0.5]");
	refuses("sigmoid:weight=-1", PF_E_RANGE, "weight = -1 is outside [0, inf)");
	refuses("discopop:discopop_tau=0", PF_E_RANGE, "outside (0, inf)");
	accepts("kto:desirable_weight=0");
}

static void every_error_may_go_unread(void **state)
{
	(void)state;
	assert_int_equal(pf_loss_parse("sigmod", &loss, NULL), PF_E_UNKNOWN);
	assert_int_equal(pf_loss_parse("sigmoid:beta=0", &loss, NULL), PF_E_RANGE);
}

/* ---- the table ---- */

static unsigned answering(const char *name)
{
	const struct pf_loss_row *row;
	unsigned found = 0;

	for (unsigned i = 0; (row = pf_loss_row(i)) != NULL; i++) {
		char words[256];
		assert_true(snprintf(words, sizeof words, " %s %s ", row->name, row->aliases) <
		            (int)sizeof words);
		char padded[80];
		snprintf(padded, sizeof padded, " %s ", name);
		found += strstr(words, padded) != NULL;
	}
	return found;
}

static void every_name_means_one_loss(void **state)
{
	const struct pf_loss_row *row;

	(void)state;
	for (unsigned i = 0; (row = pf_loss_row(i)) != NULL; i++) {
		char alias[64];
		int used;
		assert_ptr_equal(pf_loss_find(row->name), row);
		assert_int_equal(answering(row->name), 1);
		for (const char *at = row->aliases; sscanf(at, " %63s%n", alias, &used) == 1;
		     at += used) {
			assert_ptr_equal(pf_loss_find(alias), row);
			assert_int_equal(answering(alias), 1);
		}
	}
	assert_null(pf_loss_find("oracle:"));
	assert_null(pf_loss_find(""));
	assert_null(pf_loss_find("dpo oracle:dpo_sigmoid"));
}

static void defaults_are_allowed_values(void **state)
{
	const struct pf_loss_row *row;

	(void)state;
	for (unsigned i = 0; (row = pf_loss_row(i)) != NULL; i++) {
		accepts(row->name);
		for (unsigned k = 0; k < row->params; k++)
			if (pf_loss_set(&loss, 0, row->param[k].name, row->param[k].value, &error))
				fail_msg("%s", error.text);
	}
}

static void the_article_is_there(void **state)
{
	static const char *const names[] = {
		"sigmoid", "cdpo", "robust", "ipo", "ipo_sum", "hinge", "slic_hf", "kto",
		"gpo_logistic", "gpo_hinge", "gpo_squared", "gpo_exponential",
		"gpo_truncated_squared", "gpo_savage", "discopop", "sft", "oracle:dpo_sigmoid",
		"oracle:ipo_avg", "oracle:discopop_lrml", "oracle:sft_nll",
	};

	(void)state;
	for (size_t i = 0; i < sizeof names / sizeof *names; i++)
		accepts(names[i]);
}

static void programs_fit_the_kernel(void **state)
{
	const struct pf_loss_row *row;
	struct pf_program program;

	(void)state;
	for (unsigned i = 0; (row = pf_loss_row(i)) != NULL; i++) {
		accepts(row->name);
		assert_int_equal(pf_program_build(&program, &loss, &error), 0);
	}
}

/* ---- the assembler ---- */

static struct pf_program program;

static int assemble(const char *text)
{
	memset(&program, 0, sizeof program);
	memset(&error, 0, sizeof error);
	return pf_program_assemble(&program, pf_loss_find("sigmoid"), text, 0, &error);
}

static void complains(const char *text, const char *wanted)
{
	if (assemble(text) >= 0 || !strstr(error.text, wanted))
		fail_msg("\"%s\" says \"%s\" instead of \"%s\"", text, error.text, wanted);
}

static void words_become_operations(void **state)
{
	static const uint32_t want[] = {
		PF_WORD(PF_OP_U, 0),   PF_WORD(PF_OP_STORE, 0), PF_WORD(PF_OP_LOAD, 0),
		PF_WORD(PF_OP_PAR, 0), PF_WORD(PF_OP_MUL, 0),   PF_WORD(PF_OP_CONST, 0),
		PF_WORD(PF_OP_ADD, 0), PF_WORD(PF_OP_CONST, 0), PF_WORD(PF_OP_SUB, 0),
		PF_WORD(PF_OP_IS, 3),  PF_WORD(PF_OP_MUL, 0),   PF_WORD(PF_OP_SCALAR, PF_PAR_Z0),
		PF_WORD(PF_OP_SUB, 0), PF_WORD(PF_OP_END, 0),
	};

	(void)state;
	assert_int_equal(assemble("  u =x x beta *  1.5 + 1.5 - is chosen|rejected * z0 - "), 0);
	assert_int_equal(program.words, sizeof want / sizeof *want);
	assert_memory_equal(program.word, want, sizeof want);
	assert_true(program.constants == 1 && program.constant[0] == 1.5 &&
	            program.scalars == 1u << PF_PAR_Z0);
}

static void loops_stay_loops(void **state)
{
	(void)state;
	assert_int_equal(assemble("0 =k [ k 1 + =k ] k"), 0);
	assert_true(program.words == 2 + 1 + 4 + 1 + 2 && program.word[2] == PF_WORD(PF_OP_LOOP, 0) &&
	            program.word[7] == PF_WORD(PF_OP_NEXT, 0));
}

static void errors_name_column_and_word(void **state)
{
	(void)state;
	complains("u softplsu", "program of loss sigmoid, column 3: unknown word \"softplsu\"; did "
	                        "you mean \"softplus\"?");
	complains("u frobnicate", "no operation, register, parameter or batch scalar");
	complains("u +", "column 3: \"+\" needs 2 values, the stack holds 1");
	complains("u u", "ends with 2 values on the stack instead of one");
	complains("", "ends with 0 values");
	complains("u u u u u u u u u", "column 17: more than 8 values on the stack");
	complains("u =n", "\"n\" cannot name a register");
	complains("u =beta", "cannot name a register");
	complains("u =z0", "cannot name a register");
	complains("u =9", "cannot name a register");
	complains("u =a u =b u =c u =d u =e u =f u =g u =h u =i", "more than 8 registers");
	complains("u is chosn", "\"chosn\" follows `is`");
	complains("u is", "follows `is`");
	complains("u is chosen|", "follows `is`");
	complains("u end", "unknown word \"end\"");
	complains("store", "unknown word \"store\"");
	complains("1e999", "is not a finite number");
	complains("1x", "\"1x\" is not a finite number");
	complains("[ u", "\"[\" without \"]\"");
	complains("u [", "\"[\" without \"]\"");
	complains("u ]", "\"]\" without \"[\"");
	complains("[ [ ] ]", "loops do not nest");
	complains("u [ u ]", "leaves the stack with 2 values instead of 1");
	complains("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
	          "too long for a word");
}

static void limits_are_kept(void **state)
{
	char text[8 * PF_PROG_MAX] = "u";

	(void)state;
	for (unsigned i = 0; i < PF_CONSTS + 1; i++)
		snprintf(text + strlen(text), 16, " %u +", i);
	complains(text, "more than 32 different constants");
	strcpy(text, "u");
	for (unsigned i = 0; i < PF_PROG_MAX; i++)
		strcat(text, " neg");
	complains(text, "more than 1024 words");
	memset(text + 1 + 4 * (PF_PROG_MAX - 2), 0, 1);
	assert_int_equal(assemble(text), 0);
	assert_int_equal(program.words, PF_PROG_MAX);
	text[1 + 4 * (PF_PROG_MAX - 2)] = ' ';
	text[1 + 4 * (PF_PROG_MAX - 1)] = '\0';
	complains(text, "more than 1024 words");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(names_and_defaults),
		cmocka_unit_test(mixtures),
		cmocka_unit_test(prompts_go_with_pairs_and_likelihood),
		cmocka_unit_test(modifiers_go_with_losses_of_pairs),
		cmocka_unit_test(mistakes_name_the_remedy),
		cmocka_unit_test(ranges_are_kept),
		cmocka_unit_test(every_error_may_go_unread),
		cmocka_unit_test(every_name_means_one_loss),
		cmocka_unit_test(defaults_are_allowed_values),
		cmocka_unit_test(the_article_is_there),
		cmocka_unit_test(programs_fit_the_kernel),
		cmocka_unit_test(words_become_operations),
		cmocka_unit_test(loops_stay_loops),
		cmocka_unit_test(errors_name_column_and_word),
		cmocka_unit_test(limits_are_kept),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
