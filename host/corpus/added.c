#include "added.h"
#include <errno.h>
#include <stdlib.h>
#include "prefpga/error.h"
#include "unicode.h"

enum { ROOTS = 256 };

void pf_added_free(struct pf_added *added)
{
	free(added->node);
	free(added->token);
	*added = (struct pf_added){ 0 };
}

/* ---- filling ---- */

/* Returns the node's number or -1 */
static int32_t new_node(struct pf_added *added, unsigned char byte)
{
	if (added->nodes == added->room) {
		int32_t room = added->room ? 2 * added->room : 2 * ROOTS;
		struct pf_added_node *bigger = realloc(added->node, (size_t)room * sizeof *bigger);

		if (!bigger)
			return -1;
		added->node = bigger;
		added->room = room;
	}
	added->node[added->nodes] = (struct pf_added_node){ -1, -1, -1, byte };
	return added->nodes++;
}

static int make_roots(struct pf_added *added)
{
	for (int i = added->nodes; i < ROOTS; i++)
		if (new_node(added, (unsigned char)i) < 0)
			return -ENOMEM;
	return 0;
}

static int32_t find_child(const struct pf_added *added, int32_t node, unsigned char byte)
{
	int32_t child = added->node[node].child;

	while (child >= 0 && added->node[child].byte != byte)
		child = added->node[child].next;
	return child;
}

static int32_t make_child(struct pf_added *added, int32_t node, unsigned char byte)
{
	int32_t child = find_child(added, node, byte);

	if (child >= 0)
		return child;
	child = new_node(added, byte);
	if (child >= 0) {
		added->node[child].next = added->node[node].child;
		added->node[node].child = child;
	}
	return child;
}

static int add_token(struct pf_added *added, struct pf_added_token token)
{
	if (added->tokens == added->token_room) {
		int32_t room = added->token_room ? 2 * added->token_room : 16;
		struct pf_added_token *bigger = realloc(added->token, (size_t)room * sizeof *bigger);

		if (!bigger)
			return -ENOMEM;
		added->token = bigger;
		added->token_room = room;
	}
	added->token[added->tokens++] = token;
	return 0;
}

int pf_added_put(struct pf_added *added, const char *text, size_t length, struct pf_added_token token)
{
	int32_t node;

	if (!length || length > PF_ADDED_BYTES_MAX)
		return PF_E_RANGE;
	if (make_roots(added) || add_token(added, token))
		return -ENOMEM;
	node = (unsigned char)text[0];
	for (size_t i = 1; i < length && node >= 0; i++)
		node = make_child(added, node, (unsigned char)text[i]);
	if (node < 0)
		return -ENOMEM;
	added->node[node].token = added->tokens - 1;
	return 0;
}

/* ---- finding ---- */

/* The longest token at text[at], or NULL; *end is behind it */
static const struct pf_added_token *longest_at(const struct pf_added *added, const char *text, size_t length, size_t at,
                                               size_t *end)
{
	const struct pf_added_token *best = NULL;
	int32_t node = (unsigned char)text[at];

	while (node >= 0) {
		at++;
		if (added->node[node].token >= 0) {
			best = &added->token[added->node[node].token];
			*end = at;
		}
		node = at < length ? find_child(added, node, (unsigned char)text[at]) : -1;
	}
	return best;
}

static int is_within_word(const char *text, size_t length, size_t begin, size_t end)
{
	int32_t code;

	if (begin && pf_is_word(pf_utf8_last(text, begin)))
		return 1;
	if (end == length)
		return 0;
	pf_utf8_read(text + end, length - end, &code);
	return pf_is_word(code);
}

static size_t skip_space_back(const char *text, size_t at)
{
	while (at && pf_is_space(pf_utf8_last(text, at)))
		for (at--; at && (text[at] & 0xc0) == 0x80; at--)
			;
	return at;
}

static size_t skip_space(const char *text, size_t length, size_t at)
{
	int32_t code;

	while (at < length) {
		size_t bytes = pf_utf8_read(text + at, length - at, &code);

		if (!pf_is_space(code))
			break;
		at += bytes;
	}
	return at;
}

const struct pf_added_token *pf_added_next(const struct pf_added *added, const char *text, size_t length, size_t *from,
                                           size_t taken, size_t *begin, size_t *end)
{
	while (added->tokens && *from < length) {
		const struct pf_added_token *token = longest_at(added, text, length, *from, end);

		*begin = (*from)++;
		if (!token)
			continue;
		*from = *end;
		if (token->word && is_within_word(text, length, *begin, *end))
			continue;
		if (token->left)
			*begin = skip_space_back(text, *begin);
		*begin = token->left && *begin < taken ? taken : *begin;
		if (token->right)
			*end = skip_space(text, length, *end);
		return token;
	}
	return NULL;
}
