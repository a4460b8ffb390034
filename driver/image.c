#include "image.h"
#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include "prefpga/internal/backend.h"
#include "xclbin.h"

#define IMAGE_BYTES_MAX ((int64_t)1 << 30)
enum { CUS_MAX = 128, GROUPS_MAX = 256 };      /* XRT's own limits */

struct pf_image {
	struct pf_image_facts   facts;
	char                   *path;
	char                    platform[65];
	json_t                 *manifest;      /* owns names and version */
	struct pf_image_kernel *kernel;
	unsigned                kernels;
	char                  (*cu)[65];       /* names of all compute units */
	unsigned                cus;
	uint8_t                 in_host[GROUPS_MAX / 8];       /* a bit for each group */
};

/* ---- the container ---- */
static void read_uuid(const struct pf_xclbin *xclbin, char text[37])
{
	char *at = text;
	for (unsigned i = 0; i < 16; i++)
		at += sprintf(at, i == 4 || i == 6 || i == 8 || i == 10 ? "-%02x" : "%02x",
		              xclbin->uuid[i]);
}

static int read_cus(struct pf_image *image, const struct pf_xclbin *xclbin, struct pf_error *error)
{
	struct pf_xclbin_ip ip;
	image->cu = calloc(CUS_MAX, sizeof *image->cu);
	if (!image->cu)
		return pf_fail(error, -ENOMEM, "%s: out of memory", image->path);
	for (uint32_t i = 0; pf_xclbin_ip_at(xclbin, i, &ip); i++) {
		if (ip.type != PF_XCLBIN_IP_KERNEL)
			continue;
		if (image->cus == CUS_MAX)
			return pf_fail(error, PF_E_FORMAT, "%s: more than %d compute units",
			               image->path, CUS_MAX);
		memcpy(image->cu[image->cus++], ip.name, sizeof ip.name);
	}
	return 0;
}

static void read_memories(struct pf_image *image, const struct pf_xclbin *xclbin)
{
	struct pf_xclbin_memory memory;
	for (uint32_t i = 0; pf_xclbin_memory_at(xclbin, i, &memory); i++)
		if (memory.used && memory.bytes <= UINT64_MAX - image->facts.memory_bytes)
			image->facts.memory_bytes += memory.bytes;
	for (uint32_t i = 0; i < GROUPS_MAX && pf_xclbin_group_at(xclbin, i, &memory); i++)
		if (strncmp(memory.tag, "HOST[", 5) == 0)      /* as XRT's drivers tell them */
			image->in_host[i / 8] |= (uint8_t)(1u << i % 8);
}

/* ---- the manifest ---- */
static uint32_t count_cus(const struct pf_image *image, const char *kernel)
{
	uint32_t count = 0;
	size_t length = strlen(kernel);
	for (unsigned i = 0; i < image->cus; i++)
		count += strncmp(image->cu[i], "pf_k_", 5) == 0
		         && strncmp(image->cu[i] + 5, kernel, length) == 0
		         && image->cu[i][5 + length] == ':';
	return count;
}

static int read_kernel(struct pf_image *image, json_t *entry, struct pf_error *error)
{
	struct pf_image_kernel *kernel = &image->kernel[image->kernels];
	const char *hash, *end;
	if (json_unpack(entry, "{s:s, s:s}", "name", &kernel->name, "hash", &hash) != 0)
		return pf_fail(error, PF_E_FORMAT, "%s: manifest: kernel %u lacks name or hash",
		               image->path, image->kernels);
	errno = 0;
	kernel->hash = strtoull(hash, (char **)&end, 16);
	if (end == hash || *end || errno)
		return pf_fail(error, PF_E_FORMAT, "%s: manifest: hash \"%s\" of %s", image->path, hash,
		               kernel->name);
	kernel->kernel = pf_kernel_find(kernel->name);
	kernel->wanted = kernel->kernel < 0 ? 0 : pf_kernel_hash((enum pf_kernel)kernel->kernel);
	kernel->matches = kernel->kernel >= 0 && kernel->hash == kernel->wanted;
	kernel->cus = count_cus(image, kernel->name);
	image->kernels++;
	return 0;
}

static int read_kernels(struct pf_image *image, struct pf_error *error)
{
	json_t *list = json_object_get(image->manifest, "kernels"), *entry;
	size_t i;
	image->kernel = calloc(json_array_size(list) + 1, sizeof *image->kernel);
	if (!image->kernel)
		return pf_fail(error, -ENOMEM, "%s: out of memory", image->path);
	json_array_foreach(list, i, entry) {
		int status = read_kernel(image, entry, error);
		if (status != 0)
			return status;
	}
	return 0;
}

static int read_manifest(struct pf_image *image, const struct pf_xclbin *xclbin,
                         struct pf_error *error)
{
	json_error_t why;
	size_t bytes;
	int numerics;
	const char *text = pf_xclbin_section(xclbin, PF_XCLBIN_MANIFEST, &bytes);
	if (!text)
		return pf_fail(error, PF_E_IMAGE, "%s: carries no manifest of prefpga, so its kernels "
		               "are unknown; images of `prefpga-emit image` carry one", image->path);
	image->manifest = json_loadb(text, bytes, JSON_REJECT_DUPLICATES, &why);
	if (!image->manifest)
		return pf_fail(error, PF_E_FORMAT, "%s: manifest: line %d: %s", image->path, why.line,
		               why.text);
	if (json_unpack(image->manifest, "{s:s, s:i}", "prefpga", &image->facts.version,
	                "numerics", &numerics) != 0 || numerics < 0)
		return pf_fail(error, PF_E_FORMAT, "%s: manifest lacks version or numerics",
		               image->path);
	image->facts.numerics = (uint32_t)numerics;
	return read_kernels(image, error);
}

/* ---- life ---- */
static int read_all(struct pf_image *image, const void *data, size_t bytes, struct pf_error *error)
{
	struct pf_xclbin xclbin;
	int status = pf_xclbin_parse(data, bytes, image->path, &xclbin, error);
	if (status == 0)
		status = read_cus(image, &xclbin, error);
	if (status == 0)
		status = read_manifest(image, &xclbin, error);
	if (status != 0)
		return status;
	read_memories(image, &xclbin);
	read_uuid(&xclbin, image->facts.uuid);
	memcpy(image->platform, xclbin.platform, sizeof image->platform);
	image->facts.path = image->path;
	image->facts.platform = image->platform;
	image->facts.emulated = xclbin.mode == PF_XCLBIN_SW_EMU;
	return 0;
}

int pf_image_parse(const void *data, size_t bytes, const char *path, struct pf_image **image,
                   struct pf_error *error)
{
	struct pf_image *made = calloc(1, sizeof *made);
	*image = NULL;
	if (made)
		made->path = strdup(path);
	int status = made && made->path ? read_all(made, data, bytes, error)
	                                : pf_fail(error, -ENOMEM, "%s: out of memory", path);
	if (status != 0)
		pf_image_close(made);
	else
		*image = made;
	return status;
}

int pf_image_read(const char *path, void **data, size_t *bytes, struct pf_error *error)
{
	struct stat st;
	int status = 0;
	*data = NULL;
	FILE *in = fopen(path, "rb");
	if (!in || fstat(fileno(in), &st) != 0)
		status = pf_fail(error, -errno, "image %s: %s", path, strerror(errno));
	else if (!S_ISREG(st.st_mode) || st.st_size > IMAGE_BYTES_MAX)
		status = pf_fail(error, PF_E_FORMAT, "image %s: not a file of at most 1 GiB", path);
	if (status == 0) {
		*bytes = (size_t)st.st_size;
		*data = malloc(*bytes + 1);
		if (!*data || fread(*data, 1, *bytes, in) != *bytes)
			status = pf_fail(error, *data ? PF_E_DATA : -ENOMEM, "image %s: cannot read", path);
	}
	if (in)
		fclose(in);
	return status;
}

int pf_image_open(const char *path, struct pf_image **image, struct pf_error *error)
{
	void *data;
	size_t bytes;
	*image = NULL;
	int status = pf_image_read(path, &data, &bytes, error);
	if (status == 0)
		status = pf_image_parse(data, bytes, path, image, error);
	free(data);
	return status;
}

void pf_image_close(struct pf_image *image)
{
	if (!image)
		return;
	json_decref(image->manifest);
	free(image->kernel);
	free(image->cu);
	free(image->path);
	free(image);
}

/* ---- questions ---- */
const struct pf_image_facts *pf_image_facts(const struct pf_image *image)
{
	return &image->facts;
}

const struct pf_image_kernel *pf_image_kernel(const struct pf_image *image, unsigned i)
{
	return i < image->kernels ? &image->kernel[i] : NULL;
}

static const struct pf_image_kernel *find_kernel(const struct pf_image *image, int kernel)
{
	for (unsigned i = 0; i < image->kernels; i++)
		if (image->kernel[i].kernel == kernel)
			return &image->kernel[i];
	return NULL;
}

int pf_image_check(const struct pf_image *image, int kernel, struct pf_error *error)
{
	if (kernel < 0 || kernel >= PF_KERNEL_COUNT)
		return pf_fail(error, PF_E_ARGUMENT, "there is no kernel number %d", kernel);
	const struct pf_image_kernel *found = find_kernel(image, kernel);
	const char *name = pf_kernel_rows[kernel].name;
	if (!found || !found->cus)
		return pf_fail(error, PF_E_IMAGE, "image %s has no kernel %s", image->path, name);
	if (!found->matches)
		return pf_fail(error, PF_E_IMAGE, "image %s: kernel %s has ABI %016" PRIx64 ", this "
		               "program expects %016" PRIx64 ": build the image again", image->path,
		               name, found->hash, found->wanted);
	return 0;
}

int pf_image_group_in_host(const struct pf_image *image, int group)
{
	return group >= 0 && group < GROUPS_MAX && image->in_host[group / 8] >> group % 8 & 1;
}

const char *pf_image_cu(const struct pf_image *image, int kernel, uint32_t cu)
{
	if (kernel < 0 || kernel >= PF_KERNEL_COUNT)
		return NULL;
	const char *name = pf_kernel_rows[kernel].name;
	size_t length = strlen(name);
	for (unsigned i = 0; i < image->cus; i++) {
		const char *at = image->cu[i];
		if (strncmp(at, "pf_k_", 5) != 0 || strncmp(at + 5, name, length) != 0
		    || at[5 + length] != ':')
			continue;
		if (cu-- == 0)
			return at;
	}
	return NULL;
}
