/* Records into counts */
#include "survey.h"
#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "hash.h"
#include "reader.h"

enum { SLOTS = 1 << 20, LINEAR_BINS = 16, PER_OCTAVE = 8 };

const char *pf_problem_text(enum pf_problem problem)
{
	static const char *const texts[] = {
#define PF_PROBLEM_TEXT(name, text) text,
		PF_PROBLEMS(PF_PROBLEM_TEXT)
	};
	return texts[problem];
}

/* ---- lengths ---- */

/* 0 to 15 on their own, then eight bins an octave */
static unsigned bin_of(uint64_t n)
{
	unsigned octave = 0;
	if (n < LINEAR_BINS)
		return (unsigned)n;
	while (n >> octave >= 2 * PER_OCTAVE)
		octave++;
	const unsigned bin = LINEAR_BINS + (octave - 1) * PER_OCTAVE + (unsigned)(n >> octave) - PER_OCTAVE;
	return bin < PF_SURVEY_BINS ? bin : PF_SURVEY_BINS - 1;
}

/* The largest length in a bin */
static uint64_t bin_end(unsigned bin)
{
	if (bin < LINEAR_BINS)
		return bin;
	const unsigned octave = (bin - LINEAR_BINS) / PER_OCTAVE + 1,
		       part = (bin - LINEAR_BINS) % PER_OCTAVE + PER_OCTAVE;
	return (((uint64_t)part + 1) << octave) - 1;
}

static void add_length(struct pf_lengths *l, uint64_t n)
{
	l->least = l->count && l->least < n ? l->least : n;
	l->most = l->most > n ? l->most : n;
	l->sum += n;
	l->count++;
	l->bin[bin_of(n)]++;
}

uint64_t pf_lengths_quantile(const struct pf_lengths *l, double share)
{
	uint64_t seen = 0;
	for (unsigned i = 0; i < PF_SURVEY_BINS; i++) {
		seen += l->bin[i];
		if (seen > 0 && (double)seen >= (share - 1e-12) * (double)l->count)
			return bin_end(i) < l->most ? bin_end(i) : l->most;
	}
	return l->most;
}

/* ---- sets ---- */

static int kept(const struct pf_hash_set *set, uint64_t hash)
{
	return (hash & (((uint64_t)1 << set->thinned) - 1)) == 0;
}

/* Slot of the hash, or the free one where it belongs. Low bits thin, so high ones place */
static uint64_t *slot_of(const struct pf_hash_set *set, uint64_t hash)
{
	uint64_t i = (hash >> 20) & (set->slots - 1);
	while (set->slot[i] && set->slot[i] != hash)
		i = (i + 1) & (set->slots - 1);
	return &set->slot[i];
}

/* In place. Hashes are taken out from behind a free slot on, so that each finds its new slot at or before its old one,
 * and what is still to come is never in the way */
static void thin(struct pf_hash_set *set)
{
	uint64_t *all = set->slot, start = 0;
	while (all[start])
		start++;
	set->thinned++;
	set->count = 0;
	for (uint64_t i = 1; i < set->slots; i++) {
		uint64_t *from = &all[(start + i) & (set->slots - 1)];
		const uint64_t hash = *from;
		*from = 0;
		if (hash && kept(set, hash)) {
			*slot_of(set, hash) = hash;
			set->count++;
		}
	}
}

static int has_hash(const struct pf_hash_set *set, uint64_t hash)
{
	hash += !hash;
	return set->slot && kept(set, hash) && *slot_of(set, hash) == hash;
}

/* How many seen before this stands for: 0 if it is new */
static uint64_t add_hash(struct pf_hash_set *set, uint64_t hash)
{
	hash += !hash;
	if (!kept(set, hash))
		return 0;
	uint64_t *slot = slot_of(set, hash);
	if (*slot == hash)
		return (uint64_t)1 << set->thinned;
	*slot = hash;
	if (++set->count > set->slots / 4 * 3)
		thin(set);
	return 0;
}

static int open_set(struct pf_hash_set *set, uint64_t slots)
{
	*set = (struct pf_hash_set){ .slot = calloc(slots, sizeof *set->slot), .slots = slots };
	return set->slot ? 0 : -ENOMEM;
}

int pf_survey_open(const struct pf_survey_options *options, struct pf_survey *s, struct pf_error *error)
{
	const uint64_t slots = options->set_slots ? options->set_slots : SLOTS;
	memset(s, 0, sizeof *s);
	s->options = *options;
	if (open_set(&s->records, slots) || open_set(&s->prompts, slots) || open_set(&s->exchanged, slots))
		return pf_fail(error, -ENOMEM, "no memory for sets of hashes");
	return 0;
}

void pf_survey_close(struct pf_survey *s)
{
	free(s->records.slot);
	free(s->prompts.slot);
	free(s->exchanged.slot);
}

int pf_survey_estimates(const struct pf_survey *s)
{
	return s->records.thinned || s->prompts.thinned || s->exchanged.thinned;
}

enum pf_record_form pf_survey_form(const struct pf_survey *s)
{
	int best = PF_RECORD_AUTO;
	for (int f = PF_RECORD_AUTO + 1; f <= PF_RECORD_GROUPS; f++)
		if (s->form[f] > s->form[best])
			best = f;
	return (enum pf_record_form)best;
}

/* ---- a record ---- */

struct visit {
	struct pf_survey *survey;
	struct pf_reader *reader;
	const struct pf_line *line;
	const struct pf_survey *other;
};

static void see(const struct visit *v, struct pf_sighting *s, uint64_t count)
{
	if (count && !s->count)
		pf_reader_where(v->reader, v->line, s->first, sizeof s->first);
	s->count += count;
}

static void see_problem(const struct visit *v, enum pf_problem problem, uint64_t count)
{
	see(v, &v->survey->problem[problem], count);
}

static uint64_t text_hash(uint64_t hash, struct pf_text text)
{
	return pf_hash_bytes(pf_hash_word(hash, text.length), text.text, text.length);
}

static uint64_t length_of(const struct pf_survey *s, struct pf_text text, int continues)
{
	struct pf_tokens tokens = { 0 };
	uint64_t n = text.length;
	if (s->options.tokenizer &&
	    pf_tokenizer_encode(s->options.tokenizer, text.text, text.length, continues, &tokens) == 0)
		n = tokens.count;
	pf_tokens_free(&tokens);
	return n;
}

static int is_white(struct pf_text text)
{
	size_t i = 0;
	while (i < text.length && isspace((unsigned char)text.text[i]))
		i++;
	return i == text.length;
}

static int is_word(char c)
{
	return isalnum((unsigned char)c) || (unsigned char)c >= 128;
}

static void visit_completion(const struct visit *v, const struct pf_record *r, unsigned i, int chosen, uint64_t prompt)
{
	struct pf_survey *s = v->survey;
	const struct pf_text text = r->completion[i];
	const uint64_t length = length_of(s, text, prompt > 0);
	add_length(chosen ? &s->chosen : &s->rejected, length);
	see_problem(v, PF_PROBLEM_BLANK, is_white(text));
	see_problem(v, PF_PROBLEM_LONG, s->options.max_length && prompt + length > s->options.max_length);
	see_problem(v, PF_PROBLEM_JOINT,
	            r->prompt.length && text.length && is_word(r->prompt.text[r->prompt.length - 1]) &&
	                    is_word(text.text[0]));
}

static void visit_pair(const struct visit *v, const struct pf_record *r, uint64_t prompt_hash)
{
	struct pf_survey *s = v->survey;
	const uint64_t there = text_hash(text_hash(prompt_hash, r->completion[0]), r->completion[1]);
	const uint64_t back = text_hash(text_hash(prompt_hash, r->completion[1]), r->completion[0]);
	s->longer += r->completion[0].length > r->completion[1].length;
	s->shorter += r->completion[0].length < r->completion[1].length;
	s->scored += r->margin != 0 || r->score[0] != r->score[1];
	see_problem(v, PF_PROBLEM_OVERTURNED, has_hash(&s->exchanged, back) ? (uint64_t)1 << s->exchanged.thinned : 0);
	add_hash(&s->exchanged, there);
}

static void visit_list(const struct visit *v, const struct pf_record *r)
{
	struct pf_survey *s = v->survey;
	int ties = 0, flat = 1;
	for (unsigned i = 0; i < r->completions; i++) {
		flat &= r->score[i] == r->score[0];
		for (unsigned k = 0; k < i; k++)
			ties |= r->score[i] == r->score[k];
	}
	s->most = r->completions > s->most ? r->completions : s->most;
	s->least = s->least && s->least < r->completions ? s->least : r->completions;
	s->scored++;
	see_problem(v, PF_PROBLEM_TIES, r->form == PF_RECORD_RANKINGS && ties);
	see_problem(v, PF_PROBLEM_FLAT, r->form == PF_RECORD_GROUPS && flat);
}

static void visit_record(const struct visit *v, const struct pf_record *r)
{
	struct pf_survey *s = v->survey;
	const uint64_t prompt_hash = text_hash(PF_HASH_START, r->prompt), prompt = length_of(s, r->prompt, 0);
	uint64_t hash = pf_hash_word(prompt_hash, (uint64_t)r->desirable);
	s->form[r->form]++;
	add_length(&s->prompt, prompt);
	for (unsigned i = 0; i < r->completions; i++) {
		visit_completion(v, r, i, r->form == PF_RECORD_BINARY ? r->desirable : i == pf_record_best(r), prompt);
		hash = text_hash(hash, r->completion[i]);
	}
	see_problem(v, PF_PROBLEM_DUPLICATE, add_hash(&s->records, hash));
	see_problem(v, PF_PROBLEM_NO_PROMPT, r->prompt.length == 0);
	see_problem(v, PF_PROBLEM_ENDING, r->prompt.length && r->prompt.text[r->prompt.length - 1] == ' ');
	if (r->prompt.length) {
		see_problem(v, PF_PROBLEM_PROMPT, add_hash(&s->prompts, prompt_hash));
		see_problem(v, PF_PROBLEM_LEAK, v->other && has_hash(&v->other->prompts, prompt_hash)
		                                        ? (uint64_t)1 << v->other->prompts.thinned : 0);
	}
	s->desirable += r->form == PF_RECORD_BINARY && r->desirable;
	s->undesirable += r->form == PF_RECORD_BINARY && !r->desirable;
	if (r->form == PF_RECORD_PAIRS)
		visit_pair(v, r, prompt_hash);
	if (r->form == PF_RECORD_RANKINGS || r->form == PF_RECORD_GROUPS)
		visit_list(v, r);
}

/* ---- files ---- */

static int visit_line(const struct visit *v, struct pf_error *error)
{
	const struct pf_survey_options *o = &v->survey->options;
	const struct pf_text text = { v->line->text, v->line->length };
	struct pf_record record;
	enum pf_fault fault;
	if (is_white(text))
		return 0;
	v->survey->lines++;
	int code = pf_record_read(text.text, text.length, o->form, o->marker, o->chat, &record, &fault, error);
	if (code && fault == PF_FAULT_NONE)
		return code;
	if (code) {
		see(v, &v->survey->fault[fault], 1);
		return 0;
	}
	visit_record(v, &record);
	pf_record_free(&record);
	return 0;
}

int pf_survey_read(struct pf_survey *s, const char *paths, const struct pf_survey *other,
                   int (*progress)(void *context, uint64_t done, uint64_t total), void *context, struct pf_error *error)
{
	struct pf_reader *reader;
	struct pf_line line;
	int code = pf_reader_open(paths, s->options.cache, NULL, &reader, error);
	if (code)
		return code;
	for (int got; !code && (got = pf_reader_next(reader, &line, error)) != 0;) {
		const struct visit v = { s, reader, &line, other };
		code = got < 0 ? got : visit_line(&v, error);
		if (!code && progress && line.number % 1024 == 0 && progress(context, line.at, pf_reader_bytes(reader)))
			code = pf_fail(error, PF_E_INTERRUPTED, "interrupted while reading the data");
	}
	pf_reader_close(reader);
	return code;
}
