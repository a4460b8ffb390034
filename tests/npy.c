/* NumPy files: round trips, every version and spelling of the header, hostile headers, disk full. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include "tests/cmocka.h"
#include "tests/scratch.h"
#include "host/corpus/npy.h"

/* ---- round trips ---- */
static void round_trip(struct pf_npy_shape shape)
{
	const char *path = scratch_path("round.npy");
	const uint64_t count = pf_npy_count(&shape);
	const size_t bytes = count * pf_dtype_bytes(shape.type);
	unsigned char *data = malloc(bytes + 1);
	struct pf_npy_out *out = NULL;
	struct pf_error error = { 0 };
	struct pf_npy npy;
	for (size_t i = 0; i < bytes; i++)
		data[i] = (unsigned char)(i * 37);
	assert_int_equal(pf_npy_create(path, &shape, &out, &error), 0);
	assert_int_equal(pf_npy_append(out, data, count / 3, &error), 0);
	assert_int_equal(pf_npy_append(out, data + count / 3 * pf_dtype_bytes(shape.type), count - count / 3, &error),
	                 0);
	assert_int_equal(pf_npy_commit(out, &error), 0);
	assert_int_equal(pf_npy_open(path, &npy, &error), 0);
	if (shape.type == PF_BF16)
		pf_npy_as_bf16(&npy);
	assert_int_equal(npy.shape.type, shape.type);
	assert_int_equal(npy.shape.dims, shape.dims);
	assert_memory_equal(npy.shape.size, shape.size, shape.dims * sizeof shape.size[0]);
	assert_memory_equal(npy.data, data, bytes);
	pf_npy_pass(&npy, count);
	assert_memory_equal(npy.data, data, bytes);
	assert_true((uintptr_t)npy.data % 64 == 0);
	pf_npy_close(&npy);
	free(data);
}

static void test_round_trips(void **unused)
{
	static const enum pf_dtype types[] = { PF_F32, PF_F64, PF_F16, PF_BF16, PF_I32, PF_I64, PF_U16, PF_U8 };
	(void)unused;
	for (unsigned i = 0; i < sizeof types / sizeof *types; i++) {
		round_trip((struct pf_npy_shape){ types[i], 0, { 0 } });
		round_trip((struct pf_npy_shape){ types[i], 1, { 17 } });
		round_trip((struct pf_npy_shape){ types[i], 1, { 0 } });
		round_trip((struct pf_npy_shape){ types[i], 2, { 3, 5000 } });
		round_trip((struct pf_npy_shape){ types[i], 8, { 1, 2, 1, 3, 1, 1, 2, 1 } });
	}
}

/* ---- headers ---- */
static unsigned char file[4096];

/* A file of this version and dictionary with `data` bytes of elements; the dictionary is padded to 16 bytes */
static size_t make_file(int version, const char *dictionary, size_t data)
{
	const size_t prefix = version == 1 ? 10 : 12;
	size_t length = strlen(dictionary);
	memset(file, ' ', sizeof file);
	memcpy(file, "\x93NUMPY", 6);
	file[6] = (unsigned char)version;
	file[7] = 0;
	memcpy(file + prefix, dictionary, length);
	while ((prefix + length) % 16)
		length++;
	file[prefix + length - 1] = '\n';
	file[8] = (unsigned char)length;
	file[9] = (unsigned char)(length >> 8);
	if (version > 1)
		file[10] = file[11] = 0;
	memset(file + prefix + length, 7, data);
	return prefix + length + data;
}

static void accept(int version, const char *dictionary, enum pf_dtype type, unsigned dims, uint64_t count)
{
	struct pf_npy npy;
	struct pf_error error = { 0 };
	size_t length = make_file(version, dictionary, count * pf_dtype_bytes(type));
	if (pf_npy_parse(file, length, "a.npy", &npy, &error))
		fail_msg("%s: %s", dictionary, error.text);
	assert_int_equal(npy.shape.type, type);
	assert_int_equal(npy.shape.dims, dims);
	assert_int_equal(pf_npy_count(&npy.shape), count);
	assert_true((const unsigned char *)npy.data + count * pf_dtype_bytes(type) == file + length);
}

static void test_accepted(void **unused)
{
	(void)unused;
	for (int version = 1; version <= 3; version++)
		accept(version, "{'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), }", PF_F32, 2, 12);
	accept(1, "{'shape': (5,), 'fortran_order': False, 'descr': '<f2'}", PF_F16, 1, 5);
	accept(1, "{\"descr\":\"=i8\",\"fortran_order\":False,\"shape\":(2,3,)}", PF_I64, 2, 6);
	accept(1, "{'descr': '<u2', 'fortran_order': False, 'shape': (3L, 4L), }", PF_U16, 2, 12);
	accept(1, " {  'descr' : '|u1' , 'fortran_order' : False,'shape' : ( ) , }  ", PF_U8, 0, 1);
	accept(2, "{'descr': '<f8', 'fortran_order': False, 'shape': (0, 9), }", PF_F64, 2, 0);
}

static void refuse(int version, const char *dictionary, size_t data, int code, const char *says)
{
	struct pf_npy npy;
	struct pf_error error = { 0 };
	size_t length = make_file(version, dictionary, data);
	int got = pf_npy_parse(file, length, "a.npy", &npy, &error);
	if (got != code || !strstr(error.text, says) || !strstr(error.text, "a.npy"))
		fail_msg("%s: %d %s", dictionary, got, error.text);
	assert_int_equal(pf_npy_parse(file, length, "a.npy", &npy, NULL), code);
}

static void test_refused(void **unused)
{
	static const char *const broken[] = {
		"", "{", "{}", "[]", "{'descr': '<f4'}", "{'descr': '<f4', 'fortran_order': False}",
		"{'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), } x",
		"{'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), 'shape': (3, 4)}",
		"{'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), 'more': 1}",
		"{'descr': '<f4', 'fortran_order': False, 'shape': (3 4)}", "{'descr': '<f4' 'fortran_order': False}",
		"{'descr': '<f4', 'fortran_order': False, 'shape': (-3, 4)}", "{'descr': '<f4', 'fortran_order': No}",
		"{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999999999999,)}",
		"{'descr': '<f4', 'fortran_order': False, 'shape': 3}", "{'descr': '<f4", "{'descr': 4}",
		"{'descr': '<f4', 'fortran_order': False, 'shape': (3, 4",
	};
	(void)unused;
	for (unsigned i = 0; i < sizeof broken / sizeof *broken; i++)
		refuse(1, broken[i], 48, PF_E_FORMAT, "malformed");
	refuse(1, "{'descr': '>f4', 'fortran_order': False, 'shape': (3,), }", 12, PF_E_TYPE, "newbyteorder");
	refuse(1, "{'descr': '<c8', 'fortran_order': False, 'shape': (3,), }", 24, PF_E_TYPE, "<c8");
	refuse(1, "{'descr': '|O', 'fortran_order': False, 'shape': (3,), }", 24, PF_E_TYPE, "astype");
	refuse(1, "{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (3,), }", 12, PF_E_TYPE, "records");
	refuse(1, "{'descr': '<f4', 'fortran_order': True, 'shape': (3, 4), }", 48, PF_E_SHAPE, "ascontiguousarray");
	refuse(1, "{'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), }", 47, PF_E_FORMAT, "cut off");
	refuse(1, "{'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), }", 49, PF_E_FORMAT, "1 bytes follow");
	refuse(1, "{'descr': '<f4', 'fortran_order': False, 'shape': (1,1,1,1,1,1,1,1,1)}", 4, PF_E_SHAPE,
	       "8 dimensions");
	refuse(1, "{'descr': '<f4', 'fortran_order': False, 'shape': (4294967296, 4294967296)}", 4, PF_E_SHAPE, "more");
	refuse(1, "{'descr': '<f8', 'fortran_order': False, 'shape': (2305843009213693952,)}", 0, PF_E_SHAPE, "more");
	refuse(4, "{'descr': '<f4', 'fortran_order': False, 'shape': (3,), }", 12, PF_E_FORMAT, "version 4");
}

static void test_cut_header(void **unused)
{
	size_t length = make_file(2, "{'descr': '<f4', 'fortran_order': False, 'shape': (3,), }", 12);
	struct pf_npy npy;
	struct pf_error error = { 0 };
	(void)unused;
	for (size_t cut = 0; cut < length; cut++) {
		unsigned char *copy = malloc(cut + !cut);      /* the sanitizer sees a step beyond it */
		memcpy(copy, file, cut);
		assert_int_equal(pf_npy_parse(copy, cut, "a.npy", &npy, &error), PF_E_FORMAT);
		free(copy);
	}
	file[11] = 255;
	assert_int_equal(pf_npy_parse(file, length, "a.npy", &npy, &error), PF_E_FORMAT);
}

static void test_misaligned(void **unused)
{
	const char *dictionary = "{'descr': '<f4', 'fortran_order': False, 'shape': (3,), }";
	size_t length = strlen(dictionary);
	struct pf_npy npy;
	struct pf_error error = { 0 };
	(void)unused;
	make_file(1, dictionary, 0);
	file[8] = (unsigned char)(length += length % 2 ? 0 : 1);
	assert_int_equal(pf_npy_parse(file, 10 + length + 12, "a.npy", &npy, &error), PF_E_FORMAT);
	assert_non_null(strstr(error.text, "aligned"));
}

/* ---- files ---- */
static void test_missing_file(void **unused)
{
	struct pf_npy npy;
	struct pf_error error = { 0 };
	(void)unused;
	assert_int_equal(pf_npy_open(scratch_path("none.npy"), &npy, &error), -2);
	assert_non_null(strstr(error.text, "none.npy"));
	assert_int_equal(pf_npy_open(scratch_path("."), &npy, &error), PF_E_FORMAT);
	assert_int_equal(pf_npy_open(scratch_bytes("empty.npy", "", 0), &npy, &error), PF_E_FORMAT);
	assert_non_null(strstr(error.text, "empty"));
	assert_int_equal(mkfifo(scratch_path("fifo.npy"), 0666), 0);
	assert_int_equal(pf_npy_open(scratch_path("fifo.npy"), &npy, &error), PF_E_FORMAT);
	assert_non_null(strstr(error.text, "not a regular file"));
}

static void test_wrong_counts(void **unused)
{
	const struct pf_npy_shape shape = { PF_F32, 2, { 2, 3 } }, huge = { PF_F64, 2, { 1ull << 40, 1ull << 40 } };
	const float data[7] = { 0 };
	struct pf_npy_out *out = NULL;
	struct pf_error error = { 0 };
	(void)unused;
	assert_int_equal(pf_npy_create(scratch_path("c.npy"), &huge, &out, &error), PF_E_SHAPE);
	assert_int_equal(pf_npy_create(scratch_path("c.npy"), &shape, &out, &error), 0);
	assert_int_equal(pf_npy_append(out, data, 7, &error), PF_E_SHAPE);
	assert_int_equal(pf_npy_append(out, data, 5, &error), 0);
	assert_int_equal(pf_npy_commit(out, &error), PF_E_SHAPE);
	assert_int_equal(pf_npy_create(scratch_path("c.npy"), &shape, &out, &error), 0);
	pf_npy_abandon(out);
	pf_npy_abandon(NULL);
}

static void test_no_folder(void **unused)
{
	const struct pf_npy_shape shape = { PF_F32, 1, { 3 } };
	struct pf_npy_out *out = NULL;
	struct pf_error error = { 0 };
	(void)unused;
	assert_int_equal(pf_npy_create(scratch_path("no/such/c.npy"), &shape, &out, &error), -2);
	assert_non_null(strstr(error.text, "c.npy"));
}

/* A limit on the size of files stands for a full disk: the old file stays, nothing is left beside it */
static void test_disk_full(void **unused)
{
	const struct pf_npy_shape shape = { PF_F32, 1, { 4096 } };
	const struct rlimit small = { 8192, RLIM_INFINITY }, none = { RLIM_INFINITY, RLIM_INFINITY };
	const float data[4096] = { 1 };
	struct pf_npy_out *out = NULL;
	struct pf_error error = { 0 };
	struct pf_npy npy;
	(void)unused;
	scratch_open("npy");
	round_trip((struct pf_npy_shape){ PF_F32, 1, { 5 } });
	signal(SIGXFSZ, SIG_IGN);
	setrlimit(RLIMIT_FSIZE, &small);
	assert_int_equal(pf_npy_create(scratch_path("round.npy"), &shape, &out, &error), 0);
	assert_true(pf_npy_append(out, data, 4096, &error) < 0);
	assert_non_null(strstr(error.text, "round.npy"));
	pf_npy_abandon(out);
	setrlimit(RLIMIT_FSIZE, &none);
	assert_int_equal(scratch_count("."), 1);
	assert_int_equal(pf_npy_open(scratch_path("round.npy"), &npy, &error), 0);
	assert_int_equal(npy.shape.size[0], 5);
	pf_npy_close(&npy);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_round_trips), cmocka_unit_test(test_accepted), cmocka_unit_test(test_refused),
		cmocka_unit_test(test_cut_header), cmocka_unit_test(test_misaligned),
		cmocka_unit_test(test_missing_file),
		cmocka_unit_test(test_wrong_counts), cmocka_unit_test(test_no_folder), cmocka_unit_test(test_disk_full),
	};
	scratch_open("npy");
	return cmocka_run_group_tests(tests, NULL, NULL);
}
