/* Any text as a loss formula: refused with a reason, or two programs that the assembler takes, or says to be too large,
 * and that the reference machine runs within its stack. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include "host/train/expr.h"
#include "host/train/loss_program.h"
#include "tests/ref/ref.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void run(const struct pf_expr *expr)
{
	static const uint32_t group[] = { 0, 2, 4 };
	const struct pf_item item[4] = {
		{ .policy = -2ll * 0x100000000, .reference = -1ll * 0x100000000, .n = 1, .kind = PF_ITEM_CHOSEN },
		{ .policy = -3ll * 0x100000000, .n = 2, .kind = PF_ITEM_REJECTED, .score = 1 },
		{ .n = 3, .kind = PF_ITEM_CHOSEN },
		{ .policy = -9ll * 0x80000000, .n = 4, .kind = PF_ITEM_REJECTED, .margin = 2 }
	};
	struct pf_loss loss = { .components = 1, .component = { { .row = &expr->row, .weight = 1 } } };
	const struct pf_loss_batch batch = { .divisor = 2 };
	struct pf_program program;
	struct pf_error error = { 0 };
	struct ref_item_out out[4];
	double par[PF_PAR_COUNT];

	for (unsigned i = 0; i < expr->row.params; i++)
		loss.component[0].param[i] = expr->param[i].value;
	if (pf_program_build(&program, &loss, &error)) {
		if (!*error.text)
			abort();
		return;
	}
	pf_program_par(&program, &loss, &batch, par);
	ref_pref(par, program.word, item, 4, group, 2, out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct pf_expr *expr = malloc(sizeof *expr);
	struct pf_error error = { 0 };
	char *text = malloc(size + 1);

	if (!expr || !text)
		abort();
	memcpy(text, data, size);
	text[size] = '\0';
	if (pf_expr_compile(text, strlen(text), expr, &error) == 0)
		run(expr);
	else if (!strstr(error.text, "expr") && !strstr(error.text, "too large"))
		abort();
	free(text);
	free(expr);
	return 0;
}
