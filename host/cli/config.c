#include "config.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "options.h"

#define CONFIG_MAX (1u << 20)

int pf_options_file_read(const char *path, char **text, struct pf_error *error)
{
	FILE *file = fopen(path, "rb");
	size_t length;

	*text = NULL;
	if (!file)
		return pf_fail(error, -errno, "config file %s: %s", path, strerror(errno));
	*text = malloc(CONFIG_MAX + 1);
	length = *text ? fread(*text, 1, CONFIG_MAX + 1, file) : 0;
	fclose(file);
	if (!*text)
		return pf_fail(error, -ENOMEM, "config file %s: out of memory", path);
	if (length > CONFIG_MAX)
		return pf_fail(error, PF_E_FORMAT, "config file %s: larger than 1 MiB; is it really one?", path);
	(*text)[length] = 0;
	if (strlen(*text) != length)
		return pf_fail(error, PF_E_FORMAT, "config file %s: holds a NUL byte; is it really text?", path);
	return 0;
}

/* ---- one line ---- */

static char *trim(char *text, char *end)
{
	while (*text == ' ' || *text == '\t')
		text++;
	while (end > text && strchr(" \t\r", end[-1]))
		end--;
	*end = 0;
	return text;
}

/* Ends the line at a # that stands first or behind a blank, outside quotes */
static void cut_comment(char *line)
{
	char quote = 0;

	for (char *at = line; *at; at++) {
		if (quote ? *at == quote : *at == '"' || *at == '\'')
			quote = quote ? 0 : *at;
		if (!quote && *at == '#' && (at == line || at[-1] == ' ' || at[-1] == '\t')) {
			*at = 0;
			return;
		}
	}
}

/* "x" or 'x' -> x; [a, b] -> a,b */
static char *unwrap(char *value)
{
	size_t length = strlen(value);
	char first = *value, last = length > 1 ? value[length - 1] : 0, *to = value;

	if ((first == '"' || first == '\'') && last == first) {
		value[length - 1] = 0;
		return value + 1;
	}
	if (first != '[' || last != ']')
		return value;
	for (size_t i = 1; i < length - 1; i++)
		if (!strchr(" \t\"'", value[i]))
			*to++ = value[i];
	*to = 0;
	return value;
}

static int fail_key(const struct pf_options *options, const char *key, struct pf_error *error)
{
	const char *nearest = pf_option_nearest(options->verb, key);

	if (nearest)
		return pf_fail(error, PF_E_UNKNOWN, "unknown key %.80s; did you mean %s?", key, nearest);
	return pf_fail(error, PF_E_UNKNOWN, "unknown key %.80s; prefpga %s --help lists them", key, options->verb);
}

static int set_key(struct pf_options *options, int option, const char *value, char *seen, struct pf_error *error)
{
	struct pf_options other = *options, *into = options;

	if (option == PF_OPTION_config || option == PF_OPTION_help)
		return pf_fail(error, PF_E_ARGUMENT, "key %s has no place in a config file", pf_option_rows[option].flag);
	if (seen[option]++)
		return pf_fail(error, PF_E_ARGUMENT, "key %s is there twice", pf_option_rows[option].flag);
	if (options->source[option] == PF_FROM_FLAG || !pf_option_belongs(&pf_option_rows[option], options->verb))
		into = &other;
	return pf_options_take(into, option, value, PF_FROM_FILE, error);
}

static int read_line(struct pf_options *options, char *line, char *seen, struct pf_error *error)
{
	char *colon, *key, *value;
	int option;

	cut_comment(line);
	line = trim(line, line + strlen(line));
	if (!*line || strcmp(line, "---") == 0)
		return 0;
	colon = strchr(line, ':');
	if (!colon)
		return pf_fail(error, PF_E_FORMAT, "expected `key: value`, found \"%.40s\"", line);
	value = unwrap(trim(colon + 1, colon + strlen(colon)));
	key = trim(line, colon);
	option = pf_option_find(options->verb, key);
	if (option < 0)
		option = pf_option_find(NULL, key);
	return option < 0 ? fail_key(options, key, error) : set_key(options, option, value, seen, error);
}

int pf_options_config(struct pf_options *options, const char *path, char *text, size_t length, struct pf_error *error)
{
	char seen[PF_OPTION_COUNT] = { 0 }, *end = text + length, *line = text;
	int status;

	for (unsigned number = 1; line < end; number++) {
		char *next = memchr(line, '\n', (size_t)(end - line));

		next = next ? next : end;
		*next = 0;
		status = read_line(options, line, seen, error);
		if (status) {
			pf_fail_in(error, "%s:%u", path, number);
			return status;
		}
		line = next + 1;
	}
	return 0;
}
