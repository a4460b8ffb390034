/* conformance: every built kernel on every device that is given, absent ones skipped by name: `conformance SPEC...`,
 * and `--seed N` last.
 *
 * Devices that say they are exact must agree bit for bit with the first of them; every device must agree with the
 * reference within the stated bounds. A new backend joins by adding its spec to the list in CMakeLists.txt. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "tests/cmocka.h"
#include "tests/conformance.h"
#include "tests/seed.h"

enum { WINDOW = 6, COPIES = PF_ARGS_MAX };     /* launches in flight */

static struct conf_case *cases;
static unsigned count;
struct result { unsigned char *output[PF_ARGS_MAX]; };
static struct result *golden;          /* of the first exact device; output[] NULL: none yet */
static const char *golden_spec;        /* which that is, once it has passed */

/* ---- one launch ---- */
struct launch {
	const struct conf_case *c;
	struct pf_buf   *buf[PF_ARGS_MAX];
	struct pf_arg    arg[PF_ARGS_MAX];
	struct pf_ticket in[COPIES], run, out[COPIES];
	unsigned         ins, outs;
	struct result    result;
};

static void must(int code, const struct pf_error *error, const struct conf_case *c)
{
	if (code)
		fail_msg("%s: %s", c->name, error->text);
}

static int is_output(const struct pf_arg_row *row)
{
	return row->dir == PF_DIR_OUT || row->dir == PF_DIR_INOUT;
}

/* In place: the first output shares the buffer of the first input */
static unsigned buffer_of(const struct conf_case *c, unsigned i)
{
	return c->in_place && pf_kernel_rows[c->kernel].arg[i].dir == PF_DIR_OUT ? 0 : i;
}

static void launch_buffers(struct pf_device *device, struct launch *l)
{
	const struct pf_kernel_row *row = &pf_kernel_rows[l->c->kernel];
	struct pf_error error = { 0 };
	for (unsigned i = 0; i < row->count; i++) {
		l->arg[i].val.u32 = l->c->value[i];
		if (row->arg[i].dir == PF_DIR_VAL)
			continue;
		unsigned b = buffer_of(l->c, i);
		uint64_t bytes = l->c->offset + l->c->bytes[i];
		if (!l->buf[b])
			must(pf_buf_alloc(device, (int)l->c->kernel, b, bytes ? bytes : 1, &l->buf[b], &error), &error,
			     l->c);
		l->arg[i].buf = l->buf[b];
		l->arg[i].offset = l->c->offset;
	}
}

static void launch_begin(struct pf_device *device, struct launch *l, const struct conf_case *c)
{
	const struct pf_kernel_row *row = &pf_kernel_rows[c->kernel];
	const struct pf_ticket *after = NULL;
	memset(l, 0, sizeof *l);
	l->c = c;
	launch_buffers(device, l);
	for (unsigned i = 0; i < row->count; i++)
		if (c->input[i]) {
			struct pf_ticket *ticket = &l->in[l->ins++];
			pf_copy_in(l->buf[i], c->offset, c->input[i], c->bytes[i], after, ticket);
			after = ticket;
		}
	pf_run(device, (int)c->kernel, l->arg, row->count, after, &l->run);
	for (unsigned i = 0; i < row->count; i++)
		if (is_output(&row->arg[i])) {
			l->result.output[i] = malloc(c->bytes[i] + 1);
			assert_non_null(l->result.output[i]);
			pf_copy_out(l->arg[i].buf, c->offset, l->result.output[i], c->bytes[i], &l->run,
			            &l->out[l->outs++]);
		}
}

static void launch_end(struct launch *l)
{
	struct pf_error error = { 0 };
	for (unsigned i = 0; i < l->ins; i++)
		must(pf_wait(&l->in[i], &error), &error, l->c);
	must(pf_wait(&l->run, &error), &error, l->c);
	for (unsigned i = 0; i < l->outs; i++)
		must(pf_wait(&l->out[i], &error), &error, l->c);
	for (unsigned i = 0; i < PF_ARGS_MAX; i++)
		pf_buf_free(l->buf[i]);
}

/* ---- what must hold ---- */
static void compare_bits(const struct conf_case *c, const char *spec, const struct result *want,
                         const struct result *got)
{
	const struct pf_kernel_row *row = &pf_kernel_rows[c->kernel];
	for (unsigned i = 0; i < row->count; i++) {
		if (!is_output(&row->arg[i]))
			continue;
		for (uint64_t at = 0; at < c->bytes[i]; at++)
			if (got->output[i][at] != want->output[i][at])
				fail_msg("%s: argument %s differs between %s and %s in byte %llu (element %llu)",
				         c->name, row->arg[i].name, golden_spec, spec, (unsigned long long)at,
				         (unsigned long long)(at / row->arg[i].size));
	}
}

static void result_free(struct result *result)
{
	for (unsigned i = 0; i < PF_ARGS_MAX; i++) {
		free(result->output[i]);
		result->output[i] = NULL;
	}
}

/* The first exact device leaves its results for the others */
static void check(const struct pf_device_facts *facts, const char *spec, unsigned index, struct result *result)
{
	const struct conf_case *c = &cases[index];
	int first = facts->exact && !golden_spec;
	if (facts->exact && !first)
		compare_bits(c, spec, &golden[index], result);
	else if (!c->bits_only) {
		const char *wrong = conf_judge(c, result->output);
		if (wrong)
			fail_msg("%s: %s: %s", spec, c->name, wrong);
	}
	if (first) {
		result_free(&golden[index]);
		golden[index] = *result;
	} else
		result_free(result);
}

/* ---- a device ---- */
static struct pf_device *open_device(const char *spec)
{
	struct pf_device *device;
	struct pf_error error = { 0 };
	const struct pf_device_options patient = { .watchdog_ms = 600000 };    /* a busy machine is no hung card */
	int code = pf_device_open(spec, &patient, &device, &error);
	if (code == PF_E_ABSENT || code == PF_E_UNSUPPORTED || code == PF_E_UNKNOWN) {
		print_message("%s is absent: %s\n", spec, error.text);
		skip();
	}
	if (code)
		fail_msg("%s: %s", spec, error.text);
	return device;
}

static void whole_suite(void **state)
{
	const char *spec = *state;
	struct pf_device *device = open_device(spec);
	const struct pf_device_facts *facts = pf_device_facts(device);
	static struct launch launch[WINDOW];
	unsigned ran = 0;
	assert_true(facts->numerics == PF_NUMERICS);
	for (unsigned i = 0; i < count + WINDOW; i++) {
		struct launch *slot = &launch[i % WINDOW];
		if (i >= WINDOW && slot->c) {
			launch_end(slot);
			check(facts, spec, i - WINDOW, &slot->result);
			ran++;
		}
		slot->c = NULL;
		if (i < count && pf_device_cus(device, (int)cases[i].kernel) > 0)
			launch_begin(device, slot, &cases[i]);
	}
	if (facts->exact && !golden_spec)
		golden_spec = spec;
	print_message("%s (%s, %s): %u launches of %u\n", spec, facts->name, facts->variant, ran, count);
	assert_int_equal(pf_device_close(device), 0);
}

/* Every built kernel has cases, or somebody forgot */
static void every_kernel_has_cases(void **state)
{
	unsigned n[PF_KERNEL_COUNT] = { 0 };
	(void)state;
	for (unsigned i = 0; i < count; i++)
		n[cases[i].kernel]++;
	for (unsigned k = 0; k < PF_KERNEL_COUNT; k++)
		assert_true(n[k] > 0 || !pf_kernel_rows[k].built);
}

int main(int argc, char **argv)
{
	if (seed_take(&argc, argv))
		return 2;
	struct CMUnitTest *tests = calloc((size_t)argc, sizeof *tests);
	cases = conf_cases(seed_of(20240607), &count);
	golden = calloc(count, sizeof *golden);
	if (!tests || !golden || argc < 2)
		return 2;
	tests[0] = (struct CMUnitTest)cmocka_unit_test(every_kernel_has_cases);
	for (int i = 1; i < argc; i++)
		tests[i] = (struct CMUnitTest){ argv[i], whole_suite, NULL, NULL, argv[i] };
	int failed = _cmocka_run_group_tests("conformance", tests, (size_t)argc, NULL, NULL);
	for (unsigned i = 0; i < count; i++)
		result_free(&golden[i]);
	conf_free(cases, count);
	free(golden);
	free(tests);
	return failed;
}
