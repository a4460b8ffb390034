/* Readings of a meter: what is taken ascends and is finite. */
#define _GNU_SOURCE
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>
#include "host/report/meter.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct pf_meter meter;
	struct pf_error error = { 0 };
	char path[64];
	const int file = memfd_create("fuzz", 0);
	if (file < 0 || write(file, data, size) != (ssize_t)size)
		abort();
	snprintf(path, sizeof path, "/proc/self/fd/%d", file);
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
