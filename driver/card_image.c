#define _GNU_SOURCE                            /* dladdr */
#include "card_image.h"
#include <dlfcn.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

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

int pf_card_image_open(const struct pf_xrt_place *place, const struct pf_device_options *options,
                       struct pf_image **image, uint32_t *cus, struct pf_error *error)
{
	char path[PF_PATH_BYTES];
	*image = NULL;
	default_path(place, path);
	if (!options->image && access(path, R_OK) != 0)
		return pf_fail(error, PF_E_ABSENT, "no image to load: none is named, and there is no %s", path);
	int status = pf_image_open(options->image ? options->image : path, image, error);
	if (status == 0)
		status = check_target(pf_image_facts(*image), pf_xrt_place_emulated(place), error);
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
