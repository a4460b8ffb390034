/* .npy files from anywhere: what is accepted lies within the file and has the elements its shape says. */
#include <stdlib.h>
#include "host/corpus/npy.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct pf_npy npy;
	struct pf_error error;
	const unsigned char *byte;
	size_t bytes;
	volatile unsigned char sum = 0;

	if (pf_npy_parse(data, size, "fuzz.npy", &npy, &error)) {
		if (error.code >= 0 || error.text[0] == 0)
			abort();
		return 0;
	}
	byte = npy.data;
	bytes = pf_npy_count(&npy.shape) * pf_dtype_bytes(npy.shape.type);
	if (npy.shape.dims > PF_NPY_DIMS || byte < data || bytes != size - (size_t)(byte - data))
		abort();
	for (size_t i = 0; i < bytes; i++)
		sum ^= byte[i];
	return 0;
}
