/* Any text as a model's config.json: refused with a reason, or a shape within bounds that can be
 * laid out. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include "host/model/config.h"

static void check(int holds)
{
	if (!holds)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct pf_model_config config;
	struct pf_error error = { 0 };
	if (pf_config_parse((const char *)data, size, "fuzz", &config, &error) != 0) {
		check(strncmp(error.text, "fuzz", 4) == 0 && error.code < 0);
		return 0;
	}
	check(pf_config_check(&config, "fuzz", NULL) == 0);
	check(config.heads % config.kv_heads == 0 &&
	      (config.positions == PF_POSITION_LEARNED || config.head_dim % 2 == 0) && config.vocab <= 1u << 18);
	return 0;
}
