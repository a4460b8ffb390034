#include "tokens.h"
#include <errno.h>
#include <stdlib.h>

int pf_tokens_reserve(struct pf_tokens *tokens, size_t more)
{
	size_t room = tokens->room ? tokens->room : 256;
	int32_t *id;

	if (more > SIZE_MAX / sizeof *id / 4 - tokens->count)
		return -ENOMEM;
	while (room - tokens->count < more)
		room *= 2;
	if (room == tokens->room)
		return 0;
	id = realloc(tokens->id, room * sizeof *id);
	if (!id)
		return -ENOMEM;
	tokens->id = id;
	tokens->room = room;
	return 0;
}

int pf_tokens_push(struct pf_tokens *tokens, int32_t id)
{
	int status = pf_tokens_reserve(tokens, 1);

	if (!status)
		tokens->id[tokens->count++] = id;
	return status;
}

void pf_tokens_free(struct pf_tokens *tokens)
{
	free(tokens->id);
	*tokens = (struct pf_tokens){ 0 };
}
