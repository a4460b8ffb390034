/* Any text as a loss string, and as the text of a program: refused with a reason, or words that the
 * reference machine runs within its stack. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include "host/train/loss_program.h"
#include "tests/ref/ref.h"

static void check_string(const char *text)
{
	struct pf_error error = { 0 };
	struct pf_program program;
	struct pf_loss loss;

	if (pf_loss_parse(text, &loss, &error)) {
		if (!*error.text)
			abort();
		return;
	}
	if (loss.components < 1 || loss.components > PF_LOSS_COMPONENTS)
		abort();
	if (pf_program_build(&program, &loss, &error) && error.code != PF_E_RANGE)
		abort();                       /* too many constants for one launch, at worst */
}

static void check_program(const char *text)
{
	static const uint32_t group[] = { 0, 2, 3 };
	struct pf_item item[3] = { { .n = 1, .kind = PF_ITEM_CHOSEN },
		                   { .n = 2, .kind = PF_ITEM_REJECTED },
		                   { .n = 3, .kind = PF_ITEM_EXTRA } };
	struct pf_error error = { 0 };
	struct pf_program program = { 0 };
	long double result[3];
	double par[PF_PAR_COUNT] = { 0 };

	if (pf_program_assemble(&program, pf_loss_find("cdpo"), text, 0, &error)) {
		if (!strstr(error.text, "column "))
			abort();
		return;
	}
	if (program.words > PF_PROG_MAX || program.constants > PF_CONSTS)
		abort();
	ref_pref_run(par, program.word, 0, 0, item, 3, group, 2, result);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text = malloc(size + 1);

	if (!text)
		abort();
	memcpy(text, data, size);
	text[size] = '\0';
	check_string(text);
	check_program(text);
	free(text);
	return 0;
}
