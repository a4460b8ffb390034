#include "tests/scratch.h"
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>
#include "tests/cmocka.h"

static char folder[512];

static void empty(const char *path)
{
	char below[1024];
	struct dirent *entry;
	DIR *list = opendir(path);

	while (list && (entry = readdir(list))) {
		if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
			continue;
		snprintf(below, sizeof below, "%s/%s", path, entry->d_name);
		if (unlink(below)) {
			empty(below);
			rmdir(below);
		}
	}
	if (list)
		closedir(list);
}

void scratch_open(const char *test)
{
	const char *root = getenv("PREFPGA_TEST_TMP");

	snprintf(folder, sizeof folder, "%s/%s", root ? root : "/tmp", test);
	mkdir(folder, 0777);
	empty(folder);
}

const char *scratch_path(const char *name)
{
	static char paths[8][1024];
	static unsigned turn;
	char *path = paths[turn++ % 8];

	snprintf(path, sizeof paths[0], "%s/%s", folder, name);
	return path;
}

const char *scratch_bytes(const char *name, const void *bytes, size_t length)
{
	const char *path = scratch_path(name);
	FILE *file = fopen(path, "wb");

	assert_non_null(file);
	assert_int_equal(fwrite(bytes, 1, length, file), length);
	assert_int_equal(fclose(file), 0);
	return path;
}

const char *scratch_tree(const char *name, const char *text)
{
	char path[1024];

	snprintf(path, sizeof path, "%s", scratch_path(name));
	for (char *at = strchr(path + 1, '/'); at; at = strchr(at + 1, '/')) {
		*at = 0;
		mkdir(path, 0777);
		*at = '/';
	}
	return scratch_text(name, text);
}

const char *scratch_text(const char *name, const char *text)
{
	return scratch_bytes(name, text, strlen(text));
}

const char *scratch_gzip(const char *name, const void *bytes, size_t length)
{
	const char *path = scratch_path(name);
	gzFile file = gzopen(path, "wb");

	assert_non_null(file);
	assert_int_equal(gzwrite(file, bytes, (unsigned)length), length);
	assert_int_equal(gzclose(file), Z_OK);
	return path;
}

int scratch_equal(const char *path, const char *other)
{
	FILE *file[2] = { fopen(path, "rb"), fopen(other, "rb") };
	int byte, bytes = 0, equal = 1;

	if (!file[0] || !file[1])
		fail_msg("%s is not there", file[0] ? other : path);
	for (; equal && (byte = getc(file[0])) != EOF; bytes = 1)
		equal = getc(file[1]) == byte;
	equal = equal && getc(file[1]) == EOF;
	fclose(file[0]);
	fclose(file[1]);
	if (!bytes)
		fail_msg("%s is empty", path);
	return equal;
}

void scratch_same(const char *one, const char *other, const char *name)
{
	char path[2][2048];

	snprintf(path[0], sizeof *path, "%s/%s", one, name);
	snprintf(path[1], sizeof *path, "%s/%s", other, name);
	if (!scratch_equal(path[0], path[1]))
		fail_msg("%s and %s differ", path[0], path[1]);
}

int scratch_count(const char *name)
{
	DIR *list = opendir(scratch_path(name));
	int count = -2;

	if (!list)
		return -1;
	while (readdir(list))
		count++;
	closedir(list);
	return count;
}
