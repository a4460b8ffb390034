#include "corpus_state.h"
#include <inttypes.h>
#include <stdio.h>
#include "prefpga/internal/abi.h"

/* ---- facts ---- */

uint64_t pf_corpus_count(const struct pf_corpus *corpus, enum pf_split split)
{
	return corpus->index[split].count;
}

const struct pf_corpus_counts *pf_corpus_counts(const struct pf_corpus *corpus)
{
	return &corpus->counts;
}

enum pf_record_form pf_corpus_form(const struct pf_corpus *corpus)
{
	return corpus->options.want == PF_RECORD_AUTO ? corpus->form : corpus->options.want;
}

uint64_t pf_corpus_hash(const struct pf_corpus *corpus, enum pf_split split)
{
	return corpus->hash[split];
}

static int append(char *out, size_t size, int used, const char *format, uint64_t count, const char *text)
{
	size_t at = (size_t)used < size ? (size_t)used : size;

	return used + snprintf(out + at, size - at, format, count, text);
}

int pf_corpus_describe(const struct pf_corpus *corpus, char *out, size_t size)
{
	const struct pf_corpus_counts *counts = &corpus->counts;
	uint64_t train = corpus->index[PF_SPLIT_TRAIN].count, held = corpus->index[PF_SPLIT_HELD].count;
	int used = 0;

	used = append(out, size, used, "%" PRIu64 " records (%s)", counts->records, pf_record_form_name(corpus->form));
	used = append(out, size, used, ", %" PRIu64 " samples%s", train + held, "");
	if (held)
		used = append(out, size, used, ", %" PRIu64 " of them %s", held, "held out");
	if (counts->truncated) {
		used = append(out, size, used, "; %" PRIu64 " %s", counts->truncated, "sequences truncated");
		used = append(out, size, used, " by %" PRIu64 " %s", counts->cut, "tokens in all");
	}
	for (int fault = 1; fault < PF_FAULT_COUNT; fault++)
		if (counts->faults[fault])
			used = append(out, size, used, "; dropped %" PRIu64 " with %s", counts->faults[fault],
			              pf_fault_text((enum pf_fault)fault));
	return used;
}

/* ---- samples ---- */

unsigned pf_sample_ranges(const struct pf_record *record, enum pf_record_form want, struct range range[2])
{
	unsigned best = pf_record_best(record);

	range[0] = (struct range){ 0, record->completions };
	if (want == PF_RECORD_AUTO || want == record->form || want == PF_RECORD_GROUPS)
		return 1;
	if (want == PF_RECORD_SFT) {
		range[0] = (struct range){ best, best + 1 };
		return record->desirable ? 1 : 0;
	}
	range[0].to = 1;
	range[1] = (struct range){ 1, 2 };
	return 2;
}

int pf_corpus_load(struct pf_corpus *corpus, enum pf_split split, uint64_t i, struct pf_sample *sample,
                   struct pf_error *error)
{
	struct pf_error cause = { 0 };
	struct range range[2];
	struct pf_line line;
	enum pf_fault fault;
	uint64_t entry;
	char where[512];
	int status;

	if (i >= corpus->index[split].count)
		return pf_fail(error, PF_E_RANGE, "there is no sample %" PRIu64, i);
	entry = corpus->index[split].entry[i];
	status = pf_reader_at(corpus->reader, entry >> 1, &line, error);
	if (status)
		return status;
	status = pf_record_read(line.text, line.length, corpus->form, corpus->marker, corpus->chat,
	                        &sample->record, &fault, &cause);
	if (status) {
		pf_reader_where(corpus->reader, &line, where, sizeof where);
		return pf_fail(error, status, "%s: %s; did the file change while it was used?", where, cause.text);
	}
	pf_sample_ranges(&sample->record, corpus->options.want, range);
	sample->from = range[entry & 1].from;
	sample->to = range[entry & 1].to;
	return 0;
}

void pf_sample_free(struct pf_sample *sample)
{
	pf_record_free(&sample->record);
}

int pf_corpus_pack(struct pf_corpus *corpus, enum pf_split split, uint64_t i, struct pf_pack *pack,
                   struct pf_error *error)
{
	struct pf_sample sample;
	int status = pf_corpus_load(corpus, split, i, &sample, error);

	if (status)
		return status;
	status =
		pf_pack_record(pack, corpus->tokenizer, &sample.record, sample.from, sample.to, corpus->options.cut, i);
	pf_sample_free(&sample);
	return status ? pf_fail(error, status, "a step of more tokens than memory; use a smaller --batch") : 0;
}

static int pack_mismatched(struct pf_corpus *corpus, const struct pf_sample *prompt,
                           const struct pf_sample *completion, uint64_t i, struct pf_pack *pack)
{
	struct pf_member member = { .sample = i, .kind = PF_ITEM_EXTRA, .mismatched = 1, .weight = 1 };
	int status = pf_pack_sequence(pack, corpus->tokenizer, prompt->record.prompt,
	                              completion->record.completion[completion->from], corpus->options.cut, &member);

	return status ? status : pf_pack_group(pack);
}

int pf_corpus_pack_mismatched(struct pf_corpus *corpus, enum pf_split split, uint64_t i, uint64_t j,
                              struct pf_pack *pack, struct pf_error *error)
{
	struct pf_sample prompt, completion;
	int status = pf_corpus_load(corpus, split, i, &prompt, error);

	if (status)
		return status;
	status = pf_corpus_load(corpus, split, j, &completion, error);
	if (status) {
		pf_sample_free(&prompt);
		return status;
	}
	status = pack_mismatched(corpus, &prompt, &completion, i, pack);
	pf_sample_free(&prompt);
	pf_sample_free(&completion);
	return status ? pf_fail(error, status, "a step of more tokens than memory; use a smaller --batch") : 0;
}
