/* Dumps of lspci: what the check lets through, libpci reads without trouble. */
#define _GNU_SOURCE
#include "prefpga/discover.h"
#include "tests/fuzz/fuzz_file.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char path[64];
	struct pf_discover_options options = { path, NULL };
	struct pf_card_function *functions = NULL;
	struct pf_error error = { 0 };
	size_t count = 0;
	int file = fuzz_file(data, size, path);
	int status = pf_discover(&options, &functions, &count, &error);
	if (status != 0 && (status != PF_E_FORMAT || !error.text[0]))
		abort();                       /* PF_E_ABSENT: libpci stumbled over what the check passed */
	if (status == 0)
		free(functions);
	close(file);
	return 0;
}
