/* The rows of losses.def, configured losses */
#include "prefpga/loss.h"
#include "loss_modifier.h"
#include "loss_row.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "prefpga/internal/abi.h"
#include "prefpga/internal/losses.def"
#include "prefpga/internal/nearest.h"

/* ---- the table ---- */

enum ends { CLOSED = 0, LOW_OPEN = 1, HIGH_OPEN = 2, OPEN = 3 };
#define PARAM(name, oracle, value, low, high, ends, text) \
	{ name, oracle, value, low, high, (ends)&LOW_OPEN ? 1 : 0, (ends)&HIGH_OPEN ? 1 : 0, text },
#define PARAMS(name, ...) \
	static const struct pf_loss_param params_##name[] = { PF_PARAMS_##name(PARAM){ 0 } };
PF_LOSSES(PARAMS)

enum { PF_SCOPE_GROUP = 0, PF_SCOPE_ITEM = 1, PF_SCOPE_SEQUENCE = 2, PF_SCOPE_TOKEN = 3 };
#define ROW(name, aliases, title, source, form, wants, scope, inputs, value, grad) \
	{ #name, \
	  aliases, \
	  title, \
	  source, \
	  PF_FORM_##form, \
	  PF_LOSS_##wants, \
	  PF_SCOPE_##scope & 1, \
	  PF_SCOPE_##scope >> 1, \
	  inputs, \
	  sizeof params_##name / sizeof *params_##name - 1, \
	  params_##name, \
	  value, \
	  grad },
static const struct pf_loss_row rows[] = { PF_LOSSES(ROW) };

#define COUNTED(name, ...) \
	_Static_assert(sizeof params_##name / sizeof *params_##name - 1 <= PF_PARAMS, #name);
PF_LOSSES(COUNTED)

const struct pf_loss_row *pf_loss_row(unsigned i)
{
	return i < sizeof rows / sizeof *rows ? &rows[i] : NULL;
}

/* The next of the blank-separated words at *at into word[size]; 0 when there is none */
static int next_word(const char **at, char *word, size_t size)
{
	size_t length = strcspn(*at += strspn(*at, " "), " ");

	if (length == 0 || length >= size)
		return 0;
	memcpy(word, *at, length);
	word[length] = '\0';
	*at += length;
	return 1;
}

static int answers(const struct pf_loss_row *row, const char *name)
{
	char word[PF_LOSS_NAME_BYTES];

	if (strcmp(row->name, name) == 0)
		return 1;
	for (const char *at = row->aliases; next_word(&at, word, sizeof word);)
		if (strcmp(word, name) == 0)
			return 1;
	return 0;
}

const struct pf_loss_row *pf_loss_find(const char *name)
{
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
		if (answers(&rows[i], name))
			return &rows[i];
	return NULL;
}

/* Aliases are words inside a row: the row's own name stands for them in suggestions */
const struct pf_loss_row *pf_loss_nearest(const char *name)
{
	const char *best = NULL;
	const struct pf_loss_row *row = NULL;
	char word[PF_LOSS_NAME_BYTES];

	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		const char *before = best;
		pf_name_nearest(name, rows[i].name, &best);
		if (best != before)
			row = &rows[i];
	}
	for (size_t i = 0; i < sizeof rows / sizeof *rows && !row; i++)
		for (const char *at = rows[i].aliases, *found = NULL;
		     !row && next_word(&at, word, sizeof word);) {
			pf_name_nearest(name, word, &found);
			row = found ? &rows[i] : NULL;
		}
	return row;
}

const char *pf_loss_form_name(enum pf_loss_form form)
{
	static const char *const names[] = {
		[PF_FORM_TOKENS] = "tokens", [PF_FORM_PAIR] = "pair", [PF_FORM_BINARY] = "binary",
		[PF_FORM_TRIPLE] = "triple", [PF_FORM_LIST] = "list",     [PF_FORM_ROLLOUT] = "rollout",
	};
	return names[form];
}

/* ---- a configured loss ---- */

static int in_range(const struct pf_loss_param *param, double value)
{
	return (param->low_open ? value > param->low : value >= param->low) &&
	       (param->high_open ? value < param->high : value <= param->high);
}

static const struct pf_loss_param weight_param = {
	"weight", "", 1, 0, INFINITY, 0, 1, "weight of the component in a mixture",
};

static const struct pf_loss_param *find_param(const struct pf_loss_row *row, const char *key,
                                              unsigned *index)
{
	for (*index = 0; *index < row->params; ++*index)
		if (strcmp(row->param[*index].name, key) == 0 ||
		    (*key && strcmp(row->param[*index].oracle, key) == 0))
			return &row->param[*index];
	if (strcmp(key, weight_param.name) == 0)
		return &weight_param;
	*index = pf_loss_modifier_find(key);
	return pf_loss_modifier(*index);
}

static int unknown_key(const struct pf_loss_row *row, const char *key, struct pf_error *error)
{
	const char *nearest = NULL;
	char known[256] = "weight";

	pf_name_nearest(key, weight_param.name, &nearest);
	for (unsigned i = 0; i < PF_LOSS_MODIFIERS && row->form == PF_FORM_PAIR; i++)
		pf_name_nearest(key, pf_loss_modifier(i)->name, &nearest);
	for (unsigned i = 0; i < row->params; i++) {
		size_t used = strlen(known);
		pf_name_nearest(key, row->param[i].name, &nearest);
		if (used + strlen(row->param[i].name) + 3 < sizeof known)
			strcat(strcat(known, ", "), row->param[i].name);
	}
	if (nearest)
		return pf_fail(error, PF_E_UNKNOWN,
		               "loss %s has no parameter \"%s\"; did you mean %s?", row->name, key,
		               nearest);
	return pf_fail(error, PF_E_UNKNOWN, "loss %s has no parameter \"%s\"; it has: %s",
	               row->name, key, known);
}

static int modify(struct pf_loss_component *c, unsigned index, double value, struct pf_error *error)
{
	struct pf_loss_component wanted = *c;
	int status;

	wanted.modifier[index] = value;
	wanted.modified |= 1u << index;
	status = pf_loss_modifiers_check(&wanted, error);
	if (!status)
		*c = wanted;
	return status;
}

int pf_loss_set(struct pf_loss *loss, unsigned component, const char *key, double value,
                struct pf_error *error)
{
	struct pf_loss_component *c = &loss->component[component];
	unsigned index;
	const struct pf_loss_param *param = find_param(c->row, key, &index);

	if (!param)
		return unknown_key(c->row, key, error);
	if (!in_range(param, value))
		return pf_fail(error, PF_E_RANGE, "loss %s: %s = %g is outside %c%g, %g%c (%s)",
		               c->row->name, param->name, value, param->low_open ? '(' : '[',
		               param->low, param->high, param->high_open ? ')' : ']', param->text);
	if (param == &weight_param)
		c->weight = value;
	else if (param == pf_loss_modifier(index))
		return modify(c, index, value, error);
	else
		c->param[index] = value;
	return 0;
}

int pf_loss_wider_form(enum pf_loss_form a, enum pf_loss_form b, enum pf_loss_form *form)
{
	*form = a == PF_FORM_TOKENS || b == PF_FORM_TRIPLE ? b : a;
	return a == b || a == PF_FORM_TOKENS || b == PF_FORM_TOKENS ||
	       (a == PF_FORM_PAIR && b == PF_FORM_TRIPLE) ||
	       (a == PF_FORM_TRIPLE && b == PF_FORM_PAIR);
}

enum pf_loss_form pf_loss_form(const struct pf_loss *loss)
{
	enum pf_loss_form form = PF_FORM_TOKENS;

	for (unsigned i = 0; i < loss->components; i++)
		pf_loss_wider_form(form, loss->component[i].row->form, &form);
	return form;
}

int pf_loss_per_item(const struct pf_loss *loss)
{
	for (unsigned i = 0; i < loss->components; i++)
		if (!loss->component[i].row->per_item)
			return 0;
	return 1;
}

int pf_loss_per_token(const struct pf_loss *loss)
{
	for (unsigned i = 0; i < loss->components; i++)
		if (loss->component[i].row->per_token)
			return 1;
	return 0;
}

int pf_loss_param(const struct pf_loss *loss, const char *name, double *value)
{
	for (unsigned c = 0; c < loss->components; c++)
		for (unsigned i = 0; i < loss->component[c].row->params; i++)
			if (strcmp(loss->component[c].row->param[i].name, name) == 0) {
				*value = loss->component[c].param[i];
				return 1;
			}
	for (unsigned c = 0; c < loss->components && pf_loss_modifier_find(name) < PF_LOSS_MODIFIERS; c++)
		if (loss->component[c].modified >> pf_loss_modifier_find(name) & 1) {
			*value = loss->component[c].modifier[pf_loss_modifier_find(name)];
			return 1;
		}
	return 0;
}

static int component_needs_reference(const struct pf_loss_component *c)
{
	const struct pf_loss one = { 1, { *c } };
	double beta;

	if (c->row->reference == PF_LOSS_REF_BETA || c->row->reference == PF_LOSS_REF_REWARD)
		return pf_loss_param(&one, "beta", &beta) && beta > 0;
	return c->row->reference != PF_LOSS_FREE;
}

int pf_loss_needs_reference(const struct pf_loss *loss)
{
	for (unsigned i = 0; i < loss->components; i++)
		if (component_needs_reference(&loss->component[i]))
			return 1;
	return 0;
}

double pf_loss_reward_kl(const struct pf_loss *loss)
{
	double beta = 0;

	for (unsigned i = 0; i < loss->components && beta == 0; i++) {
		const struct pf_loss one = { 1, { loss->component[i] } };
		if (loss->component[i].row->reference == PF_LOSS_REF_REWARD)
			pf_loss_param(&one, "beta", &beta);
	}
	return beta;
}

int pf_loss_own_weights(const struct pf_loss *loss)
{
	for (unsigned i = 0; i < loss->components; i++)
		if (loss->component[i].row->reference == PF_LOSS_REF_OWN ||
		    pf_loss_modifies(&loss->component[i], PF_LOSS_WEIGHTING))
			return 1;
	return 0;
}

int pf_loss_component_tail(const struct pf_loss_component *c)
{
	return c->row->reference == PF_LOSS_REF_TAIL || pf_loss_modifies(c, PF_LOSS_LD_ALPHA);
}

int pf_loss_tail(const struct pf_loss *loss)
{
	for (unsigned i = 0; i < loss->components; i++)
		if (pf_loss_component_tail(&loss->component[i]))
			return 1;
	return 0;
}
