#define _GNU_SOURCE                    /* dladdr */
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "emulation.h"
#include "prefpga/image.h"
#include "prefpga/internal/registers.h"
#include "swemu.h"

#define SHIM "libxrt_swemu.so.2"
#define SHIM_BYTES_MAX ((size_t)64 << 20)

/* ---- finding ---- */
static int join(char path[PF_SESSION_PATH], const char *folder, const char *name)
{
	int length = snprintf(path, PF_SESSION_PATH, "%s/%s", folder, name);
	return length > 0 && length < PF_SESSION_PATH && access(path, R_OK) == 0;
}

static int find_xrt(const char *given, char folder[PF_SESSION_PATH], struct pf_error *error)
{
	static const char *const usual[] = {
		("/usr/lib/" PREFPGA_MULTIARCH), "/usr/lib64", "/usr/lib", "/opt/xilinx/xrt/lib",
	};
	char path[PF_SESSION_PATH];
	for (size_t i = 0; i < (given ? 1 : sizeof usual / sizeof *usual); i++) {
		snprintf(folder, PF_SESSION_PATH, "%s", given ? given : usual[i]);
		if (join(path, folder, SHIM))
			return 0;
	}
	return pf_fail(error, PF_E_ABSENT, "XRT's emulation library (" SHIM ") is not in %s: install "
	               "libxrt1, or XRT from AMD", given ? given : "the usual places");
}

/* Folder of a file, in place; 0 if there is none */
static int folder_of(char *path)
{
	char *slash = strrchr(path, '/');
	if (!slash)
		return 0;
	*slash = '\0';
	return 1;
}

/* A part of prefpga: beside the program, above it (build trees), or in <libdir>/prefpga */
static int find_part(const char *name, char path[PF_SESSION_PATH])
{
	static const char *const below[] = { "", "/..", "/../" PREFPGA_LIBDIR "/prefpga", "/prefpga" };
	char self[PF_SESSION_PATH], folder[PF_SESSION_PATH + 64];
	Dl_info library;
	for (int from_library = 0; from_library < 2; from_library++) {
		ssize_t length = readlink("/proc/self/exe", self, sizeof self - 1);
		self[length > 0 ? length : 0] = '\0';
		if (from_library && dladdr((void *)&pf_emulation_open, &library) && library.dli_fname)
			snprintf(self, sizeof self, "%s", library.dli_fname);
		if (!folder_of(self))
			continue;
		for (size_t i = 0; i < sizeof below / sizeof *below; i++) {
			snprintf(folder, sizeof folder, "%s%s", self, below[i]);
			if (join(path, folder, name))
				return 1;
		}
	}
	return 0;
}

static int find_or_fail(const char *given, const char *name, char path[PF_SESSION_PATH],
                        struct pf_error *error)
{
	char relative[PF_SESSION_PATH];
	if (given)
		snprintf(relative, sizeof relative, "%s", given);
	else if (!find_part(name, relative))
		return pf_fail(error, PF_E_ABSENT, "%s is neither beside the program nor installed", name);
	char *real = realpath(relative, NULL);
	if (!real)
		return pf_fail(error, -errno, "%s: %s", relative, strerror(errno));
	snprintf(path, PF_SESSION_PATH, "%s", real);
	free(real);
	return 0;
}

/* Here, where the user's name for it is known: what runs below only sees a link to it */
static int check_image(const char *path, struct pf_error *error)
{
	struct pf_image *image;
	struct stat st;
	if (stat(path, &st) != 0 || !S_ISREG(st.st_mode))
		return pf_fail(error, PF_E_ARGUMENT, "%s: an emulated card is loaded with one image: name a file",
		               path);
	int status = pf_image_open(path, &image, error);
	if (status != 0)
		return status;
	if (!pf_image_facts(image)->emulated)
		status = pf_fail(error, PF_E_IMAGE,
		                 "%s is built for cards (%s): leave --image out for the one that is emulated", path,
		                 pf_image_facts(image)->platform);
	pf_image_close(image);
	return status;
}

/* ---- making; every name is below the session's folder ---- */
static int failed(const char *path, struct pf_error *error)
{
	return pf_fail(error, -errno, "%s: %s", path, strerror(errno));
}

static int make_folders(const char *folder, const char *name, struct pf_error *error)
{
	char path[PF_SESSION_PATH];
	size_t start = (size_t)snprintf(path, sizeof path, "%s/", folder);
	for (const char *end = name; end; end = strchr(end + 1, '/')) {
		const char *next = strchr(end + 1, '/');
		size_t length = next ? (size_t)(next - name) : strlen(name);
		snprintf(path + start, sizeof path - start, "%.*s", (int)length, name);
		if (mkdir(path, 0700) != 0 && errno != EEXIST)
			return failed(path, error);
	}
	return 0;
}

static int make_link(const char *target, const char *folder, const char *name,
                     struct pf_error *error)
{
	char path[PF_SESSION_PATH];
	snprintf(path, sizeof path, "%s/%s", folder, name);
	return symlink(target, path) == 0 ? 0 : failed(path, error);
}

static int make_file(const char *folder, const char *name, const void *data, size_t bytes,
                     struct pf_error *error)
{
	char path[PF_SESSION_PATH];
	snprintf(path, sizeof path, "%s/%s", folder, name);
	FILE *out = fopen(path, "wb");
	int ok = out && fwrite(data, 1, bytes, out) == bytes;
	if (out && fclose(out) != 0)
		ok = 0;
	return ok ? 0 : failed(path, error);
}

/* ---- XRT's libraries ---- */
static int make_shim(const char *folder, const char *source, struct pf_error *error)
{
	struct pf_swemu_cure cure;
	FILE *in = fopen(source, "rb");
	uint8_t *data = malloc(SHIM_BYTES_MAX);
	size_t bytes = in && data ? fread(data, 1, SHIM_BYTES_MAX, in) : 0;
	int status = bytes ? 0 : failed(source, error);
	enum pf_swemu_state state = pf_swemu_examine(data, bytes, &cure);
	if (status == 0 && state == PF_SWEMU_UNKNOWN)
		status = pf_fail(error, PF_E_UNSUPPORTED, "%s is a build that prefpga does not know; it "
		                 "may corrupt its heap, so it is not used: please report it", source);
	else if (status == 0 && state == PF_SWEMU_DEFECTIVE) {
		data[cure.at] = cure.value;
		status = make_file(folder, "xrt/lib/" SHIM, data, bytes, error);
	} else if (status == 0)
		status = make_link(source, folder, "xrt/lib/" SHIM, error);
	free(data);
	if (in)
		fclose(in);
	return status;
}

static int make_xrt(const char *folder, const char *xrt, struct pf_error *error)
{
	static const char *const others[] = {
		"libxrt_core.so.2", "libxrt_coreutil.so.2", "libxrt_hwemu.so.2", "libxrt_noop.so.2",
	};
	char source[PF_SESSION_PATH], name[64];
	int status = make_folders(folder, "xrt/lib", error);
	for (size_t i = 0; i < sizeof others / sizeof *others && status == 0; i++) {
		snprintf(name, sizeof name, "xrt/lib/%s", others[i]);
		if (join(source, xrt, others[i]))
			status = make_link(source, folder, name, error);
	}
	if (status == 0 && join(source, xrt, SHIM))
		status = make_shim(folder, source, error);
	return status;
}

/* ---- the rest ---- */
/* Where XRT looks for Vitis' device process: cpu_em up to 2.14, sw_emu from 2.15 on */
#define MODEL(mode) "vitis/data/emulation/unified/" mode "/generic_pcie/model"

static int make_model(const char *folder, const char *model, struct pf_error *error)
{
	int status = make_folders(folder, MODEL("cpu_em"), error);
	if (status == 0)
		status = make_folders(folder, MODEL("sw_emu"), error);
	if (status == 0)
		status = make_link(model, folder, MODEL("cpu_em") "/genericpciemodel", error);
	return status ? status
	              : make_link(model, folder, MODEL("sw_emu") "/genericpciemodel", error);
}

static int make_cards(const char *folder, unsigned cards, struct pf_error *error)
{
	char text[2048];
	int used = snprintf(text, sizeof text,
		"{ \"Version\": { \"FileVersion\": \"2.0\", \"ToolVersion\": \"2022.1\" },\n"
		"  \"Platform\": { \"UnifiedPlatform\": \"false\", \"ExpandedPR\": \"false\", \"Boards\": [\n"
		"    { \"NumBoards\": \"1\", \"Devices\": [ { \"Name\": \"" PF_PLATFORM_EMULATED "\",\n"
		"      \"HalMajorVersion\": \"1\", \"HalMinorVersion\": \"0\", \"VendorId\": \"4334\",\n"
		"      \"SubsystemVendorId\": \"0\", \"DeviceVersion\": \"0\", \"NumDevices\": \"%u\",\n"
		"      \"DdrBanks\": [ ", cards);
	for (unsigned i = 0; i < PF_EMULATED_BANKS; i++)
		used += snprintf(text + used, sizeof text - (size_t)used, "%s{ \"Size\": \"%uG\" }",
		                 i ? ", " : "", (unsigned)(PF_EMULATED_BANK_BYTES >> 30));
	used += snprintf(text + used, sizeof text - (size_t)used, " ] } ] } ] } }\n");
	return make_file(folder, "emconfig.json", text, (size_t)used, error);
}

/* OpenCL's loader finds XRT's implementation by a file that names it. No such library: no OpenCL, and no error */
static int make_icd(const char *folder, const char *xrt, struct pf_error *error)
{
	char library[PF_SESSION_PATH];
	int status = make_folders(folder, "vendors", error);
	if (status != 0 || !join(library, xrt, "libxilinxopencl.so.2"))
		return status;
	return make_file(folder, "vendors/xilinx.icd", library, strlen(library), error);
}

int pf_tree_make(const char *folder, const struct pf_emulation_options *options,
                 struct pf_error *error)
{
	char xrt[PF_SESSION_PATH], model[PF_SESSION_PATH], image[PF_SESSION_PATH];
	int status = find_xrt(options->xrt, xrt, error);
	if (status == 0)
		status = find_or_fail(options->model, "prefpga-card-model", model, error);
	if (status == 0)
		status = find_or_fail(options->image, "prefpga-sw_emu.xclbin", image, error);
	if (status == 0)
		status = check_image(image, error);
	if (status == 0)
		status = make_xrt(folder, xrt, error);
	if (status == 0)
		status = make_icd(folder, xrt, error);
	if (status == 0)
		status = make_model(folder, model, error);
	if (status == 0)
		status = make_link(image, folder, "xrt/prefpga.xclbin", error);
	if (status == 0)
		status = make_folders(folder, "run", error);
	return status ? status : make_cards(folder, options->cards ? options->cards : 1, error);
}
