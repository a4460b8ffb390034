#include "unicode.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>
#include "tokens.h"

/* ---- UTF-8 ---- */

static int lead_length(unsigned char lead)
{
	return lead < 0x80 ? 1 : lead < 0xc2 ? 0 : lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : lead < 0xf5 ? 4 : 0;
}

/* Whether `byte` can stand at place i > 0 behind `lead`: the second one excludes overlong forms, surrogates, >
 * 10FFFF */
static int can_follow(unsigned char lead, int i, unsigned char byte)
{
	unsigned char low = 0x80, high = 0xbf;

	if (i == 1) {
		low = lead == 0xe0 ? 0xa0 : lead == 0xf0 ? 0x90 : 0x80;
		high = lead == 0xed ? 0x9f : lead == 0xf4 ? 0x8f : 0xbf;
	}
	return byte >= low && byte <= high;
}

size_t pf_utf8_read(const char *text, size_t left, int32_t *code)
{
	unsigned char lead = (unsigned char)*text;
	int length = lead_length(lead);
	int32_t value = length < 2 ? lead : lead & (0x7f >> length);

	*code = -1;
	for (int i = 1; i < length; i++) {
		if ((size_t)i >= left || !can_follow(lead, i, (unsigned char)text[i]))
			return (size_t)i;
		value = value << 6 | (text[i] & 0x3f);
	}
	if (!length)
		return 1;
	*code = value;
	return (size_t)length;
}

static int is_continuation(char byte)
{
	return (byte & 0xc0) == 0x80;
}

int32_t pf_utf8_last(const char *text, size_t length)
{
	size_t at = length - 1;
	int32_t code;

	while (at && is_continuation(text[at]))
		at--;
	pf_utf8_read(text + at, length - at, &code);
	return code;
}

size_t pf_utf8_whole(const char *text, size_t length)
{
	for (size_t back = 1; back <= 3 && back <= length; back++) {
		size_t at = length - back;
		int32_t code;

		if (is_continuation(text[at]))
			continue;
		return pf_utf8_read(text + at, back, &code) == back && code < 0 &&
		                       lead_length((unsigned char)text[at]) > (int)back
		               ? at
		               : length;
	}
	return length;
}

int pf_utf8_valid(const char *text, size_t length)
{
	int32_t code;

	for (size_t at = 0; at < length;) {
		if (!(text[at] & 0x80)) {
			at++;
			continue;
		}
		at += pf_utf8_read(text + at, length - at, &code);
		if (code < 0)
			return 0;
	}
	return 1;
}

int pf_utf8_repair(const char *text, size_t length, struct pf_buffer *out)
{
	int status = 0;

	for (size_t at = 0; at < length && !status;) {
		int32_t code;
		size_t bytes = pf_utf8_read(text + at, length - at, &code);

		status = code < 0 ? pf_buffer_append(out, "\xef\xbf\xbd", 3) : pf_buffer_append(out, text + at, bytes);
		at += bytes;
	}
	return status;
}

/* ---- kinds ---- */

int pf_is_space(int32_t code)
{
	return code == ' ' || (code >= 0x09 && code <= 0x0d) || code == 0x85 || code == 0xa0 || code == 0x1680 ||
	       (code >= 0x2000 && code <= 0x200a) || code == 0x2028 || code == 0x2029 || code == 0x202f ||
	       code == 0x205f || code == 0x3000;
}

int pf_is_word(int32_t code)
{
	switch (utf8proc_category(code)) {
	case UTF8PROC_CATEGORY_LU: case UTF8PROC_CATEGORY_LL: case UTF8PROC_CATEGORY_LT: case UTF8PROC_CATEGORY_LM:
	case UTF8PROC_CATEGORY_LO: case UTF8PROC_CATEGORY_NL: case UTF8PROC_CATEGORY_MN: case UTF8PROC_CATEGORY_MC:
	case UTF8PROC_CATEGORY_ME: case UTF8PROC_CATEGORY_ND: case UTF8PROC_CATEGORY_PC:
		return 1;
	default:               /* joiners; letters in circles and squares are Alphabetic, though symbols */
		return code == 0x200c || code == 0x200d || (code >= 0x24b6 && code <= 0x24e9) ||
		       (code >= 0x1f130 && code <= 0x1f149) || (code >= 0x1f150 && code <= 0x1f169) ||
		       (code >= 0x1f170 && code <= 0x1f189);
	}
}

/* ---- NFC: a list of codes, decomposed, ordered, composed ---- */

/* Marks and a composition that came after Unicode 9 */
static const struct { int32_t first, last; } later[] = {
	{ 0x7fd, 0x7fd }, { 0x898, 0x89f }, { 0x8ca, 0x8d3 }, { 0x9fe, 0x9fe }, { 0xc3c, 0xc3c }, { 0xd3b, 0xd3c },
	{ 0xeba, 0xeba }, { 0x1715, 0x1715 }, { 0x1abf, 0x1ace }, { 0x1df6, 0x1dfa }, { 0xa82c, 0xa82c },
	{ 0x10d24, 0x10d27 }, { 0x10eab, 0x10eac }, { 0x10efd, 0x10eff }, { 0x10f46, 0x10f50 }, { 0x10f82, 0x10f85 },
	{ 0x11070, 0x11070 }, { 0x1133b, 0x1133b }, { 0x1145e, 0x1145e }, { 0x11839, 0x1183a }, { 0x11930, 0x11930 },
	{ 0x11938, 0x11938 }, { 0x1193d, 0x1193e }, { 0x11943, 0x11943 }, { 0x119e0, 0x119e0 }, { 0x11a34, 0x11a34 },
	{ 0x11a47, 0x11a47 }, { 0x11a99, 0x11a99 }, { 0x11d42, 0x11d42 }, { 0x11d44, 0x11d45 }, { 0x11d97, 0x11d97 },
	{ 0x11f41, 0x11f42 }, { 0x16ff0, 0x16ff1 }, { 0x1e08f, 0x1e08f }, { 0x1e130, 0x1e136 }, { 0x1e2ae, 0x1e2ae },
	{ 0x1e2ec, 0x1e2ef }, { 0x1e4ec, 0x1e4ef }
};

static int is_later(int32_t code)
{
	size_t low = 0, high = sizeof later / sizeof *later;

	while (low < high) {
		size_t middle = (low + high) / 2;

		if (code > later[middle].last)
			low = middle + 1;
		else
			high = middle;
	}
	return low < sizeof later / sizeof *later && code >= later[low].first;
}

static int decompose(const char *text, size_t length, struct pf_tokens *codes)
{
	enum { LONGEST = 32 };                 /* no canonical decomposition is longer */

	for (size_t at = 0; at < length;) {
		utf8proc_ssize_t made;
		int boundary = 0;
		int32_t code;

		at += pf_utf8_read(text + at, length - at, &code);
		if (pf_tokens_reserve(codes, LONGEST))
			return -ENOMEM;
		if (is_later(code)) {
			codes->id[codes->count++] = code;
			continue;
		}
		made = utf8proc_decompose_char(code, codes->id + codes->count, LONGEST,
		                               UTF8PROC_DECOMPOSE | UTF8PROC_STABLE, &boundary);
		codes->count += made > 0 ? (size_t)made : 0;
	}
	return 0;
}

static unsigned class_of(int32_t code)
{
	return is_later(code) ? 0 : (unsigned)utf8proc_get_property(code)->combining_class;
}

/* Sorts a run of combining marks by class and keeps the order of equals: one pass per class, for few are in use */
static void sort_marks(int32_t *code, size_t count, int32_t *spare)
{
	size_t start[257] = { 0 };

	for (size_t i = 0; i < count; i++)
		start[class_of(code[i]) + 1]++;
	for (size_t i = 1; i < 257; i++)
		start[i] += start[i - 1];
	for (size_t i = 0; i < count; i++)
		spare[start[class_of(code[i])]++] = code[i];
	memcpy(code, spare, count * sizeof *code);
}

static int is_sorted(const int32_t *code, size_t count)
{
	for (size_t i = 1; i < count; i++)
		if (class_of(code[i - 1]) > class_of(code[i]))
			return 0;
	return 1;
}

static int order_marks(struct pf_tokens *codes)
{
	int32_t *spare = NULL;

	for (size_t from = 0, to; from < codes->count; from = to) {
		for (to = from; to < codes->count && class_of(codes->id[to]); to++)
			;
		if (to > from && !is_sorted(codes->id + from, to - from)) {
			if (!spare)
				spare = malloc(codes->count * sizeof *spare);
			if (!spare)
				return -ENOMEM;
			sort_marks(codes->id + from, to - from, spare);
		}
		to += to == from;
	}
	free(spare);
	return 0;
}

/* Codes between two later ones, with the one behind them */
static int compose_run(int32_t *code, size_t length, size_t rest, struct pf_buffer *out)
{
	utf8proc_ssize_t count =
		utf8proc_normalize_utf32(code, (utf8proc_ssize_t)length, UTF8PROC_COMPOSE | UTF8PROC_STABLE);
	int status = pf_buffer_reserve(out, ((size_t)count + rest) * 4);

	for (utf8proc_ssize_t i = 0; i < count && !status; i++)
		out->length += (size_t)utf8proc_encode_char(code[i], (utf8proc_uint8_t *)out->text + out->length);
	if (rest && !status)
		out->length += (size_t)utf8proc_encode_char(code[length], (utf8proc_uint8_t *)out->text + out->length);
	return status;
}

static int compose(struct pf_tokens *codes, struct pf_buffer *out)
{
	int status = 0;

	for (size_t from = 0, to; from < codes->count && !status; from = to + 1) {
		for (to = from; to < codes->count && !is_later(codes->id[to]); to++)
			;
		status = compose_run(codes->id + from, to - from, to < codes->count, out);
	}
	return status;
}

/* Every character below U+0300 is composed already and nothing below combines with another one: bytes below 0xcc */
static int is_simple(const char *text, size_t length)
{
	for (size_t i = 0; i < length; i++)
		if ((unsigned char)text[i] >= 0xcc)
			return 0;
	return 1;
}

int pf_nfc(const char *text, size_t length, struct pf_buffer *out)
{
	struct pf_tokens codes = { 0 };
	int status;

	if (is_simple(text, length))
		return pf_buffer_append(out, text, length);
	status = decompose(text, length, &codes);
	if (!status)
		status = order_marks(&codes);
	if (!status)
		status = compose(&codes, out);
	pf_tokens_free(&codes);
	return status;
}
