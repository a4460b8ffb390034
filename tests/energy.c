/* Energy of a training: through the program, with sensors made up here, and from the readings of a meter. */
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include "host/cli/energy_meter.h"
#include "host/report/meter.h"
#include "tests/cmocka.h"
#include "tests/scratch.h"

static const char *program;

static int begin(void **state)
{
	(void)state;
	scratch_open("energy");
	return 0;
}

/* A V80 that shows 2.5 W and refreshes every 50 ms; ten of them are far less than the training takes */
static void make_card(void)
{
	scratch_tree("root/sys/bus/pci/devices/0000:a1:00.0/vendor", "0x10ee\n");
	scratch_tree("root/sys/bus/pci/devices/0000:a1:00.0/hwmon/hwmon5/update_interval", "50\n");
	scratch_tree("root/sys/bus/pci/devices/0000:a1:00.0/hwmon/hwmon5/power1_input", "2500000\n");
}

static int run(const char *words)
{
	char command[4096];
	snprintf(command, sizeof command, "'%s' %s --sysfs-root '%s' >'%s' 2>'%s'", program, words,
	         scratch_path("root"), scratch_path("out"), scratch_path("err"));
	const int status = system(command);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static int file_has(const char *name, const char *text)
{
	char line[65536];
	int found = 0;
	FILE *file = fopen(scratch_path(name), "r");
	while (file && fgets(line, sizeof line, file))
		found |= strstr(line, text) != NULL;
	if (file)
		fclose(file);
	return found;
}

static void make_texts(void)
{
	char text[65536];
	size_t length = 0;
	for (int i = 0; i < 64; i++)
		length += (size_t)snprintf(text + length, sizeof text - length,
		                           "{\"prompt\": \"number %d is\", \"completion\": \" the one after %d\"}\n", i,
		                           i - 1);
	scratch_text("data.jsonl", text);
}

static int train(const char *more)
{
	char words[2048];
	snprintf(words, sizeof words,
	         "sft --data '%s' --dim 64 --layers 2 --ffn 128 --steps 800 --batch 8 --device sim --cache '%s' "
	         "--out '%s' --format json %s",
	         scratch_path("data.jsonl"), scratch_path("cache"), scratch_path("run"), more);
	return run(words);
}

/* The constant power makes every figure known: windows follow each other, none is missing, the total is theirs and
 * more */
static void windows_of_a_training(void **state)
{
	json_error_t why;
	double last = 0.0, joule = 0.0;
	char line[65536];
	(void)state;
	make_card();
	make_texts();
	assert_int_equal(train("--energy"), 0);
	FILE *log = fopen(scratch_path("run/metrics.jsonl"), "r");
	assert_non_null(log);
	while (fgets(line, sizeof line, log)) {
		json_t *step = json_loads(line, 0, &why), *w;
		size_t i;
		assert_non_null(step);
		json_array_foreach(json_object_get(step, "energy"), i, w) {
			const double seconds = json_number_value(json_object_get(w, "seconds"));
			assert_string_equal(json_string_value(json_object_get(w, "scope")), "board");
			assert_string_equal(json_string_value(json_object_get(w, "kind")), "measured");
			assert_true(json_number_value(json_object_get(w, "first_step")) == last + 1.0);
			last = json_number_value(json_object_get(w, "last_step"));
			assert_true(last >= 1.0 && last <= json_number_value(json_object_get(step, "step")));
			assert_true(seconds >= 0.5 * (1.0 - 1e-6));
			assert_true(fabs(json_number_value(json_object_get(w, "joule")) - 2.5 * seconds) <=
			            1e-6 * seconds);
			assert_true(fabs(json_number_value(json_object_get(w, "idle_joule")) - 2.5 * seconds) <=
			            1e-6 * seconds);
			assert_true(json_number_value(json_object_get(w, "joule_low")) <= 2.5 * seconds);
			assert_true(json_number_value(json_object_get(w, "joule_high")) >= 2.5 * seconds);
			joule += json_number_value(json_object_get(w, "joule"));
		}
		json_decref(step);
	}
	fclose(log);
	json_t *result = json_load_file(scratch_path("out"), 0, &why);
	const json_t *total = json_array_get(json_object_get(result, "energy"), 0);
	assert_non_null(total);
	assert_true(json_number_value(json_object_get(total, "last_step")) == 800.0);
	const double all = json_number_value(json_object_get(total, "joule"));
	assert_true(fabs(all - 2.5 * json_number_value(json_object_get(total, "seconds"))) <= 1e-6 * all);
	assert_true(all >= joule * (1.0 - 1e-9));
	json_decref(result);
}

static void no_sensor_is_an_error_and_nothing_is_trained(void **state)
{
	(void)state;
	scratch_tree("root/empty", "");
	make_texts();
	assert_int_equal(train("--energy"), 1);
	assert_true(file_has("err", "no sensor of power"));
	assert_int_equal(scratch_count("run"), -1);
	assert_int_equal(run("energy"), 1);
	assert_true(file_has("err", "no sensor of power"));
}

static void sensors_are_listed(void **state)
{
	(void)state;
	make_card();
	assert_int_equal(run("energy"), 0);
	assert_true(file_has("out", "hwmon 0000:a1:00.0") && file_has("out", "2.5 W") &&
	            file_has("out", "every 0.05 s"));
	assert_int_equal(run("energy --format json"), 0);
	assert_true(file_has("out", "\"watt\": 2.5"));
}

/* ---- a meter at the wall ---- */

struct seen { double joule, low, high, seconds, total, idle; unsigned windows; uint64_t last; };

static void on_window(void *context, const struct pf_energy_window *w)
{
	struct seen *s = context;
	if (!(w->first == s->last + 1))
		s->windows += 1000;
	s->last = w->last;
	s->windows++;
	s->joule += w->joule;
	s->low += w->low;
	s->high += w->high;
	s->seconds += w->seconds;
}

static void on_total(void *context, const struct pf_energy_window *w)
{
	((struct seen *)context)->total = w->joule;
	((struct seen *)context)->idle = w->idle;
}

/* 200 steps of 2.5 s from UNIX time 1700000000 on; the meter shows 100 + 50 sin(t / 30) W once a second */
static double watts(double t)
{
	return 100.0 + 50.0 * sin(t / 30.0);
}

static double joules(double to)
{
	return 100.0 * to + 1500.0 * (1.0 - cos(to / 30.0));
}

static void make_log(void)
{
	char *text = malloc(1 << 16);
	size_t length = 0;
	for (int i = 1; i <= 200; i++)
		length += (size_t)snprintf(text + length, (1 << 16) - length,
		                           "{\"step\":%d,\"loss\":0.5,\"seconds\":2.5,\"unix_ms\":%lld}\n", i,
		                           1700000000000ll + 2500ll * i);
	scratch_text("metrics.jsonl", text);
	free(text);
}

static void make_meter(double shift, const char *first)
{
	char *text = malloc(1 << 16);
	size_t length = (size_t)snprintf(text, 1 << 16, "%s", first);
	for (int t = -20; t <= 540; t++)
		length += (size_t)snprintf(text + length, (1 << 16) - length, "%.1f,%.2f%s\n", shift + t, watts(t),
		                           t == 0 ? ",start" : t == 500 ? ",\"end\"" : "");
	scratch_text("wall.csv", text);
	free(text);
}

static void a_meter_of_any_clock(void **state)
{
	(void)state;
	make_log();
	for (int own = 0; own < 2; own++) {
		struct seen seen = { 0 };
		struct pf_error error;
		make_meter(own ? 77.0 : 1700000000.0, own ? "seconds,watts,marker\n# a comment\n\n" : "");
		if (pf_energy_meter(scratch_path("wall.csv"), scratch_path("metrics.jsonl"), on_window, on_total, &seen,
		                    &error) != 0)
			fail_msg("%s", error.text);
		assert_int_equal(seen.windows, 50);            /* of four steps: ten seconds */
		assert_true(fabs(seen.seconds - 500.0) <= 1e-6 && fabs(seen.total - seen.joule) <= 1e-6);
		assert_true(fabs(seen.joule - joules(500.0)) <= 1e-3 * seen.joule);
		assert_true(seen.low <= joules(500.0) && joules(500.0) <= seen.high);
		assert_true(isnan(seen.idle));                 /* nothing says what it is */
	}
}

/* 40 W for 60 s marked idle, 100 s before 500 s of training at 140 W; too short a stretch is refused */
static void a_meter_knows_the_idle_share(void **state)
{
	(void)state;
	make_log();
	for (int length = 60; length >= 2; length -= 58) {
		struct seen seen = { 0 };
		struct pf_error error = { 0 };
		char *text = malloc(1 << 16);
		size_t used = 0;
		for (int t = -100; t <= 520; t++)
			used += (size_t)snprintf(text + used, (1 << 16) - used, "%d,%d%s\n", 1700000000 + t,
			                         t < 0 ? 40 : 140, t == -80 || t == -80 + length ? ",idle" : "");
		scratch_text("wall.csv", text);
		free(text);
		const int code = pf_energy_meter(scratch_path("wall.csv"), scratch_path("metrics.jsonl"), on_window,
		                                 on_total, &seen, &error);
		assert_int_equal(code, length == 60 ? 0 : PF_E_RANGE);
		if (code == 0)
			assert_true(fabs(seen.idle - 40.0 * seen.seconds) <= 1e-6 * seen.idle);
		else
			assert_non_null(strstr(error.text, "marked `idle` are 2 s apart"));
	}
}

static void wrong_meters_say_why(void **state)
{
	static const struct { const char *text, *why; } bad[] = {
		{ "", "0 readings" }, { "t,w\n1,2\n", "1 readings" }, { "1,2\n1,3\n", ":2: " }, { "1,2\n2\n", ":2: " },
		{ "1,2\n2,x\n", ":2: " }, { "1,2\n2,-1\n", ":2: " }, { "1,2\n2,nan\n", ":2: " },
		{ "1,2\nx,1\n", ":2: " },
		{ "1,2\n2,1e999\n", ":2: " }, { "1,2\n2,3;4\n", ":2: " }, { "1,2\n2,3\n", "do not cover" },
		{ "time,milliwatts\n1,2\n2,3\n", ":1: the second column" },
		{ "time (s),power (mW)\r\n1,2\n2,3\n", ":1: the second column" },
		{ "time,kWh\n1,2\n2,3\n", ":1: the second column" }, { "t,V,A,W\n1,2,3,4\n", ":1: the second column" },
		{ "unix_ms,watts\n1,2\n2,3\n", ":1: the first column" },
		{ "seconds,power of meter A (W),note\n1,2\n2,3\n", "do not cover" },
		{ "1,2,start\n2,3,start\n", ":2: the marker" }, { "1,2,end\n2,3\n3,4,end\n", ":3: the marker" },
	};
	struct seen seen;
	struct pf_error error;
	char wide[8192];
	(void)state;
	make_log();
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		scratch_text("wall.csv", bad[i].text);
		assert_true(pf_energy_meter(scratch_path("wall.csv"), scratch_path("metrics.jsonl"), on_window,
		                            on_total, &seen, &error) != 0);
		if (!strstr(error.text, bad[i].why) || !strstr(error.text, "wall.csv"))
			fail_msg("%zu: %s", i, error.text);
	}
	memset(wide, '1', sizeof wide - 1);
	wide[sizeof wide - 1] = '\0';
	scratch_text("wall.csv", wide);
	assert_int_equal(pf_energy_meter(scratch_path("wall.csv"), scratch_path("metrics.jsonl"), on_window, on_total,
	                                 &seen, &error),
	                 PF_E_FORMAT);
	assert_non_null(strstr(error.text, "4095"));
	make_meter(77.0, "");
	scratch_tree("metrics.jsonl",
	     "{\"step\":1,\"seconds\":2.5,\"unix_ms\":1700000002500}\n{\"step\":2,\"seconds\":2.5,\"unix_ms\":1700"
	     "000005000}\n");
	assert_int_equal(pf_energy_meter(scratch_path("wall.csv"), scratch_path("metrics.jsonl"), on_window, on_total,
	                                 &seen, &error),
	                 PF_E_MISMATCH); /* its markers are 500 s apart, this training took 5 s */
	scratch_tree("metrics.jsonl", "{\"step\":1}\n");
	assert_int_equal(pf_energy_meter(scratch_path("wall.csv"), scratch_path("metrics.jsonl"), on_window, on_total,
	                                 &seen, &error),
	                 PF_E_FORMAT);
	assert_non_null(strstr(error.text, "metrics.jsonl:1"));
	scratch_tree("metrics.jsonl",
	     "{\"step\":1,\"seconds\":2.5,\"unix_ms\":5000}\n{\"step\":3,\"seconds\":1,\"unix_ms\":6000}\n");
	assert_int_equal(pf_energy_meter(scratch_path("wall.csv"), scratch_path("metrics.jsonl"), on_window, on_total,
	                                 &seen, &error),
	                 PF_E_DATA);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(windows_of_a_training, begin),
		cmocka_unit_test_setup(no_sensor_is_an_error_and_nothing_is_trained, begin),
		cmocka_unit_test_setup(sensors_are_listed, begin), cmocka_unit_test_setup(a_meter_of_any_clock, begin),
		cmocka_unit_test_setup(a_meter_knows_the_idle_share, begin),
		cmocka_unit_test_setup(wrong_meters_say_why, begin),
	};
	program = argc > 1 ? argv[1] : "prefpga";
	return cmocka_run_group_tests_name("energy", tests, NULL, NULL);
}
