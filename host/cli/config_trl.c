/* What becomes of the keys that are TRL's. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "config_inside.h"
#include "prefpga/loss.h"

static const char yes[] = "true|1|yes|on", no[] = "false|0|no|off";

static void take_warmup(struct pf_config_state *s, size_t i, const char *value)
{
	const double number = strtod(value, NULL);

	if (number > 0.0 && number < 1.0)
		pf_config_take(s, i, PF_OPTION_warmup_ratio, value);
	else if (number == 0.0 && pf_config_has_key(s, "warmup_ratio"))
		pf_config_judged(s, i, PF_CONFIG_IGNORED, "0: warmup_ratio decides");
	else
		pf_config_take(s, i, PF_OPTION_warmup_steps, value);
}

static void take_schedule(struct pf_config_state *s, size_t i, const char *value)
{
	static const char *const known[] = { "linear", "cosine", "constant" };

	for (size_t k = 0; k < sizeof known / sizeof *known; k++)
		if (strcmp(value, known[k]) == 0) {
			pf_config_take(s, i, PF_OPTION_schedule, known[k]);
			s->constant = k == 2 ? i + 1 : 0;
			return;
		}
	if (strcmp(value, "constant_with_warmup") == 0)
		pf_config_take(s, i, PF_OPTION_schedule, known[2]);
	else
		pf_config_wrong(
		    s, i,
		    "lr_scheduler_type: %.60s is not supported; linear, cosine, constant and constant_with_warmup are",
		    value);
}

static void take_dataset(struct pf_config_state *s, size_t i, const struct pf_trl_row *row,
                         const struct pf_mapping_entry *e)
{
	if (e->kind == PF_MAPPING_SCALAR && !strchr(e->value, ',') && access(e->value, R_OK) != 0)
		pf_config_judged(s, i, PF_CONFIG_IGNORED, row->text);
	else
		pf_config_take(s, i, pf_config_option(s, row->target), e->value);
}

/* 1: true, 0: false, -1: neither, which is then wrong */
static int on_or_off(struct pf_config_state *s, size_t i, const struct pf_trl_row *row, const char *value)
{
	if (pf_trl_allows(yes, value))
		return 1;
	if (pf_trl_allows(no, value))
		return 0;
	pf_config_wrong(s, i, "%s: \"%.60s\" is not true or false%s%s", row->key, value,
	                row->action == PF_TRL_RESUME ? ": " : "", row->action == PF_TRL_RESUME ? row->text : "");
	return -1;
}

static void take_switch(struct pf_config_state *s, size_t i, const struct pf_trl_row *row, const char *value)
{
	const int on = on_or_off(s, i, row, value);
	char flag[32];

	snprintf(flag, sizeof flag, "%.*s", (int)strcspn(row->target, "="), row->target);
	if (on >= 0 && row->action == PF_TRL_RESUME)
		pf_config_take(s, i, pf_config_option(s, flag), on ? "1" : "0");
	else if (on > 0)
		pf_config_take(s, i, pf_config_option(s, flag), strchr(row->target, '=') + 1);
	else if (on == 0)
		pf_config_judged(s, i, PF_CONFIG_IGNORED, row->text);
}

static const struct pf_mapping_entry *entry_with(const struct pf_config_state *s, const char *key)
{
	for (size_t i = 0; i < s->config->map.count; i++)
		if (strcmp(s->config->map.entry[i].key, key) == 0 && s->config->map.entry[i].kind == PF_MAPPING_SCALAR)
			return &s->config->map.entry[i];
	return NULL;
}

/* Whether an adapter is trained, so that what the file says of it counts */
static int has_adapter(const struct pf_config_state *s)
{
	const struct pf_mapping_entry *peft = entry_with(s, "use_peft"), *rank = entry_with(s, "lora");

	return (peft && pf_trl_allows(yes, peft->value)) || (rank && strcmp(rank->value, "0") != 0) ||
	       s->options->source[PF_OPTION_lora] == PF_FROM_FLAG;
}

/* TRL's own rank and alpha stand for those that the file does not give */
static void take_peft(struct pf_config_state *s, size_t i, const struct pf_trl_row *row, const char *value)
{
	const int on = on_or_off(s, i, row, value);

	if (on == 0)
		pf_config_judged(s, i, PF_CONFIG_IGNORED, row->text);
	if (on != 1)
		return;
	if (entry_with(s, "lora_r") || entry_with(s, "lora"))
		pf_config_judged(s, i, PF_CONFIG_IGNORED, "true: the file gives the rank");
	else
		pf_config_take(s, i, PF_OPTION_lora, "16");
	if (!entry_with(s, "lora_alpha") && !entry_with(s, "lora-alpha") &&
	    !pf_config_has_flag(s->options, PF_OPTION_lora_alpha))
		pf_options_take(s->options, PF_OPTION_lora_alpha, "32", PF_FROM_FILE, NULL);
}

static void take_part(struct pf_config_state *s, size_t i, const struct pf_trl_row *row, const char *value)
{
	struct pf_trl_loss *l = &s->loss;
	const int likelihood = row->action == PF_TRL_LOSSES && strcmp(s->options->verb, "sft") == 0;

	if (likelihood && strcmp(value, "dft") == 0) {
		pf_config_take(s, i, PF_OPTION_sft_loss, value);
		return;
	}
	if (likelihood && !pf_trl_allows("nll|chunked_nll", value) && !pf_loss_find(value) && !strchr(value, ',')) {
		pf_config_wrong(s, i, "loss_type: %.60s is not supported; sft is plain likelihood", value);
		return;
	}
	if (!pf_option_belongs(&pf_option_rows[PF_OPTION_loss], s->options->verb)) {
		pf_config_judged(s, i, PF_CONFIG_PASSED, value)->option = PF_OPTION_loss;
		return;
	}
	pf_config_judged(s, i, PF_CONFIG_LOSS, value)->option = PF_OPTION_loss;
	s->part[s->parts++] = i;
	switch (row->action) {
	case PF_TRL_LOSSES:
		l->types = value;
		break;
	case PF_TRL_WEIGHTS:
		l->weights = value;
		break;
	case PF_TRL_DIVERGENCE:
		l->divergence = value;
		break;
	case PF_TRL_WEIGHTING:
		l->weighting = pf_trl_allows(yes, value);
		break;
	case PF_TRL_RPO:
		l->rpo = value;
		break;
	default:
		l->param[l->params].key = row->key;
		l->param[l->params++].value = value;
	}
}

void pf_config_trl(struct pf_config_state *s, size_t i, const struct pf_trl_row *row)
{
	const struct pf_mapping_entry *e = &s->config->map.entry[i];

	if (*row->verbs && !strstr(row->verbs, s->options->verb)) {
		pf_config_judged(s, i, PF_CONFIG_PASSED, e->value);
		return;
	}
	switch (row->action) {
	case PF_TRL_TAKE:
		pf_config_take(s, i, pf_config_option(s, row->target), e->value);
		break;
	case PF_TRL_COUNT:
		if (pf_trl_allows("-1|0", e->value))
			pf_config_judged(s, i, PF_CONFIG_EMPTY, "");
		else
			pf_config_take(s, i, pf_config_option(s, row->target), e->value);
		break;
	case PF_TRL_WARMUP:
		take_warmup(s, i, e->value);
		break;
	case PF_TRL_SCHEDULE:
		take_schedule(s, i, e->value);
		break;
	case PF_TRL_DATASET:
		take_dataset(s, i, row, e);
		break;
	case PF_TRL_SWITCH:
	case PF_TRL_RESUME:
		take_switch(s, i, row, e->value);
		break;
	case PF_TRL_PEFT:
		take_peft(s, i, row, e->value);
		break;
	case PF_TRL_ADAPTER:
		if (has_adapter(s))
			pf_config_take(s, i, pf_config_option(s, row->target), e->value);
		else
			pf_config_judged(s, i, PF_CONFIG_IGNORED, row->text);
		break;
	case PF_TRL_NEVER:
		s->never = pf_trl_allows("no|false", e->value) ? i + 1 : 0;
		pf_config_judged(s, i, PF_CONFIG_IGNORED, row->text);
		break;
	case PF_TRL_ONLY:
		if (e->kind == PF_MAPPING_NESTED || !pf_trl_allows(row->target, e->value))
			pf_config_wrong(s, i, "%s: %.60s is not supported: %s", e->key, *e->value ? e->value : "this",
			                row->text);
		else
			pf_config_judged(s, i, PF_CONFIG_IGNORED, "as it is here anyway");
		break;
	case PF_TRL_IGNORE:
		pf_config_judged(s, i, PF_CONFIG_IGNORED, row->text);
		break;
	default:
		take_part(s, i, row, e->value);
	}
}
