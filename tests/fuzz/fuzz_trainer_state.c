/* Any text as a checkpoint's trainer_state.json: refused with the file's name, or a state that, written and read again,
 * is the same. */
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include "host/train/trainer_state.h"

static const struct pf_fact facts[] = { { "threads", "2", 0 }, { "loss", "sigmoid", 1 } };

static void check(int holds)
{
	if (!holds)
		abort();
}

static int read_text(const char *text, size_t length, int exact, struct pf_checkpoint *c, struct pf_error *error)
{
	const struct pf_state_compare compare = { .exact = exact };
	*c = (struct pf_checkpoint){ .fact = facts, .facts = 2 };
	return pf_trainer_state_parse(text, length, "state", &compare, c, error);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct pf_checkpoint first, again;
	struct pf_error error = { 0 };
	int code = read_text((const char *)data, size, 0, &first, &error);
	if (code) {
		check(strncmp(error.text, "state:", 6) == 0 && error.code == code);
		return 0;
	}
	check(first.log_position >= 0 && first.step <= INT64_MAX && isfinite(first.loss.mean) && first.loss.count >= 0);
	char *text = pf_trainer_state_text(&first);
	check(text != NULL);
	check(read_text(text, strlen(text), 1, &again, &error) == 0);
	check(again.step == first.step && again.log_position == first.log_position);
	check(again.loss.mean == first.loss.mean && again.loss.count == first.loss.count);
	free(text);
	return 0;
}
