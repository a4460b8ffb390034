/* Any text as a config file of several verbs: accepted within bounds, or refused with file and line. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include "host/cli/config_file.h"
#include "prefpga/loss.h"

static int states_loss(const struct pf_config_file *file)
{
	for (size_t i = 0; i < file->map.count; i++)
		if (file->verdict[i].option == PF_OPTION_loss && file->verdict[i].fate == PF_CONFIG_TAKEN)
			return 1;
	return 0;
}

/* What a file sets is within bounds, and a loss put together from several keys is one */
static void check_bounds(const struct pf_options *options)
{
	const struct pf_config_file *file = options->file;
	struct pf_loss loss;

	if (options->batch < 0 || options->batch > 65536 || !(options->holdout >= 0 && options->holdout <= 0.9))
		abort();
	if (options->source[PF_OPTION_data] == PF_FROM_FILE && !*options->data)
		abort();
	if (file->loss && !states_loss(file) && pf_loss_parse(options->loss, &loss, NULL))
		abort();
	for (size_t i = 0; i < file->map.count; i++)
		if (file->verdict[i].fate == PF_CONFIG_WRONG)
			abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const char *const verbs[] = { "train", "sft", "eval" };
	char *text = malloc(size + 1);

	if (!text)
		abort();
	memcpy(text, data, size);
	text[size] = 0;
	for (size_t i = 0; i < sizeof verbs / sizeof *verbs; i++) {
		struct pf_options options;
		struct pf_error error = { 0 };

		if (pf_options_parse(&options, verbs[i], 0, NULL, NULL))
			abort();
		if (!pf_config_file_apply(&options, "fuzz.conf", text, strlen(text), &error))
			check_bounds(&options);
		else if (strncmp(error.text, "fuzz.conf:", 10) != 0)
			abort();
		pf_options_free(&options);
	}
	free(text);
	return 0;
}
