#include "pack.h"
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "prefpga/internal/abi.h"

void pf_pack_free(struct pf_pack *pack)
{
	pf_tokens_free(&pack->ids);
	free(pack->offsets);
	free(pack->first);
	free(pack->scored);
	free(pack->member);
	free(pack->groups);
	free(pack->old);
	memset(pack, 0, sizeof *pack);
}

void pf_pack_clear(struct pf_pack *pack)
{
	pack->ids.count = 0;
	pack->sequences = pack->group_count = 0;
}

static int resize(void *pointer, size_t count, size_t size)
{
	void **array = pointer, *bigger = realloc(*array, count * size);

	if (!bigger)
		return -ENOMEM;
	*array = bigger;
	return 0;
}

/* Room for one more sequence and the offset behind it */
static int grow_sequences(struct pf_pack *pack)
{
	size_t room = pack->room ? pack->room * 2 : 16;

	if (pack->sequences < pack->room)
		return 0;
	if (resize(&pack->offsets, room + 1, sizeof *pack->offsets) ||
	    resize(&pack->first, room, sizeof *pack->first) || resize(&pack->scored, room, sizeof *pack->scored) ||
	    resize(&pack->member, room, sizeof *pack->member))
		return -ENOMEM;
	pack->room = room;
	return 0;
}

/* -1: the tokenizer has no such token */
static int push_special(struct pf_tokens *ids, int32_t id)
{
	return id >= 0 ? pf_tokens_push(ids, id) : 0;
}

/* 1: ids from `from` on end with a token that ends generation, or with one and a line feed */
static int is_closed(const struct pf_tokens *ids, size_t from, const struct pf_tokenizer *tokenizer)
{
	size_t length, end = ids->count;
	const char *last = end > from ? pf_tokenizer_piece(tokenizer, ids->id[end - 1], &length) : NULL;

	if (last && length == 1 && *last == '\n')
		end--;
	return end > from && pf_tokenizer_stops(tokenizer, ids->id[end - 1]);
}

/* Cuts what was appended from `from` on to `limit` tokens, 0: any number; returns how many went */
static size_t limit_ids(struct pf_tokens *ids, size_t from, uint32_t limit, enum pf_truncation mode)
{
	size_t length = ids->count - from, excess = limit && length > limit ? length - limit : 0;

	if (excess && mode == PF_KEEP_END)
		memmove(ids->id + from, ids->id + from + excess, limit * sizeof *ids->id);
	ids->count -= excess;
	return excess;
}

/* bos prompt completion eos at the end of ids; *boundary is the place of the first completion token in it, *excess how
 * many tokens their own limits cost */
static int append_ids(struct pf_tokens *ids, const struct pf_tokenizer *tokenizer, struct pf_text prompt,
                      struct pf_text completion, struct pf_cut cut, size_t *boundary, size_t *excess)
{
	size_t start = ids->count, first;
	int status = push_special(ids, tokenizer->bos);

	if (!status)
		status = pf_tokenizer_encode(tokenizer, prompt.text, prompt.length, 0, ids);
	*excess = limit_ids(ids, start, cut.max_prompt, PF_KEEP_END);
	first = ids->count;
	*boundary = first - start;
	if (!status)
		status = pf_tokenizer_encode(tokenizer, completion.text, completion.length, prompt.length > 0, ids);
	if (!status && !is_closed(ids, first, tokenizer))
		status = push_special(ids, tokenizer->eos);
	*excess += limit_ids(ids, first, cut.max_completion, PF_KEEP_START);
	return status;
}

/* Cuts the sequence that starts at `start`; returns how many tokens went */
static size_t cut_ids(struct pf_tokens *ids, size_t start, struct pf_cut cut, size_t *boundary)
{
	size_t excess = limit_ids(ids, start, cut.max_length, cut.mode), left = ids->count - start;

	if (cut.mode == PF_KEEP_END)
		*boundary = *boundary > excess ? *boundary - excess : 0;
	if (*boundary > left)
		*boundary = left;
	return excess;
}

static void note_sequence(struct pf_pack *pack, size_t start, size_t first, size_t count)
{
	size_t i = pack->sequences++;

	pack->offsets[i] = (uint32_t)start;
	pack->offsets[i + 1] = (uint32_t)pack->ids.count;
	pack->first[i] = (uint32_t)(start + first);
	pack->scored[i] = (uint32_t)count;
}

int pf_pack_sequence(struct pf_pack *pack, const struct pf_tokenizer *tokenizer, struct pf_text prompt,
                     struct pf_text completion, struct pf_cut cut, const struct pf_member *member)
{
	size_t start = pack->ids.count, boundary = 0, excess = 0, opening, count;
	int status = grow_sequences(pack);

	if (!status)
		status = append_ids(&pack->ids, tokenizer, prompt, completion, cut, &boundary, &excess);
	if (status) {
		pack->ids.count = start;
		return status;
	}
	excess += cut_ids(&pack->ids, start, cut, &boundary);
	opening = boundary ? boundary : 1;
	count = pack->ids.count - start > opening ? pack->ids.count - start - opening : 0;
	if (pack->ids.count > INT32_MAX) {
		pack->ids.count = start;
		return PF_E_RANGE;
	}
	note_sequence(pack, start, opening - 1, count);
	pack->member[pack->sequences - 1] = *member;
	pack->member[pack->sequences - 1].truncated = (uint32_t)excess;
	pack->member[pack->sequences - 1].prompt = (uint32_t)boundary;
	return 0;
}

int pf_pack_group(struct pf_pack *pack)
{
	if (pack->group_count + 1 >= pack->group_room) {
		size_t room = pack->group_room ? pack->group_room * 2 : 16;

		if (resize(&pack->groups, room, sizeof *pack->groups))
			return -ENOMEM;
		pack->group_room = room;
	}
	if (!pack->group_count)
		pack->groups[0] = 0;
	pack->groups[++pack->group_count] = (uint32_t)pack->sequences;
	return 0;
}

/* ---- records ---- */

static uint32_t kind_of(const struct pf_record *record, unsigned i)
{
	int chosen = record->desirable;

	if (record->form == PF_RECORD_PAIRS || record->form == PF_RECORD_RANKINGS)
		chosen = i == pf_record_best(record);
	return chosen ? PF_ITEM_CHOSEN : PF_ITEM_REJECTED;
}

/* Log-probs of a completion's tokens beside the last sequence. What was cut off lies behind them, or before */
static int append_old(struct pf_pack *pack, const struct pf_record *record, unsigned i, struct pf_cut cut)
{
	const size_t q = pack->sequences - 1, count = pf_record_old_count(record, i), scored = pack->scored[q];
	struct pf_member *member = &pack->member[q];
	const size_t lost = member->truncated + (member->prompt == 0);
	const int from_behind = cut.mode == PF_KEEP_END || !member->truncated;
	const size_t skip = count > scored && from_behind ? count - scored : 0;

	if (count < scored || count - scored > lost || (skip && cut.max_completion))
		return PF_E_SHAPE;
	if (pack->old_room < pack->ids.count) {
		if (resize(&pack->old, pack->ids.count * 2, sizeof *pack->old))
			return -ENOMEM;
		pack->old_room = pack->ids.count * 2;
	}
	for (size_t t = 0; t < scored; t++)
		pack->old[pack->first[q] + t] = (int64_t)llrint(ldexp(pf_record_old(record, i, skip + t), 32));
	member->sampled = 1;
	return 0;
}

int pf_pack_record(struct pf_pack *pack, const struct pf_tokenizer *tokenizer, const struct pf_record *record,
                   unsigned from, unsigned to, struct pf_cut cut, uint64_t sample)
{
	for (unsigned i = from; i < to; i++) {
		struct pf_member member = { .sample = sample,
			                    .member = i - from,
			                    .kind = kind_of(record, i),
			                    .score = record->score[i],
			                    .margin = record->margin,
			                    .weight = record->weight,
			                    .advantage =
			                            record->form == PF_RECORD_GROUPS ? record->advantage[i] : NAN };
		int status = pf_pack_sequence(pack, tokenizer, record->prompt, record->completion[i], cut, &member);

		if (!status && pf_record_old_count(record, i))
			status = append_old(pack, record, i, cut);
		if (status)
			return status;
	}
	return pf_pack_group(pack);
}

/* ---- chunks ---- */

uint32_t pf_pack_prompt(const struct pf_pack *pack, size_t sequence)
{
	return pack->first[sequence] - pack->offsets[sequence];
}

uint64_t pf_pack_scored(const struct pf_pack *pack, size_t from, size_t to)
{
	uint64_t scored = 0;

	for (size_t i = from; i < to; i++)
		scored += pack->scored[i];
	return scored;
}

static void add_group(const struct pf_pack *pack, struct pf_chunk *chunk)
{
	size_t group = chunk->group + chunk->groups++, end = pack->groups[group + 1];

	chunk->scored += pf_pack_scored(pack, pack->groups[group], end);
	chunk->sequences = end - chunk->sequence;
	chunk->tokens = pack->offsets[end] - chunk->token;
}

static int is_over(const struct pf_chunk *chunk, const struct pf_chunk_limit *limit)
{
	return (limit->groups && chunk->groups > limit->groups) || (limit->tokens && chunk->tokens > limit->tokens) ||
	       (limit->scored && chunk->scored > limit->scored);
}

int pf_pack_chunk(const struct pf_pack *pack, size_t from, size_t to, const struct pf_chunk_limit *limit,
                  struct pf_chunk *chunk)
{
	*chunk = (struct pf_chunk){ .group = from };
	if (from >= to)
		return 0;
	chunk->sequence = pack->groups[from];
	chunk->token = pack->offsets[chunk->sequence];
	add_group(pack, chunk);
	while (chunk->group + chunk->groups < to) {
		struct pf_chunk larger = *chunk;

		add_group(pack, &larger);
		if (is_over(&larger, limit))
			break;
		*chunk = larger;
	}
	return 1;
}
