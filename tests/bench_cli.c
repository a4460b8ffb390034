/* Verb bench as a user meets it: text, JSON, CSV and back, energy from a sensor made up here, mistakes. argv[1]: the
 * program. */
#include <math.h>
#include <stdio.h>
#include <string.h>
#include "tests/cmocka.h"
#include "tests/program.h"
#include "tests/program_json.h"
#include "tests/scratch.h"

static json_t *bench_json(const char *more)
{
	char words[2048 + 64];
	snprintf(words, sizeof words, "bench --threads 1 --repeats 3 %s", more);
	return program_json(words);
}

/* What was measured and what is modelled are apart, and each has what it can have */
static void rows_of_two_kinds(void **state)
{
	(void)state;
	json_t *json = bench_json("--shapes '64,300,32' --work logprob,pref --device cpu,model:u280*2");
	const json_t *rows = json_object_get(json, "rows");
	assert_int_equal(json_array_size(rows), 3); /* pref is more than a kernel: not played */
	const json_t *measured = json_object_get(json_array_get(rows, 0), "measured");
	assert_true(program_number(measured, "median_s") > 0 && program_number(measured, "part_of_limit") > 0);
	assert_int_equal(json_array_size(json_object_get(measured, "samples_s")), 3);
	assert_true(json_is_null(json_object_get(json_array_get(rows, 0), "modelled")));
	assert_true(program_number(json_object_get(json_array_get(rows, 1), "measured"), "pairs_per_s") > 0);
	const json_t *modelled = json_object_get(json_array_get(rows, 2), "modelled");
	assert_true(json_is_null(json_object_get(json_array_get(rows, 2), "measured")));
	assert_true(program_number(modelled, "part_of_line_rate") > 0);
	assert_true(program_number(modelled, "part_of_line_rate") <= 1);
	const json_t *energy = json_object_get(json_array_get(rows, 0), "energy");
	assert_non_null(strstr(json_string_value(json_object_get(energy, "refused")), "no sensor"));
	json_decref(json);
}

/* Every kernel among the works is played with the scalars that it has */
static void every_kernel_is_played(void **state)
{
	(void)state;
	json_t *json = bench_json("--shapes 64,300,32 --device model:u55c --work logprob,logprob-bf16,logit_grad,"
	                          "logit_grad-bf16,linear_logprob,linear_grad,linear_grad_recompute");
	const json_t *rows = json_object_get(json, "rows");
	assert_int_equal(json_array_size(rows), 7);
	for (size_t i = 0; i < 7; i++)
		assert_true(program_number(json_object_get(json_array_get(rows, i), "modelled"), "seconds") > 0);
	json_decref(json);
}

/* A device that cannot be opened ends the bench; what was measured on the one before it is kept */
static void measured_rows_survive(void **state)
{
	char words[1024];
	(void)state;
	snprintf(words, sizeof words, "bench --threads 1 --repeats 3 --shapes 64,300 --work logprob --csv '%s' "
	         "--device cpu,fault:nonsense 2>&1", scratch_path("part.csv"));
	assert_int_equal(program_run(words), 1);
	assert_non_null(strstr(program_output, "part.csv: the 1 rows"));
	FILE *file = fopen(scratch_path("part.csv"), "r");
	assert_non_null(file);
	assert_true(fgets(words, sizeof words, file) && fgets(words, sizeof words, file));
	assert_int_equal(strncmp(words, "logprob,f32,\"cpu\",", 18), 0);
	fclose(file);
}

/* A scan that the synthesis could only begin every other cycle, and what cosim counted of two runs of that kernel */
static void reports_calibrate(void **state)
{
	static const char slow[] =
		"<profile><UserAssignments><TopModelName>pf_k_logprob</TopModelName><TargetClockPeriod>3.33"
		"</TargetClockPeriod><ClockUncertainty>0.9</ClockUncertainty></UserAssignments><PerformanceEstimates>"
		"<SummaryOfTimingAnalysis><EstimatedClockPeriod>2.43</EstimatedClockPeriod></SummaryOfTimingAnalysis>"
		"<SummaryOfLoopLatency><steps><Name>steps</Name><PipelineII>2</PipelineII><PipelineDepth>177"
		"</PipelineDepth></steps><finish><Name>finish</Name><PipelineII>16</PipelineII><PipelineDepth>405"
		"</PipelineDepth></finish></SummaryOfLoopLatency></PerformanceEstimates></profile>";
	static const char plain[] = "bench --shapes 4096,128256 --work logprob,logit_grad --device model:u55c";
	char words[1024], *at;
	(void)state;
	snprintf(words, sizeof words, "%s --reports %s", plain, scratch_tree("reports/csynth.xml", slow));
	at = strrchr(words, '/');
	*at = '\0';
	json_t *derived = program_json(plain), *reported = program_json(words);
	scratch_tree("reports/pf_k_logprob_cosim.rpt", "|   Verilog|      Pass|   100000|   200000|   300000|\n");
	scratch_tree("reports/pf_k_logprob_runs.txt", "10 128256 8016 0\n");
	json_t *counted = program_json(words), *files[] = { derived, reported, counted };
	double seconds[3], other[3];
	for (int i = 0; i < 3; i++) {
		const json_t *rows = json_object_get(files[i], "rows");
		const json_t *modelled = json_object_get(json_array_get(rows, 0), "modelled");
		const char *kind = json_string_value(json_object_get(modelled, "kind"));
		assert_non_null(strstr(kind, i ? "100 % of the cycles by reports" : "uncalibrated"));
		seconds[i] = program_number(modelled, "seconds");
		other[i] = program_number(json_object_get(json_array_get(rows, 1), "modelled"), "seconds");
		json_decref(files[i]);
	}
	assert_true(seconds[1] > 1.2 * seconds[0]);    /* II 1 is held up by the memory, II 2 is not */
	/* by hand: 10 rows of 8,016 beats at II 2 in a block, of which cosim says 200,000 cycles; logit_grad has no
	 * report but the clock, 3.33 ns for 300 MHz */
	const double start = 200000 - (10 * 2.0 * 8016 + 177 + 64 + 66 + 64 + 5 + 10 * 16 + 405);
	assert_true(fabs(seconds[2] - seconds[1] - start * 3.33e-9) <= 1e-6 * seconds[1]);
	assert_true(other[2] == other[1] && fabs(other[1] / other[0] - 1) <= 2e-3);
}

/* A pipe gets the table as it is */
static void a_table_into_a_pipe(void **state)
{
	(void)state;
	assert_int_equal(program_run("bench --shapes 64,300 --work logprob --device model:u55c --csv /dev/stdout"
	                             " | tail -n 1"), 0);
	assert_int_equal(strncmp(program_output, "logprob,f32,\"model:u55c\",", 25), 0);
}

/* A table is compared with itself, and with one whose samples were a thousand times faster */
static void against_an_older_table(void **state)
{
	char words[2048], line[8192], *samples;
	(void)state;
	snprintf(words, sizeof words, "--shapes 64,300 --work logprob --device cpu --csv '%s'",
	         scratch_path("old.csv"));
	json_decref(bench_json(words));
	FILE *from = fopen(scratch_path("old.csv"), "r"), *to = fopen(scratch_path("fast.csv"), "w");
	while (fgets(line, sizeof line, from)) {
		if ((samples = strstr(line, ",\"cpu\","))) /* the row: samples and limits that this test knows */
			fputs("logprob,f32,cpu,64,300,0,0,1,1e-12;1.1e-12;1.2e-12;1.3e-12;1.4e-12;1.5e-12;1.6e-12;1.7e-"
			      "12,"
			      "1;1;1;1;1;1;1;1,\"another, machine\"\n",
			      to);
		else
			fputs("work,type,device,tokens,vocabulary,dim,layers,threads,samples_s,limits_s,machine\n", to);
	}
	fclose(from);
	fclose(to);
	snprintf(words, sizeof words, "--shapes 64,300 --work logprob --device cpu --repeats 8 --against '%s'",
	         scratch_path("fast.csv"));
	json_t *json = bench_json(words);
	const json_t *against = json_object_get(json_array_get(json_object_get(json, "rows"), 0), "against");
	assert_string_equal(json_string_value(json_object_get(against, "verdict")), "slower");
	assert_true(fabs(program_number(against, "p") - 2.0 / 12870) <= 1e-9); /* two of the divisions of 16 into 8 and 8 */
	json_decref(json);
	snprintf(words, sizeof words,
	         "bench --threads 1 --repeats 8 --shapes 64,300 --work logprob --device cpu --against '%s' "
	         "--fail-slower 2>&1",
	         scratch_path("fast.csv"));
	assert_int_equal(program_run(words), 1);
	assert_non_null(strstr(program_output, ": slower"));
	assert_non_null(strstr(program_output, "is of another machine (another, machine, this is "));
	snprintf(words, sizeof words, "--shapes 64,300 --work logprob --device cpu --fail-slower --against '%s'",
	         scratch_path("old.csv"));
	json_decref(bench_json(words)); /* three samples against three: nothing can be shown, exit code 0 */
}

/* A V80 that shows 2.5 W: joules of a run are 2.5 times its seconds, whatever these are */
static void joules(void **state)
{
	(void)state;
	scratch_tree("card/sys/bus/pci/devices/0000:a1:00.0/vendor", "0x10ee\n");
	scratch_tree("card/sys/bus/pci/devices/0000:a1:00.0/hwmon/hwmon5/update_interval", "50\n");
	scratch_tree("card/sys/bus/pci/devices/0000:a1:00.0/hwmon/hwmon5/power1_input", "2500000\n");
	char words[1024];
	snprintf(words, sizeof words, "--shapes 64,300 --work pref --device cpu --sysfs-root '%s'",
	         scratch_path("card"));
	json_t *json = bench_json(words);
	const json_t *energy = json_object_get(json_array_get(json_object_get(json, "rows"), 0), "energy");
	assert_string_equal(json_string_value(json_object_get(energy, "scope")), "board");
	assert_string_equal(json_string_value(json_object_get(energy, "kind")), "measured");
	const double joule = program_number(energy, "joule_per_token");
	assert_true(joule > 0 && program_number(energy, "low") <= joule && joule <= program_number(energy, "high"));
	assert_true(fabs(program_number(energy, "idle_joule_per_token") - joule) <=
	            1e-6 * joule);                                                   /* it never draws anything else */
	assert_true(fabs(program_number(energy, "joule_per_pair") - joule) <= 1e-6 * joule); /* a pair a token */
	json_decref(json);
}

static void mistakes(void **state)
{
	static const struct {
		const char *words, *says;
		int code;
	} wrong[] = {
		{ "--shapes 5", "is no shape", 1 },
		{ "--shapes 64,300 --csv /nonexistent/x.csv", "x.csv: cannot write", 1 },
		{ "--shapes 0,10", "1 to 1048576", 1 },
		{ "--shapes gtp2", "did you mean gpt2?", 1 },
		{ "--shapes ' '", "at least one each", 1 },
		{ "--work logporb", "did you mean logprob?", 1 },
		{ "--device model:u56c", "no figures of a card", 1 },
		{ "--device model:u55c*0", "1 to 64 compute units", 1 },
		{ "--device model:u55c*2x", "1 to 64 compute units", 1 },
		{ "--device simm --shapes 8,8 --work pref", "simm", 1 },
		{ "--shapes 1048576,262144", "this machine has", 1 },
		{ "--shapes 8,8 --work step", "nothing to do", 1 },
		{ "--repeats 2", "repeats", 2 },
		{ "--device model:u55c --reports /nowhere", "/nowhere", 1 },
		{ "--against /nowhere/old.csv", "/nowhere/old.csv", 1 },
		{ "--csv /nowhere/new.csv --shapes 8,8 --work pref --device cpu", "/nowhere/new.csv", 1 },
	};
	char words[1024];
	(void)state;
	for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
		snprintf(words, sizeof words, "bench %s 2>&1", wrong[i].words);
		if (program_run(words) != wrong[i].code || !strstr(program_output, wrong[i].says))
			fail_msg("%s: %.300s", wrong[i].words, program_output);
	}
}

static int begin(void **state)
{
	(void)state;
	scratch_open("bench_cli");
	return 0;
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(rows_of_two_kinds),
		cmocka_unit_test(every_kernel_is_played),
		cmocka_unit_test(measured_rows_survive),
		cmocka_unit_test(a_table_into_a_pipe),
		cmocka_unit_test(reports_calibrate),
		cmocka_unit_test(against_an_older_table),
		cmocka_unit_test(joules),
		cmocka_unit_test(mistakes),
	};
	if (argc < 2)
		return 2;
	program_path = argv[1];
	return cmocka_run_group_tests(tests, begin, NULL);
}
