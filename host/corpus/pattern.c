#define PCRE2_CODE_UNIT_WIDTH 8
#include "pattern.h"
#include <errno.h>
#include <pcre2.h>
#include <stdlib.h>
#include <string.h>
#include "buffer.h"
#include "unicode.h"

/* Steps of one search: as many as a text's length asks for in patterns that do not backtrack beyond a run, and some */
enum { STEPS_LEAST = 1000000, STEPS_PER_BYTE = 64, STEPS_MOST = 1000000000, DEPTH_KIB = 64 << 10 };

struct pf_pattern { pcre2_code *code; };
struct pf_matcher { pcre2_match_data *data; pcre2_match_context *context; };

/* ---- from Ruby's syntax to PCRE2's ---- */

static int refuse(struct pf_error *error, const char *what, size_t length)
{
	return pf_fail(error, PF_E_UNSUPPORTED, "the pattern uses %.*s, which is not supported here", (int)length,
	               what);
}

/* An escape at text[0] = '\\': appends it, translated; *used is what it took */
static int translate_escape(const char *text, size_t left, struct pf_buffer *out, size_t *used, struct pf_error *error)
{
	int kept;

	if (left < 2)
		return pf_fail(error, PF_E_FORMAT, "the pattern ends in a backslash");
	*used = 2;
	if (text[1] == 's' || text[1] == 'S')
		return pf_buffer_append(out, text[1] == 's' ? "\\p{White_Space}" : "\\P{White_Space}", 15);
	kept = strchr("dDpPrntf", text[1]) ||
	       !((text[1] >= '0' && text[1] <= '9') || (text[1] >= 'A' && text[1] <= 'Z') ||
	         (text[1] >= 'a' && text[1] <= 'z'));
	if (text[1] == 'x' && left > 2 && text[2] == '{')
		kept = 1;
	if (!text[1] || (text[1] & 0x80) || !kept)
		return refuse(error, text, text[1] & 0x80 ? 1 : 2);
	if (left > 2 && strchr("pPx", text[1]) && text[2] == '{')
		while (*used < left && text[*used - 1] != '}')
			++*used;
	return pf_buffer_append(out, text, *used);
}

/* What may follow "(?" */
static int check_group(const char *text, size_t left, struct pf_error *error)
{
	static const char *const known[] = { ":", "=", "!", "<=", "<!", ">", "i:", "i)", "-i:", "-i)" };

	for (size_t i = 0; i < sizeof known / sizeof *known; i++)
		if (left >= strlen(known[i]) && memcmp(text, known[i], strlen(known[i])) == 0)
			return 0;
	return pf_fail(error, PF_E_UNSUPPORTED, "the pattern uses a group (?%.*s, which is not supported here",
	               left < 3 ? (int)left : 3, text);
}

/* Characters outside of escapes that mean something else, at text[at] */
static int check_plain(const char *text, size_t length, size_t at, int in_set, struct pf_error *error)
{
	size_t left = length - at;

	if (in_set && text[at] == '[')
		return refuse(error, "a set within a set", 18);
	if (in_set && left > 1 && memcmp(text + at, "&&", 2) == 0)
		return refuse(error, "&& in a set", 11);
	if (!in_set && left > 1 && memcmp(text + at, "}+", 2) == 0)
		return refuse(error, "}+", 2);
	if (!in_set && left > 1 && memcmp(text + at, "(*", 2) == 0)
		return refuse(error, "(*", 2);
	if (!in_set && left > 1 && memcmp(text + at, "(?", 2) == 0)
		return check_group(text + at + 2, left - 2, error);
	return 0;
}

static int translate(const char *text, size_t length, struct pf_buffer *out, struct pf_error *error)
{
	int in_set = 0, status = 0;
	size_t opened = 0, used;

	for (size_t at = 0; at < length && !status; at += used) {
		used = 1;
		if (text[at] == '\\') {
			status = translate_escape(text + at, length - at, out, &used, error);
			continue;
		}
		status = check_plain(text, length, at, in_set, error);
		if (!status)
			status = pf_buffer_append(out, text + at, 1);
		if (!in_set && text[at] == '[') {
			in_set = 1;
			opened = at + 1 < length && text[at + 1] == '^' ? at + 2 : at + 1;
		} else if (in_set && text[at] == ']' && at > opened) {
			in_set = 0;
		}
	}
	return status;
}

/* ---- opening ---- */

static int compile(const char *text, size_t length, int literal, pcre2_code **code, struct pf_error *error)
{
	uint32_t flags = PCRE2_UTF | (literal ? PCRE2_LITERAL : PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C);
	PCRE2_SIZE place;
	PCRE2_UCHAR reason[128];
	int fault;

	*code = pcre2_compile((PCRE2_SPTR)text, length, flags, &fault, &place, NULL);
	if (!*code) {
		pcre2_get_error_message(fault, reason, sizeof reason);
		return pf_fail(error, PF_E_FORMAT, "the pattern is wrong at byte %zu: %s", (size_t)place,
		               (const char *)reason);
	}
	pcre2_jit_compile(*code, PCRE2_JIT_COMPLETE);          /* without it the interpreter serves */
	return 0;
}

int pf_pattern_open(const char *text, size_t length, int literal, struct pf_pattern **pattern, struct pf_error *error)
{
	struct pf_buffer plain = { 0 };
	int status;

	*pattern = calloc(1, sizeof **pattern);
	if (!*pattern)
		return pf_fail(error, -ENOMEM, "out of memory");
	if (!length)
		status = pf_fail(error, PF_E_FORMAT, "the pattern is empty");
	else
		status = literal ? pf_buffer_append(&plain, text, length) : translate(text, length, &plain, error);
	if (!status)
		status = compile(plain.text, plain.length, literal, &(*pattern)->code, error);
	else if (status == -ENOMEM)
		pf_fail(error, status, "out of memory");
	pf_buffer_free(&plain);
	if (status) {
		pf_pattern_close(*pattern);
		*pattern = NULL;
	}
	return status;
}

void pf_pattern_close(struct pf_pattern *pattern)
{
	if (pattern)
		pcre2_code_free(pattern->code);
	free(pattern);
}

/* ---- matching ---- */

static int open_matcher(struct pf_matcher **matcher)
{
	struct pf_matcher *made = *matcher ? *matcher : calloc(1, sizeof *made);

	*matcher = made;
	if (made && !made->data)
		made->data = pcre2_match_data_create(1, NULL);
	if (made && !made->context)
		made->context = pcre2_match_context_create(NULL);
	return made && made->data && made->context ? 0 : -ENOMEM;
}

void pf_matcher_close(struct pf_matcher *matcher)
{
	if (!matcher)
		return;
	pcre2_match_data_free(matcher->data);
	pcre2_match_context_free(matcher->context);
	free(matcher);
}

static int match(const struct pf_pattern *pattern, struct pf_matcher *matcher, const struct pf_matches *m)
{
	const size_t steps =
		STEPS_LEAST + (m->length < STEPS_MOST / STEPS_PER_BYTE ? m->length * STEPS_PER_BYTE : STEPS_MOST);
	int found;

	pcre2_set_match_limit(matcher->context, (uint32_t)steps);
	pcre2_set_heap_limit(matcher->context, DEPTH_KIB);
	found = pcre2_match(pattern->code, (PCRE2_SPTR)m->text, m->length, m->from, PCRE2_NO_UTF_CHECK, matcher->data,
	                    matcher->context);
	if (found == PCRE2_ERROR_JIT_STACKLIMIT)
		found = pcre2_match(pattern->code, (PCRE2_SPTR)m->text, m->length, m->from,
		                    PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT, matcher->data, matcher->context);
	return found >= 0 ? 1 : found == PCRE2_ERROR_NOMATCH ? 0 : found == PCRE2_ERROR_NOMEMORY ? -ENOMEM : PF_E_DATA;
}

int pf_pattern_next(const struct pf_pattern *pattern, struct pf_matcher **matcher, struct pf_matches *m)
{
	int status = open_matcher(matcher);

	while (!status && m->from <= m->length) {
		size_t begin, end;
		int32_t code;

		status = match(pattern, *matcher, m);
		if (status <= 0)
			return status;
		begin = pcre2_get_ovector_pointer((*matcher)->data)[0];
		end = pcre2_get_ovector_pointer((*matcher)->data)[1];
		status = 0;
		if (begin == end && m->started && m->end == end) {
			m->from +=
				m->from < m->length ? pf_utf8_read(m->text + m->from, m->length - m->from, &code) : 1;
			continue;
		}
		m->from = m->end = end;
		m->begin = begin;
		m->started = 1;
		return 1;
	}
	return status;
}
