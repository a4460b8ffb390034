#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include "npy_header.h"

static const char magic[] = { '\x93', 'N', 'U', 'M', 'P', 'Y' };
enum { PREFIX = 10, HEADER_LONGEST = 1 << 20 };

/* ---- types ---- */
static const struct { const char *descr, *name; enum pf_dtype type; } types[] = {
	{ "<f4", "float32", PF_F32 }, { "<f8", "float64", PF_F64 }, { "<f2", "float16", PF_F16 },
	{ "<i4", "int32", PF_I32 },   { "<i8", "int64", PF_I64 },   { "<u2", "uint16", PF_U16 },
	{ "|u1", "uint8", PF_U8 },    { "<u2", "bfloat16 (as uint16)", PF_BF16 },
};
enum { TYPES = sizeof types / sizeof *types };

const char *pf_npy_type_name(enum pf_dtype type)
{
	for (int i = 0; i < TYPES; i++)
		if (types[i].type == type)
			return types[i].name;
	return "unknown";
}

static int parse_descr(const char *text, size_t length, const char *path, enum pf_dtype *type, struct pf_error *error)
{
	for (int i = 0; i < TYPES; i++)
		if (length == 3 && memcmp(text + 1, types[i].descr + 1, 2) == 0 &&
		    (text[0] == '<' || text[0] == '=' || text[0] == '|')) {
			*type = types[i].type;
			return 0;
		}
	if (length > 0 && text[0] == '>')
		return pf_fail(error, PF_E_TYPE, "%s: big-endian data; save it again after "
		               "a = a.astype(a.dtype.newbyteorder('<'))", path);
	return pf_fail(error, PF_E_TYPE,
	               "%s: elements of type '%.*s' cannot be read; convert with a.astype to float32, "
	               "float16, float64, int32, int64, uint16 or uint8",
	               path, (int)(length < 40 ? length : 40), text);
}

/* ---- the dictionary: {'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), } ---- */
struct reader {
	const char *at, *end, *path;
};

static int malformed(const struct reader *r, struct pf_error *error)
{
	return pf_fail(error, PF_E_FORMAT, "%s: the header of this .npy file is malformed; save the array again with "
	               "numpy.save", r->path);
}

static void skip_space(struct reader *r)
{
	while (r->at < r->end && (*r->at == ' ' || *r->at == '\n' || *r->at == '\t' || *r->at == '\r'))
		r->at++;
}

/* Skips space and takes one character if it is `c` */
static int take(struct reader *r, char c)
{
	skip_space(r);
	if (r->at == r->end || *r->at != c)
		return 0;
	r->at++;
	return 1;
}

static int take_string(struct reader *r, const char **text, size_t *length)
{
	skip_space(r);
	if (r->at == r->end || (*r->at != '\'' && *r->at != '"'))
		return 0;
	const char *start = r->at + 1, *stop = memchr(start, *r->at, (size_t)(r->end - start));
	if (!stop)
		return 0;
	*text = start;
	*length = (size_t)(stop - start);
	r->at = stop + 1;
	return 1;
}

static int take_word(struct reader *r, const char *word)
{
	const size_t length = strlen(word);
	skip_space(r);
	if ((size_t)(r->end - r->at) < length || memcmp(r->at, word, length) != 0)
		return 0;
	r->at += length;
	return 1;
}

static int take_number(struct reader *r, uint64_t *value)
{
	const char *start;
	skip_space(r);
	start = r->at;
	for (*value = 0; r->at < r->end && *r->at >= '0' && *r->at <= '9'; r->at++) {
		if (*value > (UINT64_MAX >> 1) / 10 - 1)
			return 0;
		*value = *value * 10 + (uint64_t)(*r->at - '0');
	}
	if (r->at == start)
		return 0;
	take(r, 'L');                                          /* Python 2 wrote 3L */
	return 1;
}

static int take_shape(struct reader *r, struct pf_npy_shape *shape, struct pf_error *error)
{
	if (!take(r, '('))
		return malformed(r, error);
	for (shape->dims = 0; !take(r, ')'); shape->dims++) {
		if (shape->dims == PF_NPY_DIMS)
			return pf_fail(error, PF_E_SHAPE, "%s: more than %d dimensions; use a.reshape", r->path,
			               PF_NPY_DIMS);
		if (!take_number(r, &shape->size[shape->dims]))
			return malformed(r, error);
		if (!take(r, ',')) {
			shape->dims++;
			return take(r, ')') ? 0 : malformed(r, error);
		}
	}
	return 0;
}

static int take_order(struct reader *r, struct pf_error *error)
{
	if (take_word(r, "False"))
		return 0;
	if (!take_word(r, "True"))
		return malformed(r, error);
	return pf_fail(error, PF_E_SHAPE,
	               "%s: the array lies in Fortran order; save numpy.ascontiguousarray(a) instead", r->path);
}

static int take_descr(struct reader *r, struct pf_npy_shape *shape, struct pf_error *error)
{
	const char *text;
	size_t length;
	skip_space(r);
	if (r->at < r->end && *r->at == '[')
		return pf_fail(error, PF_E_TYPE, "%s: an array of records; save one field of it", r->path);
	if (!take_string(r, &text, &length))
		return malformed(r, error);
	return parse_descr(text, length, r->path, &shape->type, error);
}

enum { GOT_DESCR = 1, GOT_ORDER = 2, GOT_SHAPE = 4, GOT_ALL = 7 };

/* One `key: value`; sets its bit in *got */
static int take_entry(struct reader *r, struct pf_npy_shape *shape, int *got, struct pf_error *error)
{
	const char *key;
	size_t length;
	int status, bit;
	if (!take_string(r, &key, &length) || !take(r, ':'))
		return malformed(r, error);
	if (length == 5 && memcmp(key, "descr", 5) == 0) {
		status = take_descr(r, shape, error);
		bit = GOT_DESCR;
	} else if (length == 13 && memcmp(key, "fortran_order", 13) == 0) {
		status = take_order(r, error);
		bit = GOT_ORDER;
	} else if (length == 5 && memcmp(key, "shape", 5) == 0) {
		status = take_shape(r, shape, error);
		bit = GOT_SHAPE;
	} else {
		return malformed(r, error);
	}
	if (status == 0 && *got & bit)
		return malformed(r, error);
	*got |= bit;
	return status;
}

static int take_dictionary(struct reader *r, struct pf_npy_shape *shape, struct pf_error *error)
{
	int got = 0, status = 0;
	if (!take(r, '{'))
		return malformed(r, error);
	while (!take(r, '}')) {
		status = take_entry(r, shape, &got, error);
		if (status)
			return status;
		if (!take(r, ',') && (r->at == r->end || *r->at != '}'))
			return malformed(r, error);
	}
	skip_space(r);
	return got == GOT_ALL && r->at == r->end ? 0 : malformed(r, error);
}

/* ---- the file ---- */
/* Where the dictionary lies: bytes [*start, *start + *size) */
static int find_dictionary(const unsigned char *b, size_t length, const char *path, size_t *start, size_t *size,
                           struct pf_error *error)
{
	if (length < sizeof magic || memcmp(b, magic, sizeof magic) != 0)
		return pf_fail(error, PF_E_FORMAT,
		               "%s: not a .npy file; write it with numpy.save (an .npz holds several: save "
		               "one of them)",
		               path);
	if (length < PREFIX + 2)
		return pf_fail(error, PF_E_FORMAT, "%s: cut off in its header; copy or save the file again", path);
	if (b[6] < 1 || b[6] > 3)
		return pf_fail(error, PF_E_FORMAT, "%s: .npy version %d.%d; this program reads 1, 2 and 3", path, b[6],
		               b[7]);
	*start = b[6] == 1 ? PREFIX : PREFIX + 2;
	*size = (size_t)b[8] | (size_t)b[9] << 8;
	if (b[6] > 1)
		*size |= (size_t)b[10] << 16 | (size_t)b[11] << 24;
	if (*size > HEADER_LONGEST)
		return pf_fail(error, PF_E_FORMAT, "%s: a header of %zu bytes; save the array again", path, *size);
	if (*size > length - *start)
		return pf_fail(error, PF_E_FORMAT, "%s: cut off in its header; copy or save the file again", path);
	return 0;
}

static int multiply(uint64_t *product, uint64_t factor)
{
	if (factor && *product > INT64_MAX / factor)
		return 0;
	*product *= factor;
	return 1;
}

/* Bytes of the elements */
static int shape_bytes(const struct pf_npy_shape *shape, const char *path, uint64_t *bytes, struct pf_error *error)
{
	int fits = 1, empty = 0;
	*bytes = pf_dtype_bytes(shape->type);
	for (unsigned i = 0; i < shape->dims; i++)
		empty |= shape->size[i] == 0;
	for (unsigned i = 0; i < shape->dims && !empty; i++)
		fits &= multiply(bytes, shape->size[i]);
	if (!fits)
		return pf_fail(error, PF_E_SHAPE, "%s: the shape has more elements than any file can hold", path);
	*bytes = empty ? 0 : *bytes;
	return 0;
}

static int check_size(const struct pf_npy_shape *shape, size_t length, size_t offset, const char *path,
                      struct pf_error *error)
{
	uint64_t bytes;
	int status = shape_bytes(shape, path, &bytes, error);
	if (status)
		return status;
	if (bytes > length - offset)
		return pf_fail(error, PF_E_FORMAT,
		               "%s: cut off: the header announces %" PRIu64 " bytes of elements, the file "
		               "has %zu; copy or save it again",
		               path, bytes, length - offset);
	if (bytes < length - offset)
		return pf_fail(error, PF_E_FORMAT, "%s: %" PRIu64 " bytes follow the array; save one array to a file",
		               path, length - offset - bytes);
	if (offset % pf_dtype_bytes(shape->type))
		return pf_fail(error, PF_E_FORMAT,
		               "%s: the elements are not aligned; save the array again with numpy.save", path);
	return 0;
}

int pf_npy_header_parse(const unsigned char *bytes, size_t length, const char *path, struct pf_npy_shape *shape,
                        size_t *offset, struct pf_error *error)
{
	size_t start = 0, size = 0;
	int status = find_dictionary(bytes, length, path, &start, &size, error);
	if (status)
		return status;
	struct reader r = { (const char *)bytes + start, (const char *)bytes + start + size, path };
	status = take_dictionary(&r, shape, error);
	*offset = start + size;
	return status ? status : check_size(shape, length, *offset, path, error);
}

size_t pf_npy_header_make(const struct pf_npy_shape *shape, char text[PF_NPY_HEADER_MAX])
{
	const char *descr = "";
	for (int i = 0; i < TYPES; i++)
		if (types[i].type == shape->type)
			descr = types[i].descr;
	memcpy(text, magic, sizeof magic);
	memcpy(text + 6, "\1\0", 2);
	size_t at = PREFIX;
	at += (size_t)sprintf(text + at, "{'descr': '%s', 'fortran_order': False, 'shape': (", descr);
	for (unsigned i = 0; i < shape->dims; i++)
		at += (size_t)sprintf(text + at, i ? " %" PRIu64 "," : "%" PRIu64 ",", shape->size[i]);
	if (shape->dims > 1)
		at--;                                          /* (3, 4) but (3,) */
	at += (size_t)sprintf(text + at, "), }");
	while (at % 64 != 63)
		text[at++] = ' ';
	text[at++] = '\n';
	text[8] = (char)((at - PREFIX) & 255);
	text[9] = (char)((at - PREFIX) >> 8);
	return at;
}
