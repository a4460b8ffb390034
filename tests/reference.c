/* Log-probs of the reference in files: layout of the cache's own, exchange with other tools, hostile files. */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include "tests/cmocka.h"
#include "tests/scratch.h"
#include "host/model/safetensors.h"
#include "host/train/reference.h"
#include "host/train/reference_file.h"

static struct pf_error error;
static struct pf_reference_table table[PF_SPLITS], other[PF_SPLITS];

static void assert_says(const char *text)
{
	if (!strstr(error.text, text))
		fail_msg("\"%s\" is not in \"%s\"", text, error.text);
}

/* Empty tables of a form: pairs, singles (sides 1) or rankings (sides 64) */
static void make(struct pf_reference_table t[PF_SPLITS], unsigned sides, uint64_t samples, uint64_t held)
{
	for (int split = 0; split < PF_SPLITS; split++) {
		pf_reference_table_free(&t[split]);
		t[split] = (struct pf_reference_table){ .samples = split ? held : samples,
			                                .key = 0xabc0 + (uint64_t)split,
			                                .sides = sides,
			                                .pairs = sides == 2 };
		assert_int_equal(pf_reference_table_init(&t[split], &error), 0);
	}
}

static int empty(void **state)
{
	(void)state;
	for (int split = 0; split < PF_SPLITS; split++) {
		pf_reference_table_free(&table[split]);
		pf_reference_table_free(&other[split]);
	}
	return 0;
}

/* ---- the cache's own file ---- */

static void the_layout_is_as_written(void **state)
{
	struct pf_reference *r;
	unsigned char bytes[8 + 512 + 4 * 16];
	int64_t word;
	FILE *file;

	(void)state;
	scratch_open("reference");
	assert_int_equal(pf_reference_open(scratch_path(""), 7, 2, 2, &r, &error), 0);
	assert_int_equal(pf_reference_put(r, 1, 0, -123456789012, &error), 0);
	file = fopen(pf_reference_path(r), "rb");
	assert_non_null(file);
	assert_int_equal(fread(bytes, 1, sizeof bytes, file), sizeof bytes);
	assert_int_equal(fgetc(file), EOF);
	fclose(file);
	assert_true(bytes[0] == 0 && bytes[1] == 2 && bytes[2] == 0);
	assert_non_null(strstr((const char *)bytes + 8, "\"logp_q32\":{\"dtype\":\"I64\",\"shape\":[2,2,2]"));
	memcpy(&word, bytes + 8 + 512 + 2 * 16, sizeof word);
	assert_true(word == -123456789012);
	memcpy(&word, bytes + 8 + 512 + 16 + 8, sizeof word);
	assert_true(word == 0);
	pf_reference_close(r);
}

static void imported_numbers_are_marked_and_never_mixed(void **state)
{
	struct pf_reference *r, *again;
	int64_t sum = 0;

	(void)state;
	scratch_open("reference");
	assert_int_equal(pf_reference_open(scratch_path(""), 7, 2, 1, &r, &error), 0);
	assert_int_equal(pf_reference_put(r, 0, 0, -5, &error), 0);
	assert_int_equal(pf_reference_restart(r, 99, &error), 0);
	assert_int_equal(pf_reference_commit(r, &error), 0);
	assert_true(pf_reference_origin(r) == 99);
	assert_true(pf_reference_get(r, 0, 0, &sum, &error) < 0);
	assert_says("imported");
	assert_int_equal(pf_reference_put(r, 0, 0, -6, &error), 0);
	assert_int_equal(pf_reference_open(scratch_path(""), 7, 2, 1, &again, &error), 0);
	assert_true(pf_reference_origin(again) == 99);
	assert_int_equal(pf_reference_get(again, 0, 0, &sum, &error), 1);
	assert_int_equal(sum, -6);
	assert_int_equal(pf_reference_restart(again, 0, &error), 0);
	assert_int_equal(pf_reference_commit(again, &error), 0);
	assert_int_equal(pf_reference_get(again, 0, 0, &sum, &error), 0);
	pf_reference_close(again);
	pf_reference_close(r);
}

static void check_entries(const struct pf_reference *r, int64_t first, int64_t second)
{
	int64_t sum = 0;

	assert_int_equal(pf_reference_get(r, 0, 0, &sum, &error), 1);
	assert_true(sum == first);
	assert_int_equal(pf_reference_get(r, 1, 0, &sum, &error), 1);
	assert_true(sum == second);
}

/* `reader` is a training that has the cache open all the time */
static void an_import_leaves_readers_alone(void **state)
{
	struct pf_reference *reader, *import, *later;

	(void)state;
	scratch_open("reference");
	assert_int_equal(pf_reference_open(scratch_path(""), 7, 2, 1, &reader, &error), 0);
	assert_int_equal(pf_reference_put(reader, 0, 0, -5, &error), 0);
	assert_int_equal(pf_reference_put(reader, 1, 0, -6, &error), 0);
	for (int commit = 0; commit < 2; commit++) {
		assert_int_equal(pf_reference_open(scratch_path(""), 7, 2, 1, &import, &error), 0);
		assert_int_equal(pf_reference_restart(import, 99, &error), 0);
		check_entries(reader, -5, -6);
		assert_int_equal(pf_reference_open(scratch_path(""), 7, 2, 1, &later, &error), 0);
		assert_int_equal(pf_reference_restart(later, 98, &error), -EBUSY);
		pf_reference_close(later);
		assert_int_equal(pf_reference_put(import, 0, 0, -7, &error), 0);
		assert_int_equal(pf_reference_put(import, 1, 0, -8, &error), 0);
		if (commit)
			assert_int_equal(pf_reference_commit(import, &error), 0);
		pf_reference_close(import);
		check_entries(reader, -5, -6);
		assert_int_equal(scratch_count(""), 1);
		assert_int_equal(pf_reference_open(scratch_path(""), 7, 2, 1, &later, &error), 0);
		assert_true(pf_reference_origin(later) == (commit ? 99 : 0));
		check_entries(later, commit ? -7 : -5, commit ? -8 : -6);
		pf_reference_close(later);
	}
	assert_true(pf_reference_origin(reader) == 0);
	pf_reference_close(reader);
}

/* ---- files for others ---- */

static void fill(void)
{
	for (int split = 0; split < PF_SPLITS; split++)
		for (uint64_t i = 0; i < table[split].samples; i++)
			for (unsigned side = 0; side < (table[split].sides > 2 ? 1 + i % 3 : table[split].sides);
			     side++)
				assert_int_equal(pf_reference_table_put(&table[split], i, side,
				                                        -0x1p20 - ldexp((double)(3 * i + side), -32),
				                                        &error),
				                 0);
}

static void what_is_written_is_read_exactly(void **state)
{
	static const char *const names[] = { "x.jsonl", "x.safetensors" };
	static const unsigned sides[] = { 2, 1, 64 };

	(void)state;
	scratch_open("reference");
	for (size_t k = 0; k < 6; k++) {
		const char *path = scratch_path(names[k % 2]);

		make(table, sides[k / 2], 5, k % 2 ? 3 : 0);
		make(other, sides[k / 2], 5, k % 2 ? 3 : 0);
		fill();
		assert_int_equal(pf_reference_file_write(path, table, &error), 0);
		if (pf_reference_file_read(path, other, 0, &error))
			fail_msg("%s", error.text);
		for (int split = 0; split < PF_SPLITS; split++)
			assert_memory_equal(table[split].sum, other[split].sum,
			                    table[split].samples * table[split].sides * sizeof(int64_t));
	}
	make(table, 2, 1, 0);
	assert_int_equal(pf_reference_file_write(scratch_path("x.csv"), table, &error), PF_E_ARGUMENT);
	assert_says("must end in .jsonl or .safetensors");
}

/* Numbers that were imported do not get this program's key by being exported */
static void imported_numbers_stay_foreign(void **state)
{
	(void)state;
	scratch_open("reference");
	make(table, 2, 5, 0);
	make(other, 2, 5, 0);
	fill();
	table[0].origin = 12;
	assert_int_equal(pf_reference_file_write(scratch_path("x.jsonl"), table, &error), 0);
	assert_int_equal(pf_reference_file_read(scratch_path("x.jsonl"), other, 0, &error), PF_E_MISMATCH);
	assert_int_equal(pf_reference_file_read(scratch_path("x.jsonl"), other, 1, &error), 0);
}

static const struct { const char *text, *says; } bad_lines[] = {
	{ "{\"sample\":0,\"ref_chosen_logps\":-1,\"ref_rejected_logps\":-2", "x.jsonl:2: column " },
	{ "[]", "x.jsonl:2: a line must be an object" },
	{ "{}", "x.jsonl:2: key is missing, but these weights" },
	{ "{\"key\":\"000000000000abc0\"}", "x.jsonl:2: field \"ref_chosen_logps\" is missing" },
	{ "{\"key\":\"000000000000abc1\",\"ref_chosen_logps\":-1,\"ref_rejected_logps\":-1}", "x.jsonl:2: key 000000000000abc1" },
	{ "{\"key\":\"000000000000abc0\",\"ref_chosen_logps\":\"-1\"}", "x.jsonl:2: field \"ref_chosen_logps\" must be a number" },
	{ "{\"key\":\"000000000000abc0\",\"ref_chosen_logps\":1,\"ref_rejected_logps\":-1}", "x.jsonl:2: sample 0: 1 is no sum" },
	{ "{\"key\":\"000000000000abc0\",\"ref_chosen_logps\":-3e9,\"ref_rejected_logps\":-1}", "x.jsonl:2: sample 0: -3e+09 is no" },
	{ "{\"key\":\"000000000000abc0\",\"ref_chosen_logps\":NaN,\"ref_rejected_logps\":-1}", "x.jsonl:2: column " },
	{ "{\"key\":\"000000000000abc0\",\"sample\":2,\"ref_chosen_logps\":-1,\"ref_rejected_logps\":-1}",
	  "x.jsonl:2: sample 2, but the data have 2 in this split" },
	{ "{\"key\":\"000000000000abc0\",\"sample\":-1,\"ref_chosen_logps\":-1,\"ref_rejected_logps\":-1}",
	  "x.jsonl:2: field \"sample\" must be a number from 0 on" },
	{ "{\"key\":\"000000000000abc0\",\"sample\":1e3,\"ref_chosen_logps\":-1,\"ref_rejected_logps\":-1}",
	  "x.jsonl:2: field \"sample\" must be" },
	{ "{\"split\":\"test\"}", "x.jsonl:2: field \"split\" must be" },
	{ "{\"split\":\"held\",\"key\":\"000000000000abc1\",\"ref_chosen_logps\":-1,\"ref_rejected_logps\":-1}",
	  "x.jsonl:2: sample 0, but the data have 0" },
	{ "{\"sample\":0,\"sample\":1}", "x.jsonl:2: column " },
	{ "\xff", "x.jsonl:2: column " },
};

static void hostile_lines_are_named(void **state)
{
	char text[1024];

	(void)state;
	scratch_open("reference");
	for (size_t i = 0; i < sizeof bad_lines / sizeof *bad_lines; i++) {
		make(table, 2, 2, 0);
		snprintf(text, sizeof text, "\n%s\n", bad_lines[i].text);
		if (pf_reference_file_read(scratch_text("x.jsonl", text), table, 0, &error) >= 0)
			fail_msg("accepted: %s", bad_lines[i].text);
		assert_says(bad_lines[i].says);
	}
	make(table, 2, 2, 0);
	assert_true(
		pf_reference_file_read(
			scratch_text("x.jsonl", "{\"ref_chosen_logps\":-1,\"ref_rejected_logps\":-1,\"sample\":1}\n"
	                                        "{\"ref_chosen_logps\":-1,\"ref_rejected_logps\":-1,\"sample\":1}\n"),
			table, 1, &error) < 0);
	assert_says("x.jsonl:2: sample 1 is there twice");
}

/* A safetensors file of float32 as another program makes it; `name` of the first tensor */
static const char *tensors(const char *name, enum pf_dtype type, uint64_t rows, double value)
{
	const char *names[2] = { name, "ref_rejected_logps" }, *path = scratch_path("x.safetensors");
	struct pf_safetensors_writer *w;
	const float narrow = (float)value;

	assert_int_equal(pf_safetensors_create(path, &w, &error), 0);
	for (int k = 0; k < 2; k++)
		assert_int_equal(pf_safetensors_declare(w, names[k], type, 1, &rows, &error), 0);
	for (uint64_t i = 0; i < 2 * rows; i++)
		assert_int_equal(pf_safetensors_write(w, type == PF_F64 ? (const void *)&value : &narrow,
		                                      pf_dtype_bytes(type), &error),
		                 0);
	assert_int_equal(pf_safetensors_commit(w, &error), 0);
	return path;
}

static void hostile_tensors_are_named(void **state)
{
	static const struct { const char *name; enum pf_dtype type; uint64_t rows; double value; const char *says; } cases[] = {
		{ "chosen", PF_F32, 2, -1, "there is no tensor ref_chosen_logps" },
		{ "ref_chosen_logps", PF_BF16, 2, -1, "must be F64 or F32" },
		{ "ref_chosen_logps", PF_F32, 3, -1, "must be [2]: the data have that many samples" },
		{ "ref_chosen_logps", PF_F32, 2, NAN, "tensor ref_chosen_logps: sample 0: nan is no sum" },
		{ "ref_chosen_logps", PF_F64, 2, -INFINITY, "sample 0: -inf is no sum" },
	};

	(void)state;
	scratch_open("reference");
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		make(table, 2, 2, 0);
		assert_true(pf_reference_file_read(tensors(cases[i].name, cases[i].type, cases[i].rows, cases[i].value),
		                                   table, 1, &error) < 0);
		assert_says(cases[i].says);
		assert_says("x.safetensors: ");
	}
	make(table, 2, 2, 0);
	assert_int_equal(pf_reference_file_read(tensors("ref_chosen_logps", PF_F32, 2, -2.5), table, 1, &error), 0);
	assert_true(table[0].sum[3] == -5 * (INT64_C(1) << 31));
	make(table, 2, 2, 0);
	assert_true(pf_reference_file_read(tensors("ref_chosen_logps", PF_F32, 2, -2.5), table, 0, &error) ==
	            PF_E_MISMATCH);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_layout_is_as_written),
		cmocka_unit_test(imported_numbers_are_marked_and_never_mixed),
		cmocka_unit_test(an_import_leaves_readers_alone),
		cmocka_unit_test(what_is_written_is_read_exactly),
		cmocka_unit_test(imported_numbers_stay_foreign),
		cmocka_unit_test(hostile_lines_are_named),
		cmocka_unit_test(hostile_tensors_are_named),
	};

	return cmocka_run_group_tests(tests, NULL, empty);
}
