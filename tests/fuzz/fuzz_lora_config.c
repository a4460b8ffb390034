/* Any text as adapter_config.json: refused with a reason, or options that the model's side takes. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include "host/model/lora.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct pf_lora_options o;
	struct pf_error error = { 0 };
	char *targets;
	if (pf_lora_parse((const char *)data, size, "fuzz", &o, &targets, &error) != 0) {
		if (strncmp(error.text, "fuzz", 4) != 0 || error.code >= 0 || targets)
			abort();
		return 0;
	}
	if (o.rank < 1 || o.rank > 1024 || !(o.alpha > 0) || !targets || !*targets || o.targets != targets)
		abort();
	free(targets);
	return 0;
}
