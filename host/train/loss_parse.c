/* Loss strings turned into configured losses */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "expr.h"
#include "loss_modifier.h"
#include "loss_row.h"

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
	if (length >= PF_LOSS_NAME_BYTES)
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
	c->weight = 1;
	for (unsigned i = 0; i < c->row->params; i++)
		c->param[i] = c->row->param[i].value;
	*text = formula + length + braces;
	return 0;
}

static int parse_name(const char **text, struct pf_loss *loss, struct pf_error *error)
{
	struct pf_loss_component *c = &loss->component[loss->components];
	size_t length = name_length(*text);
	char name[PF_LOSS_NAME_BYTES];
	int status = take_word(*text, length, name, "the name of a loss", error);

	if (status)
		return status;
	c->row = pf_loss_find(name);
	if (!c->row) {
		const struct pf_loss_row *near = pf_loss_nearest(name);
		return pf_fail(error, PF_E_UNKNOWN, "no loss is called \"%s\"; %s%s%s", name,
		               near ? "did you mean " : "",
		               near ? near->name : "`prefpga losses` lists them", near ? "?" : "");
	}
	c->weight = 1;
	for (unsigned i = 0; i < c->row->params; i++)
		c->param[i] = c->row->param[i].value;
	*text += length;
	return 0;
}

/* The value, at `from`, is a name */
static int parse_divergence(const char **text, size_t from, struct pf_loss *loss, struct pf_error *error)
{
	const char *name = *text + from;
	const size_t length = strcspn(name, ",:+");
	unsigned i = 0;

	while (pf_loss_divergence_name(i) && (strlen(pf_loss_divergence_name(i)) != length ||
	                                      strncmp(pf_loss_divergence_name(i), name, length) != 0))
		i++;
	if (!pf_loss_divergence_name(i))
		return pf_fail(error, PF_E_ARGUMENT,
		               "f_divergence_type=%.*s: it is reverse_kl, forward_kl, js_divergence or "
		               "alpha_divergence",
		               length < 32 ? (int)length : 32, name);
	*text = name + length;
	return pf_loss_set(loss, loss->components, pf_loss_modifier(PF_LOSS_DIVERGENCE)->name, i, error);
}

/* One key=value; strtod decides where the number ends, so that 1e+3 is not a mixture */
static int parse_setting(const char **text, struct pf_loss *loss, struct pf_error *error)
{
	size_t length = strcspn(*text, "=,:+");
	char key[PF_LOSS_NAME_BYTES], *end;
	int status = take_word(*text, length, key, "a parameter", error);
	double value;

	if (status)
		return status;
	if ((*text)[length] != '=')
		return pf_fail(error, PF_E_ARGUMENT,
		               "parameter \"%s\" of loss %s has no value; write %s=NUMBER", key,
		               loss->component[loss->components].row->name, key);
	if (strcmp(key, pf_loss_modifier(PF_LOSS_DIVERGENCE)->name) == 0)
		return parse_divergence(text, length + 1, loss, error);
	value = strtod(*text + length + 1, &end);
	if (end == *text + length + 1 && pf_loss_set(loss, loss->components, key, NAN, error) == PF_E_UNKNOWN)
		return PF_E_UNKNOWN;
	if (end == *text + length + 1)
		return pf_fail(error, PF_E_ARGUMENT,
		               "parameter \"%s\" of loss %s: \"%.32s\" is not a number", key,
		               loss->component[loss->components].row->name, *text + length + 1);
	*text = end;
	return pf_loss_set(loss, loss->components, key, value, error);
}

/* Whether the key at `at` stands among the settings before it */
static int is_given(const char *settings, const char *at)
{
	const size_t length = strcspn(at, "=,:+");
	while (settings < at && !(strncmp(settings, at, length) == 0 && settings[length] == '='))
		settings = strchr(settings, ',') + 1;
	return settings < at;
}

static int parse_component(const char **text, struct pf_loss *loss, struct pf_error *error)
{
	int status = strncmp(*text, "expr:", 5) == 0 ? parse_formula(text, loss, error)
	                                             : parse_name(text, loss, error);

	if (status || **text != ':')
		return status;
	const char *const settings = *text + 1;
	do {
		++*text;
		status = is_given(settings, *text)
		                 ? pf_fail(error, PF_E_ARGUMENT, "parameter \"%.*s\" of loss %s is given twice",
		                           (int)strcspn(*text, "="), *text, loss->component[loss->components].row->name)
		                 : parse_setting(text, loss, error);
	} while (!status && **text == ',');
	return status;
}

/* Components share the sums, so what shortens them is the same */
static int same_tails(const struct pf_loss *loss, const struct pf_loss_component *c)
{
	const struct pf_loss own = { 1, { *c } };
	double first[2] = { 1, 1 }, second[2] = { 1, 1 };

	pf_loss_param(loss, "ld_alpha", &first[0]);
	pf_loss_param(loss, "ld_reference", &first[1]);
	pf_loss_param(&own, "ld_alpha", &second[0]);
	pf_loss_param(&own, "ld_reference", &second[1]);
	return first[0] == second[0] && first[1] == second[1];
}

/* Prompts are items of their own, for which groups of pairs and of plain likelihood have room */
static int has_no_room(const struct pf_loss_row *row)
{
	return row->per_token ||
	       (row->form != PF_FORM_PAIR && row->form != PF_FORM_TRIPLE && row->form != PF_FORM_TOKENS);
}

static int check_prompts(const struct pf_loss_component *c, const struct pf_loss_component *other,
                         struct pf_error *error)
{
	const struct pf_loss one = { 1, { *c } };

	if (!pf_loss_prompts(&one) || !has_no_room(other->row))
		return 0;
	return pf_fail(error, PF_E_ARGUMENT,
	               "loss %s counts the tokens of prompts and cannot be mixed with %s; losses of pairs and triples, "
	               "and plain likelihood, go with it", c->row->name, other->row->name);
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
		const int tails = pf_loss_component_tail(c) + pf_loss_component_tail(&loss->component[i]);
		if ((c->row->per_token != other->per_token && !plain) || tails == 1 ||
		    (tails == 2 && !same_tails(loss, c)))
			return pf_fail(error, PF_E_ARGUMENT, "loss %s cannot be mixed with %s: they "
			               "sum log-probs differently", c->row->name, other->name);
		int status = check_prompts(c, &loss->component[i], error);
		if (!status)
			status = check_prompts(&loss->component[i], c, error);
		if (status)
			return status;
	}
	if (!pf_loss_wider_form(form, c->row->form, &wide))
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
