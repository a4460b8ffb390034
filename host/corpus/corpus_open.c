#include "corpus_state.h"
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include "hash.h"
#include "unpack.h"
#include "prefpga/internal/abi.h"

/* ---- what a record is good for ---- */

static int can_serve(enum pf_record_form form, enum pf_record_form want)
{
	return want == PF_RECORD_AUTO || want == form || want == PF_RECORD_SFT ||
	       (want == PF_RECORD_BINARY && form == PF_RECORD_PAIRS) ||
	       (want == PF_RECORD_GROUPS && form == PF_RECORD_RANKINGS);
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
		counts->cut += pack->member[i].truncated;
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
	if (status == PF_E_SHAPE)
		return pf_fail(error, PF_E_DATA,
		               "old_logps must have one number for each token of the completion, its end included");
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
		return pf_fail(error, PF_E_DATA,
		               "the records are %s, but %s are needed here; `prefpga inspect --data FILE` lists the "
		               "losses that fit them",
		               pf_record_form_name(record->form), pf_record_form_name(corpus->options.want));
	samples = pf_sample_ranges(record, corpus->options.want, range);
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
	if (pf_record_read(line->text, line->length, corpus->form, corpus->marker, corpus->chat, &record, &fault,
	                   &cause))
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
	if (!corpus->counts.records)
		return pf_fail(error, PF_E_DATA,
		               "%.400s: no record in it; a record is one JSON object a line, such as {\"prompt\": .., "
		               "\"chosen\": .., \"rejected\": ..}", paths);
	if (!train && !held)
		return pf_fail(error, PF_E_DATA, "%.400s: no usable record (%s)", paths, text);
	if (corpus->options.holdout > 0 && (!train || !held))
		return pf_fail(error, PF_E_DATA,
		               "%.400s: holding out %g of the prompts leaves %s; change --holdout or use "
		               "--eval-data (%s)",
		               paths, corpus->options.holdout, train ? "nothing to evaluate on" : "nothing to train on",
		               text);
	return 0;
}

static int open_corpus(struct pf_corpus *corpus, const char *paths, struct pf_error *error)
{
	const struct pf_corpus_options *options = &corpus->options;
	const struct pf_watch watch = { options->progress, options->context };
	int status = pf_reader_open(paths, options->cache, &watch, &corpus->reader, error);

	if (status)
		return status;
	corpus->form = options->form;
	corpus->chat = options->chat == PF_CHAT_UNKNOWN ? corpus->tokenizer->chat : options->chat;
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
