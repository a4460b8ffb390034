#include "prompts.h"
#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include "host/corpus/reader.h"

void pf_prompts_free(struct pf_prompts *p)
{
	free(p->text);
	free(p->begin);
	*p = (struct pf_prompts){ 0 };
}

static int make_room(struct pf_prompts *p, size_t length)
{
	if (p->count + 2 > p->room) {
		size_t room = p->room ? 2 * p->room : 64;
		size_t *begin = realloc(p->begin, room * sizeof *begin);
		if (!begin)
			return -ENOMEM;
		p->begin = begin;
		p->room = room;
	}
	char *text = realloc(p->text, p->bytes + length + 1);
	if (!text)
		return -ENOMEM;
	p->text = text;
	return 0;
}

int pf_prompts_add(struct pf_prompts *p, const char *text, size_t length, struct pf_error *error)
{
	if (make_room(p, length) != 0)
		return pf_fail(error, -ENOMEM, "no memory for prompts");
	if (length)
		memcpy(p->text + p->bytes, text, length);
	p->begin[p->count++] = p->bytes;
	p->begin[p->count] = p->bytes += length;
	return 0;
}

int pf_prompts_line(struct pf_prompts *p, const char *line, size_t length, const char *where, struct pf_error *error)
{
	json_error_t fault;
	if (length == 0 || line[0] != '{')
		return length ? pf_prompts_add(p, line, length, error) : 0;
	json_t *json = json_loadb(line, length, JSON_ALLOW_NUL, &fault), *prompt = json_object_get(json, "prompt");
	int code = !json ? pf_fail(error, PF_E_FORMAT, "%s: %s", where, fault.text)
	           : !json_is_string(prompt)
	               ? pf_fail(error, PF_E_DATA, "%s: no text in field \"prompt\"", where)
	               : pf_prompts_add(p, json_string_value(prompt), json_string_length(prompt), error);
	json_decref(json);
	return code;
}

int pf_prompts_read(struct pf_prompts *p, const char *path, const char *cache, const struct pf_watch *watch,
                    struct pf_error *error)
{
	struct pf_reader *reader;
	struct pf_line line;
	char where[512];
	int more, code = pf_reader_open(path, cache, watch, &reader, error);
	if (code)
		return code;
	while (!code && (more = pf_reader_next(reader, &line, error)) != 0) {
		if (more > 0)
			pf_reader_where(reader, &line, where, sizeof where);
		code = more < 0 ? more : pf_prompts_line(p, line.text, line.length, where, error);
	}
	pf_reader_close(reader);
	return code;
}
