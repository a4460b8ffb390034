/* Any text as a device: what follows the colon of "sim", and as a backend's name. Refused with a reason, or opened. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "prefpga/internal/backend.h"

extern const struct pf_backend pf_backend_sim;

static void check_sim(const char *where)
{
	struct pf_device_options options = { 0 };
	struct pf_backend_open open = { where, &options };
	struct pf_device_facts facts = { 0 };
	struct pf_error error = { 0 };
	uint32_t cus[PF_KERNEL_COUNT] = { 0 };
	void *card = NULL;
	if (pf_backend_sim.open(&open, &card, &facts, cus, &error)) {
		if (!error.text[0] || card)
			abort();
		return;
	}
	if (cus[PF_KERNEL_logprob] < 1 || cus[PF_KERNEL_logprob] > 16 || facts.memory_bytes == 0)
		abort();
	pf_backend_sim.close(card);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text = malloc(size + 2);
	struct pf_device *device;
	struct pf_error error = { 0 };
	if (!text)
		abort();
	text[0] = '?';                 /* no backend's name: nothing but refusals */
	memcpy(text + 1, data, size);
	text[size + 1] = 0;
	check_sim(text + 1);
	const int wanted = strchr(text, ',') ? PF_E_ARGUMENT : PF_E_UNKNOWN;   /* a list names several */
	if (pf_device_open(text, NULL, &device, &error) != wanted || device || !error.text[0])
		abort();
	free(text);
	return 0;
}
