#include "npy.h"
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include "../model/replace.h"
#include "npy_header.h"

uint64_t pf_npy_count(const struct pf_npy_shape *shape)
{
	uint64_t count = 1;
	for (unsigned i = 0; i < shape->dims; i++)
		count *= shape->size[i];
	return count;
}

/* ---- reading ---- */
int pf_npy_parse(const void *bytes, size_t length, const char *path, struct pf_npy *npy, struct pf_error *error)
{
	size_t offset = 0;
	memset(npy, 0, sizeof *npy);
	int status = pf_npy_header_parse(bytes, length, path, &npy->shape, &offset, error);
	if (status == 0)
		npy->data = (const char *)bytes + offset;
	return status;
}

static int map_file(const char *path, void **map, size_t *bytes, struct pf_error *error)
{
	struct stat facts;
	/* a FIFO without a writer must be refused, not waited for */
	int fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &facts) != 0) {
		int status = -errno;
		if (fd >= 0)
			close(fd);
		return pf_fail(error, status, "%s: cannot open: %s", path, pf_error_text(status));
	}
	if (!S_ISREG(facts.st_mode) || facts.st_size == 0) {
		close(fd);
		return pf_fail(error, PF_E_FORMAT, "%s: %s; give a .npy file", path,
		               S_ISREG(facts.st_mode) ? "empty" : "not a regular file");
	}
	*bytes = (size_t)facts.st_size;
	*map = mmap(NULL, *bytes, PROT_READ, MAP_PRIVATE, fd, 0);
	int status = *map == MAP_FAILED ? -errno : 0;
	close(fd);
	return status ? pf_fail(error, status, "%s: cannot map: %s", path, pf_error_text(status)) : 0;
}

int pf_npy_open(const char *path, struct pf_npy *npy, struct pf_error *error)
{
	void *map = NULL;
	size_t bytes = 0;
	memset(npy, 0, sizeof *npy);
	int status = map_file(path, &map, &bytes, error);
	if (status)
		return status;
	status = pf_npy_parse(map, bytes, path, npy, error);
	npy->map = map;
	npy->map_bytes = bytes;
	if (status)
		pf_npy_close(npy);
	return status;
}

void pf_npy_close(struct pf_npy *npy)
{
	if (npy->map)
		munmap(npy->map, npy->map_bytes);
	memset(npy, 0, sizeof *npy);
}

void pf_npy_pass(const struct pf_npy *npy, uint64_t count)
{
	const size_t page = (size_t)sysconf(_SC_PAGESIZE), each = pf_dtype_bytes(npy->shape.type);
	if (!npy->map)
		return;
	size_t end = (size_t)((const char *)npy->data - (const char *)npy->map) + (size_t)count * each;
	madvise(npy->map, end / page * page, MADV_DONTNEED);
}

void pf_npy_as_bf16(struct pf_npy *npy)
{
	if (npy->shape.type == PF_U16)
		npy->shape.type = PF_BF16;
}

/* ---- writing ---- */
struct pf_npy_out {
	struct pf_replace *file;
	char              *path;
	size_t             each;               /* bytes of an element */
	uint64_t           missing;            /* elements */
};

/* Elements of a shape that is to be written */
static int writable_count(const struct pf_npy_shape *shape, uint64_t *count)
{
	*count = 1;
	if (shape->dims > PF_NPY_DIMS)
		return 0;
	for (unsigned i = 0; i < shape->dims; i++) {
		if (shape->size[i] && *count > INT64_MAX / 8 / shape->size[i])
			return 0;
		*count *= shape->size[i];
	}
	return 1;
}

int pf_npy_create(const char *path, const struct pf_npy_shape *shape, struct pf_npy_out **made, struct pf_error *error)
{
	char header[PF_NPY_HEADER_MAX];
	struct pf_npy_out *out = calloc(1, sizeof *out);
	char *name = strdup(path);
	int status = out && name ? 0 : pf_fail(error, -ENOMEM, "%s: out of memory", path);
	if (status == 0 && !writable_count(shape, &out->missing))
		status = pf_fail(error, PF_E_SHAPE, "%s: the shape is too large", path);
	if (status == 0)
		status = pf_replace_open(path, &out->file, error);
	if (status) {
		free(out);
		free(name);
		return status;
	}
	out->path = name;
	out->each = pf_dtype_bytes(shape->type);
	status = pf_replace_write(out->file, header, pf_npy_header_make(shape, header), error);
	if (status)
		pf_npy_abandon(out);
	else
		*made = out;
	return status;
}

int pf_npy_append(struct pf_npy_out *out, const void *elements, uint64_t count, struct pf_error *error)
{
	if (count > out->missing)
		return pf_fail(error, PF_E_SHAPE, "%s: %" PRIu64 " elements more than its shape holds", out->path,
		               count - out->missing);
	out->missing -= count;
	return pf_replace_write(out->file, elements, (size_t)count * out->each, error);
}

static void out_free(struct pf_npy_out *out)
{
	free(out->path);
	free(out);
}

int pf_npy_commit(struct pf_npy_out *out, struct pf_error *error)
{
	if (out->missing) {
		int status =
			pf_fail(error, PF_E_SHAPE, "%s: %" PRIu64 " elements are missing", out->path, out->missing);
		pf_npy_abandon(out);
		return status;
	}
	int status = pf_replace_commit(out->file, error);
	out_free(out);
	return status;
}

void pf_npy_abandon(struct pf_npy_out *out)
{
	if (!out)
		return;
	pf_replace_abandon(out->file);
	out_free(out);
}
