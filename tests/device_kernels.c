/* The table kernels.def as data: driver/kernels.c, driver/nearest.c, driver/error.c. */
#include <errno.h>
#include <string.h>
#include "prefpga/internal/backend.h"
#include "prefpga/internal/nearest.h"
#include "tests/cmocka.h"

static void rows_match_indices(void **state)
{
	const struct pf_kernel_row *logprob = &pf_kernel_rows[PF_KERNEL_logprob];
	(void)state;
	assert_string_equal(logprob->name, "logprob");
	assert_string_equal(logprob->file, "logprob");
	assert_true(logprob->built && logprob->lanes == 16 && logprob->count == PF_ARG_logprob_COUNT);
	assert_int_equal(pf_kernel_rows[PF_KERNEL_logprob_bf16].lanes, 32);
	assert_string_equal(logprob->arg[PF_ARG_logprob_z].name, "z");
	assert_string_equal(logprob->arg[PF_ARG_logprob_z].bundle, "gmem0");
	assert_int_equal(logprob->arg[PF_ARG_logprob_z].size, 64);
	assert_int_equal(logprob->arg[PF_ARG_logprob_z].bank, PF_BANK_STREAM);
	assert_int_equal(logprob->arg[PF_ARG_logprob_out].dir, PF_DIR_OUT);
	assert_int_equal(logprob->arg[PF_ARG_logprob_flags].dir, PF_DIR_VAL);
	assert_string_equal(logprob->arg[PF_ARG_logprob_flags].bundle, "control");
	assert_true(pf_kernel_rows[PF_KERNEL_coef].arg[PF_ARG_coef_tail].is_float);
	assert_false(pf_kernel_rows[PF_KERNEL_coef].arg[PF_ARG_coef_rows].is_float);
}

static void ports_expand(void **state)
{
	const struct pf_kernel_row *row = &pf_kernel_rows[PF_KERNEL_linear_grad];
	(void)state;
	assert_true(row->built);
	assert_int_equal(PF_ARG_linear_grad_weight_last - PF_ARG_linear_grad_weight, 3);
	assert_string_equal(row->arg[PF_ARG_linear_grad_weight].name, "weight0");
	assert_string_equal(row->arg[PF_ARG_linear_grad_weight_last].name, "weight3");
	assert_string_equal(row->arg[PF_ARG_linear_grad_weight_last].bundle, "gmem4");
	assert_string_equal(row->arg[PF_ARG_linear_grad_dweight_last].bundle, "gmem4");
	assert_string_equal(row->arg[PF_ARG_linear_grad_bias].name, "bias");
	assert_int_equal(row->arg[PF_ARG_linear_grad_dbias].dir, PF_DIR_INOUT);
}

static void elements_follow_scalars(void **state)
{
	uint32_t value[PF_ARGS_MAX] = { 0 };
	(void)state;
	value[PF_ARG_logprob_rows] = PF_ROWS_MAX;
	value[PF_ARG_logprob_stride] = 1u << 20;
	value[PF_ARG_logprob_vocab] = 7;
	const struct pf_kernel_row *row = &pf_kernel_rows[PF_KERNEL_logprob];
	assert_true(row->elements(PF_ARG_logprob_z, value) == (uint64_t)1 << 40);      /* no 32-bit overflow */
	assert_true(row->elements(PF_ARG_logprob_target, value) == PF_ROWS_MAX);
	assert_true(row->elements(PF_ARG_logprob_rows, value) == 1);
	memset(value, 0, sizeof value);
	value[PF_ARG_pref_groups] = UINT32_MAX;
	assert_true(pf_kernel_rows[PF_KERNEL_pref].elements(PF_ARG_pref_group, value) == (uint64_t)1 << 32);
	assert_true(pf_kernel_rows[PF_KERNEL_pref].elements(PF_ARG_pref_par, value) == PF_PAR_COUNT);
	memset(value, 0, sizeof value);
	value[PF_ARG_linear_logprob_vocab] = 4097;
	value[PF_ARG_linear_logprob_depth] = 64;
	static const unsigned rows[] = { 1025, 1025, 1025, 1022 };
	for (unsigned i = 0; i < 4; i++)
		assert_true(pf_kernel_rows[PF_KERNEL_linear_logprob].elements(PF_ARG_linear_logprob_weight + i,
		                                                              value) == (uint64_t)rows[i] * 64);
	assert_true(pf_kernel_rows[PF_KERNEL_linear_logprob].elements(PF_ARG_linear_logprob_raw, value) == 0);
	value[PF_ARG_linear_logprob_rows] = 65;
	value[PF_ARG_linear_logprob_mode] = PF_LINEAR_RAW;
	assert_true(pf_kernel_rows[PF_KERNEL_linear_logprob].elements(PF_ARG_linear_logprob_raw, value) ==
	            2 * 65 * 64 * 4);
}

/* W passes by once for each block of 64 tokens */
static void weights_pass_by_block(void **state)
{
	uint32_t value[PF_ARGS_MAX] = { 0 };
	static const struct { uint32_t rows; uint64_t passes; } cases[] = { { 0, 1 }, { 1, 1 }, { 64, 1 }, { 65, 2 }, { 8192, 128 } };
	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		value[PF_ARG_linear_grad_rows] = cases[i].rows;
		assert_true(pf_kernel_passes(PF_KERNEL_linear_grad, PF_ARG_linear_grad_weight + 3, value) ==
		            cases[i].passes);
		assert_true(pf_kernel_passes(PF_KERNEL_linear_grad, PF_ARG_linear_grad_dweight, value) ==
		            cases[i].passes);
		assert_true(pf_kernel_passes(PF_KERNEL_linear_grad, PF_ARG_linear_grad_hidden, value) == 1);
		assert_true(pf_kernel_passes(PF_KERNEL_head_adamw, PF_ARG_head_adamw_weight0, value) == 1);
	}
}

static void hashes_tell_kernels_apart(void **state)
{
	(void)state;
	for (int i = 0; i < PF_KERNEL_COUNT; i++) {
		assert_int_equal(pf_kernel_find(pf_kernel_rows[i].name), i);
		assert_true(pf_kernel_hash((enum pf_kernel)i) == pf_kernel_hash((enum pf_kernel)i));
		for (int j = 0; j < i; j++)
			assert_true(pf_kernel_hash((enum pf_kernel)i) != pf_kernel_hash((enum pf_kernel)j));
	}
	assert_non_null(strstr(pf_kernel_rows[PF_KERNEL_coef].signature, "VAL float tail"));
	assert_int_equal(pf_kernel_find("logprobe"), -1);
	assert_int_equal(pf_kernel_find(NULL), -1);
}

static void nearest_names(void **state)
{
	static const char *const known[] = { "sigmoid", "hinge", "ipo", "kto" };
	static const struct { const char *name, *want; } cases[] = {
		{ "sigmiod", "sigmoid" }, { "SIGMOID", "sigmoid" }, { "sgmoid", "sigmoid" }, { "hingee", "hinge" },
		{ "ip", "ipo" }, { "kot", "kto" }, { "zzz", NULL }, { "", NULL }, { "completely-different", NULL },
	};
	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		const char *best = NULL;
		for (size_t k = 0; k < 4; k++)
			pf_name_nearest(cases[i].name, known[k], &best);
		if (cases[i].want)
			assert_string_equal(best, cases[i].want);
		else
			assert_null(best);
	}
	assert_int_equal(pf_name_distance("", "abc"), 3);
	assert_int_equal(pf_name_distance("kitten", "sitting"), 3);
	assert_int_equal(pf_name_distance("ab", "ba"), 1);
}

static void nearest_survives_long_names(void **state)
{
	char a[300], b[300];
	(void)state;
	memset(a, 'x', sizeof a - 1), a[sizeof a - 1] = 0;
	memset(b, 'x', sizeof b - 1), b[100] = 0;
	assert_int_equal(pf_name_distance(a, b), 0);
	assert_int_equal(pf_name_distance(a, ""), 63);
}

static void error_texts(void **state)
{
	struct pf_error error = { 0 };
	(void)state;
	assert_int_equal(pf_fail(NULL, -5, "%d", 1), -5);
	assert_int_equal(pf_fail(&error, PF_E_SHAPE, "row %d", 7), PF_E_SHAPE);
	assert_string_equal(error.text, "row 7");
	pf_fail_in(&error, "file %s", "x.npy");
	pf_fail_in(NULL, "file %s", "x.npy");
	assert_int_equal(error.code, PF_E_SHAPE);
	assert_string_equal(error.text, "file x.npy: row 7");
	for (int i = 0; i < 100; i++)
		pf_fail_in(&error, "%s", "a context of some length");
	assert_int_equal(strlen(error.text), sizeof error.text - 1);
	assert_string_equal(pf_error_text(0), "no error");
	assert_string_equal(pf_error_text(PF_E_MEMORY), "card memory exhausted");
	assert_string_equal(pf_error_text(-ENOENT), strerror(ENOENT));
	assert_string_equal(pf_error_text(-5999), "unknown error code");
	assert_string_equal(pf_error_text(3), "unknown error code");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(rows_match_indices), cmocka_unit_test(ports_expand),
		cmocka_unit_test(weights_pass_by_block),
		cmocka_unit_test(elements_follow_scalars), cmocka_unit_test(hashes_tell_kernels_apart),
		cmocka_unit_test(nearest_names), cmocka_unit_test(nearest_survives_long_names),
		cmocka_unit_test(error_texts),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
