/* Any bytes as a file of a reference's log-probs: what is taken is a sum of log-probs, what is refused has a reason.
 * The first byte chooses the form: bit 0 safetensors, bit 1 foreign, bits 2-3 pairs, singles or rankings. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include "host/model/safetensors.h"
#include "host/train/reference_file.h"

static int read_lines(const char *text, size_t length, struct pf_reference_table *table, int foreign,
                      struct pf_error *error)
{
	uint64_t next[PF_SPLITS] = { 0 };
	int code = 0;

	while (!code && length > 0) {
		const char *end = memchr(text, '\n', length);
		const size_t line = end ? (size_t)(end - text) : length;

		code = pf_reference_line(text, line, table, next, foreign, error);
		text += line + (end != NULL);
		length -= line + (end != NULL);
	}
	return code;
}

static int read_tensors(const void *bytes, size_t size, struct pf_reference_table *table, int foreign,
                        struct pf_error *error)
{
	struct pf_safetensors *file;
	int code = pf_safetensors_parse(bytes, size, "fuzz", &file, error);

	if (code)
		return code;
	code = pf_reference_tensors(file, table, foreign, error);
	pf_safetensors_close(file);
	return code;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const unsigned sides[] = { 2, 1, 64, 2 };
	const unsigned mode = size ? data[0] : 0;
	struct pf_reference_table table[PF_SPLITS];
	struct pf_error error = { 0 };
	int code;

	for (int split = 0; split < PF_SPLITS; split++) {
		table[split] = (struct pf_reference_table){ .samples = 3 - (uint64_t)split,
			                                    .sides = sides[mode >> 2 & 3],
			                                    .key = 1,
			                                    .pairs = sides[mode >> 2 & 3] == 2 };
		if (pf_reference_table_init(&table[split], NULL))
			abort();
	}
	size -= size != 0;
	data += size != 0 || mode;
	code = mode & 1 ? read_tensors(data, size, table, mode >> 1 & 1, &error)
	                : read_lines((const char *)data, size, table, mode >> 1 & 1, &error);
	if (code && !*error.text)
		abort();
	for (int split = 0; split < PF_SPLITS; split++) {
		for (uint64_t i = 0; i < table[split].samples * table[split].sides; i++)
			if (table[split].sum[i] != PF_REFERENCE_NONE && table[split].sum[i] > (int64_t)5e6)
				abort();
		pf_reference_table_free(&table[split]);
	}
	return 0;
}
