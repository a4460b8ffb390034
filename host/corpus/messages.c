#include "messages.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "buffer.h"

/* ---- one list ---- */

static int no_memory(struct pf_error *error)
{
	return pf_fail(error, -ENOMEM, "no memory for messages");
}

/* Puts the parts of a content together and the result into the message */
static int join_parts(json_t *message, const json_t *parts, const char *name, size_t number, struct pf_error *error)
{
	struct pf_buffer text = { 0 };
	int status = 0;

	for (size_t i = 0; i < json_array_size(parts) && !status; i++) {
		const json_t *part = json_array_get(parts, i), *value = json_object_get(part, "text");
		const char *type = json_string_value(json_object_get(part, "type"));

		if (!json_is_string(value) || (type && strcmp(type, "text") != 0))
			status = pf_fail(error, PF_E_DATA,
			                 "field \"%s\", message %zu: a part of type %.40s; only parts with text are "
			                 "supported",
			                 name, number, type ? type : "(none)");
		else if (pf_buffer_append(&text, json_string_value(value), json_string_length(value)))
			status = no_memory(error);
	}
	if (!status && json_object_set_new(message, "content", json_stringn(text.text ? text.text : "", text.length)))
		status = no_memory(error);
	pf_buffer_free(&text);
	return status;
}

static int read_message(json_t *object, const char *name, size_t number, struct pf_message *message,
                        struct pf_error *error)
{
	const json_t *role = json_object_get(object, "role"), *content = json_object_get(object, "content");
	int found = json_is_string(role) ? pf_role_find(json_string_value(role), json_string_length(role)) : -1;
	int status = json_is_array(content) ? join_parts(object, content, name, number, error) : 0;

	if (status)
		return status;
	if (!json_is_string(role))
		return pf_fail(error, PF_E_DATA,
		               "field \"%s\", message %zu: no role; a message is {\"role\": \"user\", \"content\": "
		               "\"...\"}",
		               name, number);
	if (found < 0)
		return pf_fail(error, PF_E_DATA,
		               "field \"%s\", message %zu: role \"%.40s\" is not supported; roles are system, user, "
		               "assistant",
		               name, number, json_string_value(role));
	content = json_object_get(object, "content");
	if (!json_is_string(content))
		return pf_fail(error, PF_E_DATA,
		               "field \"%s\", message %zu: its content is not a text (calls of tools are not "
		               "supported)",
		               name, number);
	*message =
		(struct pf_message){ (enum pf_role)found, { json_string_value(content), json_string_length(content) } };
	return 0;
}

int pf_messages_read(json_t *list, const char *name, struct pf_messages *messages, struct pf_error *error)
{
	size_t count = json_array_size(list);
	int status = 0;

	*messages = (struct pf_messages){ NULL, count };
	if (!json_is_array(list) || !count)
		return pf_fail(error, PF_E_DATA, "field \"%s\" must be a list of messages with at least one", name);
	messages->message = calloc(count, sizeof *messages->message);
	if (!messages->message)
		return no_memory(error);
	for (size_t i = 0; i < count && !status; i++)
		status = read_message(json_array_get(list, i), name, i + 1, &messages->message[i], error);
	return status;
}

void pf_messages_free(struct pf_messages *messages)
{
	free(messages->message);
	*messages = (struct pf_messages){ 0 };
}

int pf_messages_prompt(const struct pf_messages *messages, enum pf_chat chat, char **text, size_t *length,
                       struct pf_error *error)
{
	struct pf_chat_text made;
	int status = pf_chat_render(chat, messages->message, messages->count, 1, &made, error);

	*text = NULL;
	if (status)
		return status;
	*text = made.text;
	*length = made.length;
	made.text = NULL;
	pf_chat_text_free(&made);
	return 0;
}

/* ---- a record ---- */

struct resolving {
	json_t             *record, *texts;    /* texts: what replaces its fields */
	enum pf_chat        chat;
	struct pf_messages  prompt;
	enum pf_fault      *fault;
	struct pf_error    *error;
};

static int fail(struct resolving *r, enum pf_fault fault, const char *text)
{
	*r->fault = fault;
	return pf_fail(r->error, PF_E_DATA, "%s", text);
}

/* An error of a callee: a fault of the record, unless memory was short or there is no template for any record */
static int blame(struct resolving *r, int status)
{
	if (status && status != -ENOMEM && r->chat != PF_CHAT_UNKNOWN)
		*r->fault = PF_FAULT_FIELD;
	return status;
}

static int set_text(struct resolving *r, json_t *list, const char *name, const char *text, size_t length)
{
	json_t *value = json_stringn(text, length);
	int status = list ? json_array_append_new(list, value) : json_object_set_new(r->texts, name, value);

	return status ? no_memory(r->error) : 0;
}

/* Renders prompt and completion; sets the prompt's text and the completion's: field `name`, or the end of `list` */
static int render(struct resolving *r, const struct pf_messages *completion, json_t *list, const char *name)
{
	size_t before = r->prompt.count, count = before + completion->count;
	struct pf_message *all = calloc(count, sizeof *all);
	struct pf_chat_text made;
	size_t begin;
	int status;

	if (!all)
		return no_memory(r->error);
	memcpy(all, r->prompt.message, before * sizeof *all);
	memcpy(all + before, completion->message, completion->count * sizeof *all);
	status = blame(r, pf_chat_render(r->chat, all, count, 0, &made, r->error));
	free(all);
	if (status)
		return status;
	begin = made.span[before].begin;
	status = set_text(r, NULL, "prompt", made.text, begin);
	if (!status)
		status = set_text(r, list, name, made.text + begin, made.span[count - 1].end - begin);
	pf_chat_text_free(&made);
	return status;
}

static int check_turns(struct resolving *r, const struct pf_messages *completion)
{
	if (r->prompt.count && r->prompt.message[r->prompt.count - 1].role == PF_ROLE_ASSISTANT)
		return fail(r, PF_FAULT_FIELD,
		            "the prompt ends with a message of the assistant; it must end where the assistant is "
		            "to answer");
	if (completion->message[0].role != PF_ROLE_ASSISTANT)
		return fail(r, PF_FAULT_FIELD,
		            "a completion begins with a message that is not the assistant's; beside a field "
		            "\"prompt\" with messages it holds the answer alone");
	if (!completion->message[0].content.length)
		return fail(r, PF_FAULT_EMPTY, "an answer of the assistant is empty");
	return 0;
}

static int take_completion(struct resolving *r, const struct pf_messages *completion, json_t *list, const char *name)
{
	int status = check_turns(r, completion);

	return status ? status : render(r, completion, list, name);
}

/* A completion as it stands in a field: messages, or the text of one */
static int read_completion(struct resolving *r, json_t *value, json_t *list, const char *name)
{
	struct pf_message one = { PF_ROLE_ASSISTANT, { json_string_value(value), json_string_length(value) } };
	struct pf_messages messages = { &one, 1 };
	int status;

	if (json_is_string(value))
		return take_completion(r, &messages, list, name);
	status = blame(r, pf_messages_read(value, name, &messages, r->error));
	if (!status)
		status = take_completion(r, &messages, list, name);
	pf_messages_free(&messages);
	return status;
}

static int read_completions(struct resolving *r, json_t *values)
{
	json_t *list = json_array();
	int status = list && !json_object_set_new(r->texts, "completions", list) ? 0 : no_memory(r->error);

	for (size_t i = 0; i < json_array_size(values) && !status; i++)
		status = read_completion(r, json_array_get(values, i), list, "completions");
	return status;
}

/* ---- chosen and rejected without a prompt of their own ---- */

static int same_message(const struct pf_message *a, const struct pf_message *b)
{
	return a->role == b->role && a->content.length == b->content.length &&
	       memcmp(a->content.text, b->content.text, a->content.length) == 0;
}

/* Messages that both begin with, but for the last of the shorter one */
static size_t count_common(const struct pf_messages *a, const struct pf_messages *b)
{
	size_t most = (a->count < b->count ? a->count : b->count) - 1, common = 0;

	while (common < most && same_message(&a->message[common], &b->message[common]))
		common++;
	return common;
}

static int part_pair(struct resolving *r, const struct pf_messages *chosen, const struct pf_messages *rejected)
{
	size_t common = count_common(chosen, rejected);
	const struct pf_messages rests[] = { { chosen->message + common, chosen->count - common },
		{ rejected->message + common, rejected->count - common } };
	int status;

	if (!common || rests[0].message->role != PF_ROLE_ASSISTANT || rests[1].message->role != PF_ROLE_ASSISTANT)
		return fail(r, PF_FAULT_BOUNDARY,
		            "chosen and rejected do not part at a message of the assistant, and there is no "
		            "field \"prompt\" with messages");
	r->prompt = (struct pf_messages){ chosen->message, common };
	status = take_completion(r, &rests[0], NULL, "chosen");
	if (!status)
		status = take_completion(r, &rests[1], NULL, "rejected");
	r->prompt = (struct pf_messages){ 0 };
	return status;
}

static int read_parting(struct resolving *r)
{
	struct pf_messages chosen = { 0 }, rejected = { 0 };
	int status = blame(r, pf_messages_read(json_object_get(r->record, "chosen"), "chosen", &chosen, r->error));

	if (!status)
		status = blame(
			r, pf_messages_read(json_object_get(r->record, "rejected"), "rejected", &rejected, r->error));
	if (!status)
		status = part_pair(r, &chosen, &rejected);
	pf_messages_free(&chosen);
	pf_messages_free(&rejected);
	return status;
}

/* ---- which fields ---- */

static int read_dialogue(struct resolving *r)
{
	struct pf_messages all;
	int status = blame(r, pf_messages_read(json_object_get(r->record, "messages"), "messages", &all, r->error));
	struct pf_messages last = { all.message ? all.message + all.count - 1 : NULL, 1 };

	if (!status && last.message->role != PF_ROLE_ASSISTANT)
		status = fail(r, PF_FAULT_FIELD,
		              "the last of \"messages\" is not the assistant's, which is what is learned");
	if (!status && all.count < 2)
		status = fail(r, PF_FAULT_FIELD, "\"messages\" holds an answer without a question before it");
	if (!status) {
		r->prompt = (struct pf_messages){ all.message, all.count - 1 };
		status = take_completion(r, &last, NULL, "completion");
		r->prompt = (struct pf_messages){ 0 };
	}
	pf_messages_free(&all);
	return status;
}

static int read_after_prompt(struct resolving *r)
{
	static const char *const names[] = { "chosen", "rejected", "completion" };
	json_t *completions = json_object_get(r->record, "completions");
	int status = blame(r, pf_messages_read(json_object_get(r->record, "prompt"), "prompt", &r->prompt, r->error));

	for (size_t i = 0; i < sizeof names / sizeof *names && !status; i++) {
		json_t *value = json_object_get(r->record, names[i]);

		if (value && !json_is_null(value))
			status = read_completion(r, value, NULL, names[i]);
	}
	if (!status && json_is_array(completions))
		status = read_completions(r, completions);
	pf_messages_free(&r->prompt);
	return status;
}

static int is_list(const json_t *record, const char *name)
{
	return json_is_array(json_object_get(record, name));
}

static int has(const json_t *record, const char *name)
{
	const json_t *value = json_object_get(record, name);

	return value && !json_is_null(value);
}

static int resolve(struct resolving *r)
{
	const json_t *record = r->record;

	if (is_list(record, "prompt"))
		return read_after_prompt(r);
	if (is_list(record, "chosen") || is_list(record, "rejected"))
		return read_parting(r);
	if (is_list(record, "completion") || json_is_array(json_array_get(json_object_get(record, "completions"), 0)))
		return fail(r, PF_FAULT_FIELD, "the completion is a list of messages, so \"prompt\" must be one too");
	if (has(record, "messages") && !has(record, "chosen") && !has(record, "completion") &&
	    !has(record, "completions") && !has(record, "text"))
		return read_dialogue(r);
	return 0;
}

int pf_messages_resolve(json_t *record, enum pf_chat chat, enum pf_fault *fault, struct pf_error *error)
{
	struct resolving r = { .record = record, .texts = json_object(), .chat = chat, .fault = fault, .error = error };
	int status = r.texts ? resolve(&r) : no_memory(error);

	if (!status && json_object_update(record, r.texts))
		status = no_memory(error);
	json_decref(r.texts);
	return status;
}
