/* Any text as a config file of several verbs: accepted within bounds, or refused with file and line. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include "host/cli/options.h"

static void check_bounds(const struct pf_options *options)
{
	if (options->batch < 0 || options->batch > 65536 || !(options->holdout >= 0 && options->holdout <= 0.9))
		abort();
	if (!options->schedule || (options->source[PF_OPTION_data] == PF_FROM_FILE && !*options->data))
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct pf_options options;
	struct pf_error error = { 0 };
	char *text = malloc(size + 1);

	if (!text || pf_options_parse(&options, "train", 0, NULL, NULL))
		abort();
	memcpy(text, data, size);
	text[size] = 0;
	if (!pf_options_config(&options, "fuzz.conf", text, strlen(text), &error))
		check_bounds(&options);
	else if (strncmp(error.text, "fuzz.conf:", 10) != 0)
		abort();
	pf_options_free(&options);
	free(text);
	return 0;
}
