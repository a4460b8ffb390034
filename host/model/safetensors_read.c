#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include "half.h"
#include "safetensors.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__,
               "safetensors are mapped as little-endian");

enum { LENGTH_BYTES = 8, HEADER_MOST = 100000000 }; /* the limit of the form's own reader */

struct pf_safetensors {
	char *where;
	const uint8_t *bytes;
	size_t size;
	int mapped;
	json_t *header;               /* owns the names and notes */
	struct pf_safetensor *tensor; /* by place */
	const struct pf_safetensor **by_name;
	size_t count;
};

static const char *const type_names[] = {
	[PF_F32] = "F32", [PF_F64] = "F64", [PF_F16] = "F16", [PF_BF16] = "BF16",
	[PF_I32] = "I32", [PF_I64] = "I64", [PF_U16] = "U16", [PF_U8] = "U8",
};
enum { TYPES = sizeof type_names / sizeof *type_names };

const char *pf_safetensors_type_name(enum pf_dtype type)
{
	return (unsigned)type < TYPES ? type_names[type] : NULL;
}

int pf_safetensors_size(enum pf_dtype type, unsigned rank, const uint64_t *shape,
                        uint64_t *elements, uint64_t *bytes)
{
	*elements = 1;
	for (unsigned i = 0; i < rank; i++)
		if (__builtin_mul_overflow(*elements, shape[i], elements))
			return PF_E_RANGE;
	return __builtin_mul_overflow(*elements, (uint64_t)pf_dtype_bytes(type), bytes) ? PF_E_RANGE
	                                                                                : 0;
}

static int fault(const struct pf_safetensors *file, const char *name, const char *what,
                 struct pf_error *error)
{
	return pf_fail(error, PF_E_FORMAT, "%s: tensor %.200s: %s", file->where, name, what);
}

static int read_type(const struct pf_safetensors *file, const json_t *entry,
                     struct pf_safetensor *t, struct pf_error *error)
{
	const char *text = json_string_value(json_object_get(entry, "dtype"));
	if (!text)
		return fault(file, t->name, "dtype is missing or not a string", error);
	for (unsigned type = 0; type < TYPES; type++)
		if (strcmp(text, type_names[type]) == 0) {
			t->type = (enum pf_dtype)type;
			return 0;
		}
	return pf_fail(error, PF_E_TYPE,
	               "%s: tensor %.200s: dtype %.50s is not read; F32, F64, F16, BF16, I32, I64, "
	               "U16 and U8 are",
	               file->where, t->name, text);
}

static int read_whole(const json_t *value, uint64_t *number)
{
	if (!json_is_integer(value) || json_integer_value(value) < 0)
		return PF_E_FORMAT;
	*number = (uint64_t)json_integer_value(value);
	return 0;
}

static int read_shape(const struct pf_safetensors *file, const json_t *entry,
                      struct pf_safetensor *t, struct pf_error *error)
{
	const json_t *shape = json_object_get(entry, "shape");
	if (!json_is_array(shape))
		return fault(file, t->name, "shape is missing or not a list", error);
	if (json_array_size(shape) > PF_SAFETENSORS_RANK_MAX)
		return fault(file, t->name, "shape has more than 8 dimensions", error);
	t->rank = (unsigned)json_array_size(shape);
	for (unsigned i = 0; i < t->rank; i++)
		if (read_whole(json_array_get(shape, i), &t->shape[i]) != 0)
			return fault(file, t->name,
			             "shape holds something other than whole numbers", error);
	if (pf_safetensors_size(t->type, t->rank, t->shape, &t->elements, &t->bytes) != 0)
		return fault(file, t->name, "shape is too large", error);
	return 0;
}

static int read_place(const struct pf_safetensors *file, const json_t *entry, const uint8_t *data,
                      uint64_t room, struct pf_safetensor *t, struct pf_error *error)
{
	const json_t *place = json_object_get(entry, "data_offsets");
	uint64_t begin, end;
	if (json_array_size(place) != 2 || read_whole(json_array_get(place, 0), &begin) != 0 ||
	    read_whole(json_array_get(place, 1), &end) != 0)
		return fault(file, t->name, "data_offsets must be two whole numbers", error);
	if (begin > end || end > room)
		return pf_fail(error, PF_E_FORMAT,
		               "%s: tensor %.200s: data_offsets %llu to %llu lie outside the %llu "
		               "data bytes; is the file complete?",
		               file->where, t->name, (unsigned long long)begin,
		               (unsigned long long)end, (unsigned long long)room);
	if (end - begin != t->bytes)
		return pf_fail(error, PF_E_FORMAT,
		               "%s: tensor %.200s: shape and dtype need %llu bytes, data_offsets "
		               "give %llu",
		               file->where, t->name, (unsigned long long)t->bytes,
		               (unsigned long long)(end - begin));
	t->data = data + begin;
	return 0;
}

static int read_notes(const struct pf_safetensors *file, json_t *notes, struct pf_error *error)
{
	const char *key;
	json_t *value;
	if (!json_is_object(notes))
		return pf_fail(error, PF_E_FORMAT, "%s: __metadata__ is not an object",
		               file->where);
	json_object_foreach(notes, key, value) if (!json_is_string(value)) return pf_fail(
	        error, PF_E_FORMAT, "%s: __metadata__ %.200s is not a string", file->where, key);
	return 0;
}

static int order_place(const void *a, const void *b)
{
	const struct pf_safetensor *x = a, *y = b;
	const char *p = x->data, *q = y->data;
	if (p != q)
		return p < q ? -1 : 1;
	return x->bytes != y->bytes ? (x->bytes < y->bytes ? -1 : 1) : strcmp(x->name, y->name);
}

static int order_name(const void *a, const void *b)
{
	const struct pf_safetensor *const *x = a, *const *y = b;
	return strcmp((*x)->name, (*y)->name);
}

/* The form allows neither overlaps nor holes nor a rest */
static int check_cover(const struct pf_safetensors *file, const uint8_t *data, uint64_t room,
                       struct pf_error *error)
{
	const uint8_t *next = data;
	for (size_t i = 0; i < file->count; i++) {
		const struct pf_safetensor *t = &file->tensor[i];
		const uint8_t *begin = t->data;
		if (begin < next)
			return fault(file, t->name, "its data overlaps another tensor's", error);
		if (begin > next)
			return fault(file, t->name, "unused bytes before its data", error);
		next = begin + t->bytes;
	}
	if (next != data + room)
		return pf_fail(error, PF_E_FORMAT, "%s: %llu unused bytes at the end", file->where,
		               (unsigned long long)(data + room - next));
	return 0;
}

static int read_entry(struct pf_safetensors *file, const char *name, const json_t *entry,
                      const uint8_t *data, uint64_t room, struct pf_error *error)
{
	struct pf_safetensor *t = &file->tensor[file->count++];
	t->name = name;
	int code = read_type(file, entry, t, error);
	code = code != 0 ? code : read_shape(file, entry, t, error);
	return code != 0 ? code : read_place(file, entry, data, room, t, error);
}

static int read_tensors(struct pf_safetensors *file, const uint8_t *data, uint64_t room,
                        struct pf_error *error)
{
	const char *name;
	json_t *entry;
	size_t most = json_object_size(file->header);
	file->tensor = calloc(most + 1, sizeof *file->tensor);
	file->by_name = calloc(most + 1, sizeof *file->by_name);
	if (!file->tensor || !file->by_name)
		return pf_fail(error, -ENOMEM, "%s: out of memory for %zu tensors", file->where,
		               most);
	json_object_foreach(file->header, name, entry)
	{
		int code = strcmp(name, "__metadata__") == 0
		                   ? read_notes(file, entry, error)
		                   : read_entry(file, name, entry, data, room, error);
		if (code != 0)
			return code;
	}
	qsort(file->tensor, file->count, sizeof *file->tensor, order_place);
	for (size_t i = 0; i < file->count; i++)
		file->by_name[i] = &file->tensor[i];
	qsort(file->by_name, file->count, sizeof *file->by_name, order_name);
	return check_cover(file, data, room, error);
}

static int read_header(struct pf_safetensors *file, struct pf_error *error)
{
	uint64_t length;
	json_error_t wrong;
	if (file->size < LENGTH_BYTES)
		return pf_fail(error, PF_E_FORMAT,
		               "%s: %zu bytes are too few for a safetensors file", file->where,
		               file->size);
	memcpy(&length, file->bytes, sizeof length);
	if (length > HEADER_MOST || length > file->size - LENGTH_BYTES)
		return pf_fail(error, PF_E_FORMAT,
		               "%s: header of %llu bytes in a file of %zu; not a safetensors file, "
		               "or incomplete",
		               file->where, (unsigned long long)length, file->size);
	const uint8_t *text = file->bytes + LENGTH_BYTES;
	file->header = json_loadb((const char *)text, length, JSON_REJECT_DUPLICATES, &wrong);
	if (!file->header)
		return pf_fail(error, PF_E_FORMAT, "%s: header, byte %d: %s", file->where,
		               wrong.position, wrong.text);
	if (!json_is_object(file->header))
		return pf_fail(error, PF_E_FORMAT, "%s: the header is not a JSON object",
		               file->where);
	return read_tensors(file, text + length, file->size - LENGTH_BYTES - length, error);
}

int pf_safetensors_parse(const void *bytes, size_t size, const char *where,
                         struct pf_safetensors **out, struct pf_error *error)
{
	struct pf_safetensors *file = calloc(1, sizeof *file);
	if (!file || !(file->where = strdup(where))) {
		free(file);
		return pf_fail(error, -ENOMEM, "%s: out of memory", where);
	}
	file->bytes = bytes;
	file->size = size;
	int code = read_header(file, error);
	if (code != 0)
		pf_safetensors_close(file);
	else
		*out = file;
	return code;
}

static int map_file(const char *path, void **bytes, size_t *size, struct pf_error *error)
{
	struct stat st;
	/* a FIFO without a writer must be refused, not waited for */
	int fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st) != 0) {
		int code = -errno;
		if (fd >= 0)
			close(fd);
		return pf_fail(error, code, "%s: %s", path, pf_error_text(code));
	}
	*size = (size_t)st.st_size;
	*bytes = S_ISREG(st.st_mode) && st.st_size > 0
	                 ? mmap(NULL, *size, PROT_READ, MAP_PRIVATE, fd, 0)
	                 : MAP_FAILED;
	close(fd);
	if (*bytes != MAP_FAILED)
		return 0;
	return pf_fail(error, PF_E_FORMAT,
	               "%s: empty, or not a regular file; not a safetensors file", path);
}

static void mark_mapped(struct pf_safetensors *file)
{
	file->mapped = 1;
	for (size_t i = 0; i < file->count; i++)
		file->tensor[i].mapped = 1;
}

int pf_safetensors_open(const char *path, struct pf_safetensors **file, struct pf_error *error)
{
	void *bytes;
	size_t size = 0;
	int code = map_file(path, &bytes, &size, error);
	if (code != 0)
		return code;
	code = pf_safetensors_parse(bytes, size, path, file, error);
	if (code != 0)
		munmap(bytes, size);
	else
		mark_mapped(*file);
	return code;
}

void pf_safetensors_close(struct pf_safetensors *file)
{
	if (!file)
		return;
	if (file->mapped)
		munmap((void *)(uintptr_t)file->bytes, file->size);
	json_decref(file->header);
	free(file->tensor);
	free(file->by_name);
	free(file->where);
	free(file);
}

size_t pf_safetensors_count(const struct pf_safetensors *file)
{
	return file->count;
}

const struct pf_safetensor *pf_safetensors_at(const struct pf_safetensors *file, size_t i)
{
	return i < file->count ? &file->tensor[i] : NULL;
}

const struct pf_safetensor *pf_safetensors_find(const struct pf_safetensors *file, const char *name)
{
	const struct pf_safetensor wanted = { .name = name }, *key = &wanted;
	const struct pf_safetensor **found = bsearch(&key, file->by_name, file->count,
	                                             sizeof *file->by_name, order_name);
	return found ? *found : NULL;
}

const char *pf_safetensors_note(const struct pf_safetensors *file, const char *key)
{
	return json_string_value(
	        json_object_get(json_object_get(file->header, "__metadata__"), key));
}

const char *pf_safetensors_where(const struct pf_safetensors *file)
{
	return file->where;
}

/* Elements may lie at any address: they are copied out before they are looked at */
#define CONVERT(stored, expression) \
	for (uint64_t i = 0; i < count; i++) { \
		stored x; \
		memcpy(&x, from + i * sizeof x, sizeof x); \
		to[i] = (expression); \
	}

static void convert(enum pf_dtype type, const uint8_t *from, uint64_t count, float *to)
{
	switch (type) {
	case PF_F64:
		CONVERT(double, (float)x)
		break;
	case PF_F16:
		CONVERT(uint16_t, pf_half_float(x))
		break;
	case PF_BF16:
		CONVERT(uint16_t, pf_bfloat_float(x))
		break;
	default:
		if (count > 0)
			memcpy(to, from, count * sizeof *to);
	}
}

static int check_real(const struct pf_safetensor *tensor, struct pf_error *error)
{
	if (tensor->type <= PF_BF16)
		return 0;
	return pf_fail(error, PF_E_TYPE, "tensor %.200s: holds integers (%s), not real numbers", tensor->name,
	               pf_safetensors_type_name(tensor->type));
}

/* Pages that have been read count as the process's memory; what is converted is not needed again */
static void forget(const struct pf_safetensor *tensor, const uint8_t *from, uint64_t bytes)
{
	const uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), begin = ((uintptr_t)from + page - 1) / page * page,
	                end = ((uintptr_t)from + bytes) / page * page;
	if (tensor->mapped && end > begin)
		madvise((void *)begin, end - begin, MADV_DONTNEED);
}

enum { PIECE = 1 << 20, ROWS_TOGETHER = 16 };

int pf_safetensor_floats(const struct pf_safetensor *tensor, float *to, struct pf_error *error)
{
	const uint64_t size = pf_dtype_bytes(tensor->type);
	int code = check_real(tensor, error);
	for (uint64_t at = 0; code == 0 && at < tensor->elements; at += PIECE) {
		const uint64_t count = tensor->elements - at < PIECE ? tensor->elements - at : PIECE;
		const uint8_t *from = (const uint8_t *)tensor->data + at * size;
		convert(tensor->type, from, count, to + at);
		forget(tensor, from, count * size);
	}
	return code;
}

int pf_safetensor_copy(const struct pf_safetensor *tensor, void *to)
{
	for (uint64_t at = 0; at < tensor->bytes; at += PIECE) {
		const uint64_t count = tensor->bytes - at < PIECE ? tensor->bytes - at : PIECE;
		const uint8_t *from = (const uint8_t *)tensor->data + at;
		memcpy((uint8_t *)to + at, from, count);
		forget(tensor, from, count);
	}
	return 0;
}

/* A few rows at a time, so that what they become is written in runs */
int pf_safetensor_floats_transposed(const struct pf_safetensor *tensor, float *to, struct pf_error *error)
{
	const uint64_t rows = tensor->shape[0], cols = tensor->shape[1], size = pf_dtype_bytes(tensor->type);
	int code = check_real(tensor, error);
	if (code != 0 || tensor->elements == 0)
		return code;
	float *some = malloc(ROWS_TOGETHER * cols * sizeof *some);
	if (!some)
		return pf_fail(error, -ENOMEM, "tensor %.200s: out of memory", tensor->name);
	for (uint64_t i = 0; i < rows; i += ROWS_TOGETHER) {
		const uint64_t now = rows - i < ROWS_TOGETHER ? rows - i : ROWS_TOGETHER;
		const uint8_t *from = (const uint8_t *)tensor->data + i * cols * size;
		convert(tensor->type, from, now * cols, some);
		for (uint64_t j = 0; j < cols; j++)
			for (uint64_t k = 0; k < now; k++)
				to[j * rows + i + k] = some[k * cols + j];
		forget(tensor, from, now * cols * size);
	}
	free(some);
	return 0;
}
