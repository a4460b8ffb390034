/* The fields of tokenizer.json that say what happens around the vocabulary. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "tokenizer_state.h"

#define SPACE_MARK "\xe2\x96\x81"      /* U+2581 */

static const char *type_of(const json_t *object)
{
	const char *type = json_string_value(json_object_get(object, "type"));

	return type ? type : "(none)";
}

static int refuse(struct pf_tokenizer_reading *r, const char *what, const json_t *object, const char *known)
{
	return pf_fail(r->error, PF_E_UNSUPPORTED,
	               "%s of type %.60s is not supported; there are: %s. Use a model of another "
	               "family",
	               what, type_of(object), known);
}

/* Calls read for each member of a list field */
static int each(struct pf_tokenizer_reading *r, const json_t *object, const char *list,
                int (*read)(struct pf_tokenizer_reading *r, const json_t *item))
{
	const json_t *items = json_object_get(object, list);
	int status = 0;

	if (!json_is_array(items))
		return pf_fail(r->error, PF_E_FORMAT, "a Sequence without the list \"%s\"", list);
	for (size_t i = 0; i < json_array_size(items) && !status; i++)
		status = read(r, json_array_get(items, i));
	return status;
}

/* ---- steps ---- */

static int add_step(struct pf_tokenizer_reading *r, struct pf_steps *steps, enum pf_step_kind kind,
                    struct pf_step **step)
{
	if (steps->count == PF_STEPS_MAX)
		return pf_fail(r->error, PF_E_UNSUPPORTED, "more than %u normalizers or pre-tokenizers", PF_STEPS_MAX);
	*step = &steps->step[steps->count++];
	**step = (struct pf_step){ .kind = kind };
	return 0;
}

static int set_text(struct pf_tokenizer_reading *r, struct pf_step *step, const char *text, size_t length)
{
	step->text = malloc(length + 1);
	step->length = length;
	if (!step->text)
		return pf_fail(r->error, -ENOMEM, "out of memory");
	memcpy(step->text, text, length);
	return 0;
}

static int set_text_field(struct pf_tokenizer_reading *r, struct pf_step *step, const json_t *object, const char *name)
{
	const json_t *value = json_object_get(object, name);

	if (!json_is_string(value))
		return pf_fail(r->error, PF_E_FORMAT, "%s without the text \"%s\"", type_of(object), name);
	return set_text(r, step, json_string_value(value), json_string_length(value));
}

static int set_pattern(struct pf_tokenizer_reading *r, struct pf_step *step, const char *text, size_t length,
                       int literal)
{
	int status = pf_pattern_open(text, length, literal, &step->pattern, r->error);

	if (status)
		pf_fail_in(r->error, "%.200s", text);
	return status;
}

/* {"String": "..."} or {"Regex": "..."} */
static int set_pattern_field(struct pf_tokenizer_reading *r, struct pf_step *step, const json_t *object)
{
	const json_t *pattern = json_object_get(object, "pattern"), *literal = json_object_get(pattern, "String");
	const json_t *text = literal ? literal : json_object_get(pattern, "Regex");

	if (!json_is_string(text))
		return pf_fail(r->error, PF_E_FORMAT, "%s without a pattern: a String or a Regex", type_of(object));
	return set_pattern(r, step, json_string_value(text), json_string_length(text), literal != NULL);
}

/* ---- normalizers ---- */

static int read_normalizer(struct pf_tokenizer_reading *r, const json_t *object)
{
	const char *type = type_of(object);
	struct pf_step *step = NULL;
	int status;

	if (strcmp(type, "Sequence") == 0)
		return each(r, object, "normalizers", read_normalizer);
	if (strcmp(type, "NFC") == 0)
		return add_step(r, &r->state->changes, PF_STEP_NFC, &step);
	if (strcmp(type, "Prepend") == 0) {
		status = add_step(r, &r->state->changes, PF_STEP_PREPEND, &step);
		return status ? status : set_text_field(r, step, object, "prepend");
	}
	if (strcmp(type, "Replace") != 0)
		return refuse(r, "a normalizer", object, "NFC, Prepend, Replace, Sequence");
	status = add_step(r, &r->state->changes, PF_STEP_REPLACE, &step);
	if (!status)
		status = set_text_field(r, step, object, "content");
	return status ? status : set_pattern_field(r, step, object);
}

/* ---- pre-tokenizers ---- */

static int add_split(struct pf_tokenizer_reading *r, const char *pattern, int literal, enum pf_split_rule rule)
{
	struct pf_step *step = NULL;
	int status = add_step(r, &r->state->cuts, PF_STEP_SPLIT, &step);

	if (status)
		return status;
	step->rule = rule;
	return set_pattern(r, step, pattern, strlen(pattern), literal);
}

static int read_byte_level(struct pf_tokenizer_reading *r, const json_t *object)
{
	struct pf_step *step = NULL;
	int status = 0;

	r->state->bpe.byte_level = 1;
	if (pf_json_flag(object, "add_prefix_space", 1)) {
		status = add_step(r, &r->state->cuts, PF_STEP_PREPEND, &step);
		if (status)
			return status;
		step->if_missing = 1;
		status = set_text(r, step, " ", 1);
	}
	if (!status && pf_json_flag(object, "use_regex", 1))   /* GPT-2's */
		status = add_split(r,
		                   "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+",
		                   0, PF_SPLIT_ISOLATED);
	return status;
}

static int read_metaspace(struct pf_tokenizer_reading *r, const json_t *object)
{
	const char *scheme = json_string_value(json_object_get(object, "prepend_scheme"));
	const char *mark = json_string_value(json_object_get(object, "replacement"));
	struct pf_step *step = NULL;
	int status;

	if (!mark || !*mark)
		return pf_fail(r->error, PF_E_FORMAT, "Metaspace without the text \"replacement\"");
	scheme = scheme ? scheme : pf_json_flag(object, "add_prefix_space", 1) ? "always" : "never";
	if (strcmp(scheme, "always") != 0 && strcmp(scheme, "first") != 0 && strcmp(scheme, "never") != 0)
		return pf_fail(r->error, PF_E_FORMAT, "Metaspace with prepend_scheme \"%.60s\"", scheme);
	status = add_step(r, &r->state->cuts, PF_STEP_REPLACE, &step);
	if (!status)
		status = set_text(r, step, mark, strlen(mark));
	if (!status)
		status = set_pattern(r, step, " ", 1, 1);
	if (!status && *scheme != 'n') {
		status = add_step(r, &r->state->cuts, PF_STEP_PREPEND, &step);
		if (status)
			return status;
		step->if_missing = 1;
		step->if_first = *scheme == 'f';
		status = set_text(r, step, mark, strlen(mark));
	}
	return status || !pf_json_flag(object, "split", 1) ? status : add_split(r, mark, 1, PF_SPLIT_NEXT);
}

static int read_split(struct pf_tokenizer_reading *r, const json_t *object)
{
	static const char *const rules[] = { "Isolated", "Removed", "MergedWithPrevious", "MergedWithNext",
		                             "Contiguous" };
	const char *rule = json_string_value(json_object_get(object, "behavior"));
	struct pf_step *step = NULL;
	unsigned i = 0;
	int status;

	while (rule && i < 5 && strcmp(rule, rules[i]) != 0)
		i++;
	if (!rule || i == 5)
		return pf_fail(r->error, PF_E_FORMAT, "Split with behavior \"%.60s\"", rule ? rule : "");
	status = add_step(r, &r->state->cuts, PF_STEP_SPLIT, &step);
	if (status)
		return status;
	step->rule = (enum pf_split_rule)i;
	step->invert = pf_json_flag(object, "invert", 0);
	return set_pattern_field(r, step, object);
}

static int read_pre_tokenizer(struct pf_tokenizer_reading *r, const json_t *object)
{
	const char *type = type_of(object);

	if (strcmp(type, "Sequence") == 0)
		return each(r, object, "pretokenizers", read_pre_tokenizer);
	if (r->state->bpe.byte_level)
		return pf_fail(r->error, PF_E_UNSUPPORTED,
		               "a pre-tokenizer of type %.60s behind ByteLevel, which must be the last", type);
	if (strcmp(type, "ByteLevel") == 0)
		return read_byte_level(r, object);
	if (strcmp(type, "Metaspace") == 0)
		return read_metaspace(r, object);
	if (strcmp(type, "Split") == 0)
		return read_split(r, object);
	if (strcmp(type, "Digits") == 0)
		return add_split(r, "\\p{N}", 0, pf_json_flag(object, "individual_digits", 0) ? PF_SPLIT_ISOLATED
		                                                                              : PF_SPLIT_CONTIGUOUS);
	return refuse(r, "a pre-tokenizer", object, "ByteLevel, Digits, Metaspace, Sequence, Split");
}

int pf_tokenizer_read_steps(struct pf_tokenizer_reading *r)
{
	const json_t *normalizer = pf_json_member(r->root, "normalizer"),
		     *cutter = pf_json_member(r->root, "pre_tokenizer");
	int status = normalizer ? read_normalizer(r, normalizer) : 0;

	return status || !cutter ? status : read_pre_tokenizer(r, cutter);
}

/* ---- decoders: what is shown of a token ---- */

static int is_text(const json_t *value, const char *text)
{
	return json_is_string(value) && strcmp(json_string_value(value), text) == 0;
}

static int read_strip(struct pf_tokenizer_reading *r, const json_t *object)
{
	if (!is_text(json_object_get(object, "content"), " ") ||
	    json_integer_value(json_object_get(object, "stop")) != 0 ||
	    json_integer_value(json_object_get(object, "start")) > 1)
		return pf_fail(r->error, PF_E_UNSUPPORTED, "a decoder Strip of other than one space at the start");
	r->state->strips = json_integer_value(json_object_get(object, "start")) == 1;
	return 0;
}

static int read_decoder(struct pf_tokenizer_reading *r, const json_t *object)
{
	const char *type = type_of(object);

	if (strcmp(type, "Sequence") == 0)
		return each(r, object, "decoders", read_decoder);
	if (strcmp(type, "ByteLevel") == 0 || strcmp(type, "Fuse") == 0)
		return 0;
	if (strcmp(type, "Strip") == 0)
		return read_strip(r, object);
	if (strcmp(type, "ByteFallback") == 0) {
		r->marks_bytes = 1;
		return 0;
	}
	if (strcmp(type, "Metaspace") == 0) {
		r->marks_spaces = 1;
		r->state->strips = !is_text(json_object_get(object, "prepend_scheme"), "never") &&
		                   pf_json_flag(object, "add_prefix_space", 1);
		return is_text(json_object_get(object, "replacement"), SPACE_MARK)
		               ? 0
		               : pf_fail(r->error, PF_E_UNSUPPORTED,
		                         "a decoder Metaspace with another mark than U+2581");
	}
	if (strcmp(type, "Replace") != 0)
		return refuse(r, "a decoder", object,
		              "ByteFallback, ByteLevel, Fuse, Metaspace, Replace, Sequence, Strip");
	r->marks_spaces = 1;
	if (!is_text(json_object_get(json_object_get(object, "pattern"), "String"), SPACE_MARK) ||
	    !is_text(json_object_get(object, "content"), " "))
		return pf_fail(r->error, PF_E_UNSUPPORTED, "a decoder Replace of other than U+2581 by a space");
	return 0;
}

int pf_tokenizer_read_decoder(struct pf_tokenizer_reading *r)
{
	const json_t *decoder = pf_json_member(r->root, "decoder");

	return decoder ? read_decoder(r, decoder) : 0;
}

/* ---- the template around a sequence ---- */

static int read_special(struct pf_tokenizer_reading *r, const json_t *object, const json_t *item, int32_t *place)
{
	const char *name = json_string_value(json_object_get(item, "id"));
	const json_t *special = name ? json_object_get(json_object_get(object, "special_tokens"), name) : NULL;
	const json_t *ids = json_object_get(special, "ids"), *id = json_array_get(ids, 0);

	if (json_array_size(ids) != 1 || !json_is_integer(id) || json_integer_value(id) < 0 ||
	    json_integer_value(id) >= r->state->face.vocab)
		return pf_fail(r->error, PF_E_FORMAT,
		               "post_processor: special token \"%.60s\" without one id of the vocabulary",
		               name ? name : "");
	if (*place >= 0)
		return pf_fail(r->error, PF_E_UNSUPPORTED,
		               "post_processor: more than one special token on one side of a sequence");
	*place = (int32_t)json_integer_value(id);
	return 0;
}

static int read_template(struct pf_tokenizer_reading *r, const json_t *object)
{
	const json_t *single = json_object_get(object, "single");
	int status = 0, seen = 0;

	if (!json_is_array(single))
		return pf_fail(r->error, PF_E_FORMAT, "post_processor: TemplateProcessing without the list \"single\"");
	for (size_t i = 0; i < json_array_size(single) && !status; i++) {
		const json_t *special = json_object_get(json_array_get(single, i), "SpecialToken");

		seen += !special;
		if (special)
			status = read_special(r, object, special, seen ? &r->state->closes : &r->state->opens);
	}
	if (!status && seen != 1)
		status = pf_fail(r->error, PF_E_UNSUPPORTED, "post_processor: a template of %d sequences", seen);
	return status;
}

static int read_processor(struct pf_tokenizer_reading *r, const json_t *object)
{
	const char *type = type_of(object);

	if (strcmp(type, "Sequence") == 0)
		return each(r, object, "processors", read_processor);
	if (strcmp(type, "ByteLevel") == 0)
		return 0;
	if (strcmp(type, "TemplateProcessing") == 0)
		return read_template(r, object);
	return refuse(r, "a post_processor", object, "ByteLevel, Sequence, TemplateProcessing");
}

int pf_tokenizer_read_template(struct pf_tokenizer_reading *r)
{
	const json_t *processor = pf_json_member(r->root, "post_processor");

	return processor ? read_processor(r, processor) : 0;
}
