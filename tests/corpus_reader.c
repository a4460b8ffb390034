/* corpus_reader.c: lines of plain and compressed files, by order and by offset. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <signal.h>
#include <unistd.h>
#include "tests/cmocka.h"
#include "tests/scratch.h"
#include "host/corpus/reader.h"
#include "host/corpus/unpack.h"

static struct pf_error error;

static struct pf_reader *open_reader(const char *paths)
{
	struct pf_reader *reader;

	if (pf_reader_open(paths, scratch_path("cache"), NULL, &reader, &error))
		fail_msg("%s", error.text);
	return reader;
}

static void assert_refused(const char *paths, const char *says)
{
	struct pf_reader *reader;

	assert_true(pf_reader_open(paths, scratch_path("cache"), NULL, &reader, &error) < 0);
	assert_null(reader);
	if (!strstr(error.text, says))
		fail_msg("\"%s\" is not in \"%s\"", says, error.text);
}

static void assert_next(struct pf_reader *reader, const char *text, uint64_t number)
{
	struct pf_line line;

	assert_int_equal(pf_reader_next(reader, &line, &error), 1);
	assert_int_equal(line.length, strlen(text));
	assert_memory_equal(line.text, text, line.length);
	assert_int_equal(line.number, number);
}

static void assert_end(struct pf_reader *reader)
{
	struct pf_line line;

	assert_int_equal(pf_reader_next(reader, &line, &error), 0);
	assert_int_equal(pf_reader_next(reader, &line, &error), 0);
}

static void lines_of_several_files(void **state)
{
	char paths[4096];
	struct pf_reader *reader;

	(void)state;
	snprintf(paths, sizeof paths, "%s,%s,%s,%s,%s", scratch_text("a", "one\n\ntwo"), scratch_text("empty", ""),
	         scratch_text("b", "\xef\xbb\xbfthree\nfour\n"), scratch_text("mark", "\xef\xbb\xbf"),
	         scratch_text("c", "\n"));
	reader = open_reader(paths);
	assert_int_equal(pf_reader_bytes(reader), 8 + 14 + 3 + 1);
	assert_next(reader, "one", 1);
	assert_next(reader, "", 2);
	assert_next(reader, "two", 3);
	assert_next(reader, "three", 1);
	assert_next(reader, "four", 2);
	assert_next(reader, "", 1);
	assert_end(reader);
	pf_reader_close(reader);
}

/* Lines of many lengths, around every window size, found again by offset in any order */
static void lines_by_offset(void **state)
{
	static const size_t lengths[] = { 0,      1,      4095,   16382, 16383,   16384, 16385, 100,
		                          262143, 262144, 262145, 3,     1000000, 0,     7 };
	enum { COUNT = sizeof lengths / sizeof *lengths };
	struct pf_reader *reader;
	struct pf_line line;
	uint64_t at[COUNT];
	FILE *file = fopen(scratch_path("long"), "wb");

	(void)state;
	for (size_t i = 0; i < COUNT; i++) {
		for (size_t k = 0; k < lengths[i]; k++)
			fputc((int)('a' + i), file);
		fputc('\n', file);
	}
	fclose(file);
	reader = open_reader(scratch_path("long"));
	for (size_t i = 0; i < COUNT; i++) {
		assert_int_equal(pf_reader_next(reader, &line, &error), 1);
		at[i] = line.at;
	}
	assert_end(reader);
	for (size_t step = 1; step < COUNT; step++) {
		size_t i = step * 7 % COUNT;
		char where[600], tail[32];

		assert_int_equal(pf_reader_at(reader, at[i], &line, &error), 0);
		assert_int_equal(line.length, lengths[i]);
		for (size_t k = 0; k < line.length; k++)
			assert_int_equal(line.text[k], 'a' + i);
		pf_reader_where(reader, &line, where, sizeof where);
		snprintf(tail, sizeof tail, "long:%zu", i + 1);
		assert_non_null(strstr(where, tail));
	}
	assert_true(pf_reader_at(reader, pf_reader_bytes(reader), &line, &error) < 0);
	pf_reader_close(reader);
}

static void a_compressed_file_is_copied_once(void **state)
{
	char text[50000];
	struct pf_reader *reader;
	const char *path;

	(void)state;
	for (size_t i = 0; i < sizeof text; i++)
		text[i] = i % 100 == 99 ? '\n' : (char)('a' + i * i % 23);
	path = scratch_gzip("z.jsonl.gz", text, sizeof text);
	for (int again = 0; again < 2; again++) {
		struct pf_line line;

		reader = open_reader(path);
		assert_int_equal(pf_reader_bytes(reader), sizeof text);
		assert_int_equal(pf_reader_at(reader, 1000, &line, &error), 0);
		assert_memory_equal(line.text, text + 1000, 99);
		assert_int_equal(line.length, 99);
		pf_reader_close(reader);
		assert_int_equal(scratch_count("cache"), 1);
	}
	scratch_gzip("z.jsonl.gz", text, sizeof text / 2);
	reader = open_reader(path);
	assert_int_equal(pf_reader_bytes(reader), sizeof text / 2);
	pf_reader_close(reader);
	assert_int_equal(scratch_count("cache"), 2);
}

static size_t read_all(const char *path, char *bytes, size_t room)
{
	FILE *file = fopen(path, "rb");
	size_t length = fread(bytes, 1, room, file);

	fclose(file);
	return length;
}

static void damaged_compressed_files_leave_nothing(void **state)
{
	static char text[300000], zipped[400000];
	size_t length;
	int before = scratch_count("cache");

	(void)state;
	for (size_t i = 0; i < sizeof text; i++)
		text[i] = (char)(i * 2654435761u >> 24);
	length = read_all(scratch_gzip("whole.gz", text, sizeof text), zipped, sizeof zipped);
	assert_refused(scratch_bytes("cut.gz", zipped, length / 2), "cut.gz: truncated gzip file");
	assert_refused(scratch_bytes("cut8.gz", zipped, length - 8), "truncated gzip file");
	assert_refused(scratch_bytes("cut1.gz", zipped, length - 1), "truncated gzip file");
	assert_refused(scratch_bytes("head.gz", zipped, 2), "truncated gzip file");
	zipped[length - 6] ^= 1;
	assert_refused(scratch_bytes("sum.gz", zipped, length), "damaged gzip data (incorrect data check)");
	zipped[length - 6] ^= 1;
	memcpy(zipped + length, "junk", 4);
	assert_refused(scratch_bytes("tail.gz", zipped, length + 4), "bytes that are not gzip follow");
	assert_int_equal(scratch_count("cache"), before);
}

static void members_and_padding_are_one_stream(void **state)
{
	static char zipped[4096];
	size_t length = read_all(scratch_gzip("one.gz", "a\nb\n", 4), zipped, 1024);
	struct pf_reader *reader;

	(void)state;
	memcpy(zipped + length, zipped, length);
	memset(zipped + 2 * length, 0, 100);
	reader = open_reader(scratch_bytes("two.gz", zipped, 2 * length + 100));
	for (unsigned i = 1; i <= 4; i++)
		assert_next(reader, i % 2 ? "a" : "b", i);
	assert_end(reader);
	pf_reader_close(reader);
}

/* A file size limit stands for the full disk */
static void a_full_disk_leaves_nothing(void **state)
{
	static char text[300000];
	struct rlimit old, small = { 65536, RLIM_INFINITY };
	const char *path;
	int before;

	(void)state;
	path = scratch_gzip("big.gz", text, sizeof text);
	before = scratch_count("cache");
	getrlimit(RLIMIT_FSIZE, &old);
	small.rlim_max = old.rlim_max;
	signal(SIGXFSZ, SIG_IGN);
	setrlimit(RLIMIT_FSIZE, &small);
	assert_refused(path, "big.gz: writing the plain copy");
	setrlimit(RLIMIT_FSIZE, &old);
	assert_int_equal(scratch_count("cache"), before);
	pf_reader_close(open_reader(path));
}

/* ---- interruptions: the second question comes while the copy is being written, or waited for ---- */

static int stop_second(void *context, uint64_t done, uint64_t total)
{
	int *calls = context;

	assert_true(done <= total && total > 0);
	return ++*calls == 2;
}

static int die_second(void *context, uint64_t done, uint64_t total)
{
	int *calls = context;

	(void)done, (void)total;
	if (++*calls == 2)
		raise(SIGKILL);
	return 0;
}

/* Says at `told` that it has begun, and goes on when something comes from `go` */
struct pause { int calls, told, go; };

static int pause_second(void *context, uint64_t done, uint64_t total)
{
	struct pause *pause = context;
	char byte = 0;

	(void)done, (void)total;
	return ++pause->calls == 2 && (write(pause->told, &byte, 1) != 1 || read(pause->go, &byte, 1) != 1);
}

static int release_second(void *context, uint64_t done, uint64_t total)
{
	struct pause *pause = context;

	(void)done, (void)total;
	return ++pause->calls == 2 && write(pause->go, "", 1) != 1;
}

static const char *write_large(const char *name)
{
	static char text[300000];

	memset(text, 'x', sizeof text);
	return scratch_gzip(name, text, sizeof text);
}

static int open_watched(const char *path, const struct pf_watch *watch)
{
	struct pf_reader *reader;
	int status = pf_reader_open(path, scratch_path("cache"), watch, &reader, &error);

	pf_reader_close(reader);
	return status;
}

/* In a process of its own; returns its id */
static pid_t open_in_child(const char *path, const struct pf_watch *watch)
{
	pid_t child = fork();

	assert_true(child >= 0);
	if (!child)
		_exit(open_watched(path, watch) != 0);
	return child;
}

static void an_interruption_leaves_nothing(void **state)
{
	const char *path = write_large("stopped.gz");
	int calls = 0, before = scratch_count("cache");

	(void)state;
	assert_int_equal(open_watched(path, &(struct pf_watch){ stop_second, &calls }), PF_E_INTERRUPTED);
	assert_non_null(strstr(error.text, "stopped.gz: interrupted"));
	assert_int_equal(calls, 2);
	assert_int_equal(scratch_count("cache"), before);
}

static void what_a_killed_process_leaves_is_taken_over(void **state)
{
	const char *path = write_large("killed.gz");
	int calls = 0, status, before = scratch_count("cache");
	pid_t child = open_in_child(path, &(struct pf_watch){ die_second, &calls });

	(void)state;
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFSIGNALED(status));
	assert_int_equal(scratch_count("cache"), before + 1);
	assert_int_equal(open_watched(path, NULL), 0);
	assert_int_equal(scratch_count("cache"), before + 1);
}

static void a_copy_that_another_process_makes_is_waited_for(void **state)
{
	const char *path = write_large("both.gz");
	int told[2], go[2], status, before = scratch_count("cache");
	char byte;

	(void)state;
	assert_int_equal(pipe(told) | pipe(go), 0);
	struct pause child_pause = { 0, told[1], go[0] }, own = { 0, -1, go[1] };
	pid_t child = open_in_child(path, &(struct pf_watch){ pause_second, &child_pause });
	assert_int_equal(read(told[0], &byte, 1), 1);
	assert_int_equal(open_watched(path, &(struct pf_watch){ release_second, &own }), 0);
	assert_true(own.calls >= 2);
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
	assert_int_equal(scratch_count("cache"), before + 1);
	for (int i = 0; i < 2; i++) {
		close(told[i]);
		close(go[i]);
	}
}

static void other_files_are_refused_with_a_remedy(void **state)
{
	struct pf_reader *reader;

	(void)state;
	assert_refused(scratch_path("nowhere.jsonl"), "nowhere.jsonl: No such file");
	assert_refused(scratch_path(""), "is a folder");
	assert_refused("/dev/null", "not a regular file");
	assert_int_equal(mkfifo(scratch_path("fifo.jsonl"), 0666), 0);
	assert_refused(scratch_path("fifo.jsonl"), "fifo.jsonl: not a regular file");
	assert_refused(scratch_text("array.json", "[{\"a\":1}]"), "jq -c '.[]'");
	assert_refused(scratch_bytes("wide", "\xff\xfe{\0", 4), "iconv");
	assert_refused(scratch_bytes("z.zst", "\x28\xb5\x2f\xfd....", 8), "unzstd");
	assert_refused(scratch_text("x.parquet", "PAR1...."), "Parquet");
	assert_refused("", "empty file name");
	scratch_gzip("array.json.gz", "[1]\n", 4);
	assert_refused(scratch_path("array.json.gz"), "jq -c");
	assert_true(pf_reader_open(scratch_path("array.json.gz"), NULL, NULL, &reader, NULL) < 0);
	scratch_gzip("fresh.gz", "{}\n", 3);
	assert_true(pf_reader_open(scratch_path("fresh.gz"), "/proc/nowhere/x", NULL, &reader, &error) < 0);
	assert_non_null(strstr(error.text, "--cache"));
}

static void a_file_that_shrinks_is_noticed(void **state)
{
	static char text[600000];
	struct pf_reader *reader;
	struct pf_line line;

	(void)state;
	memset(text, 'x', sizeof text);
	text[100] = '\n';
	reader = open_reader(scratch_bytes("shrinks", text, sizeof text));
	assert_int_equal(pf_reader_at(reader, 0, &line, &error), 0);
	assert_int_equal(truncate(scratch_path("shrinks"), 5000), 0);
	assert_int_equal(pf_reader_at(reader, 101, &line, &error), PF_E_DATA);
	assert_non_null(strstr(error.text, "became shorter"));
	pf_reader_close(reader);
}

static void an_endless_line_is_refused(void **state)
{
	FILE *file = fopen(scratch_path("endless"), "wb");
	struct pf_reader *reader;
	struct pf_line line;

	(void)state;
	fputs("{}\n", file);
	fflush(file);
	assert_int_equal(ftruncate(fileno(file), 100 << 20), 0);
	fclose(file);
	reader = open_reader(scratch_path("endless"));
	assert_next(reader, "{}", 1);
	assert_int_equal(pf_reader_next(reader, &line, &error), PF_E_FORMAT);
	pf_reader_close(reader);
}

static int prepare(void **state)
{
	(void)state;
	scratch_open("corpus_reader");
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(lines_of_several_files),
		cmocka_unit_test(lines_by_offset),
		cmocka_unit_test(a_compressed_file_is_copied_once),
		cmocka_unit_test(damaged_compressed_files_leave_nothing),
		cmocka_unit_test(members_and_padding_are_one_stream),
		cmocka_unit_test(a_full_disk_leaves_nothing),
		cmocka_unit_test(an_interruption_leaves_nothing),
		cmocka_unit_test(what_a_killed_process_leaves_is_taken_over),
		cmocka_unit_test(a_copy_that_another_process_makes_is_waited_for),
		cmocka_unit_test(other_files_are_refused_with_a_remedy),
		cmocka_unit_test(a_file_that_shrinks_is_noticed),
		cmocka_unit_test(an_endless_line_is_refused),
	};

	return cmocka_run_group_tests(tests, prepare, NULL);
}
