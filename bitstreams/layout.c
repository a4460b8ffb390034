#include <stdlib.h>
#include <string.h>
#include "describe.h"

void pf_layout_default(struct pf_layout *layout)
{
	layout->control = PF_XCLBIN_CTRL_CHAIN;
	for (int k = 0; k < PF_KERNEL_COUNT; k++)
		layout->cus[k] = pf_kernel_rows[k].built ? 1 : 0;
}

static int kernel_number(const char *name, size_t length)
{
	for (int k = 0; k < PF_KERNEL_COUNT; k++)
		if (strlen(pf_kernel_rows[k].name) == length
		    && memcmp(pf_kernel_rows[k].name, name, length) == 0)
			return k;
	return -1;
}

/* One "kernel=count"; *end: behind it */
static int set_one(struct pf_layout *layout, const char *text, const char **end,
                   struct pf_error *error)
{
	size_t length = strcspn(text, "=,");
	int k = kernel_number(text, length);
	if (k < 0 || !pf_kernel_rows[k].built)
		return pf_fail(error, PF_E_UNKNOWN, "no built kernel is called %.*s", (int)length, text);
	char *stop = NULL;
	unsigned long count = text[length] == '=' ? strtoul(text + length + 1, &stop, 10) : 0;
	if (!stop || stop == text + length + 1 || (*stop && *stop != ',') || count > PF_CUS_MAX)
		return pf_fail(error, PF_E_RANGE, "%.*s: write %s=N, N from 0 to %u", (int)length, text,
		               pf_kernel_rows[k].name, PF_CUS_MAX);
	layout->cus[k] = (uint32_t)count;
	*end = stop;
	return 0;
}

int pf_layout_set(struct pf_layout *layout, const char *text, struct pf_error *error)
{
	for (int status; *text; text += *text == ',')
		if ((status = set_one(layout, text, &text, error)) != 0)
			return status;
	return 0;
}

uint32_t pf_layout_cus(const struct pf_layout *layout)
{
	uint32_t count = 0;
	for (int k = 0; k < PF_KERNEL_COUNT; k++)
		count += layout->cus[k];
	return count;
}
