/* A program that forgets a buffer: what the emulated card says of it, tests of backend xrt must not provoke.
 * argv: an image. XRT's C API by name, because its headers belong to driver/xrt.c. 77: no XRT. */
#include <dlfcn.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

typedef void *(*open_fn)(unsigned index);
typedef int (*load_fn)(void *device, const char *path);
typedef void *(*alloc_fn)(void *device, size_t bytes, uint64_t flags, uint32_t group);
typedef int (*one_fn)(void *handle);

static void *call(void *library, const char *name)
{
	void *found = dlsym(library, name);
	if (!found)
		fprintf(stderr, "xrt_forget: XRT has no %s\n", name);
	return found;
}

int main(int argc, char **argv)
{
	void *library = dlopen("libxrt_coreutil.so.2", RTLD_NOW);
	if (!library)
		return 77;
	const open_fn open = (open_fn)call(library, "xrtDeviceOpen");
	const load_fn load = (load_fn)call(library, "xrtDeviceLoadXclbinFile");
	const alloc_fn alloc = (alloc_fn)call(library, "xrtBOAlloc");
	const one_fn free = (one_fn)call(library, "xrtBOFree"), close = (one_fn)call(library, "xrtDeviceClose");
	if (argc < 2 || !open || !load || !alloc || !free || !close)
		return 1;
	void *device = open(0);
	if (!device || load(device, argv[1]) != 0)
		return 1;
	void *freed = alloc(device, 8192, 0, 0), *forgotten = alloc(device, 4096, 0, 0);
	return !freed || !forgotten || free(freed) != 0 || close(device) != 0;
}
