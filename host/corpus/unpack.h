/* unpack.h: a seekable plain copy of a gzip file, made once.
 *
 * The copy lies in the cache folder under a name that holds the compressed file's size, time and a hash of its two ends,
 * so a changed file gets a new copy. It appears under its name only when complete; the last bytes of a truncated file
 * are never used. Several processes may do this at the same time. */
#ifndef PF_CORPUS_UNPACK_H
#define PF_CORPUS_UNPACK_H
#include <stddef.h>
#include "prefpga/error.h"

/* Whether the bytes are the beginning of a gzip file */
int pf_is_gzip(const unsigned char *bytes, size_t length);
/* Finds or makes the plain copy of the open file `fd`. `path` is what messages call it. *plain is malloc'd */
int pf_unpack(int fd, const char *path, const char *cache, char **plain, struct pf_error *error);
/* The inflating itself: all of `from` (several members are one stream, as gzip has it) to `to`, both at their current
 * positions. Errors say what is wrong, not which file */
int pf_inflate(int from, int to, struct pf_error *error);
#endif
