/* Any text as model.safetensors.index.json: refused with a reason, or names of files of one folder, each once. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include "host/model/shards.h"

static void check(int holds)
{
	if (!holds)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct pf_index index;
	struct pf_error error = { 0 };
	if (pf_index_parse((const char *)data, size, "fuzz", &index, &error) != 0) {
		check(strncmp(error.text, "fuzz", 4) == 0 && error.code < 0 && index.files == 0);
		return 0;
	}
	check(index.files > 0);
	for (size_t i = 0; i < index.files; i++) {
		check(index.file[i][0] != '\0' && !strchr(index.file[i], '/'));
		for (size_t j = 0; j < i; j++)
			check(strcmp(index.file[i], index.file[j]) != 0);
	}
	pf_index_free(&index);
	return 0;
}
