#include "opencl_library.h"
#include <dlfcn.h>
#include <pthread.h>

struct pf_cl_library pf_cl;

static struct { pthread_once_t once; struct pf_error error; } loader = { .once = PTHREAD_ONCE_INIT };

static void load(void)
{
	void *library = dlopen("libOpenCL.so.1", RTLD_NOW);
	if (!library) {
		pf_fail(&loader.error, PF_E_ABSENT, "OpenCL's loader is not installed (%s): install ocl-icd-libopencl1",
		        dlerror());
		return;
	}
#define CL_FIND(name) \
	if (!(*(void **)&pf_cl.name = dlsym(library, #name))) \
		pf_fail(&loader.error, PF_E_ABSENT, "OpenCL's loader lacks " #name);
	PF_CL_CALLS(CL_FIND)
}

int pf_cl_start(struct pf_error *error)
{
	pthread_once(&loader.once, load);
	return loader.error.code ? pf_fail(error, loader.error.code, "%s", loader.error.text) : 0;
}
