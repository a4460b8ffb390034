/* The simulated card: its specification, banks, guards, written bits, subnormals. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include "host/model/parallel.h"
#include "sim/flush.h"
#include "sim/level.h"
#include "sim/memory.h"
#include "tests/cmocka.h"
#include "tests/job.h"

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define WITH_ASAN 1
#endif
#endif
#ifdef __SANITIZE_ADDRESS__
#define WITH_ASAN 1
#endif
#ifdef WITH_ASAN
#include <sanitizer/asan_interface.h>
#endif

#define GIB ((uint64_t)1 << 30)

static struct pf_device *open_device(const char *spec, uint64_t memory_bytes)
{
	struct pf_device_options options = { .memory_bytes = memory_bytes };
	struct pf_device *device;
	struct pf_error error = { 0 };
	if (pf_device_open(spec, &options, &device, &error) != 0)
		fail_msg("%s: %s", spec, error.text);
	return device;
}

/* ---- the specification ---- */
static void specifications(void **state)
{
	static const struct { const char *spec, *name; uint32_t cus; uint64_t memory; } cases[] = {
		{ "sim:*1", "simulated u55c", 1, 10 * GIB }, { "sim:u50*1", "simulated u50", 1, 5 * GIB },
		{ "sim:u250*4", "simulated u250", 4, 16 * GIB }, { "sim:u200*1@v1", "simulated u200", 1, 16 * GIB },
		{ "sim:*16", "simulated u55c", 16, 10 * GIB },
		{ "sim:u280*2@v1", "simulated u280", 2, 5 * GIB },
	};
	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		char spec[32];
		snprintf(spec, sizeof spec, "%s", cases[i].spec);
		char *level = strstr(spec, "@v1");
		if (level)
			snprintf(level, sizeof "@base", "@%s", pf_level_at(0)->name);
		struct pf_device *device = open_device(spec, 0);
		assert_string_equal(pf_device_facts(device)->name, cases[i].name);
		assert_int_equal(pf_device_facts(device)->memory_bytes, cases[i].memory);
		assert_int_equal(pf_device_cus(device, PF_KERNEL_pref), cases[i].cus);
		pf_device_close(device);
	}
}

/* Without a number: as many compute units as threads, at most 16; a number wins */
static void units_by_threads(void **state)
{
	static const struct { const char *spec; uint32_t threads, cus; } cases[] = {
		{ "sim", 1, 1 }, { "sim:", 2, 2 }, { "sim:u50", 3, 3 }, { "sim:u200", 16, 16 }, { "sim", 1000, 16 },
		{ "sim:*3", 2, 3 }, { "sim:u250*1", 4, 1 },
	};
	const uint32_t here = pf_threads(0) < 16 ? pf_threads(0) : 16;
	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		const struct pf_device_options options = { .threads = cases[i].threads };
		struct pf_device *device = NULL;
		assert_int_equal(pf_device_open(cases[i].spec, &options, &device, NULL), 0);
		assert_int_equal(pf_device_cus(device, PF_KERNEL_logprob), cases[i].cus);
		pf_device_close(device);
	}
	struct pf_device *device = open_device("sim", 0);
	assert_int_equal(pf_device_cus(device, PF_KERNEL_logprob), here);
	pf_device_close(device);
}

static void wrong_specifications(void **state)
{
	static const struct { const char *spec; int code; const char *says; } cases[] = {
		{ "sim:u55", PF_E_UNKNOWN, "did you mean \"u5" },
		{ "sim:u250x", PF_E_UNKNOWN, "did you mean \"u250\"" },
		{ "sim:stratix", PF_E_UNKNOWN, "known: u50, u55c, u200, u250, u280" },
		{ "sim:u50*0", PF_E_RANGE, "1..16" }, { "sim:u50*17", PF_E_RANGE, "1..16" },
		{ "sim:u50*", PF_E_RANGE, "1..16" }, { "sim:u50*-1", PF_E_RANGE, "1..16" },
		{ "sim:u50*2x", PF_E_RANGE, "1..16" }, { "sim:*99999999999999999999", PF_E_RANGE, "1..16" },
		{ "sim:u50@v9", PF_E_UNKNOWN, "known: " },
		{ "sim:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", PF_E_ARGUMENT, "too long" },
	};
	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct pf_device *device;
		struct pf_error error = { 0 };
		assert_int_equal(pf_device_open(cases[i].spec, NULL, &device, &error), cases[i].code);
		assert_null(device);
		if (!strstr(error.text, cases[i].says))
			fail_msg("%s: \"%s\" does not say \"%s\"", cases[i].spec, error.text, cases[i].says);
	}
}

static void levels_by_name(void **state)
{
	int able = 0;
	(void)state;
	const struct pf_level *best = pf_level_find("", &able);
	assert_non_null(best);
	assert_true(able);
	for (unsigned i = 0; pf_level_at(i); i++) {
		char spec[32];
		struct pf_device *device;
		struct pf_error error = { 0 };
		assert_ptr_equal(pf_level_find(pf_level_at(i)->name, &able), pf_level_at(i));
		snprintf(spec, sizeof spec, "sim:@%s", pf_level_at(i)->name);
		int code = pf_device_open(spec, NULL, &device, &error);
		assert_int_equal(code, able ? 0 : PF_E_UNSUPPORTED);
		if (code == 0)
			assert_non_null(strstr(pf_device_facts(device)->variant, pf_level_at(i)->name));
		pf_device_close(device);
	}
	assert_null(pf_level_find("nope", &able));
}

/* ---- banks ---- */
static int take(struct pf_device *device, uint64_t bytes, struct pf_buf **buf, struct pf_error *error)
{
	return pf_buf_alloc(device, PF_KERNEL_logprob, PF_ARG_logprob_z, bytes, buf, error);
}

static void banks_have_a_size(void **state)
{
	struct pf_device *device = open_device("sim:u50", 0);
	struct pf_buf *a, *b;
	struct pf_error error = { 0 };
	(void)state;
	assert_int_equal(take(device, 4 * GIB, &a, NULL), 0);
	assert_int_equal(take(device, GIB + 1, &b, &error), PF_E_MEMORY);
	assert_non_null(strstr(error.text, "argument z of kernel logprob"));
	assert_non_null(strstr(error.text, "bank class STREAM (HBM[0:19]): 4294967296 of 5368709120 bytes are in use"));
	assert_int_equal(take(device, GIB, &b, NULL), 0);
	pf_buf_free(a);
	assert_int_equal(take(device, 4 * GIB, &a, NULL), 0);
	assert_int_equal(pf_buf_alloc(device, PF_KERNEL_logprob, PF_ARG_logprob_target, 1, &a, NULL), 0);
	pf_device_close(device);
}

static void memory_can_be_limited(void **state)
{
	struct pf_device_options options = { .memory_bytes = 17 * GIB };
	struct pf_device *device;
	struct pf_buf *buf;
	struct pf_error error = { 0 };
	(void)state;
	assert_int_equal(pf_device_open("sim", &options, &device, &error), PF_E_RANGE);
	assert_non_null(strstr(error.text, "17179869184"));
	device = open_device("sim", 64 << 10);
	assert_int_equal(pf_device_facts(device)->memory_bytes, 64 << 10);
	assert_int_equal(take(device, 60 << 10, &buf, NULL), 0);
	assert_int_equal(pf_buf_alloc(device, PF_KERNEL_logprob, PF_ARG_logprob_target, 1, &buf, NULL), 0);
	assert_int_equal(pf_buf_alloc(device, PF_KERNEL_logprob, PF_ARG_logprob_target, 1, &buf, &error), PF_E_MEMORY);
	assert_non_null(strstr(error.text, "65536 are in use"));
	pf_device_close(device);
}

/* ---- memory that was never written ---- */
static void expect_unwritten(struct pf_ticket *ticket, const char *says)
{
	struct pf_error error = { 0 };
	assert_int_equal(pf_wait(ticket, &error), PF_E_UNWRITTEN);
	if (!strstr(error.text, says))
		fail_msg("\"%s\" does not say \"%s\"", error.text, says);
}

static void unwritten_reads_are_errors(void **state)
{
	enum { ROWS = 4, STRIDE = 70 };        /* 1120 lanes */
	const uint64_t bytes = ROWS * STRIDE * PF_BEAT_BYTES;
	struct pf_device *device = open_device("sim", 0);
	struct pf_arg arg[PF_ARG_logprob_COUNT] = { { 0 } };
	struct pf_ticket in = { 0 }, run = { 0 }, out = { 0 };
	float *z = calloc(1, bytes);
	(void)state;
	for (unsigned i = 0; i < 3; i++)
		assert_int_equal(pf_buf_alloc(device, PF_KERNEL_logprob, i,
		                              i == 0   ? bytes
		                              : i == 1 ? ROWS * 4
		                                       : ROWS * 64,
		                              &arg[i].buf, NULL),
		                 0);
	arg[PF_ARG_logprob_rows].val.u32 = ROWS;
	arg[PF_ARG_logprob_vocab].val.u32 = STRIDE * 16;
	arg[PF_ARG_logprob_stride].val.u32 = STRIDE;
#define RUN() assert_int_equal(pf_run(device, PF_KERNEL_logprob, arg, PF_ARG_logprob_COUNT, NULL, &run), 0)
#define PUT(i, at, n) do { \
		assert_int_equal(pf_copy_in(arg[i].buf, at, z, n, NULL, &in), 0); \
		assert_int_equal(pf_wait(&in, NULL), 0); \
	} while (0)
	RUN();
	expect_unwritten(&run,
	                 "kernel logprob reads 17920 bytes from offset 0 of argument 0 (z) on, but nothing was ever "
	                 "written at offset 0");
	PUT(0, 0, 70 * 64);
	PUT(0, 71 * 64, bytes - 71 * 64);
	RUN();
	expect_unwritten(&run, "ever written at offset 4480");                 /* beat 70 */
	PUT(0, 70 * 64 + 5, 1);                                                /* touches the beat that is missing */
	RUN();
	expect_unwritten(&run, "argument 1 (target)");
	PUT(1, 0, ROWS * 4);
	assert_int_equal(pf_copy_out(arg[2].buf, 64, z, 64, NULL, &out), 0);
	expect_unwritten(&out, "copy to the host of 64 bytes from offset 64 on: nothing was ever written at offset 64");
	RUN();
	assert_int_equal(pf_wait(&run, NULL), 0);
	assert_int_equal(pf_copy_out(arg[2].buf, 64, z, 64, NULL, &out), 0);   /* the run wrote it */
	assert_int_equal(pf_wait(&out, NULL), 0);
#undef RUN
#undef PUT
	free(z);
	pf_device_close(device);
}

/* Every first and last beat of a region, against a plain array of flags */
static void written_bits(void **state)
{
	enum { BEATS = 200 };
	struct pf_stores stores = { .store = { { "all", GIB, 0 } }, .bytes = GIB };
	(void)state;
	for (unsigned first = 0; first < BEATS; first += 7)
		for (unsigned count = 1; first + count <= BEATS; count += 5) {
			struct pf_memory *m;
			assert_int_equal(pf_memory_alloc(&stores, PF_BANK_STREAM, BEATS * 64, &m, NULL), 0);
			assert_true(pf_memory_unwritten(m, 0, 0) == UINT64_MAX);
			pf_memory_mark(m, first * 64, 0);
			assert_true(pf_memory_unwritten(m, first * 64, 1) == first * 64);
			pf_memory_mark(m, first * 64 + 63, (count - 1) * 64 + 1 - (count > 1 ? 63 : 0));
			for (unsigned beat = 0; beat < BEATS; beat++) {
				int written = beat >= first && beat < first + count;
				uint64_t at = beat * 64 + 13;
				assert_true(pf_memory_unwritten(m, at, 1) == (written ? UINT64_MAX : at));
			}
			uint64_t end = (first + count) * 64;
			assert_true(pf_memory_unwritten(m, first * 64, BEATS * 64 - first * 64) ==
			            (first + count == BEATS ? UINT64_MAX : end));
			pf_memory_free(&stores, m);
		}
	assert_true(stores.used == 0 && stores.store[PF_BANK_STREAM].used == 0);
	pf_memory_end(&stores);
}

/* ---- guards: the access happens in a child, which must die ---- */
static int dies(void (*access)(volatile unsigned char *at), volatile unsigned char *at)
{
	int status;
	pid_t child = fork();
	assert_true(child >= 0);
	if (child == 0) {
		signal(SIGSEGV, SIG_DFL);              /* not the test library's */
		signal(SIGBUS, SIG_DFL);
		if (!freopen("/dev/null", "w", stderr))
			_exit(0);
		access(at);
		_exit(0);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	return !(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static void write_byte(volatile unsigned char *at) { *at = 1; }
static void read_byte(volatile unsigned char *at) { (void)*at; }

static void guards_stop_stray_accesses(void **state)
{
	const uint64_t bytes = 128 << 10;
	struct pf_stores stores = { .store = { { "all", GIB, 0 } }, .bytes = GIB };
	struct pf_memory *m, *later;
	(void)state;
	assert_int_equal(pf_memory_alloc(&stores, PF_BANK_STREAM, bytes, &m, NULL), 0);
	volatile unsigned char *base = pf_memory_at(m, 0);
	assert_false(dies(write_byte, base));
	assert_false(dies(write_byte, base + bytes - 1));
	assert_true(dies(write_byte, base + bytes));
	assert_true(dies(read_byte, base + bytes));
	assert_true(dies(write_byte, base - 1));
	assert_true(dies(write_byte, base - 4096));
	pf_memory_free(&stores, m);
	assert_int_equal(pf_memory_alloc(&stores, PF_BANK_STREAM, bytes, &later, NULL), 0);
	assert_ptr_not_equal(pf_memory_at(later, 0), base);
	assert_true(dies(read_byte, base));
	pf_memory_free(&stores, later);
	pf_memory_end(&stores);
}

static void poison_under_asan(void **state)
{
	(void)state;
#ifdef WITH_ASAN
	struct pf_stores stores = { .store = { { "all", GIB, 0 } }, .bytes = GIB };
	struct pf_memory *m;
	assert_int_equal(pf_memory_alloc(&stores, PF_BANK_STREAM, 1001, &m, NULL), 0);
	char *base = pf_memory_at(m, 0);
	assert_false(__asan_address_is_poisoned(base + 1000));
	assert_true(__asan_address_is_poisoned(base + 1001));
	assert_true(__asan_address_is_poisoned(base + 4095));
	assert_true(dies(write_byte, (unsigned char *)base + 1001));
	pf_memory_free(&stores, m);
	assert_true(__asan_address_is_poisoned(base));
	pf_memory_end(&stores);
	assert_false(__asan_address_is_poisoned(base));
#else
	skip();
#endif
}

/* ---- subnormals ---- */
static int keeps_subnormals(void)
{
	volatile float small = 1e-30f, half = 1e-10f, subnormal = 1e-40f;
	return small * half != 0 && subnormal + subnormal != 0;
}

static void subnormals_are_flushed_and_restored(void **state)
{
	(void)state;
	assert_true(keeps_subnormals());
	uint64_t before = pf_flush_begin();
#if defined(__SSE2__) || defined(__aarch64__)
	assert_false(keeps_subnormals());
#endif
	pf_flush_end(before);
	assert_true(keeps_subnormals());
}

/* A run in this very thread leaves its floating-point state alone */
static void runs_restore_the_thread(void **state)
{
	extern const struct pf_backend pf_backend_sim;
	struct pf_device_options options = { .threads = 1 };
	struct pf_backend_open open = { "", &options };
	struct pf_device_facts facts;
	uint32_t cus[PF_KERNEL_COUNT];
	struct pf_launch launch = { .kernel = PF_KERNEL_coef, .count = PF_ARG_coef_COUNT };
	void *card;
	(void)state;
	assert_int_equal(pf_backend_sim.open(&open, &card, &facts, cus, NULL), 0);
	for (unsigned i = 0; i < 3; i++)
		assert_int_equal(pf_backend_sim.alloc(card, PF_KERNEL_coef, i, 64, &launch.memory[i], NULL), 0);
	assert_int_equal(pf_backend_sim.run(card, 0, &launch, NULL), 0);       /* no rows, no sequences */
	assert_true(keeps_subnormals());
	for (unsigned i = 0; i < 3; i++)
		pf_backend_sim.free(card, launch.memory[i]);
	pf_backend_sim.close(card);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(specifications), cmocka_unit_test(units_by_threads),
		cmocka_unit_test(wrong_specifications), cmocka_unit_test(levels_by_name),
		cmocka_unit_test(banks_have_a_size), cmocka_unit_test(memory_can_be_limited),
		cmocka_unit_test(unwritten_reads_are_errors), cmocka_unit_test(written_bits),
		cmocka_unit_test(guards_stop_stray_accesses), cmocka_unit_test(poison_under_asan),
		cmocka_unit_test(subnormals_are_flushed_and_restored), cmocka_unit_test(runs_restore_the_thread),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
