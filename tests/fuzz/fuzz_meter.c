/* Readings of a meter: what is taken ascends and is finite. */
#define _GNU_SOURCE
#include <math.h>
#include "host/report/meter.h"
#include "tests/fuzz/fuzz_file.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct pf_meter meter;
	struct pf_error error = { 0 };
	char path[64];
	const int file = fuzz_file(data, size, path);
	const int code = pf_meter_read(path, &meter, &error);
	if (code && !error.text[0])
		abort();
	for (size_t i = 0; !code && i < meter.count; i++)
		if (!isfinite(meter.at[i].watt) || !(meter.at[i].watt >= 0.0) ||
		    (i && !(meter.at[i].time > meter.at[i - 1].time)))
			abort();
	if (!code)
		pf_meter_free(&meter);
	close(file);
	return 0;
}
