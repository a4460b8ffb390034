/* safetensors.h: named tensors in one file, in the safetensors form: u64 length of a JSON header,
 * the header
 * {"name": {"dtype", "shape", "data_offsets"}, ..., "__metadata__": {string: string}}, the data.
 * Little-endian. Source of the form: the safetensors project's README, "Format".
 *
 * The reader maps the file and trusts nothing in it: lengths, types, shapes, offsets, overlaps and
 * holes are checked before the first tensor is handed out. A file that is truncated while open
 * faults, as every mapped file does; the writer below never truncates, it replaces. The writer
 * streams: declare everything, then write the data in order.
 *
 * Threads: an open file may be read by several threads; a writer belongs to one. */
#ifndef PF_MODEL_SAFETENSORS_H
#define PF_MODEL_SAFETENSORS_H
#include <stddef.h>
#include <stdint.h>
#include "prefpga/error.h"
#include "prefpga/view.h"

enum { PF_SAFETENSORS_RANK_MAX = 8 };

struct pf_safetensor {
	const char *name; /* lives as long as the file is open */
	enum pf_dtype type;
	unsigned rank; /* 0: one element */
	uint64_t shape[PF_SAFETENSORS_RANK_MAX];
	uint64_t elements, bytes;
	const void *data; /* in the mapped file, of any alignment */
	int mapped;       /* 0: in memory of the caller's */
};

struct pf_safetensors;

/* Errors name the file, the tensor, and what is wrong with it */
int pf_safetensors_open(const char *path, struct pf_safetensors **file, struct pf_error *error);
/* As open, over bytes[size] that stay the caller's; `where` names them in messages */
int pf_safetensors_parse(const void *bytes, size_t size, const char *where,
                         struct pf_safetensors **file, struct pf_error *error);
void pf_safetensors_close(struct pf_safetensors *file); /* NULL is allowed */
size_t pf_safetensors_count(const struct pf_safetensors *file);
/* Tensor i in the order of the data */
const struct pf_safetensor *pf_safetensors_at(const struct pf_safetensors *file, size_t i);
/* The tensor of that name, or NULL */
const struct pf_safetensor *pf_safetensors_find(const struct pf_safetensors *file,
                                                const char *name);
/* The metadata string of that key, or NULL */
const char *pf_safetensors_note(const struct pf_safetensors *file, const char *key);
const char *pf_safetensors_where(const struct pf_safetensors *file);
/* Converts all elements to float: F32, F64 (rounded), F16, BF16; PF_E_TYPE for integers. Piece by piece, giving each
 * back to the system, so that file and floats are never both in memory */
int pf_safetensor_floats(const struct pf_safetensor *tensor, float *to, struct pf_error *error);
/* As floats of a matrix, [rows, cols] in the file, to[cols, rows] */
int pf_safetensor_floats_transposed(const struct pf_safetensor *tensor, float *to, struct pf_error *error);

/* Copies all bytes, giving pages back in the same way. Returns 0 */
int pf_safetensor_copy(const struct pf_safetensor *tensor, void *to);

struct pf_safetensors_writer;

/* Opens PATH.partial (replace.h). Then: notes and declarations in any order, the data in the order
 * of declaration in pieces of any size, commit. After an error only abandon is left */
int pf_safetensors_create(const char *path, struct pf_safetensors_writer **writer,
                          struct pf_error *error);
int pf_safetensors_annotate(struct pf_safetensors_writer *writer, const char *key,
                            const char *value, struct pf_error *error);
int pf_safetensors_declare(struct pf_safetensors_writer *writer, const char *name,
                           enum pf_dtype type, unsigned rank, const uint64_t *shape,
                           struct pf_error *error);
int pf_safetensors_write(struct pf_safetensors_writer *writer, const void *data, size_t bytes,
                         struct pf_error *error);
/* Fails if less was written than declared. Frees the writer in every case; the file is then there
 * or untouched */
int pf_safetensors_commit(struct pf_safetensors_writer *writer, struct pf_error *error);
void pf_safetensors_abandon(struct pf_safetensors_writer *writer); /* NULL is allowed */

/* What both sides share: a type's name in the form ("F32"), NULL if unknown; the size of a tensor,
 * PF_E_RANGE when it does not fit 64 bits */
const char *pf_safetensors_type_name(enum pf_dtype type);
int pf_safetensors_size(enum pf_dtype type, unsigned rank, const uint64_t *shape,
                        uint64_t *elements, uint64_t *bytes);
#endif
