/* Any bytes as a gzip file: inflated or refused with a text, never beyond the end of the data. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include "host/corpus/unpack.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	FILE *from = tmpfile(), *to = tmpfile();
	struct pf_error error = { 0 };

	if (!from || !to || (size && fwrite(data, 1, size, from) != size))
		abort();
	rewind(from);
	if (pf_inflate(fileno(from), fileno(to), &error) && !*error.text)
		abort();
	fclose(from);
	fclose(to);
	return 0;
}
