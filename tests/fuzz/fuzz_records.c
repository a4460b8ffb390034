/* One line of JSON as a record of every form: no crash, texts inside the line's own memory, and faults only with
 * errors. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include "host/corpus/pack.h"

static void check(int holds)
{
	if (!holds)
		abort();
}

static void check_pack(const struct pf_record *record, enum pf_truncation mode)
{
	const struct pf_tokenizer *tokenizer;
	struct pf_pack pack = { 0 };
	struct pf_cut cut = { .max_length = 16, .mode = mode };

	check(!pf_tokenizer_open("bytes", &tokenizer, NULL));
	check(!pf_pack_record(&pack, tokenizer, record, 0, record->completions, cut, 0));
	check(pack.sequences == record->completions && pack.group_count == 1);
	for (size_t i = 0; i < pack.sequences; i++) {
		check(pack.offsets[i + 1] - pack.offsets[i] <= 16);
		check(pack.first[i] + pack.scored[i] < pack.offsets[i + 1]);
	}
	pf_pack_free(&pack);
}

static volatile unsigned touched;

static void touch(struct pf_text text)
{
	for (size_t i = 0; i < text.length; i++)
		touched += (unsigned char)text.text[i];
}

static void check_record(const struct pf_record *record)
{
	check(record->completions >= 1 && record->completions <= PF_COMPLETIONS_MAX);
	touch(record->prompt);
	for (unsigned i = 0; i < record->completions; i++) {
		check(record->completion[i].length > 0);
		touch(record->completion[i]);
	}
	check_pack(record, PF_KEEP_START);
	check_pack(record, PF_KEEP_END);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	for (int form = PF_RECORD_AUTO; form <= PF_RECORD_RANKINGS; form++) {
		struct pf_error error = { 0 };
		struct pf_record record;
		enum pf_fault fault;
		int status = pf_record_read((const char *)data, size, (enum pf_record_form)form, form % 2 ? NULL : "A:",
		                            (enum pf_chat)(PF_CHAT_NONE + size % (PF_CHATS - PF_CHAT_NONE)), &record,
		                            &fault, &error);

		check((status != 0) == (fault != PF_FAULT_NONE));
		check(!status || *error.text);
		if (status)
			continue;
		check_record(&record);
		pf_record_free(&record);
	}
	return 0;
}
