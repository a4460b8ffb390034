/* npy.h: NumPy array files (.npy): reading by mapping, writing whole or not at all.
 *
 * Format versions 1, 2, 3; little-endian; C order. Types: f4 f8 f2 i4 i8 u2 u1 and nothing else. NumPy has no bfloat16:
 * such arrays lie in files as u2, and the reader of the array decides (pf_npy_as_bf16).
 * A header is data of somebody else: every field is checked before it is used, and messages name file and remedy.
 * Source: NumPy enhancement proposal 1 (numpy.lib.format). Thread-safe per object. */
#ifndef PF_CORPUS_NPY_H
#define PF_CORPUS_NPY_H
#include "prefpga/error.h"
#include "prefpga/view.h"

enum { PF_NPY_DIMS = 8 };

struct pf_npy_shape {
	enum pf_dtype type;
	unsigned      dims;                    /* 0: a scalar */
	uint64_t      size[PF_NPY_DIMS];
};
/* Elements of a shape. Shapes that pf_npy_open and pf_npy_create accept do not overflow */
uint64_t pf_npy_count(const struct pf_npy_shape *shape);

/* ---- reading ---- */
struct pf_npy {
	struct pf_npy_shape shape;
	const void         *data;              /* C order, aligned to the type; in the mapping, read-only */
	void               *map;               /* NULL: nothing mapped */
	size_t              map_bytes;
};

/* Maps a file. It must not be cut while it is open. Errors: -errno, PF_E_FORMAT, PF_E_TYPE, PF_E_SHAPE */
int  pf_npy_open(const char *path, struct pf_npy *npy, struct pf_error *error);
void pf_npy_close(struct pf_npy *npy);
/* Lets go of the memory of the first `count` elements, which come back from the file if they are read again: a program
 * that streams a large array stays small */
void pf_npy_pass(const struct pf_npy *npy, uint64_t count);
/* The same from memory, which must stay; `path` is for messages. pf_npy_close is not needed */
int  pf_npy_parse(const void *bytes, size_t length, const char *path, struct pf_npy *npy, struct pf_error *error);
/* Makes an array of u2 one of bf16; other types stay */
void pf_npy_as_bf16(struct pf_npy *npy);
/* "float32", "uint16", ...: NumPy's name of a type; bf16 is called "bfloat16 (as uint16)" */
const char *pf_npy_type_name(enum pf_dtype type);

/* ---- writing ---- */
struct pf_npy_out;

/* Begins `path`; nothing is seen of it before commit. bf16 is written as u2. PF_E_SHAPE when the shape overflows */
int  pf_npy_create(const char *path, const struct pf_npy_shape *shape, struct pf_npy_out **out, struct pf_error *error);
/* Appends elements, C order. PF_E_SHAPE beyond the shape's count */
int  pf_npy_append(struct pf_npy_out *out, const void *elements, uint64_t count, struct pf_error *error);
/* Puts the file in its place, on disk. PF_E_SHAPE when elements are missing. Frees `out` in every case; after a failure
 * `path` is what it was before */
int  pf_npy_commit(struct pf_npy_out *out, struct pf_error *error);
void pf_npy_abandon(struct pf_npy_out *out);                   /* NULL is allowed */
#endif
