/* Energy from samples, against closed forms: sensors made up here know their true power, and show it as drivers do. */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "prefpga/power.h"
#include "tests/cmocka.h"
#include "tests/seed.h"

static uint64_t state_of_draws;

static double unit(void)
{
	state_of_draws = state_of_draws * 6364136223846793005u + 1442695040888963407u;
	return (double)(state_of_draws >> 11) * 0x1p-53;
}

/* True power 40 + 30 sin(t / 7) W and its integral */
static double power(double t)
{
	return 40.0 + 30.0 * sin(t / 7.0);
}

static double energy(double from, double to)
{
	return 40.0 * (to - from) - 210.0 * (cos(to / 7.0) - cos(from / 7.0));
}

static struct pf_ledger *open_one(int counts, double refresh, double period, double step, double range)
{
	const struct pf_sensor sensor = { .counts = counts, .name = "made up", .refresh_s = refresh, .step = step,
	                                  .range = range };
	const struct pf_ledger_options options = { &sensor, 1, period };
	struct pf_ledger *ledger;
	assert_int_equal(pf_ledger_open(&options, &ledger, NULL), 0);
	return ledger;
}

static void add(struct pf_ledger *ledger, double time, double value)
{
	struct pf_error error;
	if (pf_ledger_add(ledger, 0, time, value, &error) != 0)
		fail_msg("%s", error.text);
}

static void judge(struct pf_ledger *ledger, double from, double to, double truth)
{
	struct pf_energy e;
	struct pf_error error;
	if (pf_ledger_energy(ledger, 0, from, to, &e, &error) != 0)
		fail_msg("%s", error.text);
	if (!(e.low <= truth && truth <= e.high && e.low <= e.joule && e.joule <= e.high))
		fail_msg("%.6f J in [%.6f, %.6f], the truth is %.6f", e.joule, e.low, e.high, truth);
}

/* The driver refreshes at times of its own; readers see what it had last. Any phase, any jitter of the reader */
static void a_cached_power_bounds_the_truth(void **state)
{
	(void)state;
	for (int round = 0; round < 200; round++) {
		const double refresh = 0.2 + 0.8 * unit(), period = refresh / 4.0, phase = refresh * unit();
		struct pf_ledger *ledger = open_one(0, refresh, period, 1e-3, 0.0);
		for (double t = 1.0; t < 60.0; t += period * (0.2 + 0.8 * unit())) {
			const double shown = phase + refresh * floor((t - phase) / refresh);
			add(ledger, t, 1e-3 * floor(1e3 * power(shown) + 0.5));
		}
		const double from = 3.0 + 5.0 * unit(), to = 40.0 + 10.0 * unit();
		judge(ledger, from, to, energy(from, to));
		pf_ledger_close(ledger);
	}
}

/* 1000 s of a constant power: the interval is the step's, not larger */
static void a_constant_power_is_exact(void **state)
{
	struct pf_ledger *ledger = open_one(0, 1.0, 0.25, 0.01, 0.0);
	struct pf_energy e;
	(void)state;
	for (double t = 0.0; t <= 1010.0; t += 0.25)
		add(ledger, t, 25.0);
	assert_int_equal(pf_ledger_energy(ledger, 0, 3.125, 1003.125, &e, NULL), 0);
	assert_true(fabs(e.joule - 25000.0) <= 1e-6);
	assert_true(fabs(e.low - 24995.0) <= 1e-6 && fabs(e.high - 25005.0) <= 1e-6);
	assert_true(e.watt_least == 25.0 && e.watt_most == 25.0 && e.samples == 4000);
	pf_ledger_close(ledger);
}

/* A step of power within one refresh: the interval holds both orders of what could have happened */
static void a_jump_widens_the_interval(void **state)
{
	struct pf_ledger *ledger = open_one(0, 1.0, 0.5, 0.0, 0.0);
	struct pf_energy e;
	(void)state;
	for (double t = 0.0; t <= 40.0; t += 0.5)
		add(ledger, t, t < 20.0 ? 10.0 : 50.0);
	assert_int_equal(pf_ledger_energy(ledger, 0, 10.0, 30.0, &e, NULL), 0);
	assert_true(e.low <= 10.0 * 11.0 + 50.0 * 9.0 && e.high >= 10.0 * 9.0 + 50.0 * 11.0);
	assert_true(e.high - e.low <= 40.0 * 4.0);
	pf_ledger_close(ledger);
}

static void a_counter_bounds_the_truth_and_wraps(void **state)
{
	(void)state;
	for (int round = 0; round < 200; round++) {
		const double refresh = 0.05, period = 0.1, phase = refresh * unit(), range = 300.0, step = 0.5;
		struct pf_ledger *ledger = open_one(1, refresh, period, step, range);
		for (double t = 1.0; t < 60.0; t += period * (0.2 + 0.8 * unit())) {
			const double shown = phase + refresh * floor((t - phase) / refresh);
			const double count = step * floor(energy(0.0, shown) / step);
			add(ledger, t, fmod(count, range));
		}
		const double from = 3.0 + 5.0 * unit(), to = 40.0 + 10.0 * unit();
		judge(ledger, from, to, energy(from, to));
		pf_ledger_close(ledger);
	}
}

static void spans_that_cannot_be_seen_are_refused(void **state)
{
	struct pf_ledger *ledger = open_one(0, 1.0, 0.25, 0.0, 0.0);
	struct pf_energy e;
	struct pf_error error;
	(void)state;
	assert_int_equal(pf_ledger_energy(ledger, 0, 0.0, 20.0, &e, &error), PF_E_DATA);       /* no samples at all */
	for (double t = 0.0; t <= 30.0; t += 0.25)
		add(ledger, t, 25.0);
	assert_true(pf_ledger_shortest(ledger, 0) == 10.0);
	assert_int_equal(pf_ledger_energy(ledger, 0, 2.0, 11.9, &e, &error), PF_E_RANGE);
	assert_non_null(strstr(error.text, "too short"));
	assert_int_equal(pf_ledger_energy(ledger, 0, 2.0, NAN, &e, &error), PF_E_RANGE);
	assert_int_equal(pf_ledger_energy(ledger, 0, -1.0, 12.0, &e, &error), PF_E_DATA);
	assert_int_equal(pf_ledger_energy(ledger, 0, 2.0, 29.9, &e, &error), -EAGAIN);
	assert_int_equal(pf_ledger_energy(ledger, 0, 2.0, 12.0, &e, &error), 0);
	assert_int_equal(pf_ledger_energy(ledger, 1, 2.0, 12.0, &e, &error), PF_E_RANGE);
	add(ledger, 60.0, 25.0);                       /* 30 s of silence */
	add(ledger, 70.0, 25.0);
	assert_int_equal(pf_ledger_energy(ledger, 0, 20.0, 58.0, &e, &error), PF_E_RANGE);
	assert_non_null(strstr(error.text, "30 s"));
	pf_ledger_close(ledger);
}

/* The sensor shows 10 W up to 20 s and then nothing for 3 s, in which the power rose to 50 W: the span's last refresh
 * may have been the first of 50 W, and only the sample behind the hole tells */
static void a_hole_behind_the_span_counts(void **state)
{
	struct pf_ledger *ledger = open_one(0, 1.0, 0.25, 0.0, 0.0);
	struct pf_energy e;
	(void)state;
	for (double t = 0.0; t <= 20.0; t += 0.25)
		add(ledger, t, 10.0);
	for (double t = 23.0; t <= 40.0; t += 0.25)
		add(ledger, t, 50.0);
	assert_int_equal(pf_ledger_energy(ledger, 0, 5.0, 20.125, &e, NULL), 0);
	assert_true(e.low <= 10.0 * 15.125 && e.high >= 10.0 * 14.0 + 50.0 * 1.125);
	pf_ledger_close(ledger);
}

static void samples_that_cannot_be_are_refused(void **state)
{
	struct pf_ledger *power_ledger = open_one(0, 1.0, 0.25, 0.0, 0.0), *counter = open_one(1, 0.1, 0.1, 0.0, 10.0);
	(void)state;
	add(power_ledger, 1.0, 5.0);
	assert_int_equal(pf_ledger_add(power_ledger, 0, 1.0, 5.0, NULL), PF_E_DATA);
	assert_int_equal(pf_ledger_add(power_ledger, 0, 0.5, 5.0, NULL), PF_E_DATA);
	assert_int_equal(pf_ledger_add(power_ledger, 0, 2.0, -1.0, NULL), PF_E_DATA);
	assert_int_equal(pf_ledger_add(power_ledger, 0, 2.0, NAN, NULL), PF_E_DATA);
	assert_int_equal(pf_ledger_add(power_ledger, 0, INFINITY, 1.0, NULL), PF_E_DATA);
	assert_int_equal(pf_ledger_add(power_ledger, 1, 2.0, 1.0, NULL), PF_E_RANGE);
	add(counter, 1.0, 9.0);
	add(counter, 2.0, 1.0);                        /* a wrap */
	pf_ledger_close(power_ledger);
	pf_ledger_close(counter);
}

static void forgetting_keeps_what_is_asked_for_later(void **state)
{
	struct pf_ledger *ledger = open_one(0, 1.0, 0.25, 0.0, 0.0);
	struct pf_energy before, after;
	(void)state;
	for (double t = 0.0; t <= 60.0; t += 0.25)
		add(ledger, t, power(t));
	assert_int_equal(pf_ledger_energy(ledger, 0, 30.1, 45.0, &before, NULL), 0);
	pf_ledger_forget(ledger, 28.0);
	assert_int_equal(pf_ledger_energy(ledger, 0, 30.1, 45.0, &after, NULL), 0);
	assert_true(before.joule == after.joule && before.low == after.low && before.high == after.high);
	assert_int_equal(pf_ledger_energy(ledger, 0, 10.0, 45.0, &after, NULL), PF_E_DATA);
	pf_ledger_close(ledger);
}

/* The thread reads a file that somebody writes; it stops when asked */
static void the_thread_samples(void **state)
{
	char path[] = "/tmp/prefpga-ledger-XXXXXX";
	const int fd = mkstemp(path);
	struct pf_sensor sensor = { .kind = PF_SENSOR_HWMON, .name = "file", .refresh_s = 0.04, .unit = 1e-6 };
	struct pf_ledger *ledger;
	struct pf_energy e;
	struct pf_error error;
	(void)state;
	assert_true(fd >= 0 && write(fd, "2500000\n", 8) == 8);
	snprintf(sensor.path, sizeof sensor.path, "%s", path);
	const struct pf_ledger_options options = { &sensor, 1, 0.0 };
	assert_int_equal(pf_ledger_open(&options, &ledger, NULL), 0);
	const double began = pf_ledger_now();
	assert_int_equal(pf_ledger_start(ledger, NULL), 0);
	const double from = began + 0.2, to = from + pf_ledger_shortest(ledger, 0);
	int code;
	do {
		usleep(20000);
		code = pf_ledger_energy(ledger, 0, from, to, &e, &error);
	} while (code && pf_ledger_now() < began + 60.0);
	if (code)
		fail_msg("%s", error.text);
	assert_true(fabs(e.joule - 2.5 * (to - from)) <= 1e-9);
	assert_int_equal(unlink(path), 0);
	do {
		usleep(20000);
		code = pf_ledger_energy(ledger, 0, from, to, &e, &error);
	} while (!code && pf_ledger_now() < began + 60.0);
	assert_int_equal(code, PF_E_DATA);
	assert_non_null(strstr(error.text, "cannot be read any more"));
	pf_ledger_close(ledger);
	close(fd);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_cached_power_bounds_the_truth), cmocka_unit_test(a_constant_power_is_exact),
		cmocka_unit_test(a_jump_widens_the_interval), cmocka_unit_test(a_counter_bounds_the_truth_and_wraps),
		cmocka_unit_test(spans_that_cannot_be_seen_are_refused),
		cmocka_unit_test(a_hole_behind_the_span_counts),
		cmocka_unit_test(samples_that_cannot_be_are_refused),
		cmocka_unit_test(forgetting_keeps_what_is_asked_for_later), cmocka_unit_test(the_thread_samples),
	};
	if (seed_take(&argc, argv) != 0)
		return 2;
	state_of_draws = seed_of(7);
	return cmocka_run_group_tests_name("ledger", tests, NULL, NULL);
}
