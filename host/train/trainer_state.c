#include "trainer_state.h"
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

static json_t *state_json(const struct pf_checkpoint *c)
{
	json_t *facts = json_object();
	for (size_t i = 0; i < c->facts; i++)
		json_object_set_new(facts, c->fact[i].key, json_string(c->fact[i].value));
	return json_pack("{s:i, s:I, s:I, s:{s:f, s:f}, s:o}", "version", 1, "step", (json_int_t)c->step,
	                 "log_position", (json_int_t)c->log_position, "loss_state", "mean", c->loss.mean, "count",
	                 c->loss.count, "facts", facts);
}

char *pf_trainer_state_text(const struct pf_checkpoint *checkpoint)
{
	json_t *json = state_json(checkpoint);
	char *text = json ? json_dumps(json, JSON_INDENT(2) | JSON_SORT_KEYS) : NULL;
	json_decref(json);
	return text;
}

/* The differences found so far */
struct refusal {
	int  count;
	char first[512];
};

static void compare_fact(const struct pf_fact *now, const json_t *facts, const struct pf_state_compare *compare,
                         struct refusal *refusal)
{
	const char *saved = json_string_value(json_object_get(facts, now->key));
	char text[512];
	if (saved && strcmp(saved, now->value) == 0)
		return;
	snprintf(text, sizeof text, "%s: \"%s\" in the checkpoint, \"%s\" now", now->key, saved ? saved : "",
	         now->value);
	if (compare->note)
		compare->note(compare->context, text);
	if ((now->bound || compare->exact) && !refusal->count++)
		memcpy(refusal->first, text, sizeof refusal->first);
}

static int read_root(const json_t *json, const char *where, const struct pf_state_compare *compare,
                     struct pf_checkpoint *c, struct pf_error *error)
{
	struct refusal refusal = { 0 };
	json_int_t version, step, position;
	json_t *facts;
	if (json_unpack((json_t *)json, "{s:I, s:I, s:I, s:{s:F, s:F}, s:o}", "version", &version, "step", &step,
	                "log_position", &position, "loss_state", "mean", &c->loss.mean, "count", &c->loss.count,
	                "facts", &facts) != 0 ||
	    version != 1 || step < 0 || position < 0 || !json_is_object(facts) || !isfinite(c->loss.mean) ||
	    !(c->loss.count >= 0.0))
		return pf_fail(error, PF_E_FORMAT,
		               "%s: not the state of a training run", where);
	c->step = (uint64_t)step;
	c->log_position = position;
	for (size_t i = 0; i < c->facts; i++)
		compare_fact(&c->fact[i], facts, compare, &refusal);
	if (refusal.count)
		return pf_fail(error, PF_E_MISMATCH, "%s: %s; %s", where, refusal.first,
		               compare->exact ? "leave out --exact to go on all the same"
		                              : "that would be another run: choose another --out");
	return 0;
}

int pf_trainer_state_parse(const char *text, size_t bytes, const char *where, const struct pf_state_compare *compare,
                           struct pf_checkpoint *checkpoint, struct pf_error *error)
{
	json_error_t fault;
	json_t *json = json_loadb(text, bytes, JSON_REJECT_DUPLICATES, &fault);
	if (!json)
		return pf_fail(error, PF_E_FORMAT, "%s:%d: %s", where, fault.line,
		               fault.text);
	int code = read_root(json, where, compare, checkpoint, error);
	json_decref(json);
	return code;
}
