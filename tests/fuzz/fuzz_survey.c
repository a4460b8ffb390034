/* Any bytes as a data file that `inspect` looks at: every line is a record of one form or a fault of one kind; sums of
 * what was counted agree; read again against itself, every prompt is a leak, as far as sets have not been thinned. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "host/corpus/survey.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(int holds)
{
	if (!holds)
		abort();
}

static void check_counts(const struct pf_survey *s)
{
	uint64_t records = 0, faults = 0;

	for (int f = PF_RECORD_AUTO + 1; f <= PF_RECORD_GROUPS; f++)
		records += s->form[f];
	for (int f = 0; f < PF_FAULT_COUNT; f++) {
		faults += s->fault[f].count;
		check((s->fault[f].count > 0) == (s->fault[f].first[0] != '\0'));
	}
	check(records + faults == s->lines && s->prompt.count == records);
	check(s->desirable + s->undesirable == s->form[PF_RECORD_BINARY]);
	check(s->longer + s->shorter <= s->form[PF_RECORD_PAIRS] && s->most >= s->least);
	for (int p = 0; p < PF_PROBLEM_COUNT; p++)
		check((s->problem[p].count > 0) == (s->problem[p].first[0] != '\0'));
	check(s->chosen.count + s->rejected.count >= records);
	check((pf_survey_form(s) == PF_RECORD_AUTO) == (records == 0));
}

static void check_lengths(const struct pf_lengths *l)
{
	if (!l->count)
		return;
	check(l->least <= l->most && l->sum <= l->most * l->count && l->sum >= l->least * l->count);
	for (int q = 0; q <= 10; q++) {
		const uint64_t at = pf_lengths_quantile(l, q / 10.0);
		check(at >= l->least && at <= l->most);
	}
}

/* 0, or 1: the file as a whole cannot be read, for a reason */
static int survey(const struct pf_survey_options *options, const char *path, const struct pf_survey *other,
                  struct pf_survey *s)
{
	struct pf_error error = { 0 };

	check(pf_survey_open(options, s, &error) == 0);
	if (pf_survey_read(s, path, other, NULL, NULL, &error)) {
		check(*error.text != '\0');
		return 1;
	}
	check_counts(s);
	check_lengths(&s->prompt);
	check_lengths(&s->chosen);
	check_lengths(&s->rejected);
	return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const struct pf_survey_options options = {
		.form = (enum pf_record_form)(size % 7 ? PF_RECORD_AUTO : size / 7 % 6),
		.chat = (enum pf_chat)(PF_CHAT_NONE + size % (PF_CHATS - PF_CHAT_NONE)), .max_length = 24,
		.marker = size % 5 ? NULL : "A:", .set_slots = 1024
	};
	FILE *file = tmpfile();
	struct pf_survey first, again;
	char path[64];

	check(file && (!size || fwrite(data, 1, size, file) == size) && !fflush(file));
	snprintf(path, sizeof path, "/proc/self/fd/%d", fileno(file));
	if (survey(&options, path, NULL, &first) == 0) {
		check(survey(&options, path, &first, &again) == 0 && first.lines == again.lines);
		if (!pf_survey_estimates(&first))
			check(again.problem[PF_PROBLEM_LEAK].count ==
			      again.prompt.count - again.problem[PF_PROBLEM_NO_PROMPT].count);
		pf_survey_close(&again);
	}
	pf_survey_close(&first);
	fclose(file);
	return 0;
}
