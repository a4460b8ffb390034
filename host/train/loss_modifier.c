/* Other divergences, weights and tails for losses of pairs */
#include "loss_modifier.h"
#include <math.h>
#include <stdio.h>
#include <string.h>
#include "loss_program.h"

static const struct pf_loss_param modifiers[PF_LOSS_MODIFIERS] = {
	[PF_LOSS_DIVERGENCE] = { "f_divergence_type", "!", 0, 0, 3, 0, 0,
	                         "divergence whose score S(u) takes the place of every log-ratio u" },
	[PF_LOSS_DIVERGENCE_COEF] = { "f_alpha_divergence_coef", "!", 0.5, 0, 1, 0, 1,
	                              "a of alpha_divergence, S(u) = e^((a-1)u) / (a-1)" },
	[PF_LOSS_WEIGHTING] = { "use_weighting", "!", 0, 0, 1, 0, 0,
	                        "1: times the policy's own likelihood of the pair (WPO)" },
	[PF_LOSS_MAX_WEIGHT] = { "max_weight", "!", 1, 0, INFINITY, 1, 0,
	                         "upper limit of that weight; inf: none (TRL)" },
	[PF_LOSS_LD_ALPHA] = { "ld_alpha", "!", 1, 0, 1, 0, 0,
	                       "weight of tokens beyond the shorter side's length (LD-DPO)" },
	[PF_LOSS_LD_REFERENCE] = { "ld_reference", "!", 1, 0, 1, 0, 0,
	                           "1: for policy and reference (TRL); 0: for the policy only (LLaMA-Factory)" },
};
enum divergence { REVERSE_KL, FORWARD_KL, JENSEN_SHANNON, ALPHA, DIVERGENCES };
static const char *const divergences[DIVERGENCES] = { "reverse_kl", "forward_kl", "js_divergence",
	                                              "alpha_divergence" };

const struct pf_loss_param *pf_loss_modifier(unsigned i)
{
	return i < PF_LOSS_MODIFIERS ? &modifiers[i] : NULL;
}

const char *pf_loss_divergence_name(unsigned i)
{
	return i < DIVERGENCES ? divergences[i] : NULL;
}

unsigned pf_loss_modifier_find(const char *name)
{
	unsigned i = 0;

	while (i < PF_LOSS_MODIFIERS && strcmp(modifiers[i].name, name) != 0)
		i++;
	return i;
}

double pf_loss_modifier_of(const struct pf_loss_component *c, enum pf_loss_modifier modifier)
{
	return c->modified >> modifier & 1 ? c->modifier[modifier] : modifiers[modifier].value;
}

int pf_loss_modifies(const struct pf_loss_component *c, enum pf_loss_modifier modifier)
{
	return pf_loss_modifier_of(c, modifier) != modifiers[modifier].value;
}

/* ---- which losses ---- */

static int refuse(const struct pf_loss_component *c, enum pf_loss_modifier modifier, const char *why,
                  struct pf_error *error)
{
	return pf_fail(error, PF_E_ARGUMENT, "loss %s does not go with %s: %s", c->row->name, modifiers[modifier].name,
	               why);
}

static int uses(uint64_t operations, unsigned op)
{
	return operations >> op & 1;
}

static int check_each(const struct pf_loss_component *c, const struct pf_program *program, struct pf_error *error)
{
	const uint64_t ops = program->operations;
	const int reference = c->row->reference == PF_LOSS_REF || c->row->reference == PF_LOSS_REF_OWN ||
	                      c->row->reference == PF_LOSS_REF_TAIL;
	const int sorted = uses(ops, PF_OP_BRANK), sums = uses(ops, PF_OP_L) || uses(ops, PF_OP_R);

	if (pf_loss_modifies(c, PF_LOSS_DIVERGENCE) && (!reference || !uses(ops, PF_OP_U) || sums || sorted))
		return refuse(c, PF_LOSS_DIVERGENCE,
		              c->row->reference == PF_LOSS_REF_FIXED
		                      ? "its log-ratios are no scores, or have a divergence of their own already"
		                      : "it is no function of the pair's two log-ratios alone",
		              error);
	if (pf_loss_modifies(c, PF_LOSS_WEIGHTING) && (uses(ops, PF_OP_WEIGHT) || sorted))
		return refuse(c, PF_LOSS_WEIGHTING,
		              sorted ? "it compares pairs with each other" : "it has weights already", error);
	if (pf_loss_modifies(c, PF_LOSS_LD_ALPHA) && (c->row->reference == PF_LOSS_FREE || sums || sorted))
		return refuse(c, PF_LOSS_LD_ALPHA, "it is no function of log-ratios alone", error);
	return 0;
}

int pf_loss_modifiers_check(const struct pf_loss_component *c, struct pf_error *error)
{
	static const enum pf_loss_modifier switches[] = { PF_LOSS_DIVERGENCE, PF_LOSS_WEIGHTING, PF_LOSS_LD_ALPHA };
	struct pf_program program = { .param = c->param };
	int status = 0;

	for (size_t i = 0; i < sizeof switches / sizeof *switches; i++)
		if (pf_loss_modifies(c, switches[i]) && c->row->form != PF_FORM_PAIR)
			return refuse(c, switches[i], "it is no loss of pairs", error);
	if (!c->modified)
		return 0;
	status = pf_program_assemble(&program, c->row, c->row->value, 0, error);
	if (!status)
		status = pf_program_assemble(&program, c->row, c->row->grad, 0, error);
	return status ? status : check_each(c, &program, error);
}

/* ---- programs ---- */

struct writer { char *text; size_t used; };

static void put(struct writer *w, const char *words, size_t length)
{
	if (w->used + length + 2 >= PF_LOSS_TEXT) {
		w->used = PF_LOSS_TEXT;
		return;
	}
	if (w->used)
		w->text[w->used++] = ' ';
	memcpy(w->text + w->used, words, length);
	w->text[w->used += length] = '\0';
}

/* S(u), and S'(u), 0 where its exponent is held at 80 */
static void score(const struct pf_loss_component *c, char text[2][160])
{
	const double power = pf_loss_modifier_of(c, PF_LOSS_DIVERGENCE_COEF) - 1;

	switch ((enum divergence)pf_loss_modifier_of(c, PF_LOSS_DIVERGENCE)) {
	case FORWARD_KL:
		strcpy(text[0], "u neg 80 min exp neg");
		strcpy(text[1], "u neg dup 80 <= swap 80 min exp * *");
		break;
	case JENSEN_SHANNON:
		strcpy(text[0], "u neg softplus neg");
		strcpy(text[1], "u neg sigmoid *");
		break;
	case ALPHA:
		snprintf(text[0], sizeof text[0], "u %.17g * 80 min exp %.17g /", power, power);
		snprintf(text[1], sizeof text[1], "u %.17g * dup 80 <= swap 80 min exp * *", power);
		break;
	default:
		strcpy(text[0], "u");
		strcpy(text[1], "");
	}
}

static void put_weights(struct writer *w, const struct pf_loss_component *c)
{
	const double most = pf_loss_modifier_of(c, PF_LOSS_MAX_WEIGHT);
	char text[160];

	snprintf(text, sizeof text, "weight is chosen * gsum weight is rejected * gsum * %.17g min *",
	         fmin(most, 1e300));
	put(w, text, strlen(text));
}

int pf_loss_modified(const struct pf_loss_component *c, int gradient, char *text, struct pf_error *error)
{
	struct writer w = { text, 0 };
	char u[2][160];

	score(c, u);
	for (const char *at = gradient ? c->row->grad : c->row->value; *at;) {
		const size_t length = strcspn(at += strspn(at, " "), " ");
		const int ratio = length == 1 && *at == 'u';
		if (length)
			put(&w, ratio ? u[0] : at, ratio ? strlen(u[0]) : length);
		at += length;
	}
	if (gradient && *u[1])
		put(&w, u[1], strlen(u[1]));
	if (pf_loss_modifier_of(c, PF_LOSS_WEIGHTING) != 0)
		put_weights(&w, c);
	return w.used >= PF_LOSS_TEXT
	               ? pf_fail(error, PF_E_RANGE, "loss %s: too long a program with f_divergence_type", c->row->name)
	               : 0;
}
