/* The model of time against schedules worked out by hand, and against what no card can exceed. */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "prefpga/cycles.h"
#include "prefpga/device.h"
#include "prefpga/internal/cards.def"
#include "prefpga/internal/kernels.h"
#include "tests/cmocka.h"
#include "tests/seed.h"

/* Round figures: 1 GB/s links, a port of 100 MHz x 10 bytes = 1 GB/s, banks of 2 GB/s, classes of 4 GB/s */
static const struct pf_cycles_card plain = { .clock_hz = 100e6, .port_bytes = 10, .bank_rate = 2e9,
	.class_rate = { 4e9, 4e9, 4e9 }, .link_in = 1e9, .link_out = 1e9, .copy_setup_s = 0.5, .launch_s = 0.25,
	.issue_s = 0.25, .port_latency_s = 1e-9, .memory_bytes = 1e12 };

static uint64_t draws;

static double unit(void)
{
	draws = draws * 6364136223846793005u + 1442695040888963407u;
	return (double)(draws >> 11) * 0x1p-53;
}

static struct pf_job copy(enum pf_job_kind kind, double bytes, uint32_t after)
{
	return (struct pf_job){ .kind = kind, .after = { after, PF_JOB_NONE, PF_JOB_NONE }, .bytes = bytes };
}

static struct pf_job run(int kernel, double cycles, double bytes, uint32_t after)
{
	return (struct pf_job){ .kind = PF_JOB_RUN, .after = { after, PF_JOB_NONE, PF_JOB_NONE }, .kernel = kernel,
	                        .cost = { .cycles = cycles, .bytes = { bytes }, .port_most = bytes } };
}

static struct pf_cycles_result play(const struct pf_cycles_card *card, uint32_t devices, uint32_t cus,
                                    const struct pf_job *job, size_t jobs, struct pf_job_times *times)
{
	struct pf_cycles_result result;
	struct pf_error error;
	if (pf_cycles_play(card, devices, cus, job, jobs, times, &result, &error) != 0)
		fail_msg("%s", error.text);
	return result;
}

static void near(double value, double wanted)
{
	if (!(fabs(value - wanted) <= 1e-9 * fabs(wanted)))
		fail_msg("%.12g, by hand %.12g", value, wanted);
}

static void one_after_the_other(void **state)
{
	const struct pf_job job[] = { copy(PF_JOB_IN, 3e9, PF_JOB_NONE), run(0, 200e6, 1e9, 0),
		                      copy(PF_JOB_OUT, 1e9, 1) };
	struct pf_job_times t[3];
	(void)state;
	const struct pf_cycles_result r = play(&plain, 1, 1, job, 3, t);
	near(t[0].end, 3.5);
	near(t[1].start, 3.5);
	near(t[1].end, 3.5 + 0.25 + 2.0);              /* its cycles; its bytes would take 1 s */
	near(t[2].end, 5.75 + 1.5);
	near(r.seconds, 7.25);
	near(r.busy_in, 3.5);
	near(r.busy_runs, 2.25);
	near(r.bytes_banks, 5e9);
}

/* in 1.5, run 2.25, out 1.0: three batches overlap, the runs set the pace */
static void batches_overlap(void **state)
{
	struct pf_job job[9];
	struct pf_job_times t[9];
	(void)state;
	for (uint32_t i = 0; i < 3; i++) {
		job[3 * i] = copy(PF_JOB_IN, 1e9, PF_JOB_NONE);
		job[3 * i + 1] = run(0, 200e6, 0.0, 3 * i);
		job[3 * i + 2] = copy(PF_JOB_OUT, 0.5e9, 3 * i + 1);
	}
	const struct pf_cycles_result r = play(&plain, 1, 1, job, 9, t);
	near(r.seconds, 1.5 + 3 * 2.25 + 1.0);
	near(t[4].ready, 3.0);                         /* there before the unit is free */
	near(t[4].start, 3.75);
}

static void compute_units_and_cards_work_beside_each_other(void **state)
{
	struct pf_job job[4];
	(void)state;
	for (uint32_t i = 0; i < 4; i++)
		job[i] = run(0, 175e6, 0.0, PF_JOB_NONE);
	near(play(&plain, 1, 1, job, 4, NULL).seconds, 8.0);
	near(play(&plain, 1, 2, job, 4, NULL).seconds, 4.0);
	near(play(&plain, 1, 4, job, 4, NULL).seconds, 2.0);
	for (uint32_t i = 0; i < 4; i++)
		job[i].device = i % 2;
	near(play(&plain, 2, 1, job, 4, NULL).seconds, 4.0);
	for (uint32_t i = 0; i < 4; i++)
		job[i] = run((int)i, 175e6, 0.0, PF_JOB_NONE);         /* different kernels have units of their own */
	near(play(&plain, 1, 1, job, 4, NULL).seconds, 2.0);
}

/* Eight runs that want 1 GB/s each of a class of 4 GB/s take twice as long as four */
static void banks_are_shared(void **state)
{
	struct pf_job job[8];
	(void)state;
	for (uint32_t i = 0; i < 8; i++)
		job[i] = run(0, 0.0, 1e9, PF_JOB_NONE);
	near(play(&plain, 1, 8, job, 4, NULL).seconds, 1.25);
	const struct pf_cycles_result r = play(&plain, 1, 8, job, 8, NULL);
	near(r.seconds, 0.25 + 2.0);
	near(r.class_share[0], 8e9 / (4e9 * 2.25));
	for (uint32_t i = 0; i < 8; i++)
		job[i].device = i % 2;                                 /* other cards have banks of their own */
	near(play(&plain, 2, 8, job, 8, NULL).seconds, 1.25);
}

/* A wide port is held back by one bank, a narrow one by itself */
static void ports_and_banks_limit_a_run(void **state)
{
	struct pf_cycles_card card = plain;
	const struct pf_job job = run(0, 1.0, 8e9, PF_JOB_NONE);
	(void)state;
	near(play(&card, 1, 1, &job, 1, NULL).seconds, 0.25 + 8.0);
	card.port_bytes = 64;
	near(play(&card, 1, 1, &job, 1, NULL).seconds, 0.25 + 4.0);
}

/* 4 bursts of 10 beats of 10 bytes fly for 1 us: 400 MB/s, whatever port and bank could do */
static void few_short_bursts_wait_for_memory(void **state)
{
	struct pf_cycles_card card = plain;
	(void)state;
	card.port_latency_s = 1e-6;
	near(pf_cycles_port_rate(&card, 10, 4), 400e6);
	near(pf_cycles_port_rate(&card, 16, 16), 1e9);
	card.port_bytes = 64;
	near(pf_cycles_port_rate(&card, 16, 16), 2e9);
}

/* The first run of a queue waits for its launch; the others were submitted in good time and follow at the issue rate */
static void a_queue_hides_the_launches(void **state)
{
	struct pf_cycles_card card = plain;
	struct pf_job job[10];
	(void)state;
	card.launch_s = 2.0;
	card.issue_s = 0.125;
	for (uint32_t i = 0; i < 10; i++)
		job[i] = run(0, 100e6, 0.0, PF_JOB_NONE);
	near(play(&card, 1, 1, job, 10, NULL).seconds, 3.0 + 9 * 1.125);
	for (uint32_t i = 1; i < 10; i++)
		job[i].after[0] = i - 1;               /* nothing to hide behind */
	near(play(&card, 1, 1, job, 10, NULL).seconds, 30.0);
}

static void the_host_is_one_more_queue(void **state)
{
	struct pf_job job[] = {
		{ .kind = PF_JOB_HOST, .seconds = 2.0, .after = { PF_JOB_NONE, PF_JOB_NONE, PF_JOB_NONE } },
		copy(PF_JOB_IN, 1e9, 0),
		{ .kind = PF_JOB_HOST, .seconds = 3.0, .after = { PF_JOB_NONE, PF_JOB_NONE, PF_JOB_NONE } },
		{ .kind = PF_JOB_HOST, .seconds = 1.0, .after = { 1, 2, PF_JOB_NONE } }
	};
	(void)state;
	near(play(&plain, 1, 1, job, 4, NULL).seconds, 6.0);
	near(play(&plain, 1, 1, job, 3, NULL).seconds, 5.0);
}

static void a_head_that_waits_holds_back_its_queue(void **state)
{
	struct pf_job job[] = { run(0, 400e6, 0.0, PF_JOB_NONE), copy(PF_JOB_OUT, 1e9, 0),
		                copy(PF_JOB_OUT, 1e9, PF_JOB_NONE) };
	(void)state;
	near(play(&plain, 1, 1, job, 3, NULL).seconds, 4.25 + 1.5 + 1.5);
}

/* ---- what no card can exceed, over random schedules ---- */

enum { JOBS = 120 };

static void draw(struct pf_job *job, uint32_t devices)
{
	for (uint32_t i = 0; i < JOBS; i++) {
		const uint32_t after = i && unit() < 0.6 ? (uint32_t)(unit() * i) : PF_JOB_NONE;
		const double size = pow(10.0, 5.0 + 4.0 * unit());
		job[i] = unit() < 0.5 ? run((int)(unit() * 3.0), size / 20.0 * unit(), size, after)
		                      : copy(unit() < 0.5 ? PF_JOB_IN : PF_JOB_OUT, size, after);
		job[i].device = (uint32_t)(unit() * devices);
		job[i].bank = (unsigned)(unit() * PF_CYCLES_CLASSES);
		if (job[i].kind == PF_JOB_RUN)
			job[i].cost.bytes[job[i].bank] = job[i].cost.bytes[0];
	}
}

static void check_bounds(const struct pf_cycles_card *card, const struct pf_job *job, const struct pf_job_times *t,
                         uint32_t devices, const struct pf_cycles_result *r)
{
	const double slack = 1.0 + 1e-9;
	double in = 0.0, out = 0.0, banks = 0.0;
	for (uint32_t i = 0; i < JOBS; i++) {
		const struct pf_job *j = &job[i];
		const double took = t[i].end - t[i].start;
		assert_true(t[i].start >= t[i].ready);
		if (j->after[0] != PF_JOB_NONE)
			assert_true(t[i].start >= t[j->after[0]].end);
		in += j->kind == PF_JOB_IN ? j->bytes : 0.0;
		out += j->kind == PF_JOB_OUT ? j->bytes : 0.0;
		banks += j->kind == PF_JOB_RUN ? j->cost.bytes[0] + j->cost.bytes[1] + j->cost.bytes[2] : j->bytes;
		if (j->kind == PF_JOB_RUN) {
			assert_true((t[i].end - t[i].ready) * slack >=
			            card->launch_s + j->cost.cycles / card->clock_hz);
			assert_true(took * slack >= card->issue_s + j->cost.cycles / card->clock_hz);
			assert_true(took * slack >= j->cost.port_most / (card->port_bytes * card->clock_hz));
			assert_true(took * slack >= j->cost.port_most / card->bank_rate);
		} else {
			assert_true(took * slack >= card->copy_setup_s + j->bytes / card->link_in);
		}
	}
	assert_true(r->seconds * slack >= in / card->link_in / devices);
	assert_true(r->seconds * slack >= out / card->link_out / devices);
	for (unsigned c = 0; c < PF_CYCLES_CLASSES; c++)
		assert_true(r->class_share[c] <= slack);
	near(r->bytes_in, in);
	near(r->bytes_out, out);
	near(r->bytes_banks, banks);
}

static void nothing_is_faster_than_its_limits(void **state)
{
	(void)state;
	for (int round = 0; round < 300; round++) {
		const uint32_t devices = 1 + (uint32_t)(unit() * 3.0), cus = 1 + (uint32_t)(unit() * 4.0);
		struct pf_cycles_card card = plain;
		struct pf_job job[JOBS];
		struct pf_job_times t[JOBS], again[JOBS];
		card.copy_setup_s = 1e-4;
		card.launch_s = 1e-3;
		card.issue_s = 1e-5;
		draw(job, devices);
		const struct pf_cycles_result r = play(&card, devices, cus, job, JOBS, t);
		check_bounds(&card, job, t, devices, &r);
		const struct pf_cycles_result same = play(&card, devices, cus, job, JOBS, again);
		assert_memory_equal(&r, &same, sizeof r);
		assert_memory_equal(t, again, sizeof t);
	}
}

/* ---- cards and kernels ---- */

static double streamed(const struct pf_cycles_card *card, uint32_t rows, uint32_t vocab)
{
	const uint32_t stride = (vocab + 15) / 16, value[] = { rows, vocab, stride, 0 };
	struct pf_job job[24];
	struct pf_error error;
	for (uint32_t i = 0; i < 8; i++) {
		job[3 * i] = copy(PF_JOB_IN, (double)rows * stride * 64.0, PF_JOB_NONE);
		job[3 * i + 1] = run(PF_KERNEL_logprob, 0.0, 0.0, 3 * i);
		if (pf_cycles_cost(PF_KERNEL_logprob, value, 4, &job[3 * i + 1].cost, &error) != 0)
			fail_msg("%s", error.text);
		job[3 * i + 2] = copy(PF_JOB_OUT, rows * 64.0, 3 * i + 1);
	}
	return play(card, 1, 1, job, 24, NULL).seconds;
}

static void more_work_takes_longer_on_every_card(void **state)
{
	static const char *const cards[] = {
#define CARD_NAME(name, ...) #name,
		PF_CARDS(CARD_NAME)
	};
	(void)state;
	for (size_t i = 0; i < sizeof cards / sizeof *cards; i++) {
		struct pf_cycles_card card;
		double before = 0.0;
		assert_int_equal(pf_cycles_card(cards[i], &card, NULL), 0);
		for (uint32_t rows = 1; rows <= 4096; rows *= 2) {
			const double now = streamed(&card, rows, 128256);
			assert_true(now > before && now < 1e3);
			before = now;
		}
		before = 0.0;
		for (uint32_t vocab = 16; vocab <= 262144; vocab *= 2) {
			const double now = streamed(&card, 64, vocab);
			assert_true(now > before);
			before = now;
		}
	}
}

static void every_fact_has_a_source(void **state)
{
	const struct pf_card_fact *f;
	(void)state;
	for (unsigned i = 0; (f = pf_card_fact(i)); i++) {
		assert_true(f->value > 0.0 && isfinite(f->value));
		if (strlen(f->source) < 4 || strcmp(f->source, "none") == 0 || strlen(f->text) < 4)
			fail_msg("%s %s has no source or says not what it is", f->card, f->name);
		for (unsigned j = 0; j < i; j++)
			assert_true(strcmp(pf_card_fact(j)->card, f->card) != 0 ||
			            strcmp(pf_card_fact(j)->name, f->name) != 0);
	}
}

static void every_card_has_a_sensor_and_a_last_release(void **state)
{
	static const char *const card[] = { "u50", "u55c", "u200", "u250", "u280" };
	(void)state;
	for (size_t i = 0; i < sizeof card / sizeof *card; i++) {
		near(pf_card_figure(card[i], "sensor_refresh_s"), 1.0);
		const double last = pf_card_figure(card[i], "last_vitis");
		assert_true(last >= 2022.2 && last <= 2025.2);
	}
	assert_true(isnan(pf_card_figure("u9", "last_vitis")) && isnan(pf_card_figure("u50", "weight_kg")));
}

static void doubts_show_what_matters(void **state)
{
	struct pf_job job[] = { copy(PF_JOB_IN, 1e9, PF_JOB_NONE) };
	struct pf_cycles_doubt doubt[16];
	unsigned count = 0;
	(void)state;
	assert_int_equal(pf_cycles_doubts("u250", NULL, 1, 1, job, 1, doubt, 16, &count, NULL), 0);
	assert_true(count >= 6);
	for (unsigned i = 0; i < count; i++) {
		const int link = strcmp(doubt[i].figure, "link_in_bps") == 0;
		assert_true(doubt[i].low <= 0.0 && doubt[i].high >= 0.0);
		if (link)
			near(doubt[i].doubt, 0.1);             /* measured */
		if (link)
			assert_true(fabs(doubt[i].high - 0.1 / 0.9) <= 1e-3);
		if (strcmp(doubt[i].figure, "clock_hz") == 0 || strcmp(doubt[i].figure, "launch_s") == 0)
			assert_true(doubt[i].high == 0.0);     /* a copy has neither */
	}
}

static void wrong_schedules_are_refused(void **state)
{
	struct pf_cycles_result r;
	struct pf_cycles_card card = plain;
	struct pf_job job[2] = { copy(PF_JOB_IN, 1.0, PF_JOB_NONE), copy(PF_JOB_IN, 1.0, 1) };
	(void)state;
	assert_int_equal(pf_cycles_play(&plain, 1, 1, job, 2, NULL, &r, NULL), PF_E_RANGE);
	job[1] = copy(PF_JOB_IN, NAN, PF_JOB_NONE);
	assert_int_equal(pf_cycles_play(&plain, 1, 1, job, 2, NULL, &r, NULL), PF_E_RANGE);
	job[1] = copy(PF_JOB_IN, -1.0, PF_JOB_NONE);
	assert_int_equal(pf_cycles_play(&plain, 1, 1, job, 2, NULL, &r, NULL), PF_E_RANGE);
	job[1] = copy(PF_JOB_IN, 1.0, PF_JOB_NONE);
	job[1].device = 1;
	assert_int_equal(pf_cycles_play(&plain, 1, 1, job, 2, NULL, &r, NULL), PF_E_RANGE);
	job[1].device = 0;
	job[1].bank = 3;
	assert_int_equal(pf_cycles_play(&plain, 1, 1, job, 2, NULL, &r, NULL), PF_E_RANGE);
	job[1] = run(PF_KERNEL_COUNT, 1.0, 1.0, PF_JOB_NONE);
	assert_int_equal(pf_cycles_play(&plain, 1, 1, job, 2, NULL, &r, NULL), PF_E_RANGE);
	assert_int_equal(pf_cycles_play(&plain, 0, 1, job, 1, NULL, &r, NULL), PF_E_RANGE);
	card.bank_rate = NAN;
	assert_int_equal(pf_cycles_play(&card, 1, 1, job, 1, NULL, &r, NULL), PF_E_RANGE);
	assert_int_equal(pf_cycles_play(&plain, 1, 1, job, 0, NULL, &r, NULL), 0);
	assert_true(r.seconds == 0.0);
	assert_int_equal(pf_cycles_card("u999", &card, NULL), PF_E_UNKNOWN);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(one_after_the_other), cmocka_unit_test(batches_overlap),
		cmocka_unit_test(compute_units_and_cards_work_beside_each_other), cmocka_unit_test(banks_are_shared),
		cmocka_unit_test(ports_and_banks_limit_a_run), cmocka_unit_test(few_short_bursts_wait_for_memory),
		cmocka_unit_test(a_queue_hides_the_launches), cmocka_unit_test(the_host_is_one_more_queue),
		cmocka_unit_test(a_head_that_waits_holds_back_its_queue),
		cmocka_unit_test(nothing_is_faster_than_its_limits),
		cmocka_unit_test(more_work_takes_longer_on_every_card),
		cmocka_unit_test(every_fact_has_a_source),
		cmocka_unit_test(every_card_has_a_sensor_and_a_last_release),
		cmocka_unit_test(doubts_show_what_matters),
		cmocka_unit_test(wrong_schedules_are_refused),
	};
	if (seed_take(&argc, argv) != 0)
		return 2;
	draws = seed_of(11);
	return cmocka_run_group_tests_name("cycles", tests, NULL, NULL);
}
