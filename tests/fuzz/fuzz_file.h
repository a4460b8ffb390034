/* fuzz_file.h: an input as a file that has a path, for parsers that open one. */
#ifndef PF_TESTS_FUZZ_FILE_H
#define PF_TESTS_FUZZ_FILE_H
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

/* In memory; the caller closes it. _GNU_SOURCE comes before the first header */
static inline int fuzz_file(const uint8_t *data, size_t size, char path[64])
{
	const int file = memfd_create("fuzz", 0);
	if (file < 0 || write(file, data, size) != (ssize_t)size)
		abort();
	snprintf(path, 64, "/proc/self/fd/%d", file);
	return file;
}
#endif
