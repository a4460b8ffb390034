/* Dumps of lspci: what the check lets through, libpci reads without trouble. */
#define _GNU_SOURCE
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>
#include "prefpga/discover.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char path[64];
	struct pf_discover_options options = { path, NULL };
	struct pf_card_function *functions = NULL;
	struct pf_error error = { 0 };
	size_t count = 0;
	int file = memfd_create("fuzz", 0);
	if (file < 0 || write(file, data, size) != (ssize_t)size)
		abort();
	snprintf(path, sizeof path, "/proc/self/fd/%d", file);
	int status = pf_discover(&options, &functions, &count, &error);
	if (status != 0 && (status != PF_E_FORMAT || !error.text[0]))
		abort();                       /* PF_E_ABSENT: libpci stumbled over what the check passed */
	if (status == 0)
		free(functions);
	close(file);
	return 0;
}
