/* Any bytes as a safetensors file, and as the header of one with 32 bytes of data: refused with a
 * reason, or every tensor lies inside, in order and apart. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include "host/model/safetensors.h"

enum { DATA = 32 };

static void check(int holds)
{
	if (!holds)
		abort();
}

static void check_tensor(const struct pf_safetensor *t, const uint8_t *from, const uint8_t *end)
{
	const uint8_t *data = t->data;
	uint64_t elements = 1;
	check(data >= from && t->bytes <= (uint64_t)(end - data));
	for (unsigned i = 0; i < t->rank; i++)
		elements *= t->shape[i];
	check(elements == t->elements && t->bytes == elements * pf_dtype_bytes(t->type));
	float *floats = malloc(t->elements * sizeof *floats + 1);
	check(floats != NULL);
	int code = pf_safetensor_floats(t, floats, NULL);
	check(code == 0 || code == PF_E_TYPE);
	free(floats);
}

static void parse(const uint8_t *bytes, size_t size)
{
	struct pf_safetensors *file;
	struct pf_error error = { 0 };
	if (pf_safetensors_parse(bytes, size, "fuzz", &file, &error) != 0) {
		check(strncmp(error.text, "fuzz: ", 6) == 0 && error.code < 0);
		return;
	}
	const uint8_t *from = bytes + 8;
	for (size_t i = 0; i < pf_safetensors_count(file); i++) {
		const struct pf_safetensor *t = pf_safetensors_at(file, i);
		check(pf_safetensors_find(file, t->name) == t);
		check_tensor(t, from, bytes + size);
		from = (const uint8_t *)t->data + t->bytes;
	}
	pf_safetensors_note(file, "format");
	pf_safetensors_close(file);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint8_t *file = calloc(8 + size + DATA, 1);
	uint64_t length = size;
	check(file != NULL);
	parse(data, size);
	memcpy(file, &length, 8);
	if (size > 0)
		memcpy(file + 8, data, size);
	parse(file, 8 + size + DATA);
	free(file);
	return 0;
}
