/* The timeline: what a device reports, what the file says, and the same work on the model of a card. */
#include <jansson.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "host/report/replay.h"
#include "host/report/trace.h"
#include "prefpga/internal/abi.h"
#include "prefpga/internal/kernels.h"
#include "tests/cmocka.h"
#include "tests/scratch.h"

static int begin(void **state)
{
	(void)state;
	scratch_open("trace");
	return 0;
}

/* ---- what a device reports ---- */

struct heard { pthread_mutex_t lock; struct pf_operation at[16]; unsigned count; };

static void hear(void *context, const struct pf_operation *o)
{
	struct heard *h = context;
	pthread_mutex_lock(&h->lock);
	if (h->count < 16)
		h->at[h->count++] = *o;
	pthread_mutex_unlock(&h->lock);
}

static const struct pf_operation *find(const struct heard *h, enum pf_operation_kind kind, uint64_t serial)
{
	for (unsigned i = 0; i < h->count; i++)
		if (h->at[i].kind == kind && (!serial || h->at[i].serial == serial))
			return &h->at[i];
	fail_msg("no operation of kind %d, serial %llu", (int)kind, (unsigned long long)serial);
	return NULL;
}

static void operations_of_a_device(void **state)
{
	static float z[2][32];
	static const int32_t target[2] = { 3, 4 };
	static struct pf_row row[2];
	struct heard heard = { .lock = PTHREAD_MUTEX_INITIALIZER };
	const struct pf_device_options options = { .operation = hear, .operation_context = &heard };
	struct pf_ticket in[2] = { { 0 } }, run = { 0 }, out = { 0 };
	struct pf_device *device;
	struct pf_buf *buf[3];
	(void)state;
	assert_int_equal(pf_device_open("sim", &options, &device, NULL), 0);
	assert_int_equal(pf_buf_alloc(device, PF_KERNEL_logprob, PF_ARG_logprob_z, sizeof z, &buf[0], NULL), 0);
	assert_int_equal(pf_buf_alloc(device, PF_KERNEL_logprob, PF_ARG_logprob_target, sizeof target, &buf[1], NULL),
	                 0);
	assert_int_equal(pf_buf_alloc(device, PF_KERNEL_logprob, PF_ARG_logprob_out, sizeof row, &buf[2], NULL), 0);
	const struct pf_arg arg[] = { { .buf = buf[0] }, { .buf = buf[1] }, { .buf = buf[2] }, { .val.u32 = 2 },
		{ .val.u32 = 30 }, { .val.u32 = 2 }, { .val.u32 = 0 } };
	assert_int_equal(pf_copy_in(buf[0], 0, z, sizeof z, NULL, &in[0]), 0);
	assert_int_equal(pf_copy_in(buf[1], 0, target, sizeof target, NULL, &in[1]), 0);
	assert_int_equal(pf_wait(&in[1], NULL), 0); /* done before the run is submitted: still what it came after */
	assert_int_equal(pf_run(device, PF_KERNEL_logprob, arg, 7, &in[1], &run), 0);
	assert_int_equal(pf_copy_out(buf[2], 0, row, sizeof row, &run, &out), 0);
	assert_int_equal(pf_wait(&out, NULL), 0);
	assert_int_equal(pf_device_close(device), 0);
	assert_int_equal(heard.count, 6);
	const struct pf_operation *r = find(&heard, PF_OP_RUN, 0), *o = find(&heard, PF_OP_OUT, 0);
	assert_true(r->kernel == PF_KERNEL_logprob && r->serial == 3 && r->after == 2 && r->status == 0);
	assert_true(r->values == 4 && r->value[0] == 2 && r->value[1] == 30 && r->value[2] == 2 && r->value[3] == 0);
	assert_true(o->serial == 4 && o->after == 3 && o->bytes == sizeof row && o->kernel == -1);
	assert_true(find(&heard, PF_OP_IN, 1)->bytes == sizeof z && find(&heard, PF_OP_IN, 1)->bank == 0);
	assert_true(find(&heard, PF_OP_IN, 2)->bank == 2);
	assert_true(find(&heard, PF_OP_WAIT, 4)->done_ns >= find(&heard, PF_OP_WAIT, 2)->done_ns);
	for (unsigned i = 0; i < heard.count; i++)
		assert_true(heard.at[i].queued_ns <= heard.at[i].started_ns &&
		            heard.at[i].started_ns <= heard.at[i].done_ns);
	assert_true(r->started_ns >= find(&heard, PF_OP_IN, 2)->done_ns);
}

/* ---- work of known times: the host computes 5 ms, sends, runs, fetches, waits, computes 2 ms, sends again ---- */

#define MS 1000000u

static const char card_name[] = "a card";
static char *gone_name[8];             /* of devices that are closed */
static unsigned gone_names;

static struct pf_operation made(enum pf_operation_kind kind, uint64_t serial, uint64_t after, uint64_t queued_ms,
                                uint64_t started_ms, uint64_t done_ms)
{
	return (struct pf_operation){ .device = card_name,
		                      .kind = kind,
		                      .serial = serial,
		                      .after = after,
		                      .kernel = kind == PF_OP_RUN ? PF_KERNEL_logprob : -1,
		                      .queued_ns = MS * queued_ms,
		                      .started_ns = MS * started_ms,
		                      .done_ns = MS * done_ms };
}

static void fill(struct pf_trace *trace)
{
	struct pf_operation o[7] = { made(PF_OP_IN, 1, 0, 100, 100, 110),  made(PF_OP_RUN, 2, 1, 105, 110, 130),
		                     made(PF_OP_OUT, 3, 2, 105, 130, 131), made(PF_OP_WAIT, 3, 0, 106, 106, 132),
		                     made(PF_OP_IN, 4, 0, 134, 134, 140),  made(PF_OP_WAIT, 4, 0, 134, 134, 141),
		                     made(PF_OP_OUT, 5, 0, 141, 141, 142) };
	const uint32_t value[] = { 1000, 32000, 2000, 0 };
	o[0].bytes = 128000000;
	memcpy(o[1].value, value, sizeof value);
	o[1].values = 4;
	o[2].bytes = 64000;
	o[4].bytes = 11009000;
	for (int i = 0; i < 7; i++)
		pf_trace_operation(trace, &o[i]);
}

/* On the U250 by hand: setup 13.6 us, 11.009 GB/s in, out no faster than its one bank's 11.98 GB/s, as the run's port;
 * launch 119 us, 300 MHz */
static void the_same_work_on_a_card(void **state)
{
	const double in = 13.6e-6 + 128e6 / 11.009e9, port = 1000.0 * 2000 * 64 / 11.98e9;
	const double cycles = (1000.0 * 2000 + 1000.0 * 120 + 16.0 * 1000 + 16.0 * 400) / 300e6;
	const double out = 13.6e-6 + 64e3 / 11.98e9, again = 13.6e-6 + 11.009e6 / 11.009e9, last = 13.6e-6;
	struct pf_trace *trace;
	struct pf_replay r;
	struct pf_error error;
	(void)state;
	assert_int_equal(pf_trace_open(scratch_path("t.json"), 1, &trace, NULL), 0);
	fill(trace);
	if (pf_replay_run(trace, "u250", 1, NULL, &r, &error) != 0)
		fail_msg("%s", error.text);
	/* the run waits for the copy in, both were submitted within 5 ms; then 2 ms of the host between two waits */
	const double first = in + 119e-6 + fmax(cycles, port) + out, all = first + 2e-3 + again + 0.0 + last;
	if (!(fabs(r.modelled.seconds - all) <= 1e-9))
		fail_msg("%.9f s, by hand %.9f s", r.modelled.seconds, all);
	assert_true(fabs(r.host_s - 8e-3) <= 1e-12);           /* 5 between submissions, 1 to the wait, 2 after it */
	assert_true(fabs(r.measured_s - 42e-3) <= 1e-12 && r.devices == 1);
	assert_true(r.modelled.bytes_in == 139009000.0 && r.modelled.bytes_out == 64000.0);
	/* 41.4 W at rest (energy.def); a byte over the link 411 pJ and in DDR4 198 pJ, the run's 128 MB there too */
	const double link = 139073000.0 * (411e-12 + 198e-12), rest = 41.4 * r.modelled.seconds;
	assert_true(fabs(r.energy.link.value - link) <= 1e-9 && fabs(r.energy.rest.value - rest) <= 1e-9);
	assert_true(r.energy.banks.value >= 128e6 * 198e-12 && r.energy.banks.value <= 128.1e6 * 198e-12);
	assert_true(r.energy.total.low < r.energy.total.value && r.energy.total.value < r.energy.total.high);
	assert_int_equal(pf_trace_close(trace, NULL), 0);
}

/* Two copies by a device whose name is in memory that is written over afterwards */
static void copies(struct pf_trace *trace, const char *name, uint64_t at_ms)
{
	char *own = strdup(name);
	struct pf_operation o[3] = { made(PF_OP_IN, 1, 0, at_ms, at_ms, at_ms + 10),
		                     made(PF_OP_OUT, 2, 1, at_ms + 1, at_ms + 10, at_ms + 20),
		                     made(PF_OP_WAIT, 2, 0, at_ms + 2, at_ms + 2, at_ms + 20) };
	assert_non_null(own);
	for (int i = 0; i < 3; i++) {
		o[i].device = own;
		pf_trace_operation(trace, &o[i]);
	}
	memset(own, 'x', strlen(own));                 /* and kept: the next one lies elsewhere */
	assert_true(gone_names < 8);
	gone_name[gone_names++] = own;
}

static unsigned devices_of(const char *const name[3], const uint64_t at_ms[3])
{
	struct pf_trace *trace;
	struct pf_replay r;
	struct pf_error error;
	assert_int_equal(pf_trace_open(scratch_path("t.json"), 1, &trace, NULL), 0);
	for (int i = 0; i < 3; i++)
		copies(trace, name[i], at_ms[i]);
	if (pf_replay_run(trace, "u250", 1, NULL, &r, &error) != 0)
		fail_msg("%s", error.text);
	assert_int_equal(pf_trace_close(trace, NULL), 0);
	while (gone_names)
		free(gone_name[--gone_names]);
	return r.devices;
}

/* One card that is opened again is one card; those that are open at a time, and those of other names, are several */
static void a_card_opened_again_is_one(void **state)
{
	static const char *const same[] = { "a card", "a card", "a card" }, *const two[] = { "a card", "b", "a card" };
	static const uint64_t after[] = { 100, 130, 160 }, beside[] = { 100, 105, 130 }, all[] = { 100, 105, 110 };
	(void)state;
	assert_int_equal(devices_of(same, after), 1);
	assert_int_equal(devices_of(same, beside), 2);
	assert_int_equal(devices_of(same, all), 3);
	assert_int_equal(devices_of(two, after), 2);
}

/* ---- the file ---- */

static const json_t *event(const json_t *events, const char *ph, const char *name)
{
	for (size_t i = 0; i < json_array_size(events); i++) {
		const json_t *e = json_array_get(events, i), *args = json_object_get(e, "args");
		const char *said = *ph == 'M' ? json_string_value(json_object_get(args, "name"))
		                              : json_string_value(json_object_get(e, "name"));
		if (strcmp(json_string_value(json_object_get(e, "ph")), ph) == 0 && said && strcmp(said, name) == 0)
			return e;
	}
	fail_msg("no event %s %s", ph, name);
	return NULL;
}

static double number(const json_t *e, const char *key)
{
	return json_number_value(json_object_get(e, key));
}

static void the_file_keeps_clocks_apart(void **state)
{
	struct pf_trace *trace;
	struct pf_replay r;
	json_error_t why;
	(void)state;
	assert_int_equal(pf_trace_open(scratch_path("t.json"), 1, &trace, NULL), 0);
	fill(trace);
	pf_trace_phase(trace, "a \"phase\"\n", 1.0, 1.25);
	pf_trace_power(trace, "meter", 1.5, 12.5);
	assert_int_equal(pf_replay_run(trace, "u250", 1, NULL, &r, NULL), 0);
	assert_int_equal(pf_trace_close(trace, NULL), 0);
	json_t *file = json_load_file(scratch_path("t.json"), 0, &why);
	if (!file)
		fail_msg("line %d: %s", why.line, why.text);
	const json_t *events = json_object_get(file, "traceEvents");
	const json_t *phase = event(events, "X", "a  phase  "), *run = event(events, "X", "logprob");
	assert_true(fabs(number(phase, "dur") - 250000.0) <= 1e-3 && fabs(number(run, "dur") - 20000.0) <= 1e-3);
	assert_true(number(json_object_get(event(events, "C", "meter"), "args"), "W") == 12.5);
	assert_true(number(event(events, "M", "a card, measured"), "pid") == number(run, "pid"));
	assert_true(number(event(events, "M", "u250 1, modelled"), "pid") != number(run, "pid"));
	assert_true(number(event(events, "M", "host, measured"), "pid") == number(phase, "pid"));
	json_decref(file);
}

/* Bytes of a counter from event i to the next one of it; a class ends at 0 */
static double moved_until_next(const json_t *events, size_t i)
{
	const json_t *e = json_array_get(events, i);
	const double rate = 1e9 * number(json_object_get(e, "args"), "GB/s");
	for (size_t k = i + 1; k < json_array_size(events); k++) {
		const json_t *next = json_array_get(events, k);
		if (strcmp(json_string_value(json_object_get(next, "name")),
		           json_string_value(json_object_get(e, "name"))) == 0 && json_object_get(next, "ts"))
			return rate * 1e-6 * (number(next, "ts") - number(e, "ts"));
	}
	assert_true(rate == 0);
	return 0;
}

/* One after the other, at parts of a nanosecond: none begins before the end of the one before, as a viewer reads it */
static void neighbours_do_not_overlap(void **state)
{
	struct pf_trace *trace;
	double end = -1;
	(void)state;
	assert_int_equal(pf_trace_open(scratch_path("t.json"), 1, &trace, NULL), 0);
	for (int i = 0; i < 1000; i++)
		pf_trace_event(trace, "g", "t", "e", i * 411.6e-9, (i + 1) * 411.6e-9);
	assert_int_equal(pf_trace_close(trace, NULL), 0);
	json_t *file = json_load_file(scratch_path("t.json"), 0, NULL);
	assert_non_null(file);
	const json_t *events = json_object_get(file, "traceEvents");
	for (size_t i = 0; i < json_array_size(events); i++) {
		const json_t *e = json_array_get(events, i);
		if (strcmp(json_string_value(json_object_get(e, "ph")), "X") != 0)
			continue;
		assert_true(round(1e3 * number(e, "ts")) >= end && number(e, "dur") >= 0);
		end = round(1e3 * number(e, "ts")) + round(1e3 * number(e, "dur"));
	}
	assert_true(fabs(end - 411600) <= 1);
	json_decref(file);
}

/* What the counter of modelled power adds up to is the energy of the whole, and both are in the file */
static void joules_are_in_the_file(void **state)
{
	struct pf_trace *trace;
	struct pf_replay r;
	double joule = 0, from = 0, watt = 0, moved = 0;
	unsigned counters = 0;
	(void)state;
	assert_int_equal(pf_trace_open(scratch_path("t.json"), 1, &trace, NULL), 0);
	fill(trace);
	assert_int_equal(pf_replay_run(trace, "u250", 1, NULL, &r, NULL), 0);
	assert_int_equal(pf_trace_close(trace, NULL), 0);
	json_t *file = json_load_file(scratch_path("t.json"), 0, NULL);
	assert_non_null(file);
	const json_t *total = json_object_get(json_object_get(file, "otherData"), "modelled_joule");
	const json_t *events = json_object_get(file, "traceEvents");
	for (unsigned i = 0; i < 3; i++) {
		const double want[] = { r.energy.total.value, r.energy.total.low, r.energy.total.high };
		assert_true(fabs(json_number_value(json_array_get(total, i)) / want[i] - 1) <= 1e-6);
	}
	for (size_t i = 0; i < json_array_size(events); i++) {
		const json_t *e = json_array_get(events, i);
		if (strcmp(json_string_value(json_object_get(e, "ph")), "C") != 0)
			continue;
		if (json_object_get(json_object_get(e, "args"), "GB/s")) {
			moved += moved_until_next(events, i);
			continue;
		}
		joule += watt * (1e-6 * number(e, "ts") - from);
		from = 1e-6 * number(e, "ts");
		watt = number(json_object_get(e, "args"), "W");
		counters++;
	}
	joule += watt * (r.modelled.seconds - from);
	assert_true(counters >= 8 && fabs(watt - 41.4) <= 1e-3);
	if (!(fabs(joule / r.energy.total.value - 1) <= 1e-3))
		fail_msg("%.9g J by the counter, %.9g J", joule, r.energy.total.value);
	if (!(fabs(moved / r.modelled.bytes_banks - 1) <= 1e-3))
		fail_msg("%.9g bytes by the counters of banks, %.9g", moved, r.modelled.bytes_banks);
	json_decref(file);
}

static void wrong_places_are_errors(void **state)
{
	struct pf_trace *trace = NULL;
	struct pf_replay r;
	struct pf_error error;
	(void)state;
	assert_true(pf_trace_open(scratch_path("none/t.json"), 0, &trace, &error) < 0);
	assert_non_null(strstr(error.text, "none/t.json"));
	assert_null(trace);
	pf_trace_phase(NULL, "x", 0.0, 1.0);
	pf_trace_operation(NULL, NULL);
	assert_int_equal(pf_trace_close(NULL, NULL), 0);
	if (pf_trace_open("/dev/full", 0, &trace, NULL) == 0) {
		fill(trace);
		assert_true(pf_trace_close(trace, &error) < 0);
		assert_non_null(strstr(error.text, "/dev/full"));
	}
	assert_int_equal(pf_trace_open(scratch_path("t.json"), 1, &trace, NULL), 0);
	assert_int_equal(pf_replay_run(trace, "u250", 1, NULL, &r, NULL), 0);        /* nothing happened */
	assert_true(r.modelled.seconds == 0.0 && r.measured_s == 0.0);
	fill(trace);
	assert_int_equal(pf_replay_run(trace, "u999", 1, NULL, &r, &error), PF_E_UNKNOWN);
	assert_int_equal(pf_trace_close(trace, NULL), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(operations_of_a_device, begin),
		cmocka_unit_test_setup(the_same_work_on_a_card, begin),
		cmocka_unit_test_setup(a_card_opened_again_is_one, begin),
		cmocka_unit_test_setup(the_file_keeps_clocks_apart, begin),
		cmocka_unit_test_setup(joules_are_in_the_file, begin),
		cmocka_unit_test_setup(neighbours_do_not_overlap, begin),
		cmocka_unit_test_setup(wrong_places_are_errors, begin),
	};
	return cmocka_run_group_tests_name("trace", tests, NULL, NULL);
}
