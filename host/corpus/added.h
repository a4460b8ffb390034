/* added.h: tokens that stand for themselves in a text ("<|im_end|>"), found before anything else is done with it.
 *
 * The leftmost is taken, of those at one place the longest. Filled by one thread, then thread-safe. */
#ifndef PF_CORPUS_ADDED_H
#define PF_CORPUS_ADDED_H
#include <stddef.h>
#include <stdint.h>

#define PF_ADDED_BYTES_MAX 256u        /* of one token's text: bounds the time at each place of a text */

struct pf_added_token {
	int32_t id;
	uint8_t left, right;           /* takes the white space before, behind it with it */
	uint8_t word;                  /* counts only where no word goes on before or behind it */
};

struct pf_added_node { int32_t child, next, token; uint8_t byte; };     /* -1: none */
struct pf_added {
	struct pf_added_node  *node;   /* a tree of texts; the first 256 nodes are its roots */
	int32_t                nodes, room;
	struct pf_added_token *token;
	int32_t                tokens, token_room;
};

/* Zero-initialise; free once. 0, -ENOMEM, or PF_E_RANGE for an empty or too long text. A text again replaces the
 * token */
int  pf_added_put(struct pf_added *added, const char *text, size_t length, struct pf_added_token token);
void pf_added_free(struct pf_added *added);
/* The next token from `*from` on, which then lies behind its text: [*begin, *end) with the white space that it takes,
 * but none before `taken`. Returns NULL at the end */
const struct pf_added_token *pf_added_next(const struct pf_added *added, const char *text, size_t length, size_t *from,
                                           size_t taken, size_t *begin, size_t *end);
#endif
