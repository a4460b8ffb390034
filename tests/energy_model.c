/* The model of energy against sums worked out by hand, and the figures against the published ones they are from. */
#include <math.h>
#include <string.h>
#include "prefpga/energy.h"
#include "prefpga/internal/cards.def"
#include "prefpga/internal/kernels.h"
#include "tests/cmocka.h"
#include "tests/seed.h"

static uint64_t draws;

static double unit(void)
{
	draws = draws * 6364136223846793005u + 1442695040888963407u;
	return (double)(draws >> 11) * 0x1p-53;
}

/* Round figures: value, half of it, three times as much */
static struct pf_interval around(double value)
{
	return (struct pf_interval){ value, value / 2.0, value * 3.0 };
}

static struct pf_energy_card plain(void)
{
	struct pf_energy_card c = { .rest_w = around(10.0),
		.bank = { PF_ENERGY_HBM, PF_ENERGY_DDR, PF_ENERGY_HBM } };
	const double joule[PF_ENERGY_UNITS] = { [PF_ENERGY_DSP] = 1e-9, [PF_ENERGY_LUT] = 2e-9,
		[PF_ENERGY_ONCHIP] = 3e-9, [PF_ENERGY_HBM] = 4e-9, [PF_ENERGY_DDR] = 5e-9, [PF_ENERGY_LINK] = 6e-9 };
	for (int u = 0; u < PF_ENERGY_UNITS; u++)
		c.unit[u] = around(joule[u]);
	return c;
}

static const uint32_t none[PF_JOB_AFTER] = { PF_JOB_NONE, PF_JOB_NONE, PF_JOB_NONE };

static struct pf_job job_of(enum pf_job_kind kind, double amount)
{
	struct pf_job j = { .kind = kind };
	memcpy(j.after, none, sizeof none);
	if (kind == PF_JOB_HOST)
		j.seconds = amount;
	else if (kind == PF_JOB_RUN)
		j.cost.cycles = amount;
	else
		j.bytes = amount;
	return j;
}

static void near(double value, double wanted)
{
	if (!(fabs(value - wanted) <= 1e-12 * fabs(wanted)))
		fail_msg("%.17g, by hand %.17g", value, wanted);
}

static void near3(struct pf_interval x, double wanted)
{
	near(x.value, wanted);
	near(x.low, wanted / 2.0);
	near(x.high, wanted * 3.0);
}

static struct pf_energy_modelled of(const struct pf_energy_card *c, uint32_t devices, const struct pf_job *job,
                                    size_t jobs, struct pf_interval seconds)
{
	struct pf_energy_modelled e;
	struct pf_error error;
	if (pf_energy_of(c, devices, job, jobs, seconds, &e, &error) != 0)
		fail_msg("%s", error.text);
	return e;
}

static void by_hand(void **state)
{
	const struct pf_energy_card c = plain();
	struct pf_job job[] = { job_of(PF_JOB_IN, 1e9), job_of(PF_JOB_RUN, 1.0), job_of(PF_JOB_RUN, 1.0),
		job_of(PF_JOB_OUT, 2e9), job_of(PF_JOB_HOST, 1.0) };
	const struct pf_interval second = { 1.0, 1.0, 1.0 };
	(void)state;
	job[1].kernel = 2;
	job[1].cost.dsp_operations = 7e9;
	job[1].cost.lut_operations = 1e9;
	job[2].kernel = 4;
	job[2].cost.onchip_bytes = 1e9;
	job[2].cost.bytes[0] = 1e9;
	job[2].cost.bytes[1] = 2e9;
	job[3].bank = 1;
	const struct pf_energy_modelled e = of(&c, 3, job, 5, second);
	near3(e.kernel[2], 7.0 + 2.0);
	near3(e.kernel[4], 3.0 + 4.0 + 10.0);
	near3(e.link, (6.0 + 4.0) + 2.0 * (6.0 + 5.0));
	near3(e.rest, 3.0 * 10.0);
	near3(e.total, 9.0 + 17.0 + 32.0 + 30.0);
	near3(e.operations, 9.0);
	near3(e.onchip, 3.0);
	near3(e.banks, 14.0);
}

/* Board at rest: the ends of both intervals multiply */
static void nothing_to_do_is_the_board_at_rest(void **state)
{
	const struct pf_energy_card c = plain();
	const struct pf_job wait = job_of(PF_JOB_HOST, 2.0);
	const struct pf_interval seconds = { 2.0, 1.0, 4.0 }, no_time = { 0.0, 0.0, 0.0 };
	(void)state;
	const struct pf_energy_modelled e = of(&c, 1, &wait, 1, seconds);
	near(e.total.value, 20.0);
	near(e.total.low, 5.0);
	near(e.total.high, 120.0);
	near(e.rest.value, e.total.value);
	near3(e.link, 0.0);
	near3(of(&c, 1, NULL, 0, no_time).total, 0.0);
}

static void draw(struct pf_job *job, size_t jobs)
{
	for (size_t i = 0; i < jobs; i++) {
		job[i] = job_of(unit() < 0.5 ? PF_JOB_RUN : unit() < 0.5 ? PF_JOB_IN : PF_JOB_OUT, 1e9 * unit());
		job[i].bank = (unsigned)(unit() * PF_CYCLES_CLASSES);
		job[i].kernel = (int)(unit() * PF_KERNEL_COUNT);
		job[i].cost.dsp_operations = 1e9 * unit();
		job[i].cost.lut_operations = 1e9 * unit();
		job[i].cost.onchip_bytes = 1e9 * unit();
		for (int k = 0; k < PF_CYCLES_CLASSES; k++)
			job[i].cost.bytes[k] = 1e9 * unit();
	}
}

static void check_sums(const struct pf_energy_modelled *e)
{
	const struct pf_interval parts[] = { e->operations, e->onchip, e->banks, e->link, e->rest };
	double value = 0.0, low = 0.0, high = 0.0, kernels = 0.0;
	for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
		value += parts[i].value;
		low += parts[i].low;
		high += parts[i].high;
	}
	for (int k = 0; k < PF_ENERGY_KERNELS; k++) {
		assert_true(e->kernel[k].low <= e->kernel[k].value && e->kernel[k].value <= e->kernel[k].high);
		kernels += e->kernel[k].value;
	}
	assert_true(fabs(e->total.value - value) <= 1e-9 * value);
	assert_true(fabs(e->total.low - low) <= 1e-9 * value);
	assert_true(fabs(e->total.high - high) <= 1e-9 * high);
	assert_true(fabs(e->total.value - kernels - e->link.value - e->rest.value) <= 1e-9 * value);
	assert_true(e->total.low <= e->total.value && e->total.value <= e->total.high);
}

/* What is drawn adds up, and more of any activity, of time or of cards is more energy */
static void energy_is_conserved_and_monotone(void **state)
{
	enum { JOBS = 40 };
	const struct pf_energy_card c = plain();
	(void)state;
	for (int round = 0; round < 200; round++) {
		const struct pf_interval seconds = { 1.0, 0.5, 2.0 }, longer = { 1.1, 0.5, 2.0 };
		struct pf_job job[JOBS];
		draw(job, JOBS);
		const struct pf_energy_modelled e = of(&c, 2, job, JOBS, seconds);
		check_sums(&e);
		assert_true(of(&c, 2, job, JOBS, longer).total.value > e.total.value);
		assert_true(of(&c, 3, job, JOBS, seconds).total.value > e.total.value);
		assert_true(of(&c, 2, job, JOBS - 1, seconds).total.value < e.total.value);
		const size_t one = (size_t)(unit() * JOBS);
		double *amounts[] = { &job[one].cost.dsp_operations, &job[one].cost.lut_operations,
			&job[one].cost.onchip_bytes, &job[one].cost.bytes[0], &job[one].cost.bytes[1],
			&job[one].cost.bytes[2] };
		double *more = job[one].kind == PF_JOB_RUN ? amounts[(size_t)(unit() * 6.0)] : &job[one].bytes;
		*more *= 1.5;
		assert_true(of(&c, 2, job, JOBS, seconds).total.value > e.total.value);
	}
}

/* On every card of the tables: the time of the play, the doubts of its figures, the memory that the card has */
static void every_card_plays(void **state)
{
	static const struct { const char *name; int hbm; } cards[] = {
#define CARD_ROW(name, title, platform, memory, ...) { #name, #memory[0] == 'H' },
		PF_CARDS(CARD_ROW)
	};
	struct pf_job job[2] = { job_of(PF_JOB_IN, 1e9), job_of(PF_JOB_RUN, 300e6) };
	(void)state;
	job[1].after[0] = 0;
	job[1].cost.bytes[0] = 1e9;
	for (size_t i = 0; i < sizeof cards / sizeof *cards; i++) {
		struct pf_energy_modelled e, two;
		struct pf_energy_card c;
		struct pf_cycles_card time;
		struct pf_cycles_result r;
		assert_int_equal(pf_energy_card(cards[i].name, &c, NULL), 0);
		assert_int_equal(c.bank[0], cards[i].hbm ? PF_ENERGY_HBM : PF_ENERGY_DDR);
		assert_int_equal(pf_energy_play(cards[i].name, NULL, 1, 1, job, 2, &e, NULL), 0);
		assert_int_equal(pf_cycles_card(cards[i].name, &time, NULL), 0);
		assert_int_equal(pf_cycles_play(&time, 1, 1, job, 2, NULL, &r, NULL), 0);
		check_sums(&e);
		near(e.seconds.value, r.seconds);
		assert_true(e.seconds.low < r.seconds && r.seconds < e.seconds.high);
		near(e.rest.value, c.rest_w.value * r.seconds);
		near(e.rest.high, c.rest_w.high * e.seconds.high);
		near(e.link.value, 1e9 * (c.unit[PF_ENERGY_LINK].value + c.unit[c.bank[0]].value));
		assert_int_equal(pf_energy_play(cards[i].name, NULL, 2, 1, job, 2, &two, NULL), 0);
		near(two.rest.value, 2.0 * e.rest.value);
	}
}

/* A clock that is half as fast or half again as fast, for a tenth more or fewer cycles: one run, nothing else. Cycles
 * that a report gave are not doubted */
static void the_range_of_one_run(void **state)
{
	struct pf_job job = job_of(PF_JOB_RUN, 300e9);
	double least, most;
	(void)state;
	assert_int_equal(pf_cycles_range("u250", NULL, 1, 1, &job, 1, &least, &most, NULL), 0);
	assert_true(fabs(least - 900.0 / 1.5) <= 0.01 && fabs(most - 1100.0 / 0.5) <= 0.01);
	job.cost.cycles_reported = job.cost.cycles;
	assert_int_equal(pf_cycles_range("u250", NULL, 1, 1, &job, 1, &least, &most, NULL), 0);
	assert_true(fabs(least - 1000.0 / 1.5) <= 0.01 && fabs(most - 1000.0 / 0.5) <= 0.01);
	assert_int_equal(pf_cycles_range("u999", NULL, 1, 1, &job, 1, &least, &most, NULL), PF_E_UNKNOWN);
}

/* PC2's reports of power, and the other published figures: what energy.def says it is worked out from */
static void figures_follow_from_their_sources(void **state)
{
	const double gemm_hz = 186e6, stream_hz = 300e6;
	const struct { const char *name; double value, low, high; } want[] = {
		{ "DSP", 11.887 / 7714 / gemm_hz, 0.193 / 170 / stream_hz, 2 * 11.887 / 7714 / gemm_hz },
		{ "LUT", (11.769 + 18.125 + 6.347) / 612464 / gemm_hz, (2.216 + 2.537 + 2.747) / 163366 / stream_hz,
		  2 * (11.769 + 18.125 + 6.347) / 612464 / gemm_hz },
		{ "ONCHIP", 5.460 / 853.5 / stream_hz / 8, 5e-12 / 4, 2 * 5.460 / 853.5 / stream_hz / 8 },
		{ "HBM", 3.92e-12 * 8, 9.763 / 460e9, 17.780 / 421.3e9 },
		{ "DDR", 4.93 / 24.94e9, 4.93 / 24.94e9 / 2, 2 * 4.93 / 24.94e9 },
		{ "LINK", (4.360 + 0.538) / 11.909e9, (4.360 + 0.538) / 31.5e9, 167.9e-12 * 8 },
	};
	(void)state;
	for (size_t i = 0; i < sizeof want / sizeof *want; i++) {
		const struct pf_energy_fact *f = pf_energy_fact((unsigned)i);
		assert_non_null(f);
		assert_string_equal(f->name, want[i].name);
		assert_true(fabs(f->is.value / want[i].value - 1.0) <= 0.005);
		assert_true(fabs(f->is.low / want[i].low - 1.0) <= 0.005);
		assert_true(fabs(f->is.high / want[i].high - 1.0) <= 0.005);
	}
}

static void every_figure_has_a_source(void **state)
{
	const struct pf_energy_fact *f;
	(void)state;
	for (unsigned i = 0; (f = pf_energy_fact(i)); i++) {
		assert_true(f->is.low > 0.0 && f->is.low <= f->is.value && f->is.value <= f->is.high);
		assert_true(isfinite(f->is.high));
		if (strlen(f->source) < 4 || strcmp(f->source, "none") == 0 || strlen(f->text) < 4)
			fail_msg("%s %s has no source or says not what it is", f->card, f->name);
		for (unsigned j = 0; j < i; j++)
			assert_true(strcmp(pf_energy_fact(j)->card, f->card) != 0 ||
			            strcmp(pf_energy_fact(j)->name, f->name) != 0);
	}
}

static void what_is_wrong_is_refused(void **state)
{
	const struct pf_interval second = { 1.0, 1.0, 1.0 };
	const struct pf_interval bad[] = { { 1.0, 2.0, 3.0 }, { 1.0, 0.5, 0.9 }, { -1.0, -2.0, 1.0 },
		{ NAN, 0.0, 1.0 }, { 1.0, 0.0, INFINITY } };
	struct pf_energy_card c = plain();
	struct pf_energy_modelled e;
	struct pf_job job = job_of(PF_JOB_IN, NAN);
	(void)state;
	assert_int_equal(pf_energy_of(&c, 1, &job, 1, second, &e, NULL), PF_E_RANGE);
	job = job_of(PF_JOB_IN, 1.0);
	job.bank = PF_CYCLES_CLASSES;
	assert_int_equal(pf_energy_of(&c, 1, &job, 1, second, &e, NULL), PF_E_RANGE);
	job = job_of(PF_JOB_RUN, 1.0);
	job.kernel = PF_KERNEL_COUNT;
	assert_int_equal(pf_energy_of(&c, 1, &job, 1, second, &e, NULL), PF_E_RANGE);
	job.kernel = 0;
	job.cost.lut_operations = -1.0;
	assert_int_equal(pf_energy_of(&c, 1, &job, 1, second, &e, NULL), PF_E_RANGE);
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		assert_int_equal(pf_energy_of(&c, 1, NULL, 0, bad[i], &e, NULL), PF_E_RANGE);
		c.unit[PF_ENERGY_LINK] = bad[i];
		assert_int_equal(pf_energy_of(&c, 1, NULL, 0, second, &e, NULL), PF_E_RANGE);
		c = plain();
	}
	assert_int_equal(pf_energy_card("u999", &c, NULL), PF_E_UNKNOWN);
	assert_int_equal(pf_energy_play("u999", NULL, 1, 1, NULL, 0, &e, NULL), PF_E_UNKNOWN);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(by_hand), cmocka_unit_test(nothing_to_do_is_the_board_at_rest),
		cmocka_unit_test(energy_is_conserved_and_monotone), cmocka_unit_test(every_card_plays),
		cmocka_unit_test(the_range_of_one_run), cmocka_unit_test(figures_follow_from_their_sources),
		cmocka_unit_test(every_figure_has_a_source), cmocka_unit_test(what_is_wrong_is_refused),
	};
	if (seed_take(&argc, argv) != 0)
		return 2;
	draws = seed_of(17);
	return cmocka_run_group_tests_name("energy_model", tests, NULL, NULL);
}
