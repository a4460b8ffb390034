#include "mapping.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <yaml.h>

struct reader {
	yaml_parser_t    parser;
	yaml_event_t     event;                /* the one read last; its memory is ours until the next */
	int              holds;
	const char      *path, *text;
	size_t           length;
	struct pf_error *error;
};

/* ---- errors ---- */

static int fail_at(struct reader *r, unsigned line, unsigned column, const char *text)
{
	return pf_fail(r->error, PF_E_FORMAT, "%s:%u:%u: %s", r->path, line, column, text);
}

static int fail_event(struct reader *r, const char *text)
{
	const yaml_mark_t *mark = &r->event.start_mark;

	return fail_at(r, (unsigned)mark->line + 1, (unsigned)mark->column + 1, text);
}

/* What libyaml says. Its reader knows a byte, not a line */
static int fail_parser(struct reader *r)
{
	const yaml_parser_t *p = &r->parser;
	const char *problem = p->problem ? p->problem : "not YAML";
	unsigned line = 1, column = 1;

	if (p->error == YAML_MEMORY_ERROR)
		return pf_fail(r->error, -ENOMEM, "%s:1:1: out of memory", r->path);
	if (p->error != YAML_READER_ERROR)
		return fail_at(r, (unsigned)p->problem_mark.line + 1, (unsigned)p->problem_mark.column + 1, problem);
	for (size_t i = 0; i < p->problem_offset && i < r->length; i++) {
		column = r->text[i] == '\n' ? 1 : column + 1;
		line += r->text[i] == '\n';
	}
	return fail_at(r, line, column, problem);
}

/* ---- events ---- */

static int known_tag(const yaml_char_t *tag)
{
	static const char *const known[] = { "str", "int", "float", "bool", "null", "seq", "map" };
	static const char space[] = "tag:yaml.org,2002:";

	if (!tag || strcmp((const char *)tag, "!") == 0)
		return 1;
	if (strncmp((const char *)tag, space, sizeof space - 1) != 0)
		return 0;
	for (size_t i = 0; i < sizeof known / sizeof *known; i++)
		if (strcmp((const char *)tag + sizeof space - 1, known[i]) == 0)
			return 1;
	return 0;
}

/* Anchor and tag of a node */
static int check_node(struct reader *r, const yaml_char_t *anchor, const yaml_char_t *tag)
{
	if (anchor)
		return fail_event(r, "anchors (&name) are not understood here; write the value out where it is used");
	return known_tag(tag)
		   ? 0
		   : fail_event(r, "this tag is not understood; only !!str, !!int, !!float, !!bool and !!null are");
}

static int check_event(struct reader *r)
{
	const yaml_event_t *e = &r->event;

	switch (e->type) {
	case YAML_ALIAS_EVENT:
		return fail_event(r, "aliases (*name) are not understood here; write the value out");
	case YAML_SCALAR_EVENT:
		if (memchr(e->data.scalar.value, 0, e->data.scalar.length))
			return fail_event(r, "a text with a NUL character");
		return check_node(r, e->data.scalar.anchor, e->data.scalar.tag);
	case YAML_SEQUENCE_START_EVENT:
		return check_node(r, e->data.sequence_start.anchor, e->data.sequence_start.tag);
	case YAML_MAPPING_START_EVENT:
		return check_node(r, e->data.mapping_start.anchor, e->data.mapping_start.tag);
	default:
		return 0;
	}
}

static int next(struct reader *r)
{
	if (r->holds)
		yaml_event_delete(&r->event);
	r->holds = yaml_parser_parse(&r->parser, &r->event);
	return r->holds ? check_event(r) : fail_parser(r);
}

/* Passes over the rest of the collection whose start was read last */
static int skip(struct reader *r)
{
	int code = 0;

	for (unsigned depth = 1; !code && depth > 0;) {
		code = next(r);
		if (code)
			return code;
		depth += r->event.type == YAML_SEQUENCE_START_EVENT || r->event.type == YAML_MAPPING_START_EVENT;
		depth -= r->event.type == YAML_SEQUENCE_END_EVENT || r->event.type == YAML_MAPPING_END_EVENT;
		if (depth > PF_MAPPING_DEPTH_MAX)
			code = fail_event(r, "nested too deeply");
	}
	return code;
}

/* ---- values ---- */

static int is_null(const yaml_event_t *e)
{
	const char *text = (const char *)e->data.scalar.value;

	return e->data.scalar.style == YAML_PLAIN_SCALAR_STYLE &&
	       (!*text || strcmp(text, "~") == 0 || strcmp(text, "null") == 0 || strcmp(text, "Null") == 0 ||
	        strcmp(text, "NULL") == 0);
}

static int no_memory(struct reader *r)
{
	return pf_fail(r->error, -ENOMEM, "%s:1:1: out of memory", r->path);
}

/* Appends the scalar read last to a comma separated list of `*used` bytes, which begins with "" */
static int append_item(struct reader *r, struct pf_mapping_entry *entry, size_t *used, int first)
{
	const size_t more = r->event.data.scalar.length;
	char *longer;

	if (memchr(r->event.data.scalar.value, ',', more))
		return fail_event(r, "an item of a list may not have a comma in it");
	longer = realloc(entry->value, *used + more + 2);
	if (!longer)
		return no_memory(r);
	entry->value = longer;
	if (!first)
		longer[(*used)++] = ',';
	memcpy(longer + *used, r->event.data.scalar.value, more + 1);
	*used += more;
	return 0;
}

static int read_list(struct reader *r, struct pf_mapping_entry *entry)
{
	size_t used = 0;
	int code = next(r);

	entry->kind = PF_MAPPING_LIST;
	for (int first = 1; !code && r->event.type != YAML_SEQUENCE_END_EVENT; first = 0) {
		if (r->event.type != YAML_SCALAR_EVENT) {
			entry->kind = PF_MAPPING_NESTED;
			code = skip(r);
		} else {
			code = append_item(r, entry, &used, first);
		}
		if (!code)
			code = next(r);
	}
	if (entry->kind == PF_MAPPING_NESTED)
		*entry->value = 0;
	return code;
}

static int read_value(struct reader *r, struct pf_mapping_entry *entry)
{
	int code = next(r);

	if (code)
		return code;
	entry->value_line = (unsigned)r->event.start_mark.line + 1;
	entry->value_column = (unsigned)r->event.start_mark.column + 1;
	entry->value = strdup(r->event.type == YAML_SCALAR_EVENT ? (const char *)r->event.data.scalar.value : "");
	if (!entry->value)
		return no_memory(r);
	if (r->event.type == YAML_SEQUENCE_START_EVENT)
		return read_list(r, entry);
	if (r->event.type == YAML_SCALAR_EVENT) {
		entry->kind = is_null(&r->event) ? PF_MAPPING_NULL : PF_MAPPING_SCALAR;
		return 0;
	}
	entry->kind = PF_MAPPING_NESTED;
	return skip(r);
}

/* ---- the mapping ---- */

/* - and _ mean the same */
static int same_key(const char *a, const char *b)
{
	for (; *a && (*a == *b || (strchr("-_", *a) && strchr("-_", *b))); a++, b++)
		if (!*b)
			return 0;
	return *a == *b;
}

static int check_key(struct reader *r, const struct pf_mapping *map)
{
	const char *key = (const char *)r->event.data.scalar.value;
	char text[128];

	if (r->event.type != YAML_SCALAR_EVENT)
		return fail_event(r, "a key must be a word");
	if (!*key)
		return fail_event(r, "expected `key: value`");
	if (map->count == PF_MAPPING_ENTRIES_MAX)
		return fail_event(r, "more than 1024 keys; is it really a config file?");
	for (size_t i = 0; i < map->count; i++)
		if (same_key(map->entry[i].key, key)) {
			snprintf(text, sizeof text, "key %.60s is there twice, first in line %u", key,
				 map->entry[i].line);
			return fail_event(r, text);
		}
	return 0;
}

static int make_room(struct reader *r, struct pf_mapping *map)
{
	const size_t room = map->room ? 2 * map->room : 32;
	struct pf_mapping_entry *longer;

	if (map->count < map->room)
		return 0;
	longer = realloc(map->entry, room * sizeof *longer);
	if (!longer)
		return no_memory(r);
	map->entry = longer;
	map->room = room;
	return 0;
}

static int read_mapping(struct reader *r, struct pf_mapping *map)
{
	int code = next(r);

	while (!code && r->event.type != YAML_MAPPING_END_EVENT) {
		struct pf_mapping_entry *entry;

		code = check_key(r, map);
		if (!code)
			code = make_room(r, map);
		if (code)
			return code;
		entry = &map->entry[map->count];
		*entry = (struct pf_mapping_entry){.line = (unsigned)r->event.start_mark.line + 1,
						   .column = (unsigned)r->event.start_mark.column + 1,
						   .key = strdup((const char *)r->event.data.scalar.value)};
		if (!entry->key)
			return no_memory(r);
		map->count++;
		code = read_value(r, entry);
		if (!code)
			code = next(r);
	}
	return code;
}

static int read_document(struct reader *r, struct pf_mapping *map)
{
	int code = next(r);

	if (!code && r->event.type == YAML_MAPPING_START_EVENT)
		code = read_mapping(r, map);
	else if (!code && !(r->event.type == YAML_SCALAR_EVENT && is_null(&r->event)))
		code = fail_event(r, "expected lines of `key: value`");
	if (!code)
		code = next(r);                /* the document's end */
	if (!code)
		code = next(r);
	if (!code && r->event.type != YAML_STREAM_END_EVENT)
		code = fail_event(r, "a second document begins here; a config file is one");
	return code;
}

int pf_mapping_parse(const char *path, const char *text, size_t length, struct pf_mapping *map, struct pf_error *error)
{
	struct reader r = { .path = path, .text = text, .length = length, .error = error };
	int code;

	*map = (struct pf_mapping){ 0 };
	if (length > PF_MAPPING_BYTES_MAX)
		return pf_fail(error, PF_E_FORMAT, "%s:1:1: larger than 1 MiB; is it really a config file?", path);
	if (!yaml_parser_initialize(&r.parser))
		return no_memory(&r);
	yaml_parser_set_encoding(&r.parser, YAML_UTF8_ENCODING);
	yaml_parser_set_input_string(&r.parser, (const unsigned char *)text, length);
	code = next(&r);                       /* the stream's start */
	if (!code)
		code = next(&r);
	if (!code && r.event.type != YAML_STREAM_END_EVENT)
		code = read_document(&r, map);
	if (r.holds)
		yaml_event_delete(&r.event);
	yaml_parser_delete(&r.parser);
	return code;
}

void pf_mapping_free(struct pf_mapping *map)
{
	for (size_t i = 0; i < map->count; i++) {
		free(map->entry[i].key);
		free(map->entry[i].value);
	}
	free(map->entry);
	*map = (struct pf_mapping){ 0 };
}
