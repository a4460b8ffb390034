#include "corpus.h"
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "hash.h"
#include "reader.h"
#include "prefpga/internal/abi.h"

struct index { uint64_t *entry; uint64_t count, room; };        /* offset << 1 | which half of an unpaired pair */

struct pf_corpus {
	struct pf_reader          *reader;
	const struct pf_tokenizer *tokenizer;
	struct pf_corpus_options   options;
	char                      *marker;
	struct index               index[PF_SPLITS];
	uint64_t                   hash[PF_SPLITS];
	struct pf_corpus_counts    counts;
	enum pf_record_form        form;                /* of the records */
	struct pf_pack             pack;                /* of the sample being checked */
};

struct range { unsigned from, to; };

/* ---- what a record is good for ---- */

static unsigned best_completion(const struct pf_record *record)
{
	unsigned best = 0;

	for (unsigned i = 1; i < record->completions; i++)
		if (record->score[i] > record->score[best])
			best = i;
	return record->form == PF_RECORD_RANKINGS ? best : 0;
}

static int can_serve(enum pf_record_form form, enum pf_record_form want)
{
	return want == PF_RECORD_AUTO || want == form || want == PF_RECORD_SFT ||
	       (want == PF_RECORD_BINARY && form == PF_RECORD_PAIRS);
}

/* The completions of each sample in a record; returns how many samples */
static unsigned find_ranges(const struct pf_record *record, enum pf_record_form want, struct range range[2])
{
	unsigned best = best_completion(record);

	range[0] = (struct range){ 0, record->completions };
	if (want == PF_RECORD_AUTO || want == record->form)
		return 1;
	if (want == PF_RECORD_SFT) {
		range[0] = (struct range){ best, best + 1 };
		return record->desirable ? 1 : 0;
	}
	range[0].to = 1;
	range[1] = (struct range){ 1, 2 };
	return 2;
}

/* ---- splits ---- */

static int is_held(const struct pf_corpus *corpus, const struct pf_record *record)
{
	struct pf_text key = record->prompt.length ? record->prompt : record->completion[0];
	uint64_t hash = pf_hash_bytes(pf_hash_word(PF_HASH_START, corpus->options.seed), key.text, key.length);

	return (double)(hash >> 11) * 0x1p-53 < corpus->options.holdout;
}

static int add_entry(struct index *index, uint64_t entry)
{
	if (index->count == index->room) {
		uint64_t room = index->room ? index->room * 2 : 1024;
		uint64_t *bigger = realloc(index->entry, room * sizeof *bigger);

		if (!bigger)
			return -ENOMEM;
		index->entry = bigger;
		index->room = room;
	}
	index->entry[index->count++] = entry;
	return 0;
}

/* ---- checking one sample ---- */

static int is_lost(const struct pf_pack *pack)
{
	for (size_t i = 0; i < pack->sequences; i++)
		if (!pack->scored[i])
			return 1;
	return 0;
}

static void count_sample(struct pf_corpus_counts *counts, const struct pf_pack *pack)
{
	for (size_t i = 0; i < pack->sequences; i++) {
		uint32_t length = pack->offsets[i + 1] - pack->offsets[i];

		counts->chosen += pack->member[i].kind == PF_ITEM_CHOSEN;
		counts->rejected += pack->member[i].kind == PF_ITEM_REJECTED;
		counts->truncated += pack->member[i].truncated > 0;
		counts->tokens += length;
		counts->scored += pack->scored[i];
		if (length > counts->longest)
			counts->longest = length;
	}
}

static uint64_t hash_sample(uint64_t hash, const struct pf_pack *pack)
{
	for (size_t i = 0; i < pack->sequences; i++) {
		size_t start = pack->offsets[i], length = pack->offsets[i + 1] - start;

		hash = pf_hash_bytes(hash, pack->ids.id + start, length * sizeof *pack->ids.id);
		hash = pf_hash_word(hash, (uint64_t)(pack->first[i] - start) << 32 | pack->scored[i]);
	}
	return hash;
}

static int scan_sample(struct pf_corpus *corpus, const struct pf_record *record, struct range range, uint64_t entry,
                       struct pf_error *error)
{
	enum pf_split split = is_held(corpus, record) ? PF_SPLIT_HELD : PF_SPLIT_TRAIN;
	int status;

	pf_pack_clear(&corpus->pack);
	status = pf_pack_record(&corpus->pack, corpus->tokenizer, record, range.from, range.to, corpus->options.cut, 0);
	if (status)
		return pf_fail(error, status, "a record of more memory than there is");
	if (is_lost(&corpus->pack)) {
		corpus->counts.faults[PF_FAULT_TRUNCATED]++;
		return 0;
	}
	if (add_entry(&corpus->index[split], entry))
		return pf_fail(error, -ENOMEM, "out of memory for the index");
	count_sample(&corpus->counts, &corpus->pack);
	corpus->hash[split] = hash_sample(corpus->hash[split], &corpus->pack);
	return 0;
}

/* ---- checking one line ---- */

static int is_blank(const struct pf_line *line)
{
	for (size_t i = 0; i < line->length; i++)
		if (!strchr(" \t\r", line->text[i]) || !line->text[i])
			return 0;
	return 1;
}

/* A record with a fault: counted, and an error unless such records are dropped */
static int judge(struct pf_corpus *corpus, const struct pf_line *line, enum pf_fault fault,
                 const struct pf_error *cause, struct pf_error *error)
{
	char where[512];

	if (fault != PF_FAULT_NONE)
		corpus->counts.faults[fault]++;
	if (fault != PF_FAULT_NONE && (corpus->options.drop || pf_fault_dropped(fault)))
		return 0;
	pf_reader_where(corpus->reader, line, where, sizeof where);
	if (fault == PF_FAULT_NONE)
		return pf_fail(error, cause->code, "%s: %s", where, cause->text);
	return pf_fail(error, cause->code, "%s: %s; correct the line, or drop such records with --bad-rows drop", where,
	               cause->text);
}

static int scan_record(struct pf_corpus *corpus, const struct pf_line *line, const struct pf_record *record,
                       struct pf_error *error)
{
	struct range range[2];
	unsigned samples;

	if (!can_serve(record->form, corpus->options.want))
		return pf_fail(error, PF_E_DATA, "the records are %s, but %s are needed here",
		               pf_record_form_name(record->form), pf_record_form_name(corpus->options.want));
	samples = find_ranges(record, corpus->options.want, range);
	if (!samples)
		corpus->counts.faults[PF_FAULT_UNWANTED]++;
	for (unsigned i = 0; i < samples; i++) {
		int status = scan_sample(corpus, record, range[i], line->at << 1 | i, error);

		if (status)
			return status;
	}
	return 0;
}

static int scan_line(struct pf_corpus *corpus, const struct pf_line *line, struct pf_error *error)
{
	struct pf_error cause = { 0 };
	struct pf_record record;
	enum pf_fault fault;
	int status;

	if (is_blank(line))
		return 0;
	corpus->counts.records++;
	if (pf_record_read(line->text, line->length, corpus->form, corpus->marker, &record, &fault, &cause))
		return judge(corpus, line, fault, &cause, error);
	corpus->form = record.form;
	status = scan_record(corpus, line, &record, &cause);
	pf_record_free(&record);
	return status ? judge(corpus, line, PF_FAULT_NONE, &cause, error) : 0;
}

/* ---- opening ---- */

static int report(const struct pf_corpus *corpus, uint64_t done)
{
	const struct pf_corpus_options *options = &corpus->options;

	return options->progress && options->progress(options->context, done, pf_reader_bytes(corpus->reader));
}

static int scan(struct pf_corpus *corpus, struct pf_error *error)
{
	struct pf_line line;

	for (;;) {
		int status = pf_reader_next(corpus->reader, &line, error);

		if (status <= 0)
			return status;
		status = scan_line(corpus, &line, error);
		if (status)
			return status;
		if (line.number % 1024 == 0 && report(corpus, line.at))
			return pf_fail(error, PF_E_INTERRUPTED, "interrupted while reading the data");
	}
}

/* "\n" and "\t" as in C */
static char *unescape(const char *text)
{
	char *plain = strdup(text), *to = plain;

	for (const char *from = plain; from && *from; from++) {
		if (from[0] == '\\' && (from[1] == 'n' || from[1] == 't' || from[1] == '\\')) {
			from++;
			*to++ = *from == 'n' ? '\n' : *from == 't' ? '\t' : '\\';
		} else {
			*to++ = *from;
		}
	}
	if (to)
		*to = 0;
	return plain;
}

static int check_result(const struct pf_corpus *corpus, const char *paths, struct pf_error *error)
{
	uint64_t train = corpus->index[PF_SPLIT_TRAIN].count, held = corpus->index[PF_SPLIT_HELD].count;
	char text[512];

	pf_corpus_describe(corpus, text, sizeof text);
	if (!train && !held)
		return pf_fail(error, PF_E_DATA, "%.400s: no usable record (%s)", paths, text);
	if (corpus->options.holdout > 0 && (!train || !held))
		return pf_fail(error, PF_E_DATA, "%.400s: holding out %g of the prompts leaves %s; change --holdout or use "
		               "--eval-data (%s)", paths, corpus->options.holdout,
		               train ? "nothing to evaluate on" : "nothing to train on", text);
	return 0;
}

static int open_corpus(struct pf_corpus *corpus, const char *paths, struct pf_error *error)
{
	const struct pf_corpus_options *options = &corpus->options;
	int status = pf_reader_open(paths, options->cache, &corpus->reader, error);

	if (status)
		return status;
	corpus->form = options->form;
	corpus->marker = options->marker ? unescape(options->marker) : NULL;
	if (options->marker && !corpus->marker)
		return pf_fail(error, -ENOMEM, "out of memory");
	status = scan(corpus, error);
	if (status)
		return status;
	for (int split = 0; split < PF_SPLITS; split++)
		corpus->counts.samples[split] = corpus->index[split].count;
	return check_result(corpus, paths, error);
}

int pf_corpus_open(const char *paths, const struct pf_tokenizer *tokenizer, const struct pf_corpus_options *options,
                   struct pf_corpus **corpus, struct pf_error *error)
{
	struct pf_corpus *made = calloc(1, sizeof *made);
	int status;

	*corpus = NULL;
	if (!made)
		return pf_fail(error, -ENOMEM, "out of memory");
	made->tokenizer = tokenizer;
	made->options = *options;
	made->hash[PF_SPLIT_TRAIN] = made->hash[PF_SPLIT_HELD] = PF_HASH_START;
	if (options->cut.max_length < 2)
		status = pf_fail(error, PF_E_RANGE, "max-length must be at least 2 tokens");
	else
		status = open_corpus(made, paths, error);
	if (status)
		pf_corpus_close(made);
	else
		*corpus = made;
	return status;
}

void pf_corpus_close(struct pf_corpus *corpus)
{
	if (!corpus)
		return;
	pf_reader_close(corpus->reader);
	pf_pack_free(&corpus->pack);
	for (int split = 0; split < PF_SPLITS; split++)
		free(corpus->index[split].entry);
	free(corpus->marker);
	free(corpus);
}

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
	if (counts->truncated)
		used = append(out, size, used, "; %" PRIu64 " %s", counts->truncated, "sequences truncated");
	for (int fault = 1; fault < PF_FAULT_COUNT; fault++)
		if (counts->faults[fault])
			used = append(out, size, used, "; dropped %" PRIu64 " with %s", counts->faults[fault],
			              pf_fault_text((enum pf_fault)fault));
	return used;
}

/* ---- samples ---- */

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
	status = pf_record_read(line.text, line.length, corpus->form, corpus->marker, &sample->record, &fault, &cause);
	if (status) {
		pf_reader_where(corpus->reader, &line, where, sizeof where);
		return pf_fail(error, status, "%s: %s; did the file change while it was used?", where, cause.text);
	}
	find_ranges(&sample->record, corpus->options.want, range);
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
	status = pf_pack_record(pack, corpus->tokenizer, &sample.record, sample.from, sample.to, corpus->options.cut, i);
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
