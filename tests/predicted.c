/* What the model of time says of figures that others published, beside them. Rows marked `fit` are those that figures
 * in card_facts.def were taken from; the others were not used. The table is committed; the test compares it with what
 * this program prints, so that a change of the model is a change of the table:
 *
 *	build/dev/tests/predicted > tests/bench/results/predicted.csv */
#include <math.h>
#include <stdio.h>
#include "prefpga/cycles.h"
#include "prefpga/internal/kernels.h"

static struct pf_cycles_card card(const char *name)
{
	struct pf_cycles_card c = { 0 };
	struct pf_error error;
	if (pf_cycles_card(name, &c, &error) != 0)
		fprintf(stderr, "%s\n", error.text);
	return c;
}

static double seconds(const struct pf_cycles_card *c, uint32_t cus, const struct pf_job *job, size_t jobs)
{
	struct pf_cycles_result r;
	struct pf_error error;
	if (pf_cycles_play(c, 1, cus, job, jobs, NULL, &r, &error) != 0)
		fprintf(stderr, "%s\n", error.text);
	return r.seconds;
}

/* GB/s of one copy */
static double copy_rate(const char *name, enum pf_job_kind kind, double bytes)
{
	const struct pf_cycles_card c = card(name);
	const struct pf_job job = { .kind = kind, .after = { PF_JOB_NONE, PF_JOB_NONE, PF_JOB_NONE }, .bytes = bytes };
	return 1e-9 * bytes / seconds(&c, 1, &job, 1);
}

/* GB/s of a port of `bits` that keeps some bursts under way */
static double port_rate(const char *name, double bits, double beats, double outstanding)
{
	struct pf_cycles_card c = card(name);
	c.port_bytes = bits / 8.0;
	return 1e-9 * pf_cycles_port_rate(&c, beats, outstanding);
}

/* Thousand runs of nothing a second, with a number of them under way */
static double launch_rate(const char *name, uint32_t depth)
{
	enum { RUNS = 2000 };
	static struct pf_job job[RUNS];
	const struct pf_cycles_card c = card(name);
	for (uint32_t i = 0; i < RUNS; i++)
		job[i] = (struct pf_job){ .kind = PF_JOB_RUN, .kernel = 0,
			.after = { i >= depth ? i - depth : PF_JOB_NONE, PF_JOB_NONE, PF_JOB_NONE } };
	return 1e-3 * RUNS / seconds(&c, 1, job, RUNS);
}

/* us for one byte in, a run, one byte out */
static double round_trip(const char *name)
{
	const struct pf_cycles_card c = card(name);
	const struct pf_job job[] = {
		{ .kind = PF_JOB_IN, .after = { PF_JOB_NONE, PF_JOB_NONE, PF_JOB_NONE }, .bytes = 1.0 },
		{ .kind = PF_JOB_RUN, .after = { 0, PF_JOB_NONE, PF_JOB_NONE } },
		{ .kind = PF_JOB_OUT, .after = { 1, PF_JOB_NONE, PF_JOB_NONE }, .bytes = 1.0 } };
	return 1e6 * seconds(&c, 1, job, 3);
}

/* GB/s of 32 ports at once */
static double all_ports(const char *name, uint32_t ports)
{
	struct pf_cycles_card c = card(name);
	struct pf_job job[32];
	c.class_rate[0] = c.bank_rate * ports;         /* a design that gives every port banks of its own */
	for (uint32_t i = 0; i < ports; i++)
		job[i] = (struct pf_job){ .kind = PF_JOB_RUN, .after = { PF_JOB_NONE, PF_JOB_NONE, PF_JOB_NONE },
			.cost = { .bytes = { 1e9 }, .port_most = 1e9 } };
	return 1e-9 * 1e9 * ports / seconds(&c, ports, job, ports);
}

static void row(const char *what, const char *card_name, const char *unit, double predicted, double published,
                const char *role, const char *source)
{
	printf("\"%s\",%s,%s,%.4g,%.4g,%+.1f,%s,\"%s\"\n", what, card_name, unit, predicted, published,
	       100.0 * (predicted / published - 1.0), role, source);
}

int main(void)
{
	static const char host[] = "VAE host_global_bandwidth (OpenCL)",
			  burst[] = "VAE performance/axi_burst_performance";
	static const char iops[] = "VAE iops_test_xrt";
	puts("figure,card,unit,modelled,published,error_percent,role,source");
	row("copy in of 64 B", "u200", "GB/s", copy_rate("u200", PF_JOB_IN, 64), 0.0047, "fit", host);
	row("copy in of 4 KiB", "u200", "GB/s", copy_rate("u200", PF_JOB_IN, 4096), 0.295, "held out", host);
	row("copy in of 16 KiB", "u200", "GB/s", copy_rate("u200", PF_JOB_IN, 16384), 1.17, "held out", host);
	row("copy in of 1 MiB", "u200", "GB/s", copy_rate("u200", PF_JOB_IN, 0x1p20), 6.5, "held out", host);
	row("copy out of 1 MiB", "u200", "GB/s", copy_rate("u200", PF_JOB_OUT, 0x1p20), 9.7, "held out", host);
	row("copy in of 512 MiB", "u200", "GB/s", copy_rate("u200", PF_JOB_IN, 0x1p29), 7.45, "held out", host);
	row("copy out of 512 MiB", "u200", "GB/s", copy_rate("u200", PF_JOB_OUT, 0x1p29), 12.1, "held out", host);
	row("copy in of 4 KiB", "u50", "GB/s", copy_rate("u50", PF_JOB_IN, 4096), 0.737, "fit", "XRT#6787 (validate)");
	row("copy out of 4 KiB", "u50", "GB/s", copy_rate("u50", PF_JOB_OUT, 4096), 0.816, "held out",
	    "XRT#6787 (validate), middle of 0.767 to 0.865");
	row("port of 512 bits, 4 bursts of 4 beats", "u200", "GB/s", port_rate("u200", 512, 4, 4), 4.04, "fit", burst);
	row("port of 512 bits, 4 bursts of 16 beats", "u200", "GB/s", port_rate("u200", 512, 16, 4), 11.7, "held out",
	    burst);
	row("port of 512 bits, 32 bursts of 64 beats", "u200", "GB/s", port_rate("u200", 512, 64, 32), 13.66, "fit",
	    burst);
	row("port of 256 bits, 4 bursts of 4 beats", "u200", "GB/s", port_rate("u200", 256, 4, 4), 2.0, "held out",
	    burst);
	row("port of 256 bits, 32 bursts of 64 beats", "u200", "GB/s", port_rate("u200", 256, 64, 32), 7.8, "held out",
	    burst);
	row("32 ports of HBM", "u280", "GB/s", all_ports("u280", 32), 421.3, "fit", "VAE hbm_bandwidth");
	row("12 ports of HBM", "u50", "GB/s", all_ports("u50", 12), 158.3, "fit", "VAE hbm_bandwidth");
	row("32 ports of HBM", "u280", "GB/s", all_ports("u280", 32), 425.0, "held out", "Shuhai (abstract)");
	row("empty runs, 10 under way", "u250", "thousand/s", launch_rate("u250", 10), 84.0, "fit", iops);
	row("empty runs, 1000 under way", "u250", "thousand/s", launch_rate("u250", 1000), 359.0, "fit",
	    "VAE iops_test_xrt, there with 1 M under way");
	row("one byte in, run, one byte out", "u280", "us", round_trip("u280"), 66.0, "held out",
	    "PC2, worked out from its table; launch and setup assumed from other cards");
	return 0;
}
