#include "forms.h"
#include <errno.h>
#include <jansson.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include "messages.h"

static const char *const form_names[] = { "auto", "pairs", "binary", "sft", "rankings", "groups" };

const char *pf_record_form_name(enum pf_record_form form)
{
	return form_names[form];
}

int pf_record_form_find(const char *name)
{
	for (size_t i = 0; i < sizeof form_names / sizeof *form_names; i++)
		if (strcmp(form_names[i], name) == 0)
			return (int)i;
	return -1;
}

int pf_fault_dropped(enum pf_fault fault)
{
	static const char dropped[] = {
		0,
#define PF_FAULT_DROPPED(name, always, text) always,
		PF_FAULTS(PF_FAULT_DROPPED)
	};

	return dropped[fault];
}

const char *pf_fault_text(enum pf_fault fault)
{
	static const char *const texts[] = {
		"",
#define PF_FAULT_TEXT(name, always, text) text,
		PF_FAULTS(PF_FAULT_TEXT)
	};

	return texts[fault];
}

/* ---- the prompt inside two conversations ---- */

static const char *const markers[] = {
	"\n\nAssistant:", "<|im_start|>assistant\n", "<|start_header_id|>assistant<|end_header_id|>\n\n",
	"<|assistant|>\n", "<start_of_turn>model\n", "[/INST]", "### Response:\n", "### Assistant:",
};

/* End of the last occurrence of marker within text[length], 0 if none */
static size_t last_end(const char *text, size_t length, const char *marker)
{
	size_t size = strlen(marker);

	if (!size)
		return 0;
	for (size_t end = length; end >= size; end--)
		if (text[end - 1] == marker[size - 1] && memcmp(text + end - size, marker, size) == 0)
			return end;
	return 0;
}

size_t pf_prompt_length(struct pf_text chosen, struct pf_text rejected, const char *marker)
{
	size_t shorter = chosen.length < rejected.length ? chosen.length : rejected.length, common = 0, best = 0;

	while (common < shorter && chosen.text[common] == rejected.text[common])
		common++;
	if (marker)
		return last_end(chosen.text, common, marker);
	for (size_t i = 0; i < sizeof markers / sizeof *markers; i++) {
		size_t end = last_end(chosen.text, common, markers[i]);

		best = end > best ? end : best;
	}
	return best;
}

/* ---- fields ---- */

struct reading {
	json_t          *json;
	enum pf_fault   *fault;
	struct pf_error *error;
};

PF_PRINTF(2, 3) static int fail_field(const struct reading *reading, const char *format, ...)
{
	char text[512];
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(text, sizeof text, format, arguments);
	va_end(arguments);
	*reading->fault = PF_FAULT_FIELD;
	return pf_fail(reading->error, PF_E_DATA, "%s", text);
}

/* A member that is not null, or NULL */
static json_t *member(const struct reading *reading, const char *name)
{
	json_t *value = json_object_get(reading->json, name);

	return json_is_null(value) ? NULL : value;
}

static int has(const struct reading *reading, const char *name)
{
	return member(reading, name) != NULL;
}

static const char *type_name(const json_t *value)
{
	static const char *const names[] = { "an object", "a list", "a string", "a number", "a number", "true", "false",
	                                     "null" };

	return names[json_typeof(value)];
}

static int take_text(const struct reading *reading, const json_t *value, const char *name, struct pf_text *text)
{
	if (!value)
		return fail_field(reading, "field \"%s\" is missing", name);
	if (!json_is_string(value))
		return fail_field(reading, "field \"%s\" must be a string, it is %s", name, type_name(value));
	*text = (struct pf_text){ json_string_value(value), json_string_length(value) };
	return 0;
}

static int read_text(const struct reading *reading, const char *name, struct pf_text *text)
{
	return take_text(reading, member(reading, name), name, text);
}

static int take_number(const struct reading *reading, const json_t *value, const char *name, float *number)
{
	double wide;

	if (!json_is_number(value))
		return fail_field(reading, "field \"%s\" must be a number, it is %s", name, type_name(value));
	wide = json_number_value(value);
	if (!(fabs(wide) <= 1e30))
		return fail_field(reading, "field \"%s\" is too large", name);
	*number = (float)wide;
	return 0;
}

/* A number that may be missing: *number stays as it is then */
static int read_number(const struct reading *reading, const char *name, float *number)
{
	json_t *value = member(reading, name);

	return value ? take_number(reading, value, name, number) : 0;
}

static int read_weight(const struct reading *reading, float *weight)
{
	int status = read_number(reading, "weight", weight);

	if (!status && *weight < 0)
		return fail_field(reading, "field \"%s\" is negative", "weight");
	return status;
}

static int read_label(const struct reading *reading, int *desirable)
{
	json_t *value = member(reading, "label");

	if (!value)
		return fail_field(reading, "field \"%s\" is missing", "label");
	if (json_is_boolean(value))
		*desirable = json_is_true(value);
	else if (json_is_integer(value) && (json_integer_value(value) == 0 || json_integer_value(value) == 1))
		*desirable = (int)json_integer_value(value);
	else
		return fail_field(reading, "field \"%s\" must be true or false, it is %s", "label", type_name(value));
	return 0;
}

static int fail_empty(const struct reading *reading, const char *name)
{
	*reading->fault = PF_FAULT_EMPTY;
	return pf_fail(reading->error, PF_E_DATA, "field \"%s\" holds an empty completion", name);
}

/* ---- forms ---- */

/* Chosen and rejected hold whole conversations: moves their common beginning to the prompt */
static int split_prompt(const struct reading *reading, const char *marker, struct pf_record *record)
{
	struct pf_text *chosen = &record->completion[0], *rejected = &record->completion[1];
	size_t length = pf_prompt_length(*chosen, *rejected, marker);

	if (!length) {
		*reading->fault = PF_FAULT_BOUNDARY;
		return pf_fail(reading->error, PF_E_DATA, "no field \"prompt\", and no role marker such as "
		               "\\n\\nAssistant: in the common beginning of chosen and rejected");
	}
	record->prompt = (struct pf_text){ chosen->text, length };
	*chosen = (struct pf_text){ chosen->text + length, chosen->length - length };
	*rejected = (struct pf_text){ rejected->text + length, rejected->length - length };
	return 0;
}

static int same_text(struct pf_text a, struct pf_text b)
{
	return a.length == b.length && memcmp(a.text, b.text, a.length) == 0;
}

static int check_pair(const struct reading *reading, const struct pf_record *record)
{
	const struct pf_text *chosen = &record->completion[0], *rejected = &record->completion[1];

	if (!chosen->length)
		return fail_empty(reading, "chosen");
	if (!rejected->length)
		return fail_empty(reading, "rejected");
	if (!same_text(*chosen, *rejected))
		return 0;
	*reading->fault = PF_FAULT_IDENTICAL;
	return pf_fail(reading->error, PF_E_DATA, "chosen and rejected are the same: there is nothing to prefer");
}

static int read_pair(const struct reading *reading, const char *marker, struct pf_record *record)
{
	record->completions = 2;
	if (read_text(reading, "chosen", &record->completion[0]) ||
	    read_text(reading, "rejected", &record->completion[1]) ||
	    read_number(reading, "score_chosen", &record->score[0]) ||
	    read_number(reading, "score_rejected", &record->score[1]) ||
	    read_number(reading, "margin", &record->margin) || read_weight(reading, &record->weight))
		return PF_E_DATA;
	if (has(reading, "prompt")) {
		if (read_text(reading, "prompt", &record->prompt))
			return PF_E_DATA;
	} else if (!same_text(record->completion[0], record->completion[1])) {
		if (split_prompt(reading, marker, record))
			return PF_E_DATA;
	}
	return check_pair(reading, record);
}

static int read_single(const struct reading *reading, struct pf_record *record)
{
	record->completions = 1;
	if (read_text(reading, "prompt", &record->prompt) || read_text(reading, "completion", &record->completion[0]) ||
	    read_weight(reading, &record->weight))
		return PF_E_DATA;
	if (!record->completion[0].length)
		return fail_empty(reading, "completion");
	return record->form == PF_RECORD_BINARY ? read_label(reading, &record->desirable) : 0;
}

static int read_sft(const struct reading *reading, struct pf_record *record)
{
	if (has(reading, "completion") || !has(reading, "text"))
		return read_single(reading, record);
	record->completions = 1;
	if (read_text(reading, "text", &record->completion[0]) || read_weight(reading, &record->weight))
		return PF_E_DATA;
	record->prompt = (struct pf_text){ "", 0 };
	return record->completion[0].length ? 0 : fail_empty(reading, "text");
}

static int read_scores(const struct reading *reading, struct pf_record *record)
{
	json_t *scores = member(reading, "scores");

	if (scores && (!json_is_array(scores) || json_array_size(scores) != record->completions))
		return fail_field(reading, "field \"%s\" must be a list of numbers as long as completions", "scores");
	for (unsigned i = 0; i < record->completions; i++) {
		record->score[i] = (float)(record->completions - i);
		if (scores && take_number(reading, json_array_get(scores, i), "scores", &record->score[i]))
			return PF_E_DATA;
	}
	return 0;
}

static int read_completions(const struct reading *reading, size_t least, struct pf_record *record)
{
	json_t *list = member(reading, "completions");
	size_t count = json_array_size(list);

	if (!json_is_array(list) || count < least || count > PF_COMPLETIONS_MAX)
		return fail_field(reading, "field \"%s\" must be a list of %zu to 64 strings", "completions", least);
	record->completions = (unsigned)count;
	for (unsigned i = 0; i < count; i++) {
		if (take_text(reading, json_array_get(list, i), "completions", &record->completion[i]))
			return PF_E_DATA;
		if (!record->completion[i].length)
			return fail_empty(reading, "completions");
	}
	return read_text(reading, "prompt", &record->prompt);
}

static int read_ranking(const struct reading *reading, struct pf_record *record)
{
	if (read_completions(reading, 2, record) || read_scores(reading, record))
		return PF_E_DATA;
	return read_weight(reading, &record->weight);
}

/* A list of one number for each completion, which may be missing */
static int read_numbers(const struct reading *reading, const char *name, unsigned count, float *number)
{
	json_t *list = member(reading, name);

	if (!list)
		return 0;
	if (!json_is_array(list) || json_array_size(list) != count)
		return fail_field(reading, "field \"%s\" must be a list of numbers as long as completions", name);
	for (unsigned i = 0; i < count; i++)
		if (take_number(reading, json_array_get(list, i), name, &number[i]))
			return PF_E_DATA;
	return 0;
}

static int read_old(const struct reading *reading, struct pf_record *record)
{
	json_t *list = member(reading, "old_logps");
	float number = 0.0f;

	if (list && (!json_is_array(list) || json_array_size(list) != record->completions))
		return fail_field(reading, "field \"%s\" must be a list as long as completions", "old_logps");
	for (unsigned i = 0; list && i < record->completions; i++) {
		json_t *tokens = json_array_get(list, i);

		if (!json_is_array(tokens))
			return fail_field(reading, "field \"%s\" must hold a list of log-probs for each completion",
			                  "old_logps");
		for (size_t t = 0; t < json_array_size(tokens); t++)
			if (take_number(reading, json_array_get(tokens, t), "old_logps", &number))
				return PF_E_DATA;
			else if (!(number <= 0 && number > -1e6f))
				return fail_field(reading, "field \"%s\" holds %g, which is no log-prob", "old_logps",
				                  (double)number);
		record->old[i] = tokens;
	}
	return 0;
}

static int read_group(const struct reading *reading, struct pf_record *record)
{
	for (unsigned i = 0; i < PF_COMPLETIONS_MAX; i++)
		record->advantage[i] = NAN;
	if (read_completions(reading, 1, record) ||
	    read_numbers(reading, "rewards", record->completions, record->score) ||
	    read_numbers(reading, "advantages", record->completions, record->advantage) || read_old(reading, record))
		return PF_E_DATA;
	if (!has(reading, "rewards") && !has(reading, "advantages"))
		return fail_field(reading, "field \"%s\" is missing, and so are advantages", "rewards");
	return read_weight(reading, &record->weight);
}

/* ---- a line ---- */

static int find_form(const struct reading *reading, enum pf_record_form *form)
{
	if (has(reading, "completions"))
		*form = has(reading, "rewards") || has(reading, "advantages") ? PF_RECORD_GROUPS : PF_RECORD_RANKINGS;
	else if (has(reading, "chosen") || has(reading, "rejected"))
		*form = PF_RECORD_PAIRS;
	else if (has(reading, "completion") && has(reading, "label"))
		*form = PF_RECORD_BINARY;
	else if (has(reading, "completion") || has(reading, "text"))
		*form = PF_RECORD_SFT;
	else
		return fail_field(reading,
		                  "no known form: a record has prompt, chosen, rejected, or chosen, rejected, or "
		                  "prompt, completion, label, or prompt, completion, or text, or messages, or prompt, "
		                  "completions");
	return 0;
}

static int read_form(const struct reading *reading, const char *marker, struct pf_record *record)
{
	if (record->form == PF_RECORD_AUTO && find_form(reading, &record->form))
		return PF_E_DATA;
	switch (record->form) {
	case PF_RECORD_PAIRS:
		return read_pair(reading, marker, record);
	case PF_RECORD_SFT:
		return read_sft(reading, record);
	case PF_RECORD_RANKINGS:
		return read_ranking(reading, record);
	case PF_RECORD_GROUPS:
		return read_group(reading, record);
	default:
		return read_single(reading, record);
	}
}

static int fail_json(const char *text, size_t length, const json_error_t *json, struct pf_error *error)
{
	if (json_error_code(json) == json_error_out_of_memory)
		return pf_fail(error, -ENOMEM, "out of memory");
	if (memchr(text, 0, length))
		return pf_fail(error, PF_E_FORMAT, "holds a NUL byte; is this a text file in UTF-8?");
	if (json_error_code(json) == json_error_invalid_utf8)
		return pf_fail(error, PF_E_FORMAT, "not valid UTF-8 at byte %d; convert the file with iconv",
		               json->position);
	if (json_error_code(json) == json_error_premature_end_of_input)
		return pf_fail(error, PF_E_FORMAT,
		               "the JSON object is not complete on this line; a record must be one line");
	return pf_fail(error, PF_E_FORMAT, "broken JSON at column %d: %s", json->column, json->text);
}

int pf_record_read(const char *text, size_t length, enum pf_record_form form, const char *marker, enum pf_chat chat,
                   struct pf_record *record, enum pf_fault *fault, struct pf_error *error)
{
	json_error_t problem;
	struct reading reading = { json_loadb(text, length, JSON_REJECT_DUPLICATES, &problem), fault, error };
	int status;

	memset(record, 0, sizeof *record);
	record->form = form;
	record->weight = 1;
	record->desirable = 1;
	record->json = reading.json;
	*fault = PF_FAULT_NONE;
	if (!reading.json) {
		status = fail_json(text, length, &problem, error);
		*fault = status == -ENOMEM ? PF_FAULT_NONE : PF_FAULT_JSON;
		return status;
	}
	if (json_is_object(reading.json))
		status = pf_messages_resolve(reading.json, chat, fault, error);
	else
		status = fail_field(&reading, "a record must be a JSON object, this is %s", type_name(reading.json));
	if (!status)
		status = read_form(&reading, marker, record);
	if (status)
		pf_record_free(record);
	return status;
}

void pf_record_free(struct pf_record *record)
{
	json_decref(record->json);
	record->json = NULL;
}

unsigned pf_record_best(const struct pf_record *record)
{
	unsigned best = 0;

	const int ranked = record->form == PF_RECORD_RANKINGS || record->form == PF_RECORD_GROUPS;

	for (unsigned i = 1; i < record->completions && ranked; i++)
		if (record->score[i] > record->score[best])
			best = i;
	return best;
}

size_t pf_record_old_count(const struct pf_record *record, unsigned i)
{
	return json_array_size(record->old[i]);
}

double pf_record_old(const struct pf_record *record, unsigned i, size_t t)
{
	return json_number_value(json_array_get(record->old[i], t));
}
