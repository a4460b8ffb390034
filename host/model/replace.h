/* replace.h: a file that appears whole or not at all.
 *
 * Bytes go to PATH.partial, which a lock protects from a second writer; commit syncs it and renames
 * it over PATH, so a reader sees the old file or the new one, also after a crash or on a full disk.
 * A left-over PATH.partial of a killed process is taken over by the next writer. One thread per
 * file.
 *
 * Where PATH is a symbolic link, the file that it leads to is replaced, and PATH.partial lies beside
 * that file. Only a regular file is replaced: a folder, device or FIFO is refused by open. */
#ifndef PF_MODEL_REPLACE_H
#define PF_MODEL_REPLACE_H
#include <stddef.h>
#include "prefpga/error.h"

struct pf_replace;

/* -EBUSY: another process, or this one, is writing the file */
int pf_replace_open(const char *path, struct pf_replace **file, struct pf_error *error);
int pf_replace_write(struct pf_replace *file, const void *data, size_t bytes,
                     struct pf_error *error);
/* For pwrite, where bytes do not come in order; the file's own, write-only */
int pf_replace_fd(const struct pf_replace *file);
/* Frees *file in every case; on failure PATH is untouched and PATH.partial is gone */
int pf_replace_commit(struct pf_replace *file, struct pf_error *error);
/* Removes PATH.partial and frees. NULL is allowed */
void pf_replace_abandon(struct pf_replace *file);
/* Whether two paths, of files that need not be there yet, name one file to replace */
int pf_replace_same(const char *path, const char *other);
#endif
