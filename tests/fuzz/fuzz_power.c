/* Texts of xrt-smi and of fpga-describe-local-image: a number of watts or an error with a text. */
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include "driver/power.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text = malloc(size + 1);
	if (!text)
		abort();
	memcpy(text, data, size);
	text[size] = '\0';
	for (int which = 0; which < 3; which++) {
		struct pf_error error = { 0 };
		double watts = NAN;
		const int code = which == 2 ? pf_power_aws(text, &watts, &error)
		                            : pf_power_report(text, which ? "0000:3b:00.1" : "", &watts, &error);
		if (code ? !error.text[0] : !(watts >= 0.0))
			abort();
	}
	free(text);
	return 0;
}
