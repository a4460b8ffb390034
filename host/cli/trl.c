#include "trl.h"
#include <ctype.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "prefpga/loss.h"
#include "trl.def"

/* ---- the table ---- */

static const struct pf_trl_row rows[] = {
#define TRL_ROW(key, action, target, verbs, text) { key, PF_TRL_##action, target, verbs, text },
	PF_TRL_KEYS(TRL_ROW)
};
enum { ROWS = sizeof rows / sizeof *rows };

static const struct { const char *flag, *value; } defaults[] = {
#define TRL_DEFAULT(flag, value) { flag, value },
	PF_TRL_DEFAULTS(TRL_DEFAULT)
};

const struct pf_trl_row *pf_trl_row(size_t i)
{
	return i < ROWS ? &rows[i] : NULL;
}

/* Whether the pattern, whose * stands for any end, is `text` after `as` to both */
static int fits(const char *pattern, size_t length, const char *text, int (*as)(int letter))
{
	for (size_t i = 0; i < length; i++) {
		if (pattern[i] == '*')
			return 1;
		if (as(pattern[i]) != as(text[i]))
			return 0;
	}
	return !text[length];
}

static int of_key(int letter)
{
	return letter == '-' ? '_' : letter;
}

const struct pf_trl_row *pf_trl_find(const char *key)
{
	for (size_t i = 0; i < ROWS; i++)
		if (fits(rows[i].key, strlen(rows[i].key), key, of_key))
			return &rows[i];
	return NULL;
}

int pf_trl_default(size_t i, const char **flag, const char **value)
{
	if (i >= sizeof defaults / sizeof *defaults)
		return 0;
	*flag = defaults[i].flag;
	*value = defaults[i].value;
	return 1;
}

const char *pf_trl_flag(const char *name)
{
	const struct pf_trl_row *row = pf_trl_find(name);

	return row && row->action == PF_TRL_TAKE ? row->target : "";
}

const char *pf_trl_name(const char *flag)
{
	for (size_t i = 0; i < ROWS; i++)
		if ((rows[i].action == PF_TRL_TAKE || rows[i].action == PF_TRL_COUNT ||
		     rows[i].action == PF_TRL_SCHEDULE || rows[i].action == PF_TRL_DATASET ||
		     rows[i].action == PF_TRL_ADAPTER) &&
		    strcmp(rows[i].target, flag) == 0)
			return rows[i].key;
	return NULL;
}

int pf_trl_allows(const char *list, const char *text)
{
	while (*list) {
		const size_t length = strcspn(list, "|");

		if (fits(list, length, text, tolower))
			return 1;
		list += length + (list[length] != 0);
	}
	return 0;
}

/* ---- the loss ---- */

enum { TEXT_ROOM = 1024, NAME_ROOM = 64 };

struct text { char *at; size_t used; };         /* at[TEXT_ROOM]; used >= TEXT_ROOM: it did not fit */

PF_PRINTF(2, 3) static void put(struct text *t, const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	if (t->used < TEXT_ROOM)
		t->used += (size_t)vsnprintf(t->at + t->used, TEXT_ROOM - t->used, format, arguments);
	va_end(arguments);
}

static int refuse(struct pf_error *error, const char **part, const char *key, const char *text)
{
	if (part)
		*part = key;
	return pf_fail(error, PF_E_ARGUMENT, "%s", text);
}

/* Whether the words of a component ("name:beta=1,...") state `key` */
static int states(const char *component, size_t length, const char *key)
{
	const size_t name = strlen(key);

	for (size_t i = 1; i + name < length; i++)
		if (strchr(":, ", component[i - 1]) && strncmp(component + i, key, name) == 0 &&
		    component[i + name] == '=')
			return 1;
	return 0;
}

static int has_param(const struct pf_loss_row *row, const char *key)
{
	for (unsigned i = 0; i < row->params; i++)
		if (strcmp(row->param[i].name, key) == 0)
			return 1;
	return 0;
}

/* A parameter's text must be a number that the loss takes */
static int check_param(const struct pf_loss_row *row, const char *key, const char *value, const char **part,
                       struct pf_error *error)
{
	struct pf_loss one;
	char *end;
	const double number = strtod(value, &end);
	int code;

	if (part)
		*part = key;
	if (end == value || *end)
		return pf_fail(error, PF_E_ARGUMENT, "\"%.60s\" is not a number", value);
	code = pf_loss_parse(row->name, &one, error);
	return code ? code : pf_loss_set(&one, 0, key, number, error);
}

/* One component with the file's parameters, and TRL's beta if it is one of loss_type */
static int put_component(struct pf_trl_loss *l, struct text *t, const char *component, size_t length, int typed,
                         const char **part, struct pf_error *error)
{
	char name[NAME_ROOM], separator = memchr(component, ':', length) ? ',' : ':';
	const struct pf_loss_row *row;
	int code, beta = states(component, length, "beta");

	snprintf(name, sizeof name, "%.*s", (int)strcspn(component, ":+,"), component);
	row = pf_loss_find(name);
	put(t, "%s%.*s", t->used ? "+" : "", (int)length, component);
	for (unsigned i = 0; row && i < l->params; i++) {
		if (!has_param(row, l->param[i].key) || states(component, length, l->param[i].key))
			continue;
		code = check_param(row, l->param[i].key, l->param[i].value, part, error);
		if (code)
			return code;
		put(t, "%c%s=%s", separator, l->param[i].key, l->param[i].value);
		separator = ',';
		beta |= strcmp(l->param[i].key, "beta") == 0;
		l->param[i].used = 1;
	}
	if (row && typed && !beta && has_param(row, "beta") && row->form != PF_FORM_ROLLOUT)
		put(t, "%cbeta=%s", separator, pf_trl_find("beta")->target);
	return 0;
}

static const char *param_of(const struct pf_trl_loss *l, const char *key)
{
	for (unsigned i = 0; i < l->params; i++)
		if (strcmp(l->param[i].key, key) == 0)
			return l->param[i].value;
	return NULL;
}

/* The same, and it counts as used */
static const char *use_param(struct pf_trl_loss *l, const char *key)
{
	const char *value = param_of(l, key);

	for (unsigned i = 0; i < l->params; i++)
		l->param[i].used |= strcmp(l->param[i].key, key) == 0;
	return value;
}

/* Where one of ld_alpha, f_divergence_type and use_weighting makes a row of its own of sigmoid; NULL: nowhere */
static const char *sigmoid_row(const char *divergence, int weighting, int shortened)
{
	static const char *const kinds[][2] = { { "forward_kl", "fdpo_forward_kl" }, { "js_divergence", "fdpo_js" },
		                                { "alpha_divergence", "fdpo_alpha" } };

	if ((divergence != NULL) + weighting + shortened != 1)
		return NULL;
	for (size_t i = 0; divergence && i < sizeof kinds / sizeof *kinds; i++)
		if (strcmp(divergence, kinds[i][0]) == 0)
			return kinds[i][1];
	return weighting ? "wpo:max_weight=inf" : shortened ? "ld_dpo" : NULL;
}

/* A parameter's text behind a component that takes it as a modifier */
static void put_modifier(struct text *t, const char *key, const char *value)
{
	put(t, "%c%s=%s", strchr(t->at, ':') ? ',' : ':', key, value);
}

/* A loss of loss_type as ld_alpha, f_divergence_type and use_weighting change it */
static void spell(struct pf_trl_loss *l, const char *type, size_t length, struct text *name)
{
	const int sigmoid = length == 7 && strncmp(type, "sigmoid", 7) == 0;
	const int sft = length == 3 && strncmp(type, "sft", 3) == 0;
	const char *divergence = l->divergence && strcmp(l->divergence, "reverse_kl") != 0 ? l->divergence : NULL;
	const char *tail = use_param(l, "ld_alpha");
	const int shortened = tail && strtod(tail, NULL) != 1.0 && strncmp(type, "ld_dpo", 6) != 0;
	const char *row = sigmoid ? sigmoid_row(divergence, l->weighting, shortened) : NULL;

	put(name, "%.*s", row ? (int)strlen(row) : (int)length, row ? row : type);
	if (row || sft)
		return;
	if (divergence)
		put_modifier(name, "f_divergence_type", divergence);
	if (divergence && strcmp(divergence, "alpha_divergence") == 0 && use_param(l, "f_alpha_divergence_coef"))
		put_modifier(name, "f_alpha_divergence_coef", use_param(l, "f_alpha_divergence_coef"));
	if (l->weighting) {
		put_modifier(name, "use_weighting", "1");
		put_modifier(name, "max_weight", "inf");
	}
	if (shortened)
		put_modifier(name, "ld_alpha", tail);
}

static int put_types(struct pf_trl_loss *l, struct text *t, const char *types, const char **part,
		     struct pf_error *error)
{
	const char *weight = l->weights;

	for (const char *type = types; *type;) {
		const size_t length = strcspn(type, ",");
		struct text name = { calloc(1, TEXT_ROOM), 0 };
		int code = name.at ? 0 : pf_fail(error, -ENOMEM, "out of memory");

		if (!code)
			spell(l, type, length, &name);
		if (!code && name.used >= TEXT_ROOM)
			code = refuse(error, part, "loss_type", "the loss is too long");
		if (!code && weight && !*weight)
			code = refuse(error, part, "loss_weights", "there are fewer weights than losses in loss_type");
		if (!code)
			code = put_component(l, t, name.at, strlen(name.at), 1, part, error);
		free(name.at);
		if (code)
			return code;
		if (weight) {
			const int digits = (int)strcspn(weight, ",");

			put(t, "%cweight=%.*s",
			    strchr(strrchr(t->at, '+') ? strrchr(t->at, '+') : t->at, ':') ? ',' : ':', digits, weight);
			weight += digits + (weight[digits] != 0);
		}
		type += length + (type[length] != 0);
	}
	if (weight && *weight)
		return refuse(error, part, "loss_weights", "there are more weights than losses in loss_type");
	if (l->rpo)
		put(t, "+sft:weight=%s", l->rpo);
	return 0;
}

static int put_base(struct pf_trl_loss *l, struct text *t, const char **part, struct pf_error *error)
{
	int code = 0;

	if (strstr(l->base, "expr"))            /* a formula has signs of its own, and its parameters stand in it */
		put(t, "%s", l->base);
	for (const char *at = t->used ? "" : l->base; !code && *at;) {
		const size_t length = strcspn(at, "+");

		code = put_component(l, t, at, length, 0, part, error);
		at += length + (at[length] != 0);
	}
	return code;
}

/* In TRL, simpo carries cpo_alpha x likelihood; leaving it out would be another loss */
static int check_simpo(const struct pf_trl_loss *l, const char *types, const char **part, struct pf_error *error)
{
	const char *alpha = param_of(l, "cpo_alpha");

	if (alpha && strstr(types, "simpo") && strtod(alpha, NULL) != 0.0)
		return refuse(error, part, "cpo_alpha",
				      "simpo has no likelihood term of its own here: say loss_type: [simpo, sft] "
				      "with loss_weights, or cpo_alpha: 0");
	return 0;
}

int pf_trl_compose(struct pf_trl_loss *l, const char *fallback, char **text, const char **part, struct pf_error *error)
{
	const char *types = l->types ? l->types : fallback;
	struct text t = { calloc(1, TEXT_ROOM), 0 };
	struct pf_loss loss;
	int code;

	*text = NULL;
	if (part)
		*part = "loss_type";
	if (!t.at)
		return pf_fail(error, -ENOMEM, "out of memory");
	code = l->base ? put_base(l, &t, part, error) : put_types(l, &t, types, part, error);
	if (!code && t.used >= TEXT_ROOM)
		code = refuse(error, part, "loss_type", "the loss is too long");
	if (!code && !l->base)
		code = check_simpo(l, types, part, error);
	if (!code && part)
		*part = l->weights ? "loss_weights" : "loss_type";
	if (!code && !l->base)
		code = pf_loss_parse(t.at, &loss, error);
	if (code) {
		free(t.at);
		return code;
	}
	*text = t.at;
	return 0;
}
