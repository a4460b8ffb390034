#include "xrt_place.h"
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define UNDER_EMULATE "run under `prefpga emulate --`"

static int readable(const char *format, const char *root, const char *name)
{
	char path[PF_PATH_BYTES];
	snprintf(path, sizeof path, format, root, name);
	return access(path, R_OK) == 0;
}

/* Does this version of XRT look below $XILINX_XRT? Unknown: no, since the newer ones do not */
static int wants_root(const char *library, unsigned *minor)
{
	unsigned major;
	const char *version = strstr(library, ".so.");
	return version && sscanf(version, ".so.%u.%u", &major, minor) == 2 && major == 2 && *minor < 16;
}

static int check_shim(const struct pf_xrt_place *place, const char *shim, struct pf_error *error)
{
	unsigned minor;
	if (!wants_root(place->library, &minor))
		return 0;
	if (!place->root)
		return pf_fail(error, PF_E_ABSENT,
		               "XILINX_XRT is not set, and XRT 2.%u ends the program without it: "
		               "source XRT's setup.sh for a card, or " UNDER_EMULATE " without one",
		               minor);
	if (!readable("%s/lib/%s", place->root, shim))
		return pf_fail(error, PF_E_ABSENT,
		               "XILINX_XRT=%s has no lib/%s, and XRT 2.%u ends the program without "
		               "it: correct XILINX_XRT, or " UNDER_EMULATE, place->root, shim, minor);
	return 0;
}

static int check_model(const struct pf_xrt_place *place, struct pf_error *error)
{
	static const char model[] =
		"%s/data/emulation/unified/%s/generic_pcie/model/genericpciemodel";
	if (place->vitis && (readable(model, place->vitis, "sw_emu")
	                     || readable(model, place->vitis, "cpu_em")))
		return 0;
	return pf_fail(error, PF_E_ABSENT, "XCL_EMULATION_MODE=sw_emu, but XILINX_VITIS names no "
	               "folder with a device process: " UNDER_EMULATE);
}

int pf_xrt_place_emulated(const struct pf_xrt_place *place)
{
	return place->mode && strcmp(place->mode, "sw_emu") == 0;
}

static uint32_t count_cards(json_t *config)
{
	json_t *boards = json_object_get(json_object_get(config, "Platform"), "Boards"), *board, *device;
	uint64_t count = 0;
	size_t i, k;
	json_array_foreach(boards, i, board)
		json_array_foreach(json_object_get(board, "Devices"), k, device) {
			const char *number = json_string_value(json_object_get(device, "NumDevices"));
			count += number ? strtoul(number, NULL, 10) : 1;
		}
	return count && count < UINT32_MAX ? (uint32_t)count : UINT32_MAX;
}

uint32_t pf_xrt_place_cards(const struct pf_xrt_place *place)
{
	char path[PF_PATH_BYTES];
	snprintf(path, sizeof path, "%s/emconfig.json", place->emconfig ? place->emconfig : ".");
	json_t *config = pf_xrt_place_emulated(place) ? json_load_file(path, 0, NULL) : NULL;
	uint32_t count = config ? count_cards(config) : UINT32_MAX;
	json_decref(config);
	return count;
}

int pf_xrt_place_check(const struct pf_xrt_place *place, struct pf_error *error)
{
	if (!place->mode)
		return check_shim(place, "libxrt_core.so.2", error);
	if (strcmp(place->mode, "hw_emu") == 0)
		return check_shim(place, "libxrt_hwemu.so.2", error);
	if (!pf_xrt_place_emulated(place))
		return pf_fail(error, PF_E_UNSUPPORTED, "XCL_EMULATION_MODE=%s: use sw_emu, hw_emu, or "
		               "unset it for a card", place->mode);
	int status = check_model(place, error);
	return status ? status : check_shim(place, "libxrt_swemu.so.2", error);
}

void pf_xrt_place_image(const struct pf_xrt_place *place, const char *self,
                        char path[PF_PATH_BYTES])
{
	const char *slash = strrchr(self, '/');
	if (place->mode)
		snprintf(path, PF_PATH_BYTES, "%s/prefpga.xclbin", place->root ? place->root : ".");
	else
		snprintf(path, PF_PATH_BYTES, "%.*sprefpga/prefpga.xclbin",
		         slash ? (int)(slash - self) + 1 : 0, self);
}
