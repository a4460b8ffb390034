/* safetensors: what is written comes back bit for bit, files of other makers are read, liars are
 * refused with the reason, and a writer that fails leaves the old file. */
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>
#include "cmocka.h"
#include "host/model/half.h"
#include "host/model/replace.h"
#include "host/model/safetensors.h"
#include "scratch.h"

static const float floats[6] = { 1.5f, -0.0f, INFINITY, 1e-45f, -3.0f, 0.1f };
static const int64_t longs[3] = { -1, INT64_MAX, 0 };
static const uint8_t bytes[5] = { 0, 1, 2, 254, 255 };

static struct pf_safetensors_writer *create(const char *path)
{
	struct pf_safetensors_writer *w = NULL;
	struct pf_error error = { 0 };
	if (pf_safetensors_create(path, &w, &error) != 0)
		fail_msg("%s", error.text);
	return w;
}

static void declare_all(struct pf_safetensors_writer *w)
{
	static const uint64_t square[] = { 2, 3 }, three[] = { 3 }, five[] = { 5, 1, 1 },
	                      none[] = { 4, 0 };
	assert_int_equal(pf_safetensors_declare(w, "b.five", PF_U8, 3, five, NULL), 0);
	assert_int_equal(
	        pf_safetensors_declare(w, "a \"quoted\" \xc3\xa9", PF_F32, 2, square, NULL), 0);
	assert_int_equal(pf_safetensors_declare(w, "none", PF_F64, 2, none, NULL), 0);
	assert_int_equal(pf_safetensors_declare(w, "longs", PF_I64, 1, three, NULL), 0);
	assert_int_equal(pf_safetensors_declare(w, "scalar", PF_F32, 0, NULL, NULL), 0);
	assert_int_equal(pf_safetensors_annotate(w, "step", "12", NULL), 0);
	assert_int_equal(pf_safetensors_annotate(w, "format", "pt", NULL), 0);
}

static void write_all(const char *path)
{
	struct pf_safetensors_writer *w = create(path);
	declare_all(w);
	assert_int_equal(pf_safetensors_write(w, bytes, 5, NULL), 0);
	assert_int_equal(pf_safetensors_write(w, floats, 10, NULL), 0); /* in uneven pieces */
	assert_int_equal(pf_safetensors_write(w, (const char *)floats + 10, 14, NULL), 0);
	assert_int_equal(pf_safetensors_write(w, longs, sizeof longs, NULL), 0);
	assert_int_equal(pf_safetensors_write(w, floats, 4, NULL), 0);
	assert_int_equal(pf_safetensors_commit(w, NULL), 0);
}

static void test_round_trip(void **state)
{
	const char *path = scratch_path("round.safetensors");
	struct pf_safetensors *f;
	float read[6];
	(void)state;
	write_all(path);
	assert_int_equal(pf_safetensors_open(path, &f, NULL), 0);
	assert_int_equal(pf_safetensors_count(f), 5);
	const struct pf_safetensor *t = pf_safetensors_find(f, "a \"quoted\" \xc3\xa9");
	assert_non_null(t);
	assert_true(t->type == PF_F32 && t->rank == 2 && t->shape[0] == 2 && t->shape[1] == 3 &&
	            t->elements == 6);
	assert_int_equal(pf_safetensor_floats(t, read, NULL), 0);
	assert_memory_equal(read, floats, sizeof floats);
	t = pf_safetensors_find(f, "longs");
	assert_memory_equal(t->data, longs, sizeof longs);
	assert_int_equal(pf_safetensor_floats(t, read, NULL), PF_E_TYPE);
	t = pf_safetensors_find(f, "b.five");
	assert_true(t->rank == 3 && t->bytes == 5 && memcmp(t->data, bytes, 5) == 0);
	assert_true(pf_safetensors_find(f, "none")->elements == 0 &&
	            pf_safetensors_find(f, "scalar")->rank == 0);
	assert_null(pf_safetensors_find(f, "Longs"));
	assert_string_equal(pf_safetensors_note(f, "step"), "12");
	assert_null(pf_safetensors_note(f, "missing"));
	assert_null(pf_safetensors_at(f, 5));
	pf_safetensors_close(f);
	assert_int_equal(access(scratch_path("round.safetensors.partial"), F_OK), -1);
}

/* A file from a header text and `size` bytes of data 0, 1, 2, ... */
static const char *made(const char *name, const char *header, size_t size)
{
	static uint8_t file[4096];
	uint64_t length = strlen(header);
	memcpy(file, &length, 8);
	memcpy(file + 8, header, length);
	for (size_t i = 0; i < size; i++)
		file[8 + length + i] = (uint8_t)i;
	return scratch_bytes(name, file, 8 + length + size);
}

static int refused(const char *header, size_t size, const char *word)
{
	struct pf_safetensors *f = NULL;
	struct pf_error error = { 0 };
	int code = pf_safetensors_open(made("hostile", header, size), &f, &error);
	pf_safetensors_close(f);
	if (code >= 0 || !strstr(error.text, word) || !strstr(error.text, "hostile")) {
		print_message("%s: %d %s\n", header, code, error.text);
		return 0;
	}
	return 1;
}

#define ONE(dtype, shape, offsets) \
	"{\"x\":{\"dtype\":" dtype ",\"shape\":" shape ",\"data_offsets\":" offsets "}}"
#define TWO(offsets1, offsets2) \
	"{\"x\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":" offsets1 "}," \
	"\"y\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":" offsets2 "}}"

static void test_hostile_headers(void **state)
{
	(void)state;
	assert_true(refused(ONE("\"F32\"", "[2]", "[0,8]"), 7, "outside"));
	assert_true(refused(ONE("\"F32\"", "[2]", "[0,8]"), 9, "unused bytes at the end"));
	assert_true(refused(ONE("\"F32\"", "[2]", "[4,12]"), 12, "unused bytes before"));
	assert_true(refused(ONE("\"F32\"", "[3]", "[0,8]"), 8, "need 12 bytes"));
	assert_true(refused(ONE("\"F32\"", "[2]", "[8,0]"), 8, "outside"));
	assert_true(refused(ONE("\"F32\"", "[2]", "[-8,0]"), 8, "whole numbers"));
	assert_true(refused(ONE("\"F32\"", "[2]", "[0,8,16]"), 8, "two whole numbers"));
	assert_true(refused(ONE("\"F32\"", "[2]", "[0,9223372036854775807]"), 8, "outside"));
	assert_true(refused(ONE("\"F32\"", "[2]", "[0,1e1]"), 8, "whole numbers"));
	assert_true(refused(ONE("\"F32\"", "[-2]", "[0,8]"), 8, "whole numbers"));
	assert_true(refused(ONE("\"F32\"", "[4611686018427387904]", "[0,0]"), 0, "too large"));
	assert_true(refused(ONE("\"F32\"", "[4294967296,4294967296]", "[0,0]"), 0, "too large"));
	assert_true(refused(ONE("\"F32\"", "[1,1,1,1,1,1,1,1,1]", "[0,4]"), 4, "dimensions"));
	assert_true(refused(ONE("\"F32\"", "2", "[0,8]"), 8, "shape"));
	assert_true(refused(ONE("\"F33\"", "[2]", "[0,8]"), 8, "F33"));
	assert_true(refused(ONE("7", "[2]", "[0,8]"), 8, "dtype"));
	assert_true(refused(TWO("[0,4]", "[2,6]"), 6, "overlaps"));
	assert_true(refused(TWO("[0,4]", "[0,4]"), 4, "overlaps"));
	assert_true(refused(TWO("[0,4]", "[5,9]"), 9, "unused bytes before"));
	assert_true(refused("{\"x\":1,\"x\":2}", 0, "duplicate"));
	assert_true(refused("{\"x\":1}", 0, "dtype"));
	assert_true(refused("[]", 0, "not a JSON object"));
	assert_true(refused("{\"x\":", 0, "header"));
	assert_true(refused("{\"__metadata__\":3}", 0, "__metadata__"));
	assert_true(refused("{\"__metadata__\":{\"a\":3}}", 0, "not a string"));
	assert_false(refused("{}   ", 0, ""));
	assert_false(refused(ONE("\"F32\"", "[2]", "[0,8]"), 8, ""));
}

static void test_hostile_files(void **state)
{
	static const uint8_t huge[16] = { 255, 255, 255, 255, 255, 255, 255, 127, '{', '}' };
	static const uint8_t more[16] = { 9, 0, 0, 0, 0, 0, 0, 0, '{', '}' };
	struct pf_safetensors *f;
	struct pf_error error;
	(void)state;
	assert_int_equal(pf_safetensors_open(scratch_bytes("short", huge, 7), &f, &error),
	                 PF_E_FORMAT);
	assert_int_equal(pf_safetensors_open(scratch_bytes("empty", huge, 0), &f, &error),
	                 PF_E_FORMAT);
	assert_int_equal(pf_safetensors_open(scratch_bytes("huge", huge, 16), &f, &error),
	                 PF_E_FORMAT);
	assert_int_equal(pf_safetensors_open(scratch_bytes("more", more, 16), &f, &error),
	                 PF_E_FORMAT);
	assert_int_equal(pf_safetensors_open(scratch_path("absent"), &f, &error), -ENOENT);
	assert_non_null(strstr(error.text, "absent"));
	assert_int_equal(pf_safetensors_open("/dev/null", &f, &error), PF_E_FORMAT);
	assert_int_equal(mkfifo(scratch_path("fifo"), 0666), 0);
	assert_int_equal(pf_safetensors_open(scratch_path("fifo"), &f, &error), PF_E_FORMAT);
}

static void test_conversions(void **state)
{
	static const uint16_t half[] = { 0x0000, 0x8000, 0x3c00, 0xc000, 0x7bff,
	                                 0x0400, 0x03ff, 0x0001, 0x7c00, 0xfc00 };
	static const float wanted[] = { 0,        -0.0f,      1,        -2,       65504,
	                                0x1p-14f, 0x3ffp-24f, 0x1p-24f, INFINITY, -INFINITY };
	(void)state;
	for (size_t i = 0; i < sizeof half / sizeof *half; i++) {
		const float got = pf_half_float(half[i]);
		assert_memory_equal(&got, &wanted[i], sizeof got);
	}
	assert_true(isnan(pf_half_float(0x7e01)) && isnan(pf_bfloat_float(0x7fc0)));
	assert_true(pf_bfloat_float(0x3f80) == 1.0f && pf_bfloat_float(0xc2f7) == -123.5f);
	for (uint32_t i = 0; i < 65536;
	     i++) { /* monotone and sign-symmetric over all finite halves */
		const float x = pf_half_float((uint16_t)i);
		if ((i & 0x7c00) != 0x7c00) {
			assert_true(pf_half_float((uint16_t)(i ^ 0x8000)) == -x);
			if ((i & 0x7fff) != 0)
				assert_true(fabsf(x) > fabsf(pf_half_float((uint16_t)(i - 1))));
		}
	}
}

/* Data at odd addresses, as a header of odd length gives */
static void test_unaligned(void **state)
{
	static const char header[] = ONE("\"F64\"", "[2]", "[0,16]");
	struct pf_safetensors *f;
	uint8_t file[256];
	uint64_t length = sizeof header - 1;
	const double values[2] = { -0.1, 3e300 };
	float read[2];
	(void)state;
	for (int blanks = 0; blanks < 8; blanks++) {
		uint64_t padded = length + (uint64_t)blanks;
		memset(file, ' ', sizeof file);
		memcpy(file, &padded, 8);
		memcpy(file + 8, header, length);
		memcpy(file + 8 + padded, values, 16);
		assert_int_equal(pf_safetensors_parse(file, 24 + padded, "memory", &f, NULL), 0);
		assert_int_equal(pf_safetensor_floats(pf_safetensors_at(f, 0), read, NULL), 0);
		assert_true(read[0] == -0.1f && read[1] == INFINITY);
		pf_safetensors_close(f);
	}
}

static void test_writer_misuse(void **state)
{
	static const uint64_t two[] = { 2 }, huge[] = { UINT64_MAX / 4, 2 },
	                      large[] = { INT64_MAX };
	const char *path = scratch_path("misuse.safetensors");
	struct pf_safetensors_writer *w = create(path), *second;
	struct pf_error error;
	(void)state;
	assert_int_equal(pf_safetensors_create(path, &second, &error), -EBUSY);
	assert_int_equal(pf_safetensors_declare(w, "a", PF_F32, 1, two, &error), 0);
	assert_int_equal(pf_safetensors_declare(w, "a", PF_F32, 1, two, &error), PF_E_ARGUMENT);
	assert_int_equal(pf_safetensors_declare(w, "__metadata__", PF_F32, 1, two, &error),
	                 PF_E_ARGUMENT);
	assert_int_equal(pf_safetensors_declare(w, "b", PF_F32, 9, two, &error), PF_E_ARGUMENT);
	assert_int_equal(pf_safetensors_declare(w, "b", PF_F32, 2, huge, &error), PF_E_RANGE);
	assert_int_equal(pf_safetensors_declare(w, "b", PF_U8, 1, large, &error), PF_E_RANGE);
	assert_int_equal(pf_safetensors_declare(w, "\xff", PF_U8, 1, two, &error), PF_E_DATA);
	assert_int_equal(pf_safetensors_annotate(w, "note", "\xff", &error), PF_E_DATA);
	assert_int_equal(pf_safetensors_write(w, floats, 4, &error), 0);
	assert_int_equal(pf_safetensors_declare(w, "c", PF_F32, 1, two, &error), PF_E_ARGUMENT);
	assert_int_equal(pf_safetensors_write(w, floats, 8, &error), PF_E_SHAPE);
	assert_int_equal(pf_safetensors_commit(w, &error), PF_E_SHAPE);
	assert_non_null(strstr(error.text, "4 of 8"));
	assert_int_equal(access(path, F_OK), -1);
	pf_safetensors_abandon(NULL);
}

/* The disk is full in the middle, or the process dies: the old file is still there and whole */
static void test_nothing_half_written(void **state)
{
	static const uint64_t many[] = { 1 << 16 };
	const char *path = scratch_path("kept.safetensors"),
	           *partial = scratch_path("kept.safetensors.partial");
	struct rlimit old, tight;
	struct pf_safetensors *f;
	struct pf_error error = { 0 };
	float *data = calloc(many[0], sizeof *data);
	(void)state;
	write_all(path);
	struct pf_safetensors_writer *w = create(path);
	assert_int_equal(pf_safetensors_declare(w, "big", PF_F32, 1, many, NULL), 0);
	signal(SIGXFSZ, SIG_IGN);
	getrlimit(RLIMIT_FSIZE, &old);
	tight = old;
	tight.rlim_cur = 100000;
	setrlimit(RLIMIT_FSIZE, &tight);
	int code = pf_safetensors_write(w, data, many[0] * sizeof *data, &error);
	setrlimit(RLIMIT_FSIZE, &old);
	assert_int_equal(code, -EFBIG);
	assert_non_null(strstr(error.text, "nothing was replaced"));
	pf_safetensors_abandon(w);
	assert_int_equal(access(partial, F_OK), -1);
	scratch_text("kept.safetensors.partial", "left by a killed process");
	assert_int_equal(pf_safetensors_open(path, &f, NULL), 0);
	assert_int_equal(pf_safetensors_count(f), 5);
	write_all(path); /* replaces while open, and takes the left-over over */
	assert_string_equal(pf_safetensors_note(f, "step"), "12");
	pf_safetensors_close(f);
	assert_int_equal(access(partial, F_OK), -1);
	free(data);
}

static void test_unwritable(void **state)
{
	struct pf_safetensors_writer *w = NULL;
	struct pf_error error = { 0 };
	(void)state;
	assert_int_equal(pf_safetensors_create(scratch_path("no/such/folder"), &w, &error),
	                 -ENOENT);
	assert_non_null(strstr(error.text, "no/such/folder"));
	mkdir(scratch_path("folder"), 0777);
	assert_int_equal(pf_safetensors_create(scratch_path("folder"), &w, &error), -EISDIR);
	assert_non_null(strstr(error.text, "name a file"));
	assert_int_equal(access(scratch_path("folder.partial"), F_OK), -1);
	assert_int_equal(pf_safetensors_create("/dev/null", &w, &error), -ENOTSUP);
	assert_int_equal(mkfifo(scratch_path("pipe"), 0666), 0);
	assert_int_equal(pf_safetensors_create(scratch_path("pipe"), &w, &error), -ENOTSUP);
	assert_non_null(strstr(error.text, "not a regular file"));
	assert_int_equal(rename(scratch_path("pipe"), scratch_path("a.partial")), 0);
	assert_int_equal(pf_safetensors_create(scratch_path("a"), &w, &error), -ENXIO);
}

/* A link stays, and what it leads to is replaced */
static void test_links(void **state)
{
	struct pf_safetensors_writer *w = NULL;
	struct pf_error error = { 0 };
	struct stat facts;
	(void)state;
	mkdir(scratch_path("far"), 0777);
	scratch_text("far/file", "old");
	assert_int_equal(symlink("far/file", scratch_path("link")), 0);
	write_all(scratch_path("link"));
	assert_int_equal(lstat(scratch_path("link"), &facts), 0);
	assert_true(S_ISLNK(facts.st_mode));
	assert_int_equal(lstat(scratch_path("far/file"), &facts), 0);
	assert_true(S_ISREG(facts.st_mode) && facts.st_size > 3);
	assert_int_equal(scratch_count("far"), 1);
	assert_int_equal(symlink("far/none", scratch_path("dangling")), 0);
	assert_int_equal(pf_safetensors_create(scratch_path("dangling"), &w, &error), -ENOLINK);
	assert_non_null(strstr(error.text, "remove the link"));
	assert_true(pf_replace_same(scratch_path("link"), scratch_path("far/../far/file")));
	assert_true(pf_replace_same(scratch_path("new"), scratch_path("far/../new")));
	assert_false(pf_replace_same(scratch_path("new"), scratch_path("far/new")));
	assert_false(pf_replace_same(scratch_path("no/new"), scratch_path("no/new")));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_round_trip),
		cmocka_unit_test(test_hostile_headers),
		cmocka_unit_test(test_hostile_files),
		cmocka_unit_test(test_conversions),
		cmocka_unit_test(test_unaligned),
		cmocka_unit_test(test_writer_misuse),
		cmocka_unit_test(test_nothing_half_written),
		cmocka_unit_test(test_unwritable),
		cmocka_unit_test(test_links),
	};
	scratch_open("safetensors");
	return cmocka_run_group_tests(tests, NULL, NULL);
}
