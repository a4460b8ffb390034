/* Whether to offload: answers against arithmetic, verdicts at both ends, break-even asked back; and verb advise as a
 * user meets it. argv[1]: the program. */
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "host/report/chart.h"
#include "host/report/offload.h"
#include "tests/cmocka.h"
#include "tests/program.h"
#include "tests/scratch.h"

static struct pf_offload ask_on(const char *card, uint32_t cards, uint32_t units, double flops, uint32_t tokens,
                                enum pf_offload_head head)
{
	const struct pf_offload_shape shape = pf_offload_plain(768, 50257, 12, tokens);
	const struct pf_offload_place place = { card, cards, units, flops, NULL };
	struct pf_offload x;
	struct pf_error error;
	if (pf_offload_ask(&place, &shape, head, &x, &error))
		fail_msg("%s: %s", card, error.text);
	return x;
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
	const uint32_t tokens = pf_offload_tokens(&place, &shape, PF_OFFLOAD_TRAINED);
	(void)state;
	assert_true(tokens > 64 && tokens <= 65536);
	struct pf_offload x = ask_on("u55c", 1, 1, place.host_flops, tokens, PF_OFFLOAD_TRAINED);
	assert_true(x.head_s.value < x.host_s);
	x = ask_on("u55c", 1, 1, place.host_flops, tokens / 2, PF_OFFLOAD_TRAINED);
	assert_true(x.head_s.value >= x.host_s);
	const struct pf_offload_place fast = { "u55c", 1, 1, 1e15, NULL };
	assert_int_equal(pf_offload_tokens(&fast, &shape, PF_OFFLOAD_TRAINED), 0);
}

/* By hand, from bitstreams/KERNELS.md: seq_sum and pref have 2 + 4 ports, a unit 7 + 7 (1, 4, 2 by class, twice). HBM
 * has 30 for all, DDR 15 a class */
static void ports(void **state)
{
	(void)state;
	assert_int_equal(pf_offload_units("u55c"), (30 - 6) / 14);
	assert_int_equal(pf_offload_units("u280"), (30 - 6) / 14);
	assert_int_equal(pf_offload_units("u250"), 15 / 8);
	assert_int_equal(pf_offload_units("nothing"), 0);
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

/* ---- the program ---- */
static json_t *advise_json(const char *words)
{
	char line[1024];
	json_error_t why;
	snprintf(line, sizeof line, "advise --format json --sysfs-root '%s' %s 2>/dev/null", scratch_path("root"),
	         words);
	if (program_run(line))
		fail_msg("%s", line);
	json_t *json = json_loads(program_output, 0, &why);
	assert_non_null(json);
	return json;
}

static double number(const json_t *object, const char *key)
{
	const json_t *value = json_object_get(object, key);
	assert_true(json_is_number(value));
	return json_number_value(value);
}

/* The program says what the library says */
static void answers_in_json(void **state)
{
	const struct pf_offload want = ask_on("u280", 2, 0, 150e9, 1000, PF_OFFLOAD_FROZEN);
	(void)state;
	json_t *json = advise_json("--model-shape 768,50257,12 --tokens 1000 --card u280,u50 --cards 2 --head frozen "
	                           "--host-gflops 150");
	const json_t *card = json_array_get(json_object_get(json, "cards"), 0);
	const json_t *modelled = json_object_get(card, "modelled");
	const json_t *head = json_object_get(modelled, "head_s");
	assert_true(fabs(json_number_value(json_array_get(head, 0)) / want.head_s.value - 1) <= 1e-5);
	assert_true(fabs(json_number_value(json_array_get(head, 2)) / want.head_s.high - 1) <= 1e-5);
	assert_true(fabs(number(card, "host_head_s") / want.host_s - 1) <= 1e-5);
	assert_non_null(strstr(json_string_value(json_object_get(modelled, "kind")), "modelled"));
	assert_string_equal(
		json_string_value(json_object_get(json_array_get(json_object_get(json, "elsewhere"), 0), "kind")),
		"quoted");
	assert_int_equal(json_array_size(json_object_get(json, "cards")), 2);
	json_decref(json);
}

/* A product that the synthesis could only begin every other cycle: twice its time, and the rest as before */
static void reports_slow_it_down(void **state)
{
	static const char slow[] =
		"<profile><UserAssignments><TopModelName>pf_k_linear_logprob</TopModelName><TargetClockPeriod>3.33"
		"</TargetClockPeriod><ClockUncertainty>0.9</ClockUncertainty></UserAssignments><PerformanceEstimates>"
		"<SummaryOfTimingAnalysis><EstimatedClockPeriod>2.43</EstimatedClockPeriod></SummaryOfTimingAnalysis>"
		"<SummaryOfLoopLatency><visits><Name>visits</Name><PipelineII>2</PipelineII><PipelineDepth>60"
		"</PipelineDepth></visits></SummaryOfLoopLatency></PerformanceEstimates></profile>";
	char words[1024], *at;
	(void)state;
	snprintf(words, sizeof words, "--model-shape 768,50257,12 --head reference --host-gflops 200 --reports %s",
	         scratch_text("csynth.xml", slow));
	at = strrchr(words, '/');
	*at = '\0';
	json_t *reported = advise_json(words);
	*strstr(words, " --reports") = '\0';
	json_t *derived = advise_json(words);
	const json_t *r = json_object_get(json_array_get(json_object_get(reported, "cards"), 0), "modelled");
	const json_t *d = json_object_get(json_array_get(json_object_get(derived, "cards"), 0), "modelled");
	const double times = json_number_value(json_array_get(json_object_get(r, "head_s"), 0)) /
	                     json_number_value(json_array_get(json_object_get(d, "head_s"), 0));
	if (!(times > 1.7 && times < 2))
		fail_msg("%g times as long", times);
	assert_non_null(strstr(json_string_value(json_object_get(r, "kind")), "by their reports"));
	assert_non_null(strstr(json_string_value(json_object_get(d, "kind")), "uncalibrated"));
	json_decref(reported);
	json_decref(derived);
}

/* Measured here, without a sensor: a rate, and why there are no joules */
static void this_host(void **state)
{
	(void)state;
	json_t *json = advise_json("--model examples/demo/base --tokens 256 --threads 1");
	const json_t *host = json_object_get(json, "host");
	assert_string_equal(json_string_value(json_object_get(host, "kind")), "measured");
	assert_true(number(host, "flops") > 1e6 && number(host, "copy_bytes_per_s") > 1e6);
	assert_non_null(strstr(json_string_value(json_object_get(host, "energy_refused")), "no sensor"));
	assert_true(number(json, "dim") == 128 && number(json, "layers") == 3);
	json_decref(json);
}

static void plain_words(void **state)
{
	(void)state;
	assert_int_equal(program_run("advise --model-shape 64,1000,1 --tokens 100 --host-gflops 1e6"), 0);
	assert_non_null(strstr(program_output, "u55c: do not offload: even at the good end of its doubts"));
	assert_non_null(strstr(program_output, "modelled, uncalibrated"));
	assert_non_null(strstr(program_output, "quoted (others measured it"));
	assert_int_equal(program_run("advise --model-shape 4096,50000,1 --tokens 8192 --host-gflops 0.5"), 0);
	assert_non_null(strstr(program_output, "u55c: offload the head: "));
	assert_int_equal(program_run("advise --model-shape 64,50000,256 --tokens 8192 --host-gflops 20 --cus 4"), 0);
	assert_non_null(strstr(program_output, "more than a bitstream of these kernels can have"));
}

static unsigned lines_of(const char *name, const char *what, unsigned fields)
{
	char line[4096];
	unsigned lines = 0;
	FILE *file = fopen(scratch_path(name), "r");
	assert_non_null(file);
	while (fgets(line, sizeof line, file)) {
		unsigned commas = 0, quoted = 0;
		for (const char *c = line; *c; c++) {
			quoted ^= *c == '"';
			commas += *c == ',' && !quoted;
		}
		assert_int_equal(commas + 1, fields);
		lines += strstr(line, what) != NULL;
	}
	fclose(file);
	return lines;
}

static void sweeps(void **state)
{
	static const char *const what[] = { "cards", "cus", "tokens", "vocab", "depth" };
	(void)state;
	for (int i = 0; i < 5; i++) {
		char words[1024], text[64] = "";
		snprintf(words, sizeof words,
		         "advise --model-shape 256,8000,4 --tokens 4096 --host-gflops 100 --sweep %s --csv '%s' "
		         "--svg '%s'",
		         what[i], scratch_path("sweep.csv"), scratch_path("sweep.svg"));
		assert_int_equal(program_run(words), 0);
		assert_non_null(strstr(program_output, "doubling"));
		assert_true(lines_of("sweep.csv", ",u55c,", 33) >= 7);
		FILE *file = fopen(scratch_path("sweep.svg"), "r");
		assert_non_null(file);
		assert_int_equal(fread(text, 1, 4, file), 4);
		fclose(file);
		assert_string_equal(text, "<svg");
	}
}

/* What does not fit a card has a row that says so */
static void too_large(void **state)
{
	char words[1024];
	(void)state;
	snprintf(words, sizeof words,
	         "advise --model-shape 8192,262144,1 --tokens 1048576 --host-gflops 100 --card u50 --csv '%s'",
	         scratch_path("large.csv"));
	assert_int_equal(program_run(words), 0);
	assert_non_null(strstr(program_output, "no way of computing this head fits"));
	assert_int_equal(lines_of("large.csv", "no way of computing this head fits", 33), 1);
}

static void mistakes(void **state)
{
	static const struct {
		const char *words, *says;
		int code;
	} wrong[] = {
		{ "", "either --model-shape", 1 },
		{ "--model-shape 1,2,3 --model examples/demo/base", "either --model-shape", 1 },
		{ "--model /nowhere", "/nowhere", 1 },
		{ "--model-shape 0,2,3", "1 to 8192", 1 },
		{ "--model-shape 768,50257", "such as 768,50257,12", 1 },
		{ "--model-shape 768,50257,12,1", "such as 768,50257,12", 1 },
		{ "--model-shape 8193,2,3", "1 to 8192", 1 },
		{ "--model-shape 16,262145,3", "262144", 1 },
		{ "--model-shape 16,16,-3", "such as", 1 },
		{ "--model-shape 16,16,3 --tokens 0", "tokens", 2 },
		{ "--model-shape 16,16,3 --card u56c", "did you mean u55c?", 1 },
		{ "--model-shape 16,16,3 --card ,", "no figures of a card", 1 },
		{ "--model-shape 16,16,3 --reports /nowhere", "/nowhere", 1 },
		{ "--model-shape 16,16,3 --cards 65", "cards", 2 },
		{ "--model-shape 16,16,3 --head trainde", "head", 2 },
		{ "--model-shape 16,16,3 --sweep size", "sweep", 2 },
		{ "--model-shape 16,16,3 --svg x.svg", "--sweep", 2 },
		{ "--model-shape 16,16,3 --host-gflops 1 --csv /nowhere/a.csv", "/nowhere/a.csv", 1 },
	};
	char words[1024];
	(void)state;
	for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
		snprintf(words, sizeof words, "advise %s 2>&1", wrong[i].words);
		if (program_run(words) != wrong[i].code || !strstr(program_output, wrong[i].says))
			fail_msg("%s: %.300s", wrong[i].words, program_output);
	}
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

static int begin(void **state)
{
	(void)state;
	scratch_open("advise");
	return 0;
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(hosts_times),
		cmocka_unit_test(cards_obey_their_limits),
		cmocka_unit_test(verdicts),
		cmocka_unit_test(break_even),
		cmocka_unit_test(ports),
		cmocka_unit_test(shapes),
		cmocka_unit_test(anchors_are_consistent),
		cmocka_unit_test(unknown_cards),
		cmocka_unit_test(answers_in_json),
		cmocka_unit_test(reports_slow_it_down),
		cmocka_unit_test(this_host),
		cmocka_unit_test(plain_words),
		cmocka_unit_test(sweeps),
		cmocka_unit_test(too_large),
		cmocka_unit_test(mistakes),
		cmocka_unit_test(charts),
	};
	if (argc < 2)
		return 2;
	program_path = argv[1];
	return cmocka_run_group_tests(tests, begin, NULL);
}
