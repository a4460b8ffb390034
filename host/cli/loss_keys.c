/* Keys of cases, from the words in losses.def */
#include "loss_keys.h"
#include <stdio.h>
#include <string.h>
#include "host/train/loss_program.h"
#include "prefpga/internal/nearest.h"

/* The words of losses.def, and the operation that looks at the field */
static const struct { const char *name; uint32_t op; } fields[PF_CASE_FIELDS] = {
	[PF_CASE_POLICY] = { "policy", PF_OP_L },
	[PF_CASE_REFERENCE] = { "reference", PF_OP_R },
	[PF_CASE_OLD] = { "old", PF_OP_OLD },
	[PF_CASE_N] = { "n", PF_OP_N },
	[PF_CASE_SCORE] = { "score", PF_OP_SCORE },
	[PF_CASE_MARGIN] = { "margin", PF_OP_MARGIN },
	[PF_CASE_WEIGHT] = { "weight", PF_OP_WEIGHT },
	[PF_CASE_ADVANTAGE] = { "advantage", PF_OP_ADV },
	[PF_CASE_LABEL] = { "label", PF_OP_IS },
	[PF_CASE_Z0] = { "z0", PF_OP_SCALAR },
	[PF_CASE_DELTA] = { "delta", PF_OP_SCALAR },
};
static const struct { const char *name; int kind; } members[] = {
	{ "chosen", PF_KIND_CHOSEN }, { "rejected", PF_KIND_REJECTED }, { "extra", PF_KIND_EXTRA },
	{ "prompt", PF_KIND_PROMPT },
};
enum { MEMBERS = sizeof members / sizeof *members };

#define PAIR_KEYS "lw:policy/chosen ll:policy/rejected rw:reference/chosen rl:reference/rejected " \
	"nw:n/chosen nl:n/rejected"
static const char *const form_keys[] = {
	[PF_FORM_TOKENS] = "l:policy n:n",
	[PF_FORM_PAIR] = PAIR_KEYS,
	[PF_FORM_TRIPLE] = PAIR_KEYS,
	[PF_FORM_BINARY] = "l:policy r:reference y:label n:n",
	[PF_FORM_LIST] = "l:policy r:reference psi:score n:n",
	[PF_FORM_ROLLOUT] = "l:policy old:old ref:reference A:advantage",
};
#define TAIL_KEYS "tw:policy/chosen tl:policy/rejected rw:reference/chosen rl:reference/rejected " \
	"nw:n/chosen nl:n/rejected"
#define OWN_KEYS "ww:weight/chosen wl:weight/rejected"
/* Keys that test vectors carry although losses work them out themselves: detached weights */
static const char other_keys[] = "w lr pd tw tl";

static int find_field(const char *name, enum pf_case_field *field)
{
	for (*field = 0; *field < PF_CASE_FIELDS; ++*field)
		if (strcmp(fields[*field].name, name) == 0)
			return 1;
	return 0;
}

static int find_member(const char *name, int *kind)
{
	for (int i = 0; i < MEMBERS; i++)
		if (strcmp(members[i].name, name) == 0) {
			*kind = members[i].kind;
			return 1;
		}
	return !*name;
}

/* One word, key:field or key:field/member */
static int split_key(const char *word, struct pf_case_key *key)
{
	char field[16] = "", member[16] = "";

	memset(key, 0, sizeof *key);
	sscanf(word, "%31[^: ]:%15[a-z0-9]/%15[a-z]", key->name, field, member);
	return find_field(field, &key->field) && find_member(member, &key->member);
}

/* Length of the next word, which *at is moved to */
static size_t word_length(const char **at)
{
	return strcspn(*at += strspn(*at, " "), " ");
}

static int known_place(const struct pf_cases *cases, const struct pf_case_key *key)
{
	for (unsigned i = 0; i < cases->keys; i++)
		if (cases->key[i].field == key->field && cases->key[i].member == key->member)
			return 1;
	return 0;
}

static int add_keys(struct pf_cases *cases, const char *text, struct pf_error *error)
{
	size_t length;

	for (const char *at = text; (length = word_length(&at)) > 0; at += length) {
		struct pf_case_key key;
		if (!split_key(at, &key) || cases->keys == PF_CASE_KEYS)
			return pf_fail(error, PF_E_FORMAT,
			               "losses.def: case keys \"%s\" are not understood", text);
		if (!known_place(cases, &key))
			cases->key[cases->keys++] = key;
	}
	return 0;
}

/* The form's keys before those of the rows: the order of results */
static void form_first(struct pf_cases *cases, unsigned own)
{
	struct pf_case_key rows[PF_CASE_KEYS];

	memcpy(rows, cases->key, own * sizeof *rows);
	memmove(cases->key, cases->key + own, (cases->keys - own) * sizeof *rows);
	memcpy(cases->key + cases->keys - own, rows, own * sizeof *rows);
}

/* A key is required when some program looks at it and silence would be a guess: weights are 1 and
 * margins 0 */
static void mark_required(struct pf_cases *cases, const struct pf_program *program)
{
	int reference = pf_loss_needs_reference(&cases->loss) && !(pf_loss_reward_kl(&cases->loss) > 0);

	for (unsigned i = 0; i < cases->keys; i++) {
		struct pf_case_key *key = &cases->key[i];
		uint32_t op = fields[key->field].op;
		key->required = key->field == PF_CASE_POLICY || key->field == PF_CASE_LABEL ||
		                (key->field == PF_CASE_REFERENCE && reference) ||
		                ((key->field == PF_CASE_N || key->field == PF_CASE_SCORE ||
		                  key->field == PF_CASE_OLD || key->field == PF_CASE_ADVANTAGE) &&
		                 program->operations >> op & 1) ||
		                (key->field == PF_CASE_Z0 && program->scalars >> PF_PAR_Z0 & 1) ||
		                (key->field == PF_CASE_DELTA &&
		                 program->scalars >> PF_PAR_DELTA & 1);
	}
}

int pf_case_keys(struct pf_cases *cases, struct pf_error *error)
{
	struct pf_program program;
	int status = pf_program_build(&program, &cases->loss, error);
	unsigned own;

	for (unsigned i = 0; i < cases->loss.components && !status; i++)
		status = add_keys(cases, cases->loss.component[i].row->inputs, error);
	if (!status && pf_loss_own_weights(&cases->loss))
		status = add_keys(cases, OWN_KEYS, error);
	own = cases->keys;
	if (!status)
		status = add_keys(cases, pf_loss_tail(&cases->loss) ? TAIL_KEYS : form_keys[pf_loss_form(&cases->loss)],
		                  error);
	if (status)
		return status;
	form_first(cases, own);
	mark_required(cases, &program);
	return 0;
}

/* ---- keys that a case may carry although this loss does not look at them ---- */

static int has_word(const char *words, const char *word)
{
	size_t length;

	for (const char *at = words; (length = word_length(&at)) > 0; at += length)
		if (strcspn(at, ": ") == strlen(word) && strncmp(at, word, strlen(word)) == 0)
			return 1;
	return 0;
}

int pf_case_param_is(const struct pf_loss_param *param, const char *name)
{
	if (strcmp(param->oracle, "!") == 0)
		return 0;
	return strcmp(param->name, name) == 0 ||
	       (*param->oracle && strcmp(param->oracle, name) == 0);
}

int pf_case_key_known(const char *name)
{
	const struct pf_loss_row *row;

	for (unsigned i = 0; i < sizeof form_keys / sizeof *form_keys; i++)
		if (has_word(form_keys[i], name))
			return 1;
	for (unsigned i = 0; (row = pf_loss_row(i)) != NULL; i++) {
		for (unsigned k = 0; k < row->params; k++)
			if (pf_case_param_is(&row->param[k], name))
				return 1;
		if (has_word(row->inputs, name))
			return 1;
	}
	return has_word(other_keys, name);
}

int pf_case_key_unknown(const struct pf_cases *cases, const char *name, struct pf_error *error)
{
	const char *nearest = NULL;

	for (unsigned i = 0; i < cases->keys; i++)
		pf_name_nearest(name, cases->key[i].name, &nearest);
	for (unsigned i = 0; i < cases->loss.components; i++) {
		const struct pf_loss_row *row = cases->loss.component[i].row;
		for (unsigned k = 0; k < row->params; k++)
			pf_name_nearest(name, row->param[k].name, &nearest);
	}
	return pf_fail(error, PF_E_UNKNOWN, "unknown key \"%.64s\"%s%s%s", name,
	               nearest ? "; did you mean \"" : "", nearest ? nearest : "",
	               nearest ? "\"?" : "; no loss has it");
}
