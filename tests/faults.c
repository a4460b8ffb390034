/* Every fault of internal/faults.def in the middle of a training: what is reported, after how long, what is done about
 * it, and whether the training ends with the bits of an undisturbed one.
 *
 * `faults FILE` compares with the committed table, `faults FILE --write` makes it. Time is virtual: it stands still
 * except while a run is held, and waiting only moves it. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <utime.h>
#include "tests/cmocka.h"
#include "tests/faults_world.h"
#include "tests/scratch.h"
#include "prefpga/internal/backend.h"
#include "prefpga/internal/kernels.h"
#include "prefpga/power.h"
#include "prefpga/internal/faults.def"

static const char *table_path;
static int writing;

static int open_world(void **state)
{
	(void)state;
	faults_open("faults", ", please");
	return 0;
}

static int close_world(void **state)
{
	(void)state;
	faults_close();
	return 0;
}

/* ---- rows ---- */
enum { DEVICES = FAULTS_DEVICES };
/* spec: faults and device, then other cards */
struct row { const char *fault, *spec[DEVICES]; enum pf_on_fault on_fault; };
static const struct row rows[] = {
	{ "none", { "sim:*1" }, PF_FAULT_STOP },
	{ "none", { "sim:*1", "sim:u250", "sim:*1" }, PF_FAULT_STOP },
	{ "firewall", { "fault:firewall@5/sim:*1" }, PF_FAULT_STOP },
	{ "firewall", { "fault:firewall@6/sim:*1" }, PF_FAULT_RETRY },
	{ "firewall", { "fault:firewall@7/sim:*1" }, PF_FAULT_RESET },
	{ "firewall", { "fault:firewall@8/sim:*1", "sim:u250" }, PF_FAULT_RETRY },
	{ "ecc", { "fault:ecc@9/sim:*1" }, PF_FAULT_RESET },
	{ "hang", { "fault:hang@5/sim:*1" }, PF_FAULT_RETRY },
	{ "hang", { "fault:hang@7/sim:*1" }, PF_FAULT_RESET },
	{ "hang", { "fault:hang@8/sim:*1" }, PF_FAULT_CPU },
	{ "interrupt", { "fault:interrupt@7/sim:*1" }, PF_FAULT_RETRY },
	{ "stuck", { "fault:stuck@7/sim:*1" }, PF_FAULT_RETRY },
	{ "stuck", { "fault:stuck@8/sim:*1" }, PF_FAULT_RESET },
	{ "stuck", { "fault:stuck@9/sim:*1", "sim:u250" }, PF_FAULT_RETRY },
	{ "stuck", { "sim:*1", "sim:u250", "fault:stuck@9/sim:*1" }, PF_FAULT_RETRY },
	{ "stuck", { "fault:stuck@30/sim:*1" }, PF_FAULT_CPU },
	{ "dma", { "fault:dma@11/sim:*1" }, PF_FAULT_STOP },
	{ "short", { "fault:short@12/sim:*1" }, PF_FAULT_STOP },
	{ "image", { "fault:image@1/sim:*1" }, PF_FAULT_RETRY },
	{ "image", { "fault:firewall@7+image@2/sim:*1" }, PF_FAULT_RESET },
	{ "gone", { "fault:gone@7/sim:*1" }, PF_FAULT_RESET },
	{ "gone", { "fault:gone@8/sim:*1", "sim:u250" }, PF_FAULT_RETRY },
	{ "gone", { "fault:gone@30/sim:*1" }, PF_FAULT_CPU },
	{ "gone", { "sim:*1", "sim:u250", "fault:gone@9/sim:*1" }, PF_FAULT_RETRY },
	{ "hot", { "fault:hot@7/sim:*1" }, PF_FAULT_RETRY },
	{ "busy", { "fault:interrupt@7+busy@2/sim:*1" }, PF_FAULT_RETRY },
	{ "sensors", { "sim:*1" }, PF_FAULT_STOP },
	{ "two", { "fault:firewall@7+hang@15/sim:*1" }, PF_FAULT_RESET },
};
enum { ROWS = sizeof rows / sizeof *rows };
static char table[1 << 14];
static size_t used;

static const char *const policies[] = { "stop", "retry", "reset", "cpu" };

/* The limit that the watchdog names, in seconds; 0: reported at once */
static double seconds_until_report(const char *notes)
{
	const char *at = strstr(notes, "took longer than ");
	return at ? strtod(at + strlen("took longer than "), NULL) * 1e-3 : 0.0;
}

static void first_line(const char *text, char line[200])
{
	size_t n = strcspn(text, "\n;");
	snprintf(line, 200, "%.*s", (int)(n < 190 ? n : 190), text);
	for (char *c = line; *c; c++)
		*c = *c == '"' ? '\'' : *c;
}

static void add_row(const struct row *row, const struct outcome *o)
{
	char report[200], action[200] = "none";
	const struct pf_recovery *r = &o->renewal.recovery;
	const char *spoken = o->notes[0] ? o->notes : o->code ? o->error.text : "-";
	first_line(spoken, report);
	if (r->opens)
		snprintf(action, sizeof action, "%u openings; %.0f s of waiting; reset: %s", r->opens,
		         (double)r->waited_ns * 1e-9, pf_reset_name(r->reset));
	const char *outcome = o->code ? "stopped"
	                    : strstr(o->notes, "on the host") ? "went on on the host"
	                    : strstr(o->notes, "takes over") ? "another card took over"
	                    : strstr(o->notes, "works again") ? "resumed on the card" : "went on";
	used += (size_t)snprintf(table + used, sizeof table - used, "%s,%s", row->fault, row->spec[0]);
	for (unsigned i = 1; i < DEVICES && row->spec[i]; i++)
		used += (size_t)snprintf(table + used, sizeof table - used, " %s", row->spec[i]);
	used += (size_t)snprintf(table + used, sizeof table - used, ",%s,\"%s\",%.0f,\"%s\",%s,%s\n",
	                         policies[row->on_fault], report, seconds_until_report(spoken), action, outcome,
	                         o->code   ? "-"
	                         : o->same ? "equal"
	                                   : "within tolerance");
}

/* Sensors that stand still are reported as such, and disturb nothing */
static void read_old_sensor(struct outcome *o)
{
	struct pf_sensor *sensor;
	size_t count;
	double watts;
	const struct utimbuf old = { 1000000000, 1000000000 };
	const struct pf_sensor_options options = { .root = scratch_path("nothing"),
		.aws = scratch_text("aws", "Power consumption (Vccint):\n   Last measured: 17 watts\n") };
	struct pf_error error = { 0 };
	assert_int_equal(pf_sensors_find(&options, &sensor, &count, NULL), 0);
	assert_int_equal(count, 1);
	assert_int_equal(utime(sensor->path, &old), 0);
	assert_int_equal(pf_sensor_read(sensor, &watts, &error), PF_E_DATA);
	const char *what = strstr(error.text, "which is no measurement of now");
	assert_non_null(what);
	snprintf(o->notes, sizeof o->notes, "%s\n", what);
	free(sensor);
}

static void run_row(const struct row *row)
{
	static struct outcome o;
	static uint64_t beats_of_three;
	const struct faults_plan plan = { .on_fault = row->on_fault };
	memset(&o, 0, sizeof o);
	if (strcmp(row->fault, "sensors") == 0)
		read_old_sensor(&o);
	faults_run(row->spec, &plan, &o);
	add_row(row, &o);
	/* what must hold, whatever the table says */
	const int on_host = strstr(o.notes, "on the host") != NULL;
	assert_true(o.code || on_host || o.same);
	if (strcmp(row->fault, "stuck") == 0) {        /* renewed as often as is allowed, then given up */
		assert_int_equal(o.renewal.renewals, PF_RENEWALS_FUTILE + !o.code);
		assert_non_null(strstr(o.code ? o.error.text : o.notes, "again after 3 renewals"));
	}
	/* the first card that took over from the third is counted once */
	beats_of_three = row->spec[2] && strcmp(row->fault, "none") == 0 ? o.beats : beats_of_three;
	assert_true(!row->spec[2] || (o.beats > 0 && o.beats == beats_of_three));
	assert_true(o.code || (on_host ? o.marked > 0 && o.marked < FAULTS_STEPS : o.marked == 0));
}

static unsigned first_difference(const char *a, const char *b)
{
	unsigned line = 1;
	for (; *a && *a == *b; a++, b++)
		line += *a == '\n';
	print_message("...%.100s\n", b);
	return line;
}

static void all_rows(void **state)
{
	static char wanted[sizeof table];
	(void)state;
	used = (size_t)snprintf(table, sizeof table,
	                        "fault,devices,on_fault,report,seconds_until_report,done,outcome,bits\n");
	for (unsigned i = 0; i < ROWS; i++)
		run_row(&rows[i]);
	FILE *file = fopen(table_path, writing ? "wb" : "rb");
	assert_non_null(file);
	if (writing)
		assert_true(fwrite(table, 1, used, file) == used);
	size_t n = writing ? 0 : fread(wanted, 1, sizeof wanted - 1, file);
	fclose(file);
	if (!writing && (n != used || memcmp(wanted, table, n) != 0))
		fail_msg("line %u differs from %s", first_difference(wanted, table), table_path);
}

/* No fault is forgotten */
static void every_fault_has_a_row(void **state)
{
	(void)state;
#define HAS_ROW(name, strikes, code, cure, tries, report) \
	do { \
		int found = 0; \
		for (unsigned i = 0; i < ROWS; i++) \
			found |= strcmp(rows[i].fault, #name) == 0; \
		assert_true(found); \
	} while (0);
	PF_CARD_FAULTS(HAS_ROW)
}

/* What the simulator explains, a card with that fault shows as ECC, and is lost */
static void unwritten_memory_is_an_ecc_error(void **state)
{
	struct pf_device *device;
	struct pf_buf *item, *span, *out;
	struct pf_error error = { 0 };
	struct pf_ticket run = { 0 };
	(void)state;
	assert_int_equal(pf_device_open("fault:ecc@1000/sim:u50", NULL, &device, &error), 0);
	assert_int_equal(pf_buf_alloc(device, PF_KERNEL_coef, 0, 64, &item, &error), 0);
	assert_int_equal(pf_buf_alloc(device, PF_KERNEL_coef, 1, 64, &span, &error), 0);
	assert_int_equal(pf_buf_alloc(device, PF_KERNEL_coef, 2, 64, &out, &error), 0);
	struct pf_arg arg[PF_ARG_coef_COUNT] = { { .buf = item }, { .buf = span }, { .buf = out } };
	arg[PF_ARG_coef_rows].val.u32 = arg[PF_ARG_coef_seqs].val.u32 = 1;
	arg[PF_ARG_coef_tail].val.f32 = 1.0f;
	assert_int_equal(pf_run(device, PF_KERNEL_coef, arg, PF_ARG_coef_COUNT, NULL, &run), 0);
	assert_int_equal(pf_wait(&run, &error), PF_E_DEVICE);
	assert_non_null(strstr(error.text, "ECC"));
	pf_device_close(device);
	assert_int_equal(pf_device_reset("fault:ecc@1000/sim:u50", PF_RESET_USER, &error), 0);
	assert_int_equal(pf_device_open("fault:ecc@1000/sim:u50", NULL, &device, &error), 0);
	assert_int_equal(pf_device_check(device, &error), PF_E_DEVICE);        /* a reset of the user function is not enough */
	pf_device_close(device);
	assert_int_equal(pf_device_reset("fault:ecc@1000/sim:u50", PF_RESET_MGMT, &error), 0);
	assert_int_equal(pf_device_open("fault:ecc@1000/sim:u50", NULL, &device, &error), 0);
	assert_int_equal(pf_device_check(device, &error), 0);
	pf_device_close(device);
}

static void nothing_to_replace_is_not_tried_for_ever(void **state)
{
	static const char *const spec[] = { "sim:*1" };
	struct pf_device *device, *opened;
	struct pf_error error = { 0 }, why = { 0 };
	(void)state;
	assert_int_equal(pf_device_open(spec[0], NULL, &device, &error), 0);
	opened = device;
	struct pf_renewal renewal = { .device = &device, .spec = spec, .devices = 1, .on_fault = PF_FAULT_CPU };
	pf_fail(&why, PF_E_DEPENDENCY, "not its first failure");
	for (int i = 0; i < PF_RENEWALS_FUTILE; i++)
		assert_int_equal(pf_renew(&renewal, &why, &error), 0);
	assert_int_equal(pf_renew(&renewal, &why, &error), PF_E_DEPENDENCY);
	assert_string_equal(error.text, "not its first failure: again after 3 renewals without getting on");
	renewal.futile = 0;
	assert_int_equal(pf_renew(&renewal, &why, &error), 0);
	assert_ptr_equal(device, opened);
	pf_device_close(device);
}

static void plans_are_checked(void **state)
{
	static const struct { const char *spec, *says; } wrong[] = {
		{ "fault:", "write FAULT" }, { "fault:hang", "write FAULT" }, { "fault:hang@0/sim:*1", "n from 1" },
		{ "fault:hnag@3/sim", "nearest fault is hang; faults are firewall, ecc, hang" },
		{ "fault:hang@3/sin", "did you mean \"sim\"" },
		{ "fault:hang@x/sim:*1", "n from 1" }, { "fault:hang@1+/sim:*1", "is no FAULT" },
	};
	struct pf_device *device;
	struct pf_error error;
	(void)state;
	for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
		memset(&error, 0, sizeof error);
		assert_true(pf_device_open(wrong[i].spec, NULL, &device, &error) < 0);
		if (!strstr(error.text, wrong[i].says))
			fail_msg("%s: %s", wrong[i].spec, error.text);
	}
}

int main(int argc, char **argv)
{
	if (argc < 2)
		return 2;
	table_path = argv[1];
	writing = argc > 2 && strcmp(argv[2], "--write") == 0;
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_fault_has_a_row), cmocka_unit_test(all_rows),
		cmocka_unit_test(unwritten_memory_is_an_ecc_error), cmocka_unit_test(plans_are_checked),
		cmocka_unit_test(nothing_to_replace_is_not_tried_for_ever),
	};
	return cmocka_run_group_tests_name("faults", tests, open_world, close_world);
}
