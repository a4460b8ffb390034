#define _GNU_SOURCE                            /* dladdr */
#include "xrt_library.h"
#include <dlfcn.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "xrt_log.h"

struct pf_xrt_library pf_xrt;

static struct {
	pthread_once_t  once;
	struct pf_error error;                 /* code 0: usable */
	char            path[PF_PATH_BYTES];   /* of the library, links followed */
} xrt = { .once = PTHREAD_ONCE_INIT };

static void *open_library(void)
{
	static const char name[] = "libxrt_coreutil.so.2";
	char path[PF_PATH_BYTES];
	const char *root = getenv("XILINX_XRT");
	void *library = dlopen(name, RTLD_NOW);
	snprintf(path, sizeof path, "%s/lib/%s", root ? root : "/opt/xilinx/xrt", name);
	return library ? library : dlopen(path, RTLD_NOW);
}

static void load_xrt(void)
{
	Dl_info where;
	char real[PF_PATH_BYTES];
	void *library = open_library();
	if (!library) {
		pf_fail(&xrt.error, PF_E_ABSENT,
		        "XRT is not installed (%s): install libxrt1, or XRT from AMD", dlerror());
		return;
	}
#define XRT_FIND(name) \
	if (!(*(void **)&pf_xrt.name = dlsym(library, #name))) \
		pf_fail(&xrt.error, PF_E_ABSENT, "this XRT lacks " #name ": install 2.13 or later");
	PF_XRT_CALLS(XRT_FIND)
	if (xrt.error.code == 0 && dladdr((void *)pf_xrt.xrtDeviceOpen, &where) && realpath(where.dli_fname, real))
		snprintf(xrt.path, sizeof xrt.path, "%s", real);
	const char *log = xrt.error.code == 0 ? pf_xrt_log_open() : NULL;
	if (log)
		pf_xrt.xrtIniStringSet("Runtime.runtime_log", log);
}

/* Both at once make XRT 2.13 refuse runs, and end the process in its destructors */
static int claim(const char *interface, struct pf_error *error)
{
	static _Atomic(const char *) first;
	const char *before = NULL;
	if (atomic_compare_exchange_strong(&first, &before, interface) || strcmp(before, interface) == 0)
		return 0;
	return pf_fail(error, PF_E_UNSUPPORTED,
		       "this process uses XRT through %s already, and XRT does not serve %s besides: "
		       "use the same for all cards",
		       before, interface);
}

int pf_xrt_start(const char *interface, struct pf_xrt_place *place, struct pf_error *error)
{
	pthread_once(&xrt.once, load_xrt);
	if (xrt.error.code != 0)
		return pf_fail(error, xrt.error.code, "%s", xrt.error.text);
	const char *mode = getenv("XCL_EMULATION_MODE");
	*place = (struct pf_xrt_place) {
		.root = getenv("XILINX_XRT"), .vitis = getenv("XILINX_VITIS"), .library = xrt.path,
		.mode = mode && mode[0] ? mode : NULL, .emconfig = getenv("EMCONFIG_PATH"),
	};
	int status = pf_xrt_place_check(place, error);
	return status ? status : claim(interface, error);
}

int pf_xrt_fail(struct pf_error *error, int code, const char *what, const char *remedy)
{
	char text[512];
	pf_xrt_log_last(text, sizeof text);
	return pf_fail(error, code, "%s%s%s", what, text, pf_xrt_remedy(text, remedy));
}
