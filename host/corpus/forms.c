#include "forms.h"
#include <errno.h>
#include <math.h>
#include <string.h>
#include "fields.h"
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

/* ---- forms ---- */

/* Chosen and rejected hold whole conversations: moves their common beginning to the prompt */
static int split_prompt(const struct pf_fields *reading, const char *marker, struct pf_record *record)
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

static int check_pair(const struct pf_fields *reading, const struct pf_record *record)
{
	const struct pf_text *chosen = &record->completion[0], *rejected = &record->completion[1];

	if (!chosen->length)
		return pf_field_empty(reading, "chosen");
	if (!rejected->length)
		return pf_field_empty(reading, "rejected");
	if (!same_text(*chosen, *rejected))
		return 0;
	*reading->fault = PF_FAULT_IDENTICAL;
	return pf_fail(reading->error, PF_E_DATA, "chosen and rejected are the same: there is nothing to prefer");
}

static int read_pair(const struct pf_fields *reading, const char *marker, struct pf_record *record)
{
	record->completions = 2;
	if (pf_field_text(reading, "chosen", &record->completion[0]) ||
	    pf_field_text(reading, "rejected", &record->completion[1]) ||
	    pf_field_number(reading, "score_chosen", &record->score[0]) ||
	    pf_field_number(reading, "score_rejected", &record->score[1]) ||
	    pf_field_number(reading, "margin", &record->margin) || pf_field_weight(reading, &record->weight))
		return PF_E_DATA;
	if (pf_field_has(reading, "prompt")) {
		if (pf_field_text(reading, "prompt", &record->prompt))
			return PF_E_DATA;
	} else if (!same_text(record->completion[0], record->completion[1])) {
		if (split_prompt(reading, marker, record))
			return PF_E_DATA;
	}
	return check_pair(reading, record);
}

static int read_single(const struct pf_fields *reading, struct pf_record *record)
{
	record->completions = 1;
	if (pf_field_text(reading, "prompt", &record->prompt) ||
	    pf_field_text(reading, "completion", &record->completion[0]) ||
	    pf_field_weight(reading, &record->weight))
		return PF_E_DATA;
	if (!record->completion[0].length)
		return pf_field_empty(reading, "completion");
	return record->form == PF_RECORD_BINARY ? pf_field_label(reading, &record->desirable) : 0;
}

static int read_sft(const struct pf_fields *reading, struct pf_record *record)
{
	if (pf_field_has(reading, "completion") || !pf_field_has(reading, "text"))
		return read_single(reading, record);
	record->completions = 1;
	if (pf_field_text(reading, "text", &record->completion[0]) || pf_field_weight(reading, &record->weight))
		return PF_E_DATA;
	record->prompt = (struct pf_text){ "", 0 };
	return record->completion[0].length ? 0 : pf_field_empty(reading, "text");
}

static int read_scores(const struct pf_fields *reading, struct pf_record *record)
{
	json_t *scores = pf_field(reading, "scores");

	if (scores && (!json_is_array(scores) || json_array_size(scores) != record->completions))
		return pf_field_fail(reading, "field \"%s\" must be a list of numbers as long as completions",
		                     "scores");
	for (unsigned i = 0; i < record->completions; i++) {
		record->score[i] = (float)(record->completions - i);
		if (scores && pf_field_take_number(reading, json_array_get(scores, i), "scores", &record->score[i]))
			return PF_E_DATA;
	}
	return 0;
}

static int read_completions(const struct pf_fields *reading, size_t least, struct pf_record *record)
{
	json_t *list = pf_field(reading, "completions");
	size_t count = json_array_size(list);

	if (!json_is_array(list) || count < least || count > PF_COMPLETIONS_MAX)
		return pf_field_fail(reading, "field \"%s\" must be a list of %zu to 64 strings", "completions", least);
	record->completions = (unsigned)count;
	for (unsigned i = 0; i < count; i++) {
		if (pf_field_take_text(reading, json_array_get(list, i), "completions", &record->completion[i]))
			return PF_E_DATA;
		if (!record->completion[i].length)
			return pf_field_empty(reading, "completions");
	}
	return pf_field_text(reading, "prompt", &record->prompt);
}

static int read_ranking(const struct pf_fields *reading, struct pf_record *record)
{
	if (read_completions(reading, 2, record) || read_scores(reading, record))
		return PF_E_DATA;
	return pf_field_weight(reading, &record->weight);
}

/* A list of one number for each completion, which may be missing */
static int read_numbers(const struct pf_fields *reading, const char *name, unsigned count, float *number)
{
	json_t *list = pf_field(reading, name);

	if (!list)
		return 0;
	if (!json_is_array(list) || json_array_size(list) != count)
		return pf_field_fail(reading, "field \"%s\" must be a list of numbers as long as completions", name);
	for (unsigned i = 0; i < count; i++)
		if (pf_field_take_number(reading, json_array_get(list, i), name, &number[i]))
			return PF_E_DATA;
	return 0;
}

static int read_old(const struct pf_fields *reading, struct pf_record *record)
{
	json_t *list = pf_field(reading, "old_logps");
	float number = 0.0f;

	if (list && (!json_is_array(list) || json_array_size(list) != record->completions))
		return pf_field_fail(reading, "field \"%s\" must be a list as long as completions", "old_logps");
	for (unsigned i = 0; list && i < record->completions; i++) {
		json_t *tokens = json_array_get(list, i);

		if (!json_is_array(tokens))
			return pf_field_fail(reading, "field \"%s\" must hold a list of log-probs for each completion",
			                  "old_logps");
		for (size_t t = 0; t < json_array_size(tokens); t++)
			if (pf_field_take_number(reading, json_array_get(tokens, t), "old_logps", &number))
				return PF_E_DATA;
			else if (!(number <= 0 && number > -1e6f))
				return pf_field_fail(reading, "field \"%s\" holds %g, which is no log-prob",
				                     "old_logps", (double)number);
		record->old[i] = tokens;
	}
	return 0;
}

static int read_group(const struct pf_fields *reading, struct pf_record *record)
{
	for (unsigned i = 0; i < PF_COMPLETIONS_MAX; i++)
		record->advantage[i] = NAN;
	if (read_completions(reading, 1, record) ||
	    read_numbers(reading, "rewards", record->completions, record->score) ||
	    read_numbers(reading, "advantages", record->completions, record->advantage) || read_old(reading, record))
		return PF_E_DATA;
	if (!pf_field_has(reading, "rewards") && !pf_field_has(reading, "advantages"))
		return pf_field_fail(reading, "field \"%s\" is missing, and so are advantages", "rewards");
	return pf_field_weight(reading, &record->weight);
}

/* ---- a line ---- */

static int find_form(const struct pf_fields *reading, enum pf_record_form *form)
{
	if (pf_field_has(reading, "completions"))
		*form = pf_field_has(reading, "rewards") || pf_field_has(reading, "advantages") ? PF_RECORD_GROUPS
		                                                                                : PF_RECORD_RANKINGS;
	else if (pf_field_has(reading, "chosen") || pf_field_has(reading, "rejected"))
		*form = PF_RECORD_PAIRS;
	else if (pf_field_has(reading, "completion") && pf_field_has(reading, "label"))
		*form = PF_RECORD_BINARY;
	else if (pf_field_has(reading, "completion") || pf_field_has(reading, "text"))
		*form = PF_RECORD_SFT;
	else
		return pf_field_fail(reading,
		                  "no known form: a record has prompt, chosen, rejected, or chosen, rejected, or "
		                  "prompt, completion, label, or prompt, completion, or text, or messages, or prompt, "
		                  "completions");
	return 0;
}

static int read_form(const struct pf_fields *reading, const char *marker, struct pf_record *record)
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
	struct pf_fields reading = { json_loadb(text, length, JSON_REJECT_DUPLICATES, &problem), fault, error };
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
		status = pf_field_fail(&reading, "a record must be a JSON object, this is %s",
		                       pf_json_type(reading.json));
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
