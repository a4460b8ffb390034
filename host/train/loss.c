/* The rows of losses.def, and loss strings turned into configured losses */
#include "prefpga/loss.h"
#include "expr.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "prefpga/internal/losses.def"
#include "prefpga/internal/nearest.h"

enum { NAME_MAX_BYTES = 64 };

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
	_Static_assert(sizeof params_##name / sizeof *params_##name - 1 <= PF_LOSS_PARAMS, #name);
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
	char word[NAME_MAX_BYTES];

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
static const struct pf_loss_row *nearest_row(const char *name)
{
	const char *best = NULL;
	const struct pf_loss_row *row = NULL;
	char word[NAME_MAX_BYTES];

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
	return strcmp(key, weight_param.name) == 0 ? &weight_param : NULL;
}

static int unknown_key(const struct pf_loss_row *row, const char *key, struct pf_error *error)
{
	const char *nearest = NULL;
	char known[256] = "weight";

	pf_name_nearest(key, weight_param.name, &nearest);
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
	*(param == &weight_param ? &c->weight : &c->param[index]) = value;
	return 0;
}

static int wider_form(enum pf_loss_form a, enum pf_loss_form b, enum pf_loss_form *form)
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
		wider_form(form, loss->component[i].row->form, &form);
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
	return 0;
}

static int component_needs_reference(const struct pf_loss_component *c)
{
	const struct pf_loss one = { 1, { *c } };
	double beta;

	if (c->row->reference == PF_LOSS_REF_BETA)
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

int pf_loss_own_weights(const struct pf_loss *loss)
{
	for (unsigned i = 0; i < loss->components; i++)
		if (loss->component[i].row->reference == PF_LOSS_REF_OWN)
			return 1;
	return 0;
}

int pf_loss_tail(const struct pf_loss *loss)
{
	for (unsigned i = 0; i < loss->components; i++)
		if (loss->component[i].row->reference == PF_LOSS_REF_TAIL)
			return 1;
	return 0;
}

/* ---- loss strings ---- */

/* Length of the name at the head of a component; "oracle:" belongs to it */
static size_t name_length(const char *text)
{
	size_t prefix = strncmp(text, "oracle:", 7) == 0 ? 7 : 0;

	return prefix + strcspn(text + prefix, ":+");
}

static int take_word(const char *text, size_t length, char *word, const char *what,
                     struct pf_error *error)
{
	if (length == 0)
		return pf_fail(error, PF_E_ARGUMENT,
		               "%s is missing at \"%.32s\"; write NAME[:key=value,...][+NAME...]",
		               what, text);
	if (length >= NAME_MAX_BYTES)
		return pf_fail(error, PF_E_UNKNOWN, "%s \"%.32s...\" is too long to be known", what,
		               text);
	memcpy(word, text, length);
	word[length] = '\0';
	return 0;
}

/* A formula reaches to the end or to the colon before its parameters; in braces, to the closing one */
static int parse_formula(const char **text, struct pf_loss *loss, struct pf_error *error)
{
	struct pf_loss_component *c = &loss->component[loss->components];
	const int braces = (*text)[5] == '{';
	const char *formula = *text + 5 + braces;
	size_t length = strcspn(formula, braces ? "}" : ":");
	int status;

	if (braces && formula[length] != '}')
		return pf_fail(error, PF_E_ARGUMENT, "\"}\" is missing behind the formula \"%.32s\"", formula);
	status = pf_expr_row(formula, length, &c->row, error);
	if (status)
		return status;
	c->weight = weight_param.value;
	for (unsigned i = 0; i < c->row->params; i++)
		c->param[i] = c->row->param[i].value;
	*text = formula + length + braces;
	return 0;
}

static int parse_name(const char **text, struct pf_loss *loss, struct pf_error *error)
{
	struct pf_loss_component *c = &loss->component[loss->components];
	size_t length = name_length(*text);
	char name[NAME_MAX_BYTES];
	int status = take_word(*text, length, name, "the name of a loss", error);

	if (status)
		return status;
	c->row = pf_loss_find(name);
	if (!c->row) {
		const struct pf_loss_row *near = nearest_row(name);
		return pf_fail(error, PF_E_UNKNOWN, "no loss is called \"%s\"; %s%s%s", name,
		               near ? "did you mean " : "",
		               near ? near->name : "`prefpga losses` lists them", near ? "?" : "");
	}
	c->weight = weight_param.value;
	for (unsigned i = 0; i < c->row->params; i++)
		c->param[i] = c->row->param[i].value;
	*text += length;
	return 0;
}

/* One key=value; strtod decides where the number ends, so that 1e+3 is not a mixture */
static int parse_setting(const char **text, struct pf_loss *loss, struct pf_error *error)
{
	size_t length = strcspn(*text, "=,:+");
	char key[NAME_MAX_BYTES], *end;
	int status = take_word(*text, length, key, "a parameter", error);
	double value;

	if (status)
		return status;
	if ((*text)[length] != '=')
		return pf_fail(error, PF_E_ARGUMENT,
		               "parameter \"%s\" of loss %s has no value; write %s=NUMBER", key,
		               loss->component[loss->components].row->name, key);
	value = strtod(*text + length + 1, &end);
	if (end == *text + length + 1)
		return pf_fail(error, PF_E_ARGUMENT,
		               "parameter \"%s\" of loss %s: \"%.32s\" is not a number", key,
		               loss->component[loss->components].row->name, *text + length + 1);
	*text = end;
	return pf_loss_set(loss, loss->components, key, value, error);
}

static int parse_component(const char **text, struct pf_loss *loss, struct pf_error *error)
{
	int status = strncmp(*text, "expr:", 5) == 0 ? parse_formula(text, loss, error)
	                                             : parse_name(text, loss, error);

	if (status || **text != ':')
		return status;
	do {
		++*text;
		status = parse_setting(text, loss, error);
	} while (!status && **text == ',');
	return status;
}

static int check_mixture(const struct pf_loss *loss, struct pf_error *error)
{
	const struct pf_loss_component *c = &loss->component[loss->components];
	enum pf_loss_form form = pf_loss_form(loss), wide;

	/* Plain likelihood counts tokens and sequences alike; the sums of LD-DPO are nobody else's */
	for (unsigned i = 0; i < loss->components; i++) {
		const struct pf_loss_row *other = loss->component[i].row;
		const int plain = (c->row->form == PF_FORM_TOKENS && !c->row->per_token) ||
		                  (other->form == PF_FORM_TOKENS && !other->per_token);
		const int tails = (c->row->reference == PF_LOSS_REF_TAIL) +
		                  (other->reference == PF_LOSS_REF_TAIL);
		if ((c->row->per_token != other->per_token && !plain) || tails == 1)
			return pf_fail(error, PF_E_ARGUMENT, "loss %s cannot be mixed with %s: they "
			               "sum log-probs differently", c->row->name, other->name);
	}
	if (!wider_form(form, c->row->form, &wide))
		return pf_fail(
			error, PF_E_ARGUMENT,
			"loss %s works on %s items and cannot be mixed with %s, which works on %s",
			c->row->name, pf_loss_form_name(c->row->form), loss->component[0].row->name,
			pf_loss_form_name(form));
	return 0;
}

int pf_loss_parse(const char *text, struct pf_loss *loss, struct pf_error *error)
{
	const char *at = text;

	memset(loss, 0, sizeof *loss);
	for (;; at++) {
		int status = loss->components < PF_LOSS_COMPONENTS
		                     ? parse_component(&at, loss, error)
		                     : pf_fail(error, PF_E_RANGE, "a mixture has at most %d losses",
		                               PF_LOSS_COMPONENTS);
		if (!status && *at && *at != '+')
			status = pf_fail(
				error, PF_E_ARGUMENT,
				"\"%.32s\" is not understood; write NAME[:key=value,...][+NAME...]",
				at);
		if (!status)
			status = check_mixture(loss, error);
		if (status)
			return status;
		loss->components++;
		if (!*at)
			return 0;
	}
}
