/* Verb advise as a user meets it. argv[1]: the program. */
#include <math.h>
#include <stdio.h>
#include <string.h>
#include "host/report/offload.h"
#include "tests/cmocka.h"
#include "tests/program.h"
#include "tests/program_json.h"
#include "tests/scratch.h"

/* The program says what the library says */
static void answers_in_json(void **state)
{
	const struct pf_offload_shape shape = pf_offload_plain(768, 50257, 12, 1000);
	const struct pf_offload_place place = { "u280", 2, 0, 150e9, NULL };
	struct pf_offload want;
	(void)state;
	assert_int_equal(pf_offload_ask(&place, &shape, PF_OFFLOAD_FROZEN, &want, NULL), 0);
	json_t *json = program_json("advise --model-shape 768,50257,12 --tokens 1000 --card u280,u50 --cards 2 "
	                            "--head frozen --host-gflops 150");
	const json_t *card = json_array_get(json_object_get(json, "cards"), 0);
	const json_t *modelled = json_object_get(card, "modelled");
	const json_t *head = json_object_get(modelled, "head_s");
	assert_true(fabs(json_number_value(json_array_get(head, 0)) / want.head_s.value - 1) <= 1e-5);
	assert_true(fabs(json_number_value(json_array_get(head, 2)) / want.head_s.high - 1) <= 1e-5);
	assert_true(fabs(program_number(card, "host_head_s") / want.host_s - 1) <= 1e-5);
	assert_non_null(strstr(json_string_value(json_object_get(modelled, "kind")), "modelled"));
	/* ten refreshes of a second */
	const double heads = json_number_value(json_object_get(modelled, "heads_per_sensor_window_at_least"));
	const double head_s = json_number_value(json_array_get(head, 0));
	assert_true(heads * head_s >= 10.0 && (heads - 1) * head_s < 10.0 * (1 + 1e-6));
	assert_string_equal(
		json_string_value(json_object_get(json_array_get(json_object_get(json, "elsewhere"), 0), "kind")),
		"quoted");
	assert_int_equal(json_array_size(json_object_get(json, "cards")), 2);
	json_decref(json);
}

/* The frozen reference in low-bit integers: named, faster, with its image, its joules and the verdict of its own */
static void a_reference_in_mxint8(void **state)
{
	static const char words[] = "advise --model-shape 768,50257,12 --host-gflops 20 --head reference ";
	char line[512], want[64];
	(void)state;
	snprintf(line, sizeof line, "%s--head-precision fp32 --reference-precision mxint8", words);
	json_t *json = program_json(line), *plain = program_json(words);
	const json_t *card = json_array_get(json_object_get(json, "cards"), 0);
	const json_t *other = json_array_get(json_object_get(plain, "cards"), 0);
	const json_t *modelled = json_object_get(card, "modelled"), *before = json_object_get(other, "modelled");
	struct pf_offload_image image;
	assert_string_equal(json_string_value(json_object_get(card, "precision")), "mxint8");
	assert_string_equal(json_string_value(json_object_get(other, "precision")), "fp32");
	assert_true(json_number_value(json_array_get(json_object_get(modelled, "head_s"), 0)) <
	            0.5 * json_number_value(json_array_get(json_object_get(before, "head_s"), 0)));
	assert_true(json_number_value(json_array_get(json_object_get(modelled, "joule"), 0)) <
	            0.5 * json_number_value(json_array_get(json_object_get(before, "joule"), 0)));
	pf_offload_find_image("u55c", PF_PRECISION_MXINT8, PF_OFFLOAD_REFERENCE, 0, &image);
	assert_string_equal(json_string_value(json_object_get(json_object_get(card, "image"), "name")), image.name);
	assert_true(json_boolean_value(json_object_get(json_object_get(card, "image"), "expected_to_be_placed")) ==
	            image.placed);
	json_decref(json);
	json_decref(plain);
	assert_int_equal(program_run(line), 0);
	assert_non_null(strstr(program_output, "head reference in mxint8"));
	assert_non_null(strstr(program_output, "for a multiply-add of the head"));
	snprintf(want, sizeof want, "image %s: ports for %u", image.name, image.by_ports);
	assert_non_null(strstr(program_output, want));
	/* auto: as the head */
	json = program_json("advise --model-shape 64,300,1 --host-gflops 1 --head reference --head-precision bf16");
	assert_string_equal(json_string_value(json_object_get(
				    json_array_get(json_object_get(json, "cards"), 0), "precision")), "bf16");
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
	snprintf(words, sizeof words,
	         "advise --model-shape 768,50257,12 --head reference --host-gflops 200 --reports %s",
	         scratch_text("csynth.xml", slow));
	at = strrchr(words, '/');
	*at = '\0';
	json_t *reported = program_json(words);
	*strstr(words, " --reports") = '\0';
	json_t *derived = program_json(words);
	const json_t *r = json_object_get(json_array_get(json_object_get(reported, "cards"), 0), "modelled");
	const json_t *d = json_object_get(json_array_get(json_object_get(derived, "cards"), 0), "modelled");
	const double times = json_number_value(json_array_get(json_object_get(r, "head_s"), 0)) /
	                     json_number_value(json_array_get(json_object_get(d, "head_s"), 0));
	if (!(times > 1.9 && times < 2.1))
		fail_msg("%g times as long", times);
	assert_non_null(strstr(json_string_value(json_object_get(r, "kind")), "of the cycles by reports"));
	assert_non_null(strstr(json_string_value(json_object_get(d, "kind")), "uncalibrated"));
	json_decref(reported);
	json_decref(derived);
}

/* Measured here, without a sensor: a rate, and why there are no joules */
static void this_host(void **state)
{
	(void)state;
	json_t *json = program_json("advise --model examples/demo/base --tokens 256 --threads 1");
	const json_t *host = json_object_get(json, "host");
	assert_string_equal(json_string_value(json_object_get(host, "kind")), "measured");
	assert_true(program_number(host, "flops") > 1e6 && program_number(host, "copy_bytes_per_s") > 1e6);
	assert_non_null(strstr(json_string_value(json_object_get(host, "energy_refused")), "no sensor"));
	assert_true(program_number(json, "dim") == 128 && program_number(json, "layers") == 3);
	json_decref(json);
}

static void plain_words(void **state)
{
	(void)state;
	assert_int_equal(program_run("advise --model-shape 64,1000,1 --tokens 100 --host-gflops 1e6"), 0);
	assert_non_null(strstr(program_output, "u55c: do not offload: even at the good end of its doubts"));
	assert_non_null(strstr(program_output, "modelled, uncalibrated"));
	for (const char *at = program_output; (at = strstr(at, "u55c: ")); at++) {     /* a verdict says by what */
		const char *end = strchr(at, '\n'), *label = strstr(at, "modelled");
		assert_true(end && label && label < end);
	}
	assert_non_null(strstr(program_output, "quoted (others measured it"));
	assert_int_equal(program_run("advise --model-shape 4096,50000,1 --tokens 8192 --host-gflops 0.5"), 0);
	assert_non_null(strstr(program_output, "u55c: offload the head: "));
	assert_int_equal(program_run("advise --model-shape 4096,50000,1 --cards 4 --host-gflops 0.5"), 0);
	assert_non_null(strstr(program_output, " modelled on 4 x u55c instead of "));
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
		assert_true(lines_of("sweep.csv", ",u55c,", 38) >= 7);
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
	assert_int_equal(lines_of("large.csv", "no way of computing this head fits", 38), 1);
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

static int begin(void **state)
{
	(void)state;
	scratch_open("advise_cli");
	return 0;
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(answers_in_json),
		cmocka_unit_test(a_reference_in_mxint8),
		cmocka_unit_test(reports_slow_it_down),
		cmocka_unit_test(this_host),
		cmocka_unit_test(plain_words),
		cmocka_unit_test(sweeps),
		cmocka_unit_test(too_large),
		cmocka_unit_test(mistakes),
	};
	if (argc < 2)
		return 2;
	program_path = argv[1];
	return cmocka_run_group_tests(tests, begin, NULL);
}
