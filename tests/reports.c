/* Reports of Vitis HLS, written by hand in the form that UG1399 and public repositories show, and what the model of
 * time makes of them. */
#include <math.h>
#include <stdio.h>
#include <string.h>
#include "prefpga/internal/kernels.h"
#include "prefpga/reports.h"
#include "tests/cmocka.h"
#include "tests/scratch.h"

static const char csynth[] =
	"<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<profile>\n<!-- a remark -->\n"
	"<section name=\"General Information\" level=\"0\"/>\n"
	"<UserAssignments><unit>ns</unit><ProductFamily>virtexuplusHBM</ProductFamily>"
	"<Part>xcu55c-fsvh2892-2L-e</Part>\n"
	"<TopModelName>pf_k_logprob</TopModelName><TargetClockPeriod>3.33</TargetClockPeriod>\n"
	"<ClockUncertainty>0.90</ClockUncertainty></UserAssignments>\n"
	"<PerformanceEstimates>\n<SummaryOfTimingAnalysis><unit>ns</unit>\n"
	"<EstimatedClockPeriod>2.433</EstimatedClockPeriod></SummaryOfTimingAnalysis>\n"
	"<SummaryOfOverallLatency><Best-caseLatency>undef</Best-caseLatency></SummaryOfOverallLatency>\n"
	"<SummaryOfLoopLatency><blocks><Name>blocks</Name><TripCount><range><min>1</min><max>16384</max></range>"
	"</TripCount>\n<finish><Name>finish</Name><TripCount>undef</TripCount><PipelineII>16</PipelineII>"
	"<PipelineDepth>300</PipelineDepth></finish>\n"
	"<begin><PipelineII>1</PipelineII><PipelineDepth>60</PipelineDepth></begin><runs><PipelineII>1</PipelineII>"
	"<PipelineDepth>4</PipelineDepth></runs></blocks></SummaryOfLoopLatency></PerformanceEstimates>\n"
	"<AreaEstimates><Resources><BRAM_18K>96</BRAM_18K><DSP>1300</DSP><FF>140000</FF><LUT>150000</LUT><URAM>0</URAM>"
	"</Resources><AvailableResources><DSP>9024</DSP></AvailableResources></AreaEstimates>\n"
	"<ModuleInformation><Module><Name>pf_row_scan_Pipeline_steps</Name><PerformanceEstimates>"
	"<SummaryOfTimingAnalysis><EstimatedClockPeriod>9.999</EstimatedClockPeriod></SummaryOfTimingAnalysis>"
	"<SummaryOfLoopLatency><steps><Name>steps</Name><TripCount>undef</TripCount><PipelineII>2</PipelineII>"
	"<PipelineDepth>210</PipelineDepth></steps></SummaryOfLoopLatency></PerformanceEstimates></Module>"
	"</ModuleInformation></profile>\n";

static const char cosim[] =
	"Report time       : Mon Nov 23 10:00:00 UTC 2026.\nSolution          : solution.\n"
	"Simulation tool   : xsim.\n\n"
	"+----------+----------+-----------------------------------------------+\n"
	"|   RTL    |  Status  |           Latency(Clock Cycles)               |\n"
	"|          |          |      min      |      avg      |      max      |\n"
	"|      VHDL|        NA|             NA|             NA|             NA|\n"
	"|   Verilog|      Pass|            905|           1201|           4100|\n";

static const uint32_t value[] = { 100, 1000, 63, 0 };   /* 100 rows of 63 beats */

static void near(double have, double want)
{
	if (!(fabs(have - want) <= 1e-9 * fabs(want)))
		fail_msg("%.12g, by hand %.12g", have, want);
}

static struct pf_reports *reports_of(const char *text)
{
	struct pf_reports *r = pf_reports_new();
	struct pf_error error;
	assert_non_null(r);
	if (pf_report_csynth(r, "csynth.xml", text, strlen(text), &error) != 0)
		fail_msg("%s", error.text);
	return r;
}

static void figures_are_found(void **state)
{
	struct pf_reports *r = reports_of(csynth);
	const struct pf_kernel_report *k = pf_report_of(r, PF_KERNEL_logprob);
	(void)state;
	assert_true(k->synthesised);
	near(k->target_ns, 3.33);
	near(k->uncertainty_ns, 0.90);
	near(k->estimated_ns, 2.433);                  /* the top's, not the module's */
	near(k->dsp, 1300);                            /* used, not available */
	near(k->bram18, 96);
	assert_int_equal(k->loops, 4);
	assert_int_equal(pf_report_of(r, PF_KERNEL_pref)->synthesised, 0);
	pf_reports_close(r);
}

/* For 100 rows of 63 beats in two blocks: steps with interval 2 and depth 210, finish 16 and 300, begin and runs */
static void they_replace_what_is_derived(void **state)
{
	struct pf_reports *r = reports_of(csynth);
	struct pf_run_cost derived, reported;
	(void)state;
	assert_int_equal(pf_reports_cost(NULL, 0, PF_KERNEL_logprob, value, 4, &derived, NULL), 0);
	assert_int_equal(pf_reports_cost(r, 0, PF_KERNEL_logprob, value, 4, &reported, NULL), 0);
	near(reported.cycles, 100 * 63 * 2 + 2 * 210 + 100 * 16 + 2 * 300 + 2 * (64 + 60) + 2 * (64 + 4));
	near(reported.cycles_reported, reported.cycles);
	near(reported.bytes[0], derived.bytes[0]);
	assert_true(reported.cycles_doubted == 0.0 && derived.cycles_reported == 0.0);
	near(derived.cycles_doubted, 100 * 63 + 100 + 2 * 64 + 2 * 64);
	assert_int_equal(pf_reports_cost(r, 0, PF_KERNEL_coef, (const uint32_t[]){ 90, 7, 1 }, 3, &reported, NULL), 0);
	assert_true(reported.cycles_reported == 0.0);  /* no report of it */
	pf_reports_close(r);
}

/* Loops that became one, loops of modules of a name that ends alike, the slowest of two */
static void labels_stand_for_loops(void **state)
{
	static const char form[] =
		"<p><UserAssignments><TopModelName>pf_k_coef</TopModelName></UserAssignments><SummaryOfLoopLatency>"
		"<a><Name>sequences_tokens</Name><PipelineII>3</PipelineII><PipelineDepth>5</PipelineDepth></a>"
		"<b><Name>tokens</Name><PipelineII>2</PipelineII><PipelineDepth>9</PipelineDepth></b>"
		"<c><Name>nonzero</Name><PipelineII>9</PipelineII><PipelineDepth>9</PipelineDepth></c>"
		"</SummaryOfLoopLatency></p>";
	const uint32_t coef[] = { 90, 7, 0 };
	struct pf_reports *r = reports_of(form);
	struct pf_run_cost cost, derived;
	(void)state;
	assert_int_equal(pf_reports_cost(r, 0, PF_KERNEL_coef, coef, 3, &cost, NULL), 0);
	assert_int_equal(pf_cycles_cost(PF_KERNEL_coef, coef, 3, &derived, NULL), 0);
	near(cost.cycles_reported, 90 * 3 + 7 * 5);
	near(derived.cycles, 90 * 1 + 1 * 1 + 90 * 1 + 7 * 2);
	near(cost.cycles, 90 * 1 + 1 * 1 + 90 * 3 + 7 * 5);    /* `zero` is not `nonzero` */
	pf_reports_close(r);
}

static void the_clock_is_the_slowest(void **state)
{
	static const char slow[] =
		"<p><UserAssignments><TopModelName>pf_k_pref</TopModelName><TargetClockPeriod>3.33</TargetClockPeriod>"
		"<ClockUncertainty>0.9</ClockUncertainty></UserAssignments><SummaryOfTimingAnalysis>"
		"<EstimatedClockPeriod>4.1</EstimatedClockPeriod></SummaryOfTimingAnalysis></p>";
	struct pf_cycles_card card = { .clock_hz = 1.0 };
	struct pf_reports *r = reports_of(csynth), *none = pf_reports_new();
	(void)state;
	pf_reports_clock(none, &card);
	near(card.clock_hz, 1.0);
	pf_reports_clock(r, &card);
	near(card.clock_hz, 1e9 / 3.33);               /* 2.433 + 0.9 is the target but for rounding */
	assert_int_equal(pf_report_csynth(r, "csynth.xml", slow, strlen(slow), NULL), 0);
	pf_reports_clock(r, &card);
	near(card.clock_hz, 1e9 / 5.0);
	pf_reports_close(r);
	pf_reports_close(none);
}

static void cosim_counts(void **state)
{
	char failed[sizeof cosim];
	struct pf_reports *r = reports_of(csynth);
	const struct pf_kernel_report *k = pf_report_of(r, PF_KERNEL_logprob);
	struct pf_run_cost cost;
	struct pf_error error;
	(void)state;
	assert_int_equal(pf_report_cosim(r, "f", PF_KERNEL_logprob, cosim, strlen(cosim), NULL), 0);
	assert_int_equal(k->cosim, PF_COSIM_PASS);
	near(k->latency_least, 905);
	near(k->latency_mean, 1201);
	near(k->latency_most, 4100);
	assert_int_equal(pf_reports_cost(r, 0, PF_KERNEL_logprob, value, 4, &cost, NULL), 0);
	strcpy(failed, cosim);
	memcpy(strstr(failed, "Pass"), "Fail", 4);
	assert_int_equal(pf_report_cosim(r, "f", PF_KERNEL_logprob, failed, strlen(failed), NULL), 0);
	assert_int_equal(pf_reports_cost(r, 0, PF_KERNEL_logprob, value, 4, &cost, &error), PF_E_DATA);
	assert_non_null(strstr(error.text, "logprob"));
	assert_int_equal(pf_report_cosim(r, "f", PF_KERNEL_logprob, "nothing\n", 8, &error), PF_E_DATA);
	assert_int_equal(pf_report_cosim(r, "f", -1, cosim, strlen(cosim), &error), PF_E_ARGUMENT);
	pf_reports_close(r);
}

/* Two runs of logprob: 10 rows of 10 beats and 100 of 63 */
static const char two_runs[] = "# scalars: rows vocab stride flags\n10 160 10 0 # small\n\n100\t1000 63 0\r\n";

static struct pf_reports *cosim_on(struct pf_reports *r, const char *latencies)
{
	char text[256];
	snprintf(text, sizeof text, "|   Verilog|      Pass|%s|\n", latencies);
	assert_int_equal(pf_report_cosim(r, "f", PF_KERNEL_logprob, text, strlen(text), NULL), 0);
	assert_int_equal(pf_report_runs(r, "f", PF_KERNEL_logprob, two_runs, strlen(two_runs), NULL), 0);
	return r;
}

static struct pf_reports *cosim_of(const char *latencies)
{
	return cosim_on(reports_of(csynth), latencies);
}

/* Without a synthesis report the intervals are the model's own, but how many cycles runs take is cosim's */
static void cosim_alone_calibrates(void **state)
{
	static const uint32_t first[] = { 10, 160, 10, 0 }, second[] = { 100, 1000, 63, 0 };
	struct pf_reports *r = cosim_on(pf_reports_new(), "3000|22000|40000");
	struct pf_run_cost a, b;
	(void)state;
	assert_int_equal(pf_reports_cost(r, 0, PF_KERNEL_logprob, first, 4, &a, NULL), 0);
	assert_int_equal(pf_reports_cost(r, 0, PF_KERNEL_logprob, second, 4, &b, NULL), 0);
	near((a.cycles + b.cycles) / 2, 22000);
	near(b.cycles_reported, b.cycles);
	assert_true(b.cycles_doubted == 0.0);
	pf_reports_close(r);
}

static void cosim_calibrates(void **state)
{
	const double block = 210 + 300 + 64 + 60 + 64 + 4, small = 10 * 10 * 2 + 10 * 16 + block;
	const double large = 100 * 63 * 2 + 100 * 16 + 2 * block, times = (40000.0 - 3000) / (large - small);
	struct pf_reports *r = cosim_of("3000|22000|40000");
	struct pf_run_cost cost;
	double factor, start;
	(void)state;
	assert_int_equal(pf_reports_calibration(r, 0, PF_KERNEL_logprob, &factor, &start), 1);
	near(factor, times);
	near(start, 22000 - times * (small + large) / 2);
	assert_int_equal(pf_reports_cost(r, 0, PF_KERNEL_logprob, value, 4, &cost, NULL), 0);
	near(cost.cycles, times * large + start);
	near(cost.cycles_reported, cost.cycles);
	assert_int_equal(pf_reports_calibration(r, 0, PF_KERNEL_coef, &factor, &start), 0);
	assert_true(factor == 1.0 && start == 0.0);
	pf_reports_close(r);
	r = cosim_of("3000|10000|40000");              /* a start below 0: the mean alone says how much */
	assert_int_equal(pf_reports_calibration(r, 0, PF_KERNEL_logprob, &factor, &start), 1);
	near(factor, 10000 / ((small + large) / 2));
	assert_true(start == 0.0);
	pf_reports_close(r);
	r = cosim_of("NA|NA|NA");
	assert_int_equal(pf_reports_calibration(r, 0, PF_KERNEL_logprob, &factor, &start), 0);
	pf_reports_close(r);
	assert_int_equal(pf_reports_calibration(NULL, 0, PF_KERNEL_logprob, &factor, &start), 0);
}

static void runs_are_checked(void **state)
{
	static const struct { const char *text, *said; } bad[] = {
		{ "1 2 3 4\n1 2 3\n", "f:2: a run of kernel logprob is 4 integers" }, { "1 2 3 4 5\n", "f:1:" },
		{ "1 2 -3 4\n", "f:1:" }, { "1 2 3 4294967296\n", "f:1:" }, { "1 2 x 4", "f:1:" },
		{ "1 2 3 4\n1 2 3 4\n1 2 3 4\n1 2 3 4\n1 2 3 4\n1 2 3 4\n1 2 3 4\n1 2 3 4\n1 2 3 4\n1 2 3 4\n1 2 3 4\n"
		  "1 2 3 4\n1 2 3 4\n1 2 3 4\n1 2 3 4\n1 2 3 4\n1 2 3 4\n", "f:17:" },
	};
	struct pf_reports *r = pf_reports_new();
	struct pf_error error;
	(void)state;
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		assert_int_equal(pf_report_runs(r, "f", PF_KERNEL_logprob, bad[i].text, strlen(bad[i].text), &error),
		                 PF_E_DATA);
		if (!strstr(error.text, bad[i].said))
			fail_msg("%s: said %s", bad[i].text, error.text);
	}
	assert_int_equal(pf_report_runs(r, "f", PF_KERNEL_logprob, "", 0, NULL), 0);
	assert_int_equal(pf_report_of(r, PF_KERNEL_logprob)->runs, 0);
	pf_reports_close(r);
}

static void what_is_no_report_is_refused(void **state)
{
	static const struct { const char *text, *said; } bad[] = {
		{ "<a><b></a>", "x.xml:1: an element ends" }, { "<a>\n<b", "x.xml:2: an element does not end" },
		{ "<a>\n\n<b></b>", "x.xml:3: the file ends within" }, { "<>", "without a name" }, { "</a>", "ends that" },
		{ "<p><UserAssignments><TopModelName>pf_k_pref</TopModelName>\n<TargetClockPeriod>fast</TargetClockPeriod>"
		  "</UserAssignments></p>", "x.xml:2: a number" },
		{ "<p><UserAssignments><TopModelName>pf_k_pref</TopModelName><TargetClockPeriod>-1</TargetClockPeriod>"
		  "</UserAssignments></p>", "a number" },
	};
	char deep[4 * 40 + 1] = "";
	struct pf_reports *r = pf_reports_new();
	struct pf_error error;
	(void)state;
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		assert_int_equal(pf_report_csynth(r, "x.xml", bad[i].text, strlen(bad[i].text), &error), PF_E_DATA);
		if (!strstr(error.text, bad[i].said))
			fail_msg("%s: said %s", bad[i].text, error.text);
	}
	for (int i = 0; i < 40; i++)
		strcat(deep, "<a>");
	assert_int_equal(pf_report_csynth(r, "x.xml", deep, strlen(deep), &error), PF_E_DATA);
	assert_int_equal(pf_report_csynth(r, "x.xml", "", 0, &error), 0);
	assert_int_equal(pf_report_of(r, PF_KERNEL_pref)->loops, 0);
	pf_reports_close(r);
}

static void folders_are_searched(void **state)
{
	struct pf_reports *r;
	struct pf_error error;
	(void)state;
	scratch_open("reports");
	assert_int_equal(pf_reports_open(scratch_path(""), &r, &error), PF_E_UNKNOWN);
	assert_null(r);
	assert_non_null(strstr(error.text, scratch_path("")));
	scratch_tree("syn/report/csynth.xml", csynth);
	scratch_tree("sim/pf_k_logprob_cosim.rpt", cosim);
	scratch_tree("other_csynth.xml", "no report");
	scratch_tree("pf_k_logprob_runs.txt", two_runs);
	if (pf_reports_open(scratch_path(""), &r, &error) != 0)
		fail_msg("%s", error.text);
	assert_int_equal(pf_report_of(r, PF_KERNEL_logprob)->loops, 4);
	assert_int_equal(pf_report_of(r, PF_KERNEL_logprob)->cosim, PF_COSIM_PASS);
	assert_int_equal(pf_report_of(r, PF_KERNEL_logprob)->runs, 2);
	assert_int_equal(pf_report_of(r, PF_KERNEL_logprob)->run[1][2], 63);
	pf_reports_close(r);
	scratch_tree("syn/pf_k_logprob_bf16_csynth.xml", "<a>");
	assert_int_equal(pf_reports_open(scratch_path(""), &r, &error), PF_E_DATA);
	assert_non_null(strstr(error.text, "pf_k_logprob_bf16_csynth.xml:1:"));
	assert_int_equal(pf_reports_open(scratch_path("absent"), &r, &error), -2);
}

/* A run of one kernel: a cycle more of every interval, and a tenth of the cycles, unless a report says what they are */
static void doubts_of_kernels(void **state)
{
	struct pf_reports *r = reports_of(csynth);
	struct pf_job job = { .kind = PF_JOB_RUN, .kernel = PF_KERNEL_logprob,
	                      .after = { PF_JOB_NONE, PF_JOB_NONE, PF_JOB_NONE } };
	const uint32_t large[] = { 4096, 128256, 8016, 0 };
	(void)state;
	for (int with = 0; with < 2; with++) {
		struct pf_cycles_doubt doubt[16];
		unsigned count, seen = 0;
		assert_int_equal(pf_reports_cost(with ? r : NULL, 0, job.kernel, large, 4, &job.cost, NULL), 0);
		assert_int_equal(pf_cycles_doubts("u280", NULL, 1, 1, &job, 1, doubt, 16, &count, NULL), 0);
		for (unsigned i = 0; i < count; i++) {
			const int interval = strcmp(doubt[i].figure, "interval") == 0;
			if (!interval && strcmp(doubt[i].figure, "cycles") != 0)
				continue;
			seen++;
			if (with)
				assert_true(doubt[i].low == 0.0 && doubt[i].high == 0.0);
			else
				assert_true(doubt[i].high >= (interval ? 0.3 : 0.0) && doubt[i].high <= 1.0);
		}
		assert_int_equal(seen, 2);
	}
	pf_reports_close(r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(figures_are_found), cmocka_unit_test(they_replace_what_is_derived),
		cmocka_unit_test(labels_stand_for_loops), cmocka_unit_test(the_clock_is_the_slowest),
		cmocka_unit_test(cosim_counts), cmocka_unit_test(cosim_calibrates),
		cmocka_unit_test(cosim_alone_calibrates), cmocka_unit_test(runs_are_checked),
		cmocka_unit_test(what_is_no_report_is_refused),
		cmocka_unit_test(folders_are_searched), cmocka_unit_test(doubts_of_kernels),
	};
	return cmocka_run_group_tests_name("reports", tests, NULL, NULL);
}
