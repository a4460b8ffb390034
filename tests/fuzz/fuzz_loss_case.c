/* Any bytes as a loss string on the first line and cases on the others: refused with a reason and
 * nothing added, or items that fill their groups and lie within their ranges. */
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include "host/cli/loss_case.h"

static void check_items(const struct pf_cases *cases)
{
	size_t items = 0;

	for (size_t g = 0; g < cases->groups; g++)
		items += cases->group[g];
	if (items != cases->items)
		abort();
	for (size_t i = 0; i < cases->items; i++) {
		const struct pf_loss_item *item = &cases->item[i];
		int64_t ratio;
		if (__builtin_sub_overflow(item->policy, item->reference, &ratio) || item->n == 0 ||
		    item->kind == 0 || !isfinite(item->score) || !isfinite(item->margin) ||
		    !isfinite(item->weight))
			abort();
	}
}

static void check_line(struct pf_cases *cases, const char *line, size_t length)
{
	size_t count = cases->count, items = cases->items, groups = cases->groups;
	struct pf_error error = { 0 };

	if (!pf_cases_add(cases, line, length, 1, &error))
		check_items(cases);
	else if (!*error.text || cases->count != count || cases->items != items ||
	         cases->groups != groups)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const char *at = (const char *)data, *end = at + size, *newline = memchr(at, '\n', size);
	struct pf_cases cases;
	struct pf_loss loss;
	char name[128];

	if (!newline || newline - at >= (ptrdiff_t)sizeof name)
		return 0;
	memcpy(name, at, (size_t)(newline - at));
	name[newline - at] = '\0';
	if (pf_loss_parse(name, &loss, NULL) || pf_cases_init(&cases, &loss, NULL))
		return 0;
	for (at = newline + 1; at < end; at = newline + 1) {
		newline = memchr(at, '\n', (size_t)(end - at));
		newline = newline ? newline : end;
		check_line(&cases, at, (size_t)(newline - at));
	}
	pf_cases_free(&cases);
	return 0;
}
