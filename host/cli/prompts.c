#include "prompts.h"
#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include "host/corpus/messages.h"
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

static int add_text(struct pf_prompts *p, const char *text, size_t length, struct pf_error *error)
{
	if (make_room(p, length) != 0)
		return pf_fail(error, -ENOMEM, "no memory for prompts");
	if (length)
		memcpy(p->text + p->bytes, text, length);
	p->begin[p->count++] = p->bytes;
	p->begin[p->count] = p->bytes += length;
	return 0;
}

static int add_messages(struct pf_prompts *p, const struct pf_messages *messages, struct pf_error *error)
{
	char *text;
	size_t length;
	int code = pf_messages_prompt(messages, p->chat, &text, &length, error);
	if (!code)
		code = add_text(p, text, length, error);
	free(text);
	return code;
}

int pf_prompts_add(struct pf_prompts *p, const char *text, size_t length, struct pf_error *error)
{
	struct pf_message question = { PF_ROLE_USER, { text, length } };
	const struct pf_messages messages = { &question, 1 };
	return p->asks ? add_messages(p, &messages, error) : add_text(p, text, length, error);
}

static int add_object(struct pf_prompts *p, const json_t *object, struct pf_error *error)
{
	const char *name = json_object_get(object, "prompt") ? "prompt" : "messages";
	json_t *value = json_object_get(object, name);
	struct pf_messages messages;
	if (json_is_string(value))
		return pf_prompts_add(p, json_string_value(value), json_string_length(value), error);
	if (!json_is_array(value))
		return pf_fail(error, PF_E_DATA,
		               "no text or list of messages in field \"prompt\", and none in \"messages\"");
	int code = pf_messages_read(value, name, &messages, error);
	if (!code)
		code = add_messages(p, &messages, error);
	pf_messages_free(&messages);
	return code;
}

int pf_prompts_line(struct pf_prompts *p, const char *line, size_t length, const char *where, struct pf_error *error)
{
	json_error_t fault;
	if (length == 0 || line[0] != '{')
		return length ? pf_prompts_add(p, line, length, error) : 0;
	json_t *json = json_loadb(line, length, JSON_ALLOW_NUL, &fault);
	int code = json ? add_object(p, json, error) : pf_fail(error, PF_E_FORMAT, "%s", fault.text);
	json_decref(json);
	if (code)
		pf_fail_in(error, "%s", where);
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
