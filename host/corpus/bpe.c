#include "bpe.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "hash.h"
#include "unicode.h"
#include "prefpga/error.h"

void pf_bpe_init(struct pf_bpe *bpe)
{
	*bpe = (struct pf_bpe){ .unknown = -1 };
	for (int i = 0; i < 256; i++)
		bpe->byte[i] = -1;
}

void pf_bpe_free(struct pf_bpe *bpe)
{
	free(bpe->token);
	free(bpe->slot);
	free(bpe->merge);
	pf_buffer_free(&bpe->text);
	memset(bpe, 0, sizeof *bpe);
}

/* ---- the vocabulary ---- */

static int grow_vocabulary(struct pf_bpe *bpe, int32_t size)
{
	int32_t room = bpe->room ? bpe->room : 1024;
	struct pf_bpe_token *token;

	while (room < size)
		room *= 2;
	if (room > bpe->room) {
		token = realloc(bpe->token, (size_t)room * sizeof *token);
		if (!token)
			return -ENOMEM;
		memset(token + bpe->room, 0, (size_t)(room - bpe->room) * sizeof *token);
		bpe->token = token;
		bpe->room = room;
	}
	bpe->size = size > bpe->size ? size : bpe->size;
	return 0;
}

int pf_bpe_add(struct pf_bpe *bpe, int32_t id, const char *text, size_t length)
{
	int status;

	if (id < 0 || id >= PF_BPE_IDS_MAX || length > UINT32_MAX - bpe->text.length)
		return PF_E_RANGE;
	status = grow_vocabulary(bpe, id + 1);
	if (status)
		return status;
	if (bpe->token[id].known)
		return PF_E_DATA;
	bpe->token[id] = (struct pf_bpe_token){ (uint32_t)bpe->text.length, (uint32_t)length, 1, 0 };
	bpe->longest = length > bpe->longest ? length : bpe->longest;
	return pf_buffer_append(&bpe->text, text, length);
}

static const char *text_of(const struct pf_bpe *bpe, int32_t id)
{
	return bpe->text.text + bpe->token[id].at;
}

/* The slot that holds the text, or the free one where it belongs */
static size_t find_slot(const struct pf_bpe *bpe, const char *text, size_t length)
{
	size_t i = pf_hash_bytes(PF_HASH_START, text, length) & (bpe->slots - 1);

	while (bpe->slot[i] >= 0 && (bpe->token[bpe->slot[i]].length != length ||
	                             memcmp(text_of(bpe, bpe->slot[i]), text, length) != 0))
		i = (i + 1) & (bpe->slots - 1);
	return i;
}

int pf_bpe_index(struct pf_bpe *bpe)
{
	bpe->slots = 1024;
	while (bpe->slots < 2 * (size_t)bpe->size)
		bpe->slots *= 2;
	bpe->slot = malloc(bpe->slots * sizeof *bpe->slot);
	if (!bpe->slot)
		return -ENOMEM;
	for (size_t i = 0; i < bpe->slots; i++)
		bpe->slot[i] = -1;
	for (int32_t id = 0; id < bpe->size; id++) {
		size_t i;

		if (!bpe->token[id].known)
			continue;
		i = find_slot(bpe, text_of(bpe, id), bpe->token[id].length);
		if (bpe->slot[i] >= 0)
			return PF_E_DATA;
		bpe->slot[i] = id;
	}
	return 0;
}

int32_t pf_bpe_find(const struct pf_bpe *bpe, const char *text, size_t length)
{
	return length > bpe->longest ? -1 : bpe->slot[find_slot(bpe, text, length)];
}

/* ---- merges ---- */

int pf_bpe_reserve_merges(struct pf_bpe *bpe, size_t count)
{
	bpe->merges = 64;
	while (bpe->merges < 2 * count)
		bpe->merges *= 2;
	bpe->merge = malloc(bpe->merges * sizeof *bpe->merge);
	if (!bpe->merge)
		return -ENOMEM;
	for (size_t i = 0; i < bpe->merges; i++)
		bpe->merge[i] = (struct pf_bpe_merge){ .left = -1 };
	return 0;
}

static struct pf_bpe_merge *find_merge(const struct pf_bpe *bpe, int32_t left, int32_t right)
{
	size_t i = pf_hash_mix((uint64_t)(uint32_t)left << 32 | (uint32_t)right) & (bpe->merges - 1);

	while (bpe->merge[i].left >= 0 && (bpe->merge[i].left != left || bpe->merge[i].right != right))
		i = (i + 1) & (bpe->merges - 1);
	return &bpe->merge[i];
}

void pf_bpe_merge(struct pf_bpe *bpe, int32_t left, int32_t right, int32_t made, uint32_t rank)
{
	*find_merge(bpe, left, right) = (struct pf_bpe_merge){ left, right, made, rank };
}

/* ---- a word's pairs, the first to merge on top: a heap ---- */

void pf_bpe_work_free(struct pf_bpe_work *work)
{
	free(work->symbol);
	free(work->pair);
	*work = (struct pf_bpe_work){ 0 };
}

static int push_pair(struct pf_bpe_work *work, struct pf_bpe_pair pair)
{
	size_t i = work->pairs;

	if (work->pairs == work->pair_room) {
		size_t room = work->pair_room ? 2 * work->pair_room : 256;
		struct pf_bpe_pair *bigger = realloc(work->pair, room * sizeof *bigger);

		if (!bigger)
			return -ENOMEM;
		work->pair = bigger;
		work->pair_room = room;
	}
	work->pairs++;
	for (; i && work->pair[(i - 1) / 2].order > pair.order; i = (i - 1) / 2)
		work->pair[i] = work->pair[(i - 1) / 2];
	work->pair[i] = pair;
	return 0;
}

static struct pf_bpe_pair pop_pair(struct pf_bpe_work *work)
{
	struct pf_bpe_pair top = work->pair[0], last = work->pair[--work->pairs];
	size_t i = 0;

	for (size_t child; (child = 2 * i + 1) < work->pairs; i = child) {
		if (child + 1 < work->pairs && work->pair[child + 1].order < work->pair[child].order)
			child++;
		if (work->pair[child].order >= last.order)
			break;
		work->pair[i] = work->pair[child];
	}
	work->pair[i] = last;
	return top;
}

/* Queues the merge of the symbol at `place` with the next one, if there is such a merge */
static int queue_merge(const struct pf_bpe *bpe, struct pf_bpe_work *work, int32_t place)
{
	const struct pf_bpe_symbol *symbol = &work->symbol[place];
	const struct pf_bpe_merge *merge = find_merge(bpe, symbol->id, work->symbol[symbol->after].id);

	if (merge->left < 0)
		return 0;
	return push_pair(work, (struct pf_bpe_pair){ (uint64_t)merge->rank << 32 | (uint32_t)place, merge->made });
}

/* ---- a word's first symbols ---- */

static int make_room(struct pf_bpe_work *work, size_t symbols)
{
	struct pf_bpe_symbol *bigger;

	if (symbols <= work->symbols)
		return 0;
	symbols = symbols < 256 ? 256 : symbols;
	bigger = realloc(work->symbol, symbols * sizeof *bigger);
	if (!bigger)
		return -ENOMEM;
	work->symbol = bigger;
	work->symbols = symbols;
	return 0;
}

static size_t put_bytes(const struct pf_bpe *bpe, struct pf_bpe_symbol *symbol, const char *text, size_t length)
{
	for (size_t i = 0; i < length; i++)
		symbol[i].id = bpe->byte[(unsigned char)text[i]];
	return length;
}

static int has_bytes(const struct pf_bpe *bpe, const char *text, size_t length)
{
	for (size_t i = 0; i < length; i++)
		if (bpe->byte[(unsigned char)text[i]] < 0)
			return 0;
	return bpe->fallback;
}

/* Characters; unknown ones as bytes, or as `unknown`. One that is pending is put before the next known character,
 * behind bytes in between: so does the library that defines the tokens */
static size_t put_characters(const struct pf_bpe *bpe, struct pf_bpe_symbol *symbol, const char *text, size_t length)
{
	size_t count = 0, bytes;
	int pending = 0;
	int32_t code;

	for (size_t at = 0; at < length; at += bytes) {
		int32_t id;

		bytes = pf_utf8_read(text + at, length - at, &code);
		id = pf_bpe_find(bpe, text + at, bytes);
		if (id < 0 && has_bytes(bpe, text + at, bytes)) {
			count += put_bytes(bpe, symbol + count, text + at, bytes);
			continue;
		}
		if (pending && (id >= 0 || !bpe->fuse_unknown))
			symbol[count++].id = bpe->unknown;
		pending = id < 0 && bpe->unknown >= 0;
		if (id >= 0)
			symbol[count++].id = id;
	}
	if (pending)
		symbol[count++].id = bpe->unknown;
	return count;
}

/* ---- encoding ---- */

/* The symbol at `place` takes in its right neighbour */
static int apply_merge(const struct pf_bpe *bpe, struct pf_bpe_work *work, int32_t place, int32_t made)
{
	struct pf_bpe_symbol *symbol = &work->symbol[place], *right = &work->symbol[symbol->after];
	int status = 0;

	symbol->id = made;
	symbol->after = right->after;
	right->id = -1;
	if (symbol->after >= 0)
		work->symbol[symbol->after].before = place;
	if (symbol->before >= 0)
		status = queue_merge(bpe, work, symbol->before);
	return status || symbol->after < 0 ? status : queue_merge(bpe, work, place);
}

static int merge_all(const struct pf_bpe *bpe, struct pf_bpe_work *work, size_t count)
{
	int status = 0;

	work->pairs = 0;
	for (size_t i = 0; i < count; i++) {
		work->symbol[i].before = (int32_t)i - 1;
		work->symbol[i].after = i + 1 < count ? (int32_t)i + 1 : -1;
	}
	for (size_t i = 0; i + 1 < count && !status; i++)
		status = queue_merge(bpe, work, (int32_t)i);
	while (work->pairs && !status) {
		struct pf_bpe_pair pair = pop_pair(work);
		int32_t place = (int32_t)(uint32_t)pair.order;
		const struct pf_bpe_symbol *symbol = &work->symbol[place];
		const struct pf_bpe_merge *merge;

		if (symbol->id < 0 || symbol->after < 0)
			continue;
		merge = find_merge(bpe, symbol->id, work->symbol[symbol->after].id);
		if (merge->left >= 0 && merge->made == pair.made)      /* else the pair has merged with others since */
			status = apply_merge(bpe, work, place, pair.made);
	}
	return status;
}

static int merge_word(const struct pf_bpe *bpe, struct pf_bpe_work *work, const char *text, size_t length,
                      struct pf_tokens *tokens)
{
	int status = make_room(work, length + 1);
	size_t count;

	if (status)
		return status;
	count = bpe->byte_level ? put_bytes(bpe, work->symbol, text, length)
	                        : put_characters(bpe, work->symbol, text, length);
	status = merge_all(bpe, work, count);
	for (int32_t i = 0; !status && count && i >= 0; i = work->symbol[i].after)
		status = pf_tokens_push(tokens, work->symbol[i].id);
	return status;
}

int pf_bpe_encode(const struct pf_bpe *bpe, struct pf_bpe_work *work, const char *text, size_t length,
                  struct pf_tokens *tokens)
{
	int32_t id = pf_bpe_find(bpe, text, length);

	if (!length)
		return 0;
	if (id >= 0 && (bpe->whole_words || bpe->token[id].whole))
		return pf_tokens_push(tokens, id);
	return merge_word(bpe, work, text, length, tokens);
}

int pf_bpe_find_whole(struct pf_bpe *bpe)
{
	struct pf_bpe_work work = { 0 };
	struct pf_tokens tokens = { 0 };
	int status = 0;

	for (int32_t id = 0; id < bpe->size && !status; id++) {
		if (!bpe->token[id].known)
			continue;
		tokens.count = 0;
		status = merge_word(bpe, &work, text_of(bpe, id), bpe->token[id].length, &tokens);
		bpe->token[id].whole = tokens.count == 1 && tokens.id[0] == id;
	}
	pf_bpe_work_free(&work);
	pf_tokens_free(&tokens);
	return status;
}
