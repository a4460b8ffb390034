/* Any bytes as a gzip file: inflated or refused with a text, never beyond the end of the data. */
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include "host/corpus/unpack.h"

static int take(void *context, const void *bytes, size_t length, struct pf_error *error)
{
	(void)error;
	return fwrite(bytes, 1, length, context) == length ? 0 : -EIO;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	FILE *from = tmpfile(), *to = tmpfile();
	struct pf_error error = { 0 };

	if (!from || !to || (size && fwrite(data, 1, size, from) != size))
		abort();
	rewind(from);
	if (pf_inflate(fileno(from), take, to, &error) && !*error.text)
		abort();
	fclose(from);
	fclose(to);
	return 0;
}
