/* unpack.h: a seekable plain copy of a gzip file, made once.
 *
 * The copy lies in the cache folder under a name that holds the compressed file's size, time and a hash of its two
 * ends, so a changed file gets a new copy. It appears under its name only when complete; the last bytes of a truncated
 * file are never used. Several processes may do this at the same time: one makes the copy, the others wait for it. What
 * a killed process leaves is taken over by the next one that makes the copy (host/model/replace.h). */
#ifndef PF_CORPUS_UNPACK_H
#define PF_CORPUS_UNPACK_H
#include <stddef.h>
#include <stdint.h>
#include "prefpga/error.h"

/* Asked now and then while a copy is made, or waited for: bytes read of the compressed file, and its size. What is not
 * 0 stops, and leaves nothing behind */
struct pf_watch {
	int (*progress)(void *context, uint64_t done, uint64_t total);      /* NULL: never stops */
	void *context;
};

/* Whether the bytes are the beginning of a gzip file */
int pf_is_gzip(const unsigned char *bytes, size_t length);
/* Finds or makes the plain copy of the open file `fd`. `path` is what messages call it. *plain is malloc'd;
 * `watch` may be NULL */
int pf_unpack(int fd, const char *path, const char *cache, const struct pf_watch *watch, char **plain,
              struct pf_error *error);
/* The inflating itself: all of `from` (several members are one stream, as gzip has it) from its current position on,
 * piece by piece to `take`, whose error ends it. Errors say what is wrong, not which file */
int pf_inflate(int from, int (*take)(void *context, const void *bytes, size_t length, struct pf_error *error),
               void *context, struct pf_error *error);
#endif
