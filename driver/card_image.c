#define _GNU_SOURCE                            /* dladdr */
#include "card_image.h"
#include <dirent.h>
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define FIRST_IMAGE "prefpga"                  /* .xclbin, before prefpga-<name>.xclbin */

/* ---- where images lie ---- */
static void default_path(const struct pf_xrt_place *place, char path[PF_PATH_BYTES])
{
	Dl_info self;
	int known = dladdr((void *)&pf_image_open, &self) != 0 && self.dli_fname;
	const char *slash = known ? strrchr(self.dli_fname, '/') : NULL;
	pf_xrt_place_image(place, known ? self.dli_fname : "", path);
	if (!place->mode && slash && access(path, R_OK) != 0)  /* the program in <prefix>/bin is its own library */
		snprintf(path, PF_PATH_BYTES, "%.*s/../" PREFPGA_LIBDIR "/prefpga/prefpga.xclbin",
		         (int)(slash - self.dli_fname), self.dli_fname);
}

/* prefpga.xclbin and prefpga-<name>.xclbin; what is built for emulation lies beside them where prefpga is installed */
static int is_image(const struct dirent *entry)
{
	const char *name = entry->d_name, *end = strrchr(name, '.');
	return strncmp(name, FIRST_IMAGE, sizeof FIRST_IMAGE - 1) == 0 && end && strcmp(end, ".xclbin") == 0
	       && strchr(".-", name[sizeof FIRST_IMAGE - 1]) && strcmp(name, "prefpga-sw_emu.xclbin") != 0;
}

/* prefpga.xclbin first */
static int image_order(const struct dirent **a, const struct dirent **b)
{
	const int later_a = strcmp((*a)->d_name, FIRST_IMAGE ".xclbin") != 0;
	const int later_b = strcmp((*b)->d_name, FIRST_IMAGE ".xclbin") != 0;
	return later_a != later_b ? later_a - later_b : strcmp((*a)->d_name, (*b)->d_name);
}

/* ---- what an image is good for ---- */
static void log_mismatch(const struct pf_device_options *options, const struct pf_error *error)
{
	if (options->log)
		options->log(options->log_context, 1, error->text);
}

static int take_kernels(const struct pf_image *image, const struct pf_device_options *options, uint32_t *cus,
                        struct pf_error *error)
{
	const struct pf_image_kernel *kernel;
	int status = pf_fail(error, PF_E_IMAGE, "image %s has no kernel of this program",
	                     pf_image_facts(image)->path), taken = 0;
	for (unsigned i = 0; (kernel = pf_image_kernel(image, i)); i++) {
		struct pf_error why;
		if (kernel->kernel < 0 || !kernel->cus)
			continue;
		if (pf_image_check(image, kernel->kernel, &why) == 0) {
			cus[kernel->kernel] = kernel->cus;
			taken++;
			continue;
		}
		log_mismatch(options, &why);
		status = pf_fail(error, PF_E_IMAGE, "%s", why.text);
	}
	return taken ? 0 : status;
}

static int check_target(const struct pf_image_facts *facts, int emulated, struct pf_error *error)
{
	if (facts->emulated && !emulated)
		return pf_fail(error, PF_E_IMAGE, "image %s is for software emulation: run under "
		               "`prefpga emulate --`", facts->path);
	if (!facts->emulated && emulated)
		return pf_fail(error, PF_E_IMAGE, "image %s is for a card, not for software emulation",
		               facts->path);
	if (facts->numerics != PF_NUMERICS)
		return pf_fail(error, PF_E_IMAGE, "image %s has numerics version %u, this program %u: "
		               "build the image again", facts->path, facts->numerics, PF_NUMERICS);
	return 0;
}

/* How many of the kernels `wanted` (bits) the image has; -1: none of this program at all */
static int count_kernels(const struct pf_image *image, uint64_t wanted)
{
	int has = 0, any = 0;
	for (int k = 0; k < PF_KERNEL_COUNT; k++) {
		const int usable = pf_image_check(image, k, NULL) == 0;
		any |= usable;
		has += usable && wanted >> k & 1;
	}
	return any ? has : -1;
}

/* ---- choosing ---- */
static int open_one(const char *path, const struct pf_xrt_place *place, struct pf_image **image, struct pf_error *error)
{
	int status = pf_image_open(path, image, error);
	return status ? status : check_target(pf_image_facts(*image), pf_xrt_place_emulated(place), error);
}

/* The image in `folder` that has most of what is wanted, of equals the first; else why the last one does not serve */
static int choose(const char *folder, struct dirent **name, int names, const struct pf_xrt_place *place,
                  uint64_t wanted, struct pf_image **image, struct pf_error *error)
{
	char path[PF_PATH_BYTES + sizeof name[0]->d_name];
	int most = -2, status = 0;
	for (int i = 0; i < names; i++) {
		struct pf_image *one = NULL;
		snprintf(path, sizeof path, "%s/%s", folder, name[i]->d_name);
		const int code = open_one(path, place, &one, error), has = code ? -2 : count_kernels(one, wanted);
		status = code ? code : status;
		struct pf_image *worse = has > most ? *image : one;
		*image = has > most ? one : *image;
		most = has > most ? has : most;
		pf_image_close(worse);
	}
	return *image ? 0 : status;
}

/* folder: may end in "/<file>", which is cut off */
static int open_in(char *folder, const struct pf_xrt_place *place, const struct pf_device_options *options,
                   struct pf_image **image, struct pf_error *error)
{
	struct dirent **name = NULL;
	char *slash = strrchr(folder, '/');
	if (!options->image && slash)
		*slash = '\0';
	const int names = scandir(folder, &name, is_image, image_order);
	int status = names > 0
	                     ? choose(folder, name, names, place, options->kernels, image, error)
	                     : pf_fail(error, PF_E_ABSENT,
	                               "no image to load: there is no " FIRST_IMAGE ".xclbin in %s%s", folder,
	                               options->image ? "" : ", and none is named");
	for (int i = 0; i < names; i++)
		free(name[i]);
	free(name);
	return status;
}

int pf_card_image_open(const struct pf_xrt_place *place, const struct pf_device_options *options,
                       struct pf_image **image, uint32_t *cus, struct pf_error *error)
{
	char path[PF_PATH_BYTES];
	struct stat st;
	int status;
	*image = NULL;
	default_path(place, path);
	if (options->image)
		snprintf(path, sizeof path, "%s", options->image);
	if (options->image && (stat(path, &st) != 0 || !S_ISDIR(st.st_mode)))
		status = open_one(path, place, image, error);
	else
		status = open_in(path, place, options, image, error);
	return status ? status : take_kernels(*image, options, cus, error);
}

void pf_card_image_cu(const struct pf_image *image, int kernel, uint32_t number, char *name, size_t size)
{
	const char *both = pf_image_cu(image, kernel, number), *colon = strchr(both, ':');
	snprintf(name, size, "%.*s:{%s}", (int)(colon - both), both, colon + 1);
}

void pf_card_image_facts(const struct pf_image *image, struct pf_device_facts *facts)
{
	const struct pf_image_facts *of = pf_image_facts(image);
	facts->variant = of->platform;
	facts->memory_bytes = of->memory_bytes;
	facts->numerics = of->numerics;
	facts->exact = 1;
}
