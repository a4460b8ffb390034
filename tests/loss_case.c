/* loss_case.c: JSON cases into items: which keys, which values, and what is said about mistakes. */
#include <math.h>
#include <stdio.h>
#include <string.h>
#include "host/cli/loss_case.h"
#include "tests/cmocka.h"

static struct pf_cases cases;
static struct pf_error error;

static int64_t q32(double nats)
{
	return llrint(ldexp(nats, 32));
}

static void start(const char *name)
{
	struct pf_loss loss;

	pf_cases_free(&cases);
	if (pf_loss_parse(name, &loss, &error) || pf_cases_init(&cases, &loss, &error))
		fail_msg("%s", error.text);
}

static void accepts(const char *text)
{
	if (pf_cases_add(&cases, text, strlen(text), 1, &error))
		fail_msg("%s: %s", text, error.text);
}

static void refuses(const char *text, const char *wanted)
{
	size_t before = cases.count, items = cases.items;

	memset(&error, 0, sizeof error);
	assert_true(pf_cases_add(&cases, text, strlen(text), 1, &error) < 0);
	if (!strstr(error.text, wanted))
		fail_msg("%s says \"%s\" instead of \"%s\"", text, error.text, wanted);
	assert_true(cases.count == before && cases.items == items);
}

static void numbers_and_strings_mean_the_same(void **state)
{
	(void)state;
	start("sigmoid");
	accepts("{\"lw\": -1.5, \"ll\": \"-2.25\", \"rw\": \"-1e0\", \"rl\": -3, \"nw\": \"7.0\", "
	        "\"nl\": 9, \"beta\": \"0.5\"}");
	assert_int_equal(cases.items, 2);
	assert_true(cases.item[0].policy == q32(-1.5) && cases.item[0].reference == q32(-1));
	assert_true(cases.item[0].kind == PF_KIND_CHOSEN && cases.item[0].n == 7 &&
	            cases.item[0].weight == 1);
	assert_true(cases.item[1].policy == q32(-2.25) && cases.item[1].kind == PF_KIND_REJECTED &&
	            cases.item[1].n == 9);
	assert_true(cases.list[0].setting.loss.component[0].param[0] == 0.5 &&
	            cases.loss.component[0].param[0] == 0.1);
	assert_true(cases.list[0].setting.batch.divisor == 1);
}

static void every_bit_of_a_sum_is_kept(void **state)
{
	(void)state;
	start("cpo");
	accepts("{\"lw\": \"-2147483647.99999999976716935634613037109375\", \"ll\": "
	        "\"0.00000000023283064365386962890625\","
	        " \"nw\": 1, \"nl\": 1}");
	assert_true(cases.item[0].policy == INT64_MIN + 1 && cases.item[1].policy == 1);
	refuses("{\"lw\": 2147483648, \"ll\": 0, \"nw\": 1, \"nl\": 1}", "outside +-2^31");
	refuses("{\"lw\": \"-2147483648\", \"ll\": 0, \"nw\": 1, \"nl\": 1}", "outside +-2^31");
}

static void keys_of_other_losses_are_passed_over(void **state)
{
	(void)state;
	start("sigmoid");
	accepts("{\"lw\":0,\"ll\":0,\"rw\":0,\"rl\":0,\"tau\":1,\"psi\":[1],\"old\":[1],\"lamD\":2,"
	        "\"simpo_gamma\":3,\"m\":1}");
	refuses("{\"lw\":0,\"ll\":0,\"rw\":0,\"rl\":0,\"bta\":1}",
	        "unknown key \"bta\"; did you mean \"beta\"?");
	refuses("{\"lw\":0,\"ll\":0,\"rw\":0,\"rl\":0,\"frobnicate\":1}", "no loss has it");
	refuses("{\"lw\":0,\"ll\":0,\"rw\":0,\"rl\":0,\"weight\":1}", "unknown key \"weight\"");
	refuses("{\"lw\":0,\"ll\":0,\"rw\":0,\"rl\":0,\"\":1}", "unknown key \"\"");
}

static void lists_are_batches(void **state)
{
	(void)state;
	start("ipo");
	accepts("{\"lw\":[-1,-2,-3],\"ll\":[-4,-5,-6],\"rw\":0,\"rl\":[0,1,2],\"nw\":2,\"nl\":[1,2,"
	        "3]}");
	assert_true(cases.items == 6 && cases.groups == 3 &&
	            cases.list[0].setting.batch.divisor == 3);
	assert_true(cases.item[4].policy == q32(-3) && cases.item[5].reference == q32(2) &&
	            cases.item[5].n == 3);
	refuses("{\"lw\":[1,2],\"ll\":[1],\"rw\":0,\"rl\":0,\"nw\":1,\"nl\":1}",
	        "\"ll\" has 1 values but \"lw\" has 2");
	refuses("{\"lw\":[],\"ll\":1,\"rw\":0,\"rl\":0,\"nw\":1,\"nl\":1}",
	        "a list with at least one number");
	refuses("{\"lw\":[[1]],\"ll\":1,\"rw\":0,\"rl\":0,\"nw\":1,\"nl\":1}",
	        "\"lw\" must be a finite number");
}

static void labels_and_scalars(void **state)
{
	(void)state;
	start("kto");
	accepts("{\"l\":[-1,-2,-3],\"r\":[0,0,0],\"y\":[true,false,\"1\"],\"z0\":0.25,\"lamU\":2}");
	assert_true(cases.items == 3 && cases.groups == 3);
	assert_true(cases.item[0].kind == PF_KIND_CHOSEN &&
	            cases.item[1].kind == PF_KIND_REJECTED && cases.item[2].kind == PF_KIND_CHOSEN);
	assert_true(cases.list[0].setting.batch.z0 == 0.25 &&
	            cases.list[0].setting.loss.component[0].param[2] == 2);
	refuses("{\"l\":[1],\"r\":[0],\"y\":[true]}", "key \"z0\" is missing");
	refuses("{\"l\":[1],\"r\":[0],\"y\":[2],\"z0\":0}", "must be true (desirable) or false");
	refuses("{\"l\":[1],\"r\":[0],\"y\":[\"yes\"],\"z0\":0}",
	        "must be true (desirable) or false");
	refuses("{\"l\":[1],\"r\":[0],\"y\":[true],\"z0\":[0]}", "one number for the whole case");
	start("bco");
	accepts("{\"l\":[-1,-2],\"r\":[0,0],\"y\":[true,false],\"delta\":0.5,\"wl\":10}");
	assert_true(cases.item[0].weight == 1 && cases.item[1].weight == 10 &&
	            cases.list[0].setting.batch.delta == 0.5);
}

static void rows_have_keys_of_their_own(void **state)
{
	(void)state;
	start("reward");
	accepts("{\"rc\":1,\"rr\":-1,\"m\":0.5}");
	assert_true(cases.item[0].policy == q32(1) && cases.item[0].margin == 0.5f);
	refuses("{\"lw\":1,\"ll\":-1}", "key \"rc\" is missing");
	start("tpo");
	accepts("{\"lw\":1,\"ll\":-1,\"lg\":-2,\"nw\":1,\"nl\":1,\"ng\":3}");
	assert_true(cases.items == 3 && cases.item[2].kind == PF_KIND_EXTRA &&
	            cases.item[2].n == 3);
	start("orpo_prompt");
	accepts("{\"lw\":[-1,-2],\"ll\":[-3,-4],\"nw\":2,\"nl\":[3,4],\"lp\":[-5,-6],\"np\":[7,8]}");
	assert_true(cases.items == 6 && cases.groups == 2 && cases.group[0] == 3);
	assert_true(cases.item[3].kind == PF_KIND_CHOSEN && cases.item[4].kind == PF_KIND_REJECTED);
	assert_true(cases.item[5].kind == PF_KIND_PROMPT && cases.item[5].policy == q32(-6) && cases.item[5].n == 8);
	assert_true(cases.list[0].setting.batch.tokens == 4 && cases.list[0].setting.batch.prompt_tokens == 15);
	refuses("{\"lw\":-1,\"ll\":-3,\"nw\":2,\"nl\":3}", "key \"lp\" is missing");
	start("infonca");
	accepts("{\"l\":[1,2],\"r\":[0,0],\"psi\":[\"0.5\",1]}");
	assert_true(cases.groups == 1 && cases.item[0].score == 0.5f);
	refuses("{\"l\":[1,2],\"r\":[0,0]}", "key \"psi\" is missing");
}

static void mistakes_name_the_remedy(void **state)
{
	(void)state;
	start("sigmoid");
	refuses("{\"lw\":0", "a case is one JSON object a line");
	refuses("[]", "a case must be a JSON object such as {\"lw\": -12.5, ...}");
	refuses("3", "a case is one JSON object a line");
	refuses("{\"lw\":0,\"lw\":1}", "duplicate");
	refuses("{\"lw\":0,\"ll\":0,\"rw\":0}", "key \"rl\" is missing");
	refuses("{\"lw\":\"nan\",\"ll\":0,\"rw\":0,\"rl\":0}", "\"lw\" must be a finite number");
	refuses("{\"lw\":\"1e999\",\"ll\":0,\"rw\":0,\"rl\":0}", "\"lw\" must be a finite number");
	refuses("{\"lw\":\"0x10\",\"ll\":0,\"rw\":0,\"rl\":0}", "\"lw\" must be a finite number");
	refuses("{\"lw\":\"\",\"ll\":0,\"rw\":0,\"rl\":0}", "\"lw\" must be a finite number");
	refuses("{\"lw\":true,\"ll\":0,\"rw\":0,\"rl\":0}", "\"lw\" must be a finite number");
	refuses("{\"lw\":null,\"ll\":0,\"rw\":0,\"rl\":0}", "\"lw\" must be a finite number");
	refuses("{\"lw\":0,\"ll\":0,\"rw\":0,\"rl\":0,\"nw\":0}",
	        "\"nw\" = 0 must be a whole number of tokens");
	refuses("{\"lw\":0,\"ll\":0,\"rw\":0,\"rl\":0,\"nw\":1.5}",
	        "must be a whole number of tokens");
	refuses("{\"lw\":0,\"ll\":0,\"rw\":0,\"rl\":0,\"beta\":0}", "beta = 0 is outside (0, inf)");
	refuses("{\"lw\":2e9,\"ll\":0,\"rw\":-2e9,\"rl\":0}",
	        "policy - reference = 4000000000 nats is outside");
	start("dpo_offset");
	refuses("{\"lw\":0,\"ll\":0,\"rw\":0,\"rl\":0,\"delta\":1e39}",
	        "outside the range of single precision");
	start("pl_dpo");
	static char list[1 << 15] = "{\"l\":[0";
	size_t used = strlen(list);
	for (int i = 0; i < 8192; i++, used += 2)
		strcpy(list + used, ",0");
	refuses(strcat(list, "],\"r\":0}"), "a list of 8193 is too long: a group has at most 8192");
	start("grpo");
	refuses("{\"l\":[-1],\"old\":[-1],\"A\":1,\"beta\":0.1}", "key \"ref\" is missing: with these parameters");
	refuses("{\"l\":[-1],\"A\":1}", "key \"old\" is missing");
	start("ld_dpo");
	refuses("{\"tw\":[-1],\"rw\":[-1,-2],\"tl\":[-1],\"rl\":[-1]}",
	        "\"tw\" and \"rw\" must be lists of one log-prob");
	refuses("{\"tw\":-1,\"rw\":-1,\"tl\":-1,\"rl\":-1}", "\"tw\" and \"rw\" must be lists");
	refuses("{\"tw\":[true],\"rw\":[-1],\"tl\":[-1],\"rl\":[-1]}", "\"tw\" must be a finite number");
}

static void equal_cases_share_launches(void **state)
{
	struct pf_device_counts counts;
	struct pf_device *device;

	(void)state;
	start("sigmoid");
	for (int i = 0; i < 3000; i++) {
		char text[128];
		snprintf(text, sizeof text, "{\"lw\":%d,\"ll\":0,\"rw\":0,\"rl\":0,\"beta\":%d}",
		         i % 50, 1 + i % 2);
		accepts(text);
	}
	assert_int_equal(pf_device_open("cpu", NULL, &device, &error), 0);
	assert_int_equal(pf_cases_evaluate(&cases, device, &error), 0);
	pf_device_counts(device, &counts);
	assert_int_equal(counts.runs, 2);
	for (size_t i = 0; i < 3000; i++) {
		double loss;
		assert_int_equal(pf_cases_loss(&cases, i, &loss, &error), 0);
		double x = (double)(i % 50) * (double)(1 + i % 2);
		assert_true(fabs(loss - log1p(exp(-x))) <= 1e-12 * loss);
	}
	pf_device_close(device);
}

static int finish(void **state)
{
	(void)state;
	pf_cases_free(&cases);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(numbers_and_strings_mean_the_same),
		cmocka_unit_test(every_bit_of_a_sum_is_kept),
		cmocka_unit_test(keys_of_other_losses_are_passed_over),
		cmocka_unit_test(lists_are_batches),
		cmocka_unit_test(labels_and_scalars),
		cmocka_unit_test(rows_have_keys_of_their_own),
		cmocka_unit_test(mistakes_name_the_remedy),
		cmocka_unit_test(equal_cases_share_launches),
	};
	return cmocka_run_group_tests(tests, NULL, finish);
}
