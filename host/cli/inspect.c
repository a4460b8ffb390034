/* Verb inspect: what is in preference data, and which losses can be trained with it. */
#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include "host/corpus/survey.h"
#include "progress.h"
#include "setup.h"

/* ---- which losses fit ---- */

static int fits(enum pf_record_form form, enum pf_loss_form loss)
{
	switch (loss) {
	case PF_FORM_TOKENS:  return form != PF_RECORD_AUTO;
	case PF_FORM_BINARY:  return form == PF_RECORD_BINARY || form == PF_RECORD_PAIRS;
	case PF_FORM_LIST:    return form == PF_RECORD_RANKINGS || form == PF_RECORD_PAIRS || form == PF_RECORD_GROUPS;
	case PF_FORM_ROLLOUT: return form == PF_RECORD_GROUPS || form == PF_RECORD_RANKINGS;
	default:              return form == PF_RECORD_PAIRS;
	}
}

static json_t *fitting(enum pf_record_form form)
{
	const struct pf_loss_row *row;
	json_t *list = json_array();
	for (unsigned i = 0; (row = pf_loss_row(i)) != NULL; i++)
		if (fits(form, row->form))
			json_array_append_new(list, json_string(row->name));
	return list;
}

/* ---- one survey as JSON ---- */

static json_t *lengths_json(const struct pf_lengths *l)
{
	if (!l->count)
		return json_null();
	return json_pack("{s:I, s:f, s:I, s:I, s:I, s:I, s:I}", "count", (json_int_t)l->count, "mean",
	                 (double)l->sum / (double)l->count, "least", (json_int_t)l->least, "median",
	                 (json_int_t)pf_lengths_quantile(l, 0.5), "p90", (json_int_t)pf_lengths_quantile(l, 0.9), "p99",
	                 (json_int_t)pf_lengths_quantile(l, 0.99), "most", (json_int_t)l->most);
}

static void put_sighting(json_t *list, const char *text, const struct pf_sighting *s)
{
	if (s->count)
		json_array_append_new(list, json_pack("{s:s, s:I, s:s}", "what", text, "count", (json_int_t)s->count,
		                                      "first", s->first));
}

static json_t *survey_json(const struct pf_survey *s, const char *paths, const char *unit)
{
	json_t *forms = json_object(), *faults = json_array(), *problems = json_array();
	for (int f = PF_RECORD_AUTO + 1; f <= PF_RECORD_GROUPS; f++)
		if (s->form[f])
			json_object_set_new(forms, pf_record_form_name((enum pf_record_form)f),
			                    json_integer((json_int_t)s->form[f]));
	for (int f = 1; f < PF_FAULT_COUNT; f++)
		put_sighting(faults, pf_fault_text((enum pf_fault)f), &s->fault[f]);
	for (int p = 0; p < PF_PROBLEM_COUNT; p++)
		put_sighting(problems, pf_problem_text((enum pf_problem)p), &s->problem[p]);
	json_t *json =
		json_pack("{s:s, s:I, s:o, s:o, s:o, s:b, s:s, s:{s:o, s:o, s:o}}", "files", paths, "records",
	                  (json_int_t)s->lines, "forms", forms, "faults", faults, "problems", problems, "estimates",
	                  pf_survey_estimates(s), "unit", unit, "lengths", "prompt", lengths_json(&s->prompt), "chosen",
	                  lengths_json(&s->chosen), "rejected", lengths_json(&s->rejected));
	if (s->form[PF_RECORD_BINARY])
		json_object_set_new(json, "labels",
		                    json_pack("{s:I, s:I}", "desirable", (json_int_t)s->desirable, "undesirable",
		                              (json_int_t)s->undesirable));
	if (s->form[PF_RECORD_PAIRS])
		json_object_set_new(json, "pairs",
		                    json_pack("{s:I, s:I, s:I}", "chosen_longer", (json_int_t)s->longer,
		                              "chosen_shorter", (json_int_t)s->shorter, "with_scores",
		                              (json_int_t)s->scored));
	if (s->most)
		json_object_set_new(json, "completions", json_pack("{s:I, s:I}", "least", (json_int_t)s->least, "most",
		                                                   (json_int_t)s->most));
	json_object_set_new(json, "losses", fitting(pf_survey_form(s)));
	return json;
}

/* ---- and as text ---- */

static void print_lengths(const char *name, const struct pf_lengths *l, const char *unit)
{
	if (l->count)
		printf("  %-9s %8.1f %s on average, median %" PRIu64 ", 90 %% up to %" PRIu64 ", 99 %% up to %" PRIu64
		       ", longest %" PRIu64 "\n",
		       name, (double)l->sum / (double)l->count, unit, pf_lengths_quantile(l, 0.5),
		       pf_lengths_quantile(l, 0.9), pf_lengths_quantile(l, 0.99), l->most);
}

static void print_sighting(const char *text, const struct pf_sighting *s, const char *about)
{
	if (s->count)
		printf("  %s%" PRIu64 " %s (first: %s)\n", about, s->count, text, s->first);
}

static void print_balance(const struct pf_survey *s)
{
	const uint64_t labels = s->desirable + s->undesirable, pairs = s->form[PF_RECORD_PAIRS];
	if (labels)
		printf("labels: %.1f %% desirable%s\n", 100.0 * (double)s->desirable / (double)labels,
		       s->desirable && s->undesirable ? "" : ", so a side is missing: KTO and BCO compare both");
	if (labels && s->desirable && s->undesirable &&
	    (s->desirable * 3 > s->undesirable * 4 || s->desirable < s->undesirable))
		printf("        kto wants desirable_weight x desirable / (undesirable_weight x undesirable) within [1, "
		       "4/3]: "
		       "kto:undesirable_weight=%.3g\n",
		       (double)s->desirable / (double)s->undesirable);
	if (pairs)
		printf("pairs: chosen is longer in %.1f %%, shorter in %.1f %%\n",
		       100.0 * (double)s->longer / (double)pairs, 100.0 * (double)s->shorter / (double)pairs);
	if (s->most)
		printf("completions of a record: %" PRIu64 " to %" PRIu64 "\n", s->least, s->most);
}

static void print_losses(const struct pf_survey *s)
{
	json_t *list = fitting(pf_survey_form(s)), *name;
	size_t i, column = (size_t)printf("losses that fit:");
	json_array_foreach(list, i, name) {
		if (column + 1 + json_string_length(name) > 100)
			column = (size_t)printf("\n                ") - 1;
		column += (size_t)printf(" %s", json_string_value(name));
	}
	printf("%s\n", json_array_size(list) ? "" : " none");
	json_decref(list);
}

static void print_survey(const struct pf_survey *s, const char *paths, const char *unit)
{
	const char *about = pf_survey_estimates(s) ? "about " : "";
	printf("%s: %" PRIu64 " records", paths, s->lines);
	for (int f = PF_RECORD_AUTO + 1; f <= PF_RECORD_GROUPS; f++)
		if (s->form[f])
			printf(", %" PRIu64 " %s", s->form[f], pf_record_form_name((enum pf_record_form)f));
	printf("\n%s", s->prompt.count || s->chosen.count ? "lengths:\n" : "");
	print_lengths("prompt", &s->prompt, unit);
	print_lengths("chosen", &s->chosen, unit);
	print_lengths("rejected", &s->rejected, unit);
	print_balance(s);
	for (int f = 1; f < PF_FAULT_COUNT; f++)
		if (s->fault[f].count) {
			printf("faults (--bad-rows drop leaves these records out):\n");
			break;
		}
	for (int f = 1; f < PF_FAULT_COUNT; f++)
		print_sighting(pf_fault_text((enum pf_fault)f), &s->fault[f], "");
	for (int p = 0; p < PF_PROBLEM_COUNT; p++)
		if (s->problem[p].count) {
			printf("worth a look, with --max-length %u:\n", s->options.max_length);
			break;
		}
	for (int p = 0; p < PF_PROBLEM_COUNT; p++)
		print_sighting(pf_problem_text((enum pf_problem)p), &s->problem[p],
		               p <= PF_PROBLEM_OVERTURNED ? about : "");
	print_losses(s);
}

/* ---- the verb ---- */

static int show_reading(void *context, uint64_t done, uint64_t total)
{
	struct pf_progress *progress = context;
	progress->total = total >> 20;
	if (progress->total > 32)
		pf_progress_show(progress, done >> 20, "");
	return *pf_setup_stop();
}

/* Without a word about it, ChatML: it has a place for every role, and counts change little from template to template */
static enum pf_chat chat_of(const struct pf_options *o, const struct pf_tokenizer *tokenizer)
{
	const enum pf_chat named = (enum pf_chat)pf_chat_find(o->chat_template);
	if (named != PF_CHAT_UNKNOWN)
		return named;
	return tokenizer && tokenizer->chat != PF_CHAT_UNKNOWN ? tokenizer->chat : PF_CHAT_CHATML;
}

static int read_all(const struct pf_options *o, const struct pf_tokenizer *tokenizer, struct pf_survey survey[2],
                    struct pf_error *error)
{
	const struct pf_survey_options options = { .form = (enum pf_record_form)pf_record_form_find(o->form),
		.marker = o->role_marker, .chat = chat_of(o, tokenizer), .tokenizer = tokenizer,
		.max_length = (uint32_t)o->max_length, .cache = o->cache };
	const char *const paths[2] = { o->data, o->eval_data };
	struct pf_progress progress;
	int code = 0;
	for (int i = 0; i < 2 && !code; i++) {
		code = pf_survey_open(&options, &survey[i], error);
		pf_progress_start(&progress, stderr, "read MiB", 0, 0);
		if (!code && paths[i])
			code = pf_survey_read(&survey[i], paths[i], i ? &survey[0] : NULL, show_reading, &progress,
			                      error);
		if (progress.shown_ns)
			pf_progress_finish(&progress, progress.total, "");
	}
	return code;
}

static int check_records(const struct pf_survey *s, const char *paths, struct pf_error *error)
{
	static const char record[] =
		"a record is one JSON object a line, such as {\"prompt\": .., \"chosen\": .., \"rejected\": ..}";
	if (!s->lines)
		return pf_fail(error, PF_E_DATA, "%s: no record in it; %s", paths, record);
	return pf_survey_form(s) != PF_RECORD_AUTO
	               ? 0
	               : pf_fail(error, PF_E_DATA, "%s: none of its %" PRIu64 " lines is a record; %s", paths,
	                         s->lines, record);
}

int pf_verb_inspect(const struct pf_options *o)
{
	struct pf_survey *survey = calloc(2, sizeof *survey);
	struct pf_error error = { 0 };
	const struct pf_tokenizer *tokenizer = NULL;
	const int bytes = strcmp(o->tokenizer, "bytes") == 0;
	const char *unit = bytes ? "bytes" : "tokens";
	int code = !survey ? pf_fail(&error, -ENOMEM, "no memory for a survey")
	           : !o->data ? pf_fail(&error, PF_E_ARGUMENT, "--data is missing: a JSONL file of examples")
	           : bytes    ? 0 : pf_tokenizer_open(o->tokenizer, &tokenizer, &error);
	if (!code)
		code = read_all(o, tokenizer, survey, &error);
	if (!code && strcmp(o->format, "json") == 0) {
		json_t *json = survey_json(&survey[0], o->data, unit);
		if (o->eval_data)
			json_object_set_new(json, "eval", survey_json(&survey[1], o->eval_data, unit));
		json_dumpf(json, stdout, JSON_INDENT(1) | JSON_REAL_PRECISION(9));
		putchar('\n');
		json_decref(json);
	} else if (!code) {
		print_survey(&survey[0], o->data, unit);
		if (o->eval_data)
			print_survey(&survey[1], o->eval_data, unit);
	}
	for (int i = 0; i < 2 && !code; i++)
		if (i ? o->eval_data : o->data)
			code = check_records(&survey[i], i ? o->eval_data : o->data, &error);
	for (int i = 0; i < 2 && survey; i++)
		pf_survey_close(&survey[i]);
	free(survey);
	pf_tokenizer_close(tokenizer);
	return code ? pf_setup_exit(o, &error) : PF_EXIT_OK;
}
