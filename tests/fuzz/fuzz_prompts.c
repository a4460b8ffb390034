/* Any bytes as the lines of a prompts file: each refused with its place, or a prompt that lies where it should. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include "host/cli/prompts.h"

static void check(int holds)
{
	if (!holds)
		abort();
}

static void add_line(struct pf_prompts *prompts, const char *line, size_t length)
{
	const size_t count = prompts->count, bytes = prompts->bytes;
	struct pf_error error = { 0 };
	if (pf_prompts_line(prompts, line, length, "file:7", &error) != 0) {
		check(strncmp(error.text, "file:7: ", 8) == 0 && error.code < 0);
		check(prompts->count == count && prompts->bytes == bytes);
		return;
	}
	check(prompts->count == count + (length > 0));
	if (!length)
		return;
	check(prompts->begin[count] == bytes && prompts->begin[count + 1] == prompts->bytes);
	if (line[0] != '{')
		check(prompts->bytes - bytes == length && memcmp(prompts->text + bytes, line, length) == 0);
	else
		check(prompts->bytes - bytes <= 4 * length + 256);     /* a template's marks around each message */
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct pf_prompts prompts = { .chat = (enum pf_chat)(size % PF_CHATS) };
	const char *at = (const char *)data, *end = at + size;
	for (const char *stop; at < end; at = stop + 1) {
		stop = memchr(at, '\n', (size_t)(end - at));
		stop = stop ? stop : end;
		add_line(&prompts, at, (size_t)(stop - at));
	}
	pf_prompts_free(&prompts);
	return 0;
}
