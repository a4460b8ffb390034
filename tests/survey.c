/* survey.c: `inspect` on data whose faults are known one by one, on more texts than its sets hold, and as a program. */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "host/corpus/survey.h"
#include "tests/cmocka.h"
#include "tests/scratch.h"

static const char *program;

static struct pf_survey survey_of(const char *text, const char *name, uint64_t slots, const struct pf_survey *other)
{
	const struct pf_survey_options options = { .max_length = 40, .chat = PF_CHAT_CHATML, .set_slots = slots };
	struct pf_survey s;
	struct pf_error error;
	if (pf_survey_open(&options, &s, &error) ||
	    pf_survey_read(&s, scratch_text(name, text), other, NULL, NULL, &error))
		fail_msg("%s", error.text);
	return s;
}

static const char pairs[] =
	"{\"prompt\": \"a:\", \"chosen\": \" yes\", \"rejected\": \" no\"}\n"
	"{\"prompt\": \"b:\", \"chosen\": \" y\", \"rejected\": \" nope\", \"margin\": 1}\n"
	"\n"
	"{\"prompt\": \"a:\", \"chosen\": \" yes\", \"rejected\": \" no\"}\n"       /* a duplicate, its prompt too */
	"{\"prompt\": \"a:\", \"chosen\": \" no\", \"rejected\": \" yes\"}\n"       /* overturns it */
	"{\"prompt\": \"c \", \"chosen\": \"yes\", \"rejected\": \"  \"}\n"         /* ending, blank */
	"{\"prompt\": \"abc\", \"chosen\": \"def\", \"rejected\": \" d\"}\n"        /* joint */
	"{\"prompt\": \"d:\", \"chosen\": \"x\", \"rejected\": \"x\"}\n"            /* identical */
	"{\"prompt\": \"e:\", \"chosen\": \"x\"}\n"                                 /* a field missing */
	"{\"chosen\": \"hello\", \"rejected\": \"bye\"}\n"                          /* no boundary */
	"{\"prompt\": \"f:\", \"chosen\": \"\", \"rejected\": \"x\"}\n"             /* empty */
	"{broken\n"
	"{\"prompt\": \"g:\", \"chosen\": \" 0123456789012345678901234567890123456789\", \"rejected\": \" no\"}\n";

static void every_fault_is_counted(void **state)
{
	(void)state;
	struct pf_survey s = survey_of(pairs, "pairs.jsonl", 0, NULL);
	assert_int_equal(s.lines, 12);
	assert_int_equal(s.form[PF_RECORD_PAIRS], 7);
	assert_int_equal(pf_survey_form(&s), PF_RECORD_PAIRS);
	assert_int_equal(s.fault[PF_FAULT_JSON].count, 1);
	assert_int_equal(s.fault[PF_FAULT_FIELD].count, 1);
	assert_int_equal(s.fault[PF_FAULT_EMPTY].count, 1);
	assert_int_equal(s.fault[PF_FAULT_IDENTICAL].count, 1);
	assert_int_equal(s.fault[PF_FAULT_BOUNDARY].count, 1);
	assert_non_null(strstr(s.fault[PF_FAULT_JSON].first, "pairs.jsonl:12"));
	assert_int_equal(s.problem[PF_PROBLEM_DUPLICATE].count, 1);
	assert_non_null(strstr(s.problem[PF_PROBLEM_DUPLICATE].first, "pairs.jsonl:4"));
	assert_int_equal(s.problem[PF_PROBLEM_PROMPT].count, 2);
	assert_int_equal(s.problem[PF_PROBLEM_OVERTURNED].count, 1);
	assert_int_equal(s.problem[PF_PROBLEM_BLANK].count, 1);
	assert_int_equal(s.problem[PF_PROBLEM_ENDING].count, 1);
	assert_int_equal(s.problem[PF_PROBLEM_JOINT].count, 1);
	assert_int_equal(s.problem[PF_PROBLEM_LONG].count, 1);
	assert_int_equal(s.problem[PF_PROBLEM_NO_PROMPT].count, 0);
	assert_int_equal(s.scored, 1);
	assert_true(s.longer == 5 && s.shorter == 2);
	assert_int_equal(pf_survey_estimates(&s), 0);

	struct pf_survey held = survey_of("{\"prompt\": \"b:\", \"completion\": \"x\", \"label\": true}\n"
	                                  "{\"prompt\": \"new\", \"completion\": \"x\", \"label\": false}\n"
	                                  "{\"prompt\": \"newer\", \"completion\": \"x\", \"label\": 1}\n",
	                                  "held.jsonl", 0, &s);
	assert_int_equal(held.problem[PF_PROBLEM_LEAK].count, 1);
	assert_true(held.desirable == 2 && held.undesirable == 1);
	pf_survey_close(&held);
	pf_survey_close(&s);
}

static void lists_have_ties_and_groups_are_flat(void **state)
{
	(void)state;
	struct pf_survey s = survey_of(
		"{\"prompt\": \"a\", \"completions\": [\" x\", \" y\", \" z\"], \"scores\": [1, 2, 1]}\n"
		"{\"prompt\": \"b\", \"completions\": [\" x\", \" y\"]}\n"
		"{\"prompt\": \"c\", \"completions\": [\" x\", \" y\", \" z\", \" w\"], \"rewards\": [1, 1, 1, 1]}\n"
		"{\"prompt\": \"c\", \"completions\": [\" x\"], \"advantages\": [0.5]}\n"
		"{\"prompt\": \"c\", \"completions\": [\" x\"], \"rewards\": [1, 2]}\n",
		"lists.jsonl", 0, NULL);
	assert_true(s.form[PF_RECORD_RANKINGS] == 2 && s.form[PF_RECORD_GROUPS] == 2);
	assert_int_equal(s.problem[PF_PROBLEM_TIES].count, 1);
	assert_int_equal(s.problem[PF_PROBLEM_FLAT].count, 2);
	assert_int_equal(s.fault[PF_FAULT_FIELD].count, 1);
	assert_true(s.least == 1 && s.most == 4);
	pf_survey_close(&s);
}

/* A thinned set holds just those hashes of the whole set that its range keeps, each where probing from its place finds
 * it */
static void check_thinned(const struct pf_hash_set *set, const struct pf_hash_set *whole)
{
	const uint64_t range = ((uint64_t)1 << set->thinned) - 1, mask = set->slots - 1;
	uint64_t kept = 0, held = 0;
	assert_true(set->thinned > 0 && whole->thinned == 0);
	for (uint64_t i = 0; i < set->slots; i++)
		held += set->slot[i] != 0;
	for (uint64_t i = 0; i < whole->slots; i++) {
		const uint64_t hash = whole->slot[i];
		if (!hash || (hash & range))
			continue;
		uint64_t at = (hash >> 20) & mask;
		while (set->slot[at] && set->slot[at] != hash)
			at = (at + 1) & mask;
		assert_true(set->slot[at] == hash);
		kept++;
	}
	assert_true(held == kept && set->count == kept);
}

/* 40,000 different records, the first 10,000 of them twice, in sets of 1024 */
static void repetitions_are_estimated_in_fixed_memory(void **state)
{
	enum { RECORDS = 50000, DIFFERENT = 40000, ROOM = 64 };
	char *text = malloc(RECORDS * ROOM), *at = text;
	(void)state;
	assert_non_null(text);
	for (int i = 0; i < RECORDS; i++)
		at += snprintf(at, ROOM, "{\"prompt\":\"p%d\",\"chosen\":\"a\",\"rejected\":\"b\"}\n", i % DIFFERENT);
	struct pf_survey s = survey_of(text, "many.jsonl", 1024, NULL), whole = survey_of(text, "many.jsonl", 0, NULL);
	free(text);
	assert_int_equal(pf_survey_estimates(&s), 1);
	assert_int_equal(s.form[PF_RECORD_PAIRS], RECORDS);
	const double found = (double)s.problem[PF_PROBLEM_DUPLICATE].count;
	if (!(found > 7500 && found < 12500))
		fail_msg("about %g duplicates instead of 10000", found);
	assert_true(s.records.slots == 1024 && s.records.count <= 768);
	check_thinned(&s.records, &whole.records);
	check_thinned(&s.prompts, &whole.prompts);
	check_thinned(&s.exchanged, &whole.exchanged);
	pf_survey_close(&whole);
	pf_survey_close(&s);
}

static void quantiles_are_near(void **state)
{
	struct pf_lengths l = { 0 };
	char text[1 << 16] = "", *at = text;
	(void)state;
	for (int i = 1; i <= 100; i++)
		at += snprintf(at, 400, "{\"prompt\":\"p%d\",\"completion\":\"%0*d\",\"label\":true}\n", i, i, 0);
	struct pf_survey s = survey_of(text, "lengths.jsonl", 0, NULL);
	l = s.chosen;
	assert_true(l.count == 100 && l.sum == 5050 && l.least == 1 && l.most == 100);
	assert_true(pf_lengths_quantile(&l, 0.1) == 10);
	for (int q = 1; q <= 100; q++) {
		const double got = (double)pf_lengths_quantile(&l, q / 100.0);
		assert_true(got >= q && got <= q * 1.13);
	}
	pf_survey_close(&s);
}

static void the_verb_prints_both_ways(void **state)
{
	char command[2048], out[1 << 14];
	(void)state;
	scratch_text("pairs.jsonl", pairs);
	for (int json = 0; json < 2; json++) {
		snprintf(command, sizeof command, "%s inspect --data %s --eval-data %s --cache %s %s 2>&1", program,
		         scratch_path("pairs.jsonl"), scratch_path("pairs.jsonl"), scratch_path("cache"),
		         json ? "--format json" : "");
		FILE *pipe = popen(command, "r");
		assert_non_null(pipe);
		out[fread(out, 1, sizeof out - 1, pipe)] = '\0';
		assert_int_equal(pclose(pipe), 0);
		if (json) {
			json_t *all = json_loads(out, 0, NULL);
			assert_non_null(all);
			assert_int_equal(json_integer_value(json_object_get(all, "records")), 12);
			assert_true(json_array_size(json_object_get(all, "losses")) > 40);
			assert_non_null(json_object_get(all, "eval"));
			json_decref(all);
		} else {
			assert_non_null(strstr(out, "12 records, 7 pairs"));
			assert_non_null(strstr(out, "1 chosen equal to rejected"));
			assert_non_null(strstr(out, "prompts that the other files have too"));
			assert_non_null(strstr(out, "losses that fit:"));
		}
	}
}

static void a_file_without_records_is_an_error(void **state)
{
	char command[1024], out[1 << 12];
	(void)state;
	snprintf(command, sizeof command, "%s inspect --data %s 2>&1", program,
	         scratch_text("none.jsonl", "\x7f" "ELF\n{broken\n[1]\n"));
	FILE *pipe = popen(command, "r");
	assert_non_null(pipe);
	out[fread(out, 1, sizeof out - 1, pipe)] = '\0';
	assert_int_not_equal(pclose(pipe), 0);
	assert_non_null(strstr(out, "3 records"));
	assert_non_null(strstr(out, "none of its 3 lines is a record"));
}

static int open_scratch(void **state)
{
	(void)state;
	scratch_open("survey");
	return 0;
}

int main(int argc, char **argv)
{
	if (argc != 2)
		return 2;
	program = argv[1];
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_fault_is_counted), cmocka_unit_test(lists_have_ties_and_groups_are_flat),
		cmocka_unit_test(repetitions_are_estimated_in_fixed_memory), cmocka_unit_test(quantiles_are_near),
		cmocka_unit_test(the_verb_prints_both_ways), cmocka_unit_test(a_file_without_records_is_an_error),
	};
	return cmocka_run_group_tests(tests, open_scratch, NULL);
}
