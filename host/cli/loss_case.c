/* JSON cases into items: keys by table, values checked one by one */
#include "loss_case.h"
#include <errno.h>
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "host/train/loss_program.h"
#include "loss_value.h"
#include "prefpga/internal/nearest.h"

/* ---- keys ---- */

static const struct { const char *name; enum pf_case_field field; uint32_t op; } fields[PF_CASE_FIELDS] = {
	{ "policy", PF_CASE_POLICY, 0 }, { "reference", PF_CASE_REFERENCE, PF_OP_R }, { "n", PF_CASE_N, PF_OP_N },
	{ "score", PF_CASE_SCORE, PF_OP_SCORE }, { "margin", PF_CASE_MARGIN, PF_OP_MARGIN },
	{ "weight", PF_CASE_WEIGHT, PF_OP_WEIGHT }, { "label", PF_CASE_LABEL, 0 },
	{ "z0", PF_CASE_Z0, 0 }, { "delta", PF_CASE_DELTA, 0 },
};
static const struct { const char *name; int kind; } members[] = {
	{ "chosen", PF_KIND_CHOSEN }, { "rejected", PF_KIND_REJECTED }, { "extra", PF_KIND_EXTRA },
};
enum { MEMBERS = sizeof members / sizeof *members };

#define PAIR_KEYS "lw:policy/chosen ll:policy/rejected rw:reference/chosen rl:reference/rejected " \
	"nw:n/chosen nl:n/rejected"
static const char *const form_keys[] = {
	[PF_FORM_TOKENS] = "l:policy n:n", [PF_FORM_PAIR] = PAIR_KEYS, [PF_FORM_TRIPLE] = PAIR_KEYS,
	[PF_FORM_BINARY] = "l:policy r:reference y:label n:n", [PF_FORM_LIST] = "l:policy r:reference psi:score n:n",
};
/* Keys that test vectors carry for losses outside the table */
static const char other_keys[] = "old ref A lo hi dual wmax w temp phi beta2 target P lr pd v vold ret tw tl";

/* Length of the next word, which *at is moved to */
static size_t word_length(const char **at)
{
	return strcspn(*at += strspn(*at, " "), " ");
}

static int split_key(const char *word, size_t length, struct pf_case_key *key)
{
	size_t name = strcspn(word, ":"), field, slash;
	const char *rest = word + name + 1;

	if (name >= sizeof key->name || name >= length)
		return 0;
	memset(key, 0, sizeof *key);
	memcpy(key->name, word, name);
	field = length - name - 1;
	slash = strcspn(rest, "/ ");
	slash = slash < field ? slash : field;
	for (key->field = 0; key->field < PF_CASE_FIELDS; key->field++)
		if (strlen(fields[key->field].name) == slash && strncmp(fields[key->field].name, rest, slash) == 0)
			break;
	for (int i = 0; i < MEMBERS && slash < field; i++)
		if (strlen(members[i].name) == field - slash - 1 &&
		    strncmp(members[i].name, rest + slash + 1, field - slash - 1) == 0)
			key->member = members[i].kind;
	return key->field < PF_CASE_FIELDS && (slash == field || key->member);
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
		if (!split_key(at, length, &key) || cases->keys == PF_CASE_KEYS)
			return pf_fail(error, PF_E_FORMAT, "losses.def: case keys \"%s\" are not understood", text);
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

/* A key is required when some program looks at it and silence would be a guess: weights are 1 and margins 0 */
static void mark_required(struct pf_cases *cases, const struct pf_program *program)
{
	int reference = pf_loss_needs_reference(&cases->loss);

	for (unsigned i = 0; i < cases->keys; i++) {
		struct pf_case_key *key = &cases->key[i];
		uint32_t op = fields[key->field].op;
		key->required = key->field == PF_CASE_POLICY || key->field == PF_CASE_LABEL ||
		                (key->field == PF_CASE_REFERENCE && reference) ||
		                ((key->field == PF_CASE_N || key->field == PF_CASE_SCORE) && program->operations >> op & 1) ||
		                (key->field == PF_CASE_Z0 && program->scalars >> PF_PAR_Z0 & 1) ||
		                (key->field == PF_CASE_DELTA && program->scalars >> PF_PAR_DELTA & 1);
	}
}

int pf_cases_init(struct pf_cases *cases, const struct pf_loss *loss, struct pf_error *error)
{
	struct pf_program program;
	enum pf_loss_form form = pf_loss_form(loss);
	unsigned own;
	int status = pf_program_build(&program, loss, 1, error);

	memset(cases, 0, sizeof *cases);
	cases->loss = *loss;
	cases->group_max = pf_loss_group_max(loss);
	for (unsigned i = 0; i < loss->components && !status; i++)
		status = add_keys(cases, loss->component[i].row->inputs, error);
	own = cases->keys;
	if (!status)
		status = add_keys(cases, form_keys[form], error);
	if (status)
		return status;
	form_first(cases, own);
	mark_required(cases, &program);
	return 0;
}

void pf_cases_free(struct pf_cases *cases)
{
	free(cases->list);
	free(cases->item);
	free(cases->result);
	free(cases->group);
	memset(cases, 0, sizeof *cases);
}

void pf_cases_clear(struct pf_cases *cases)
{
	cases->count = cases->items = cases->groups = 0;
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

static int belongs_elsewhere(const char *name)
{
	const struct pf_loss_row *row;

	for (unsigned i = 0; i < sizeof form_keys / sizeof *form_keys; i++)
		if (has_word(form_keys[i], name))
			return 1;
	for (unsigned i = 0; (row = pf_loss_row(i)) != NULL; i++) {
		for (unsigned k = 0; k < row->params; k++)
			if (strcmp(row->param[k].name, name) == 0 || strcmp(row->param[k].oracle, name) == 0)
				return 1;
		if (has_word(row->inputs, name))
			return 1;
	}
	return has_word(other_keys, name);
}

static int unknown_key(const struct pf_cases *cases, const char *name, struct pf_error *error)
{
	const char *nearest = NULL;

	for (unsigned i = 0; i < cases->keys; i++)
		pf_name_nearest(name, cases->key[i].name, &nearest);
	for (unsigned i = 0; i < cases->loss.components; i++) {
		const struct pf_loss_row *row = cases->loss.component[i].row;
		for (unsigned k = 0; k < row->params; k++)
			pf_name_nearest(name, row->param[k].name, &nearest);
	}
	return pf_fail(error, PF_E_UNKNOWN, "unknown key \"%.64s\"%s%s%s", name, nearest ? "; did you mean \"" : "",
	               nearest ? nearest : "", nearest ? "\"?" : "; no loss has it");
}

/* ---- one case ---- */

static int is_scalar_field(enum pf_case_field field)
{
	return field == PF_CASE_Z0 || field == PF_CASE_DELTA;
}

static uint32_t group_members(enum pf_loss_form form)
{
	return form == PF_FORM_PAIR ? 2 : form == PF_FORM_TRIPLE ? 3 : 1;
}

uint32_t pf_cases_length(const struct pf_cases *cases, size_t i)
{
	return cases->list[i].items / group_members(pf_loss_form(&cases->loss));
}

static int grow(void **memory, size_t *room, size_t wanted, size_t size)
{
	size_t larger = *room ? *room : 64;
	void *moved;

	while (larger < wanted)
		larger *= 2;
	if (larger == *room)
		return 0;
	moved = realloc(*memory, larger * size);
	if (!moved)
		return -ENOMEM;
	*memory = moved;
	*room = larger;
	return 0;
}

static int make_room(struct pf_cases *cases, size_t items, size_t groups, struct pf_error *error)
{
	void *list = cases->list, *item = cases->item, *group = cases->group;
	int status = grow(&list, &cases->list_room, cases->count + 1, sizeof *cases->list);

	if (!status)
		status = grow(&item, &cases->item_room, cases->items + items, sizeof *cases->item);
	if (!status)
		status = grow(&group, &cases->group_room, cases->groups + groups, sizeof *cases->group);
	cases->list = list;
	cases->item = item;
	cases->group = group;
	return status ? pf_fail(error, status, "no memory for %zu more items", items) : 0;
}

/* Length of the batch: that of the lists, which must agree; 1 without any */
static int measure(const struct pf_cases *cases, const json_t *object, struct pf_case *c, uint32_t *length,
                   struct pf_error *error)
{
	const char *first = NULL;

	*length = 1;
	for (unsigned i = 0; i < cases->keys; i++) {
		const json_t *value = json_object_get(object, cases->key[i].name);
		size_t size = json_array_size(value);
		if (!value && cases->key[i].required)
			return pf_fail(error, PF_E_DATA, "key \"%s\" is missing", cases->key[i].name);
		if (!json_is_array(value))
			continue;
		if (is_scalar_field(cases->key[i].field) || size == 0)
			return pf_fail(error, PF_E_DATA, "\"%s\" must be %s", cases->key[i].name,
			               size ? "one number for the whole case" : "a list with at least one number");
		if (first && size != *length)
			return pf_fail(error, PF_E_SHAPE, "\"%s\" has %zu values but \"%s\" has %u", cases->key[i].name, size,
			               first, *length);
		if (size > UINT32_MAX / 4)
			return pf_fail(error, PF_E_SHAPE, "\"%s\" has too many values", cases->key[i].name);
		first = cases->key[i].name;
		*length = (uint32_t)size;
		c->lists |= 1u << i;
	}
	return 0;
}

/* The item of batch element `at` that a key describes */
static int touches(const struct pf_case_key *key, const struct pf_loss_item *item)
{
	return key->member == 0 || item->kind == key->member;
}

static int read_key(const json_t *object, const struct pf_case_key *key, struct pf_loss_item *item, uint32_t items,
                    uint32_t each, struct pf_error *error)
{
	const json_t *value = json_object_get(object, key->name);
	int status = 0;

	for (uint32_t i = 0; i < items && value && !status; i++)
		if (touches(key, &item[i]))
			status = pf_case_field_read(json_is_array(value) ? json_array_get(value, i / each) : value, key, &item[i],
			                    error);
	return status;
}

static void start_items(struct pf_loss_item *item, uint32_t items, uint32_t each)
{
	static const int kinds[] = { PF_KIND_CHOSEN, PF_KIND_REJECTED, PF_KIND_EXTRA };

	for (uint32_t i = 0; i < items; i++)
		item[i] = (struct pf_loss_item) { .n = 1, .weight = 1, .kind = kinds[i % each] };
}

static int check_ratios(const struct pf_loss_item *item, uint32_t items, struct pf_error *error)
{
	int64_t ratio;

	for (uint32_t i = 0; i < items; i++)
		if (__builtin_sub_overflow(item[i].policy, item[i].reference, &ratio))
			return pf_fail(error, PF_E_RANGE, "policy - reference = %.10g nats is outside +-2^31",
			               ldexp((double)item[i].policy, -32) - ldexp((double)item[i].reference, -32));
	return 0;
}

/* Labels first: they decide which item is meant by keys of one member */
static int read_items(const struct pf_cases *cases, const json_t *object, struct pf_loss_item *item, uint32_t items,
                      struct pf_error *error)
{
	uint32_t each = group_members(pf_loss_form(&cases->loss));
	int status = 0;

	start_items(item, items, each);
	for (int labels = 1; labels >= 0; labels--)
		for (unsigned i = 0; i < cases->keys && !status; i++)
			if (!is_scalar_field(cases->key[i].field) && (cases->key[i].field == PF_CASE_LABEL) == labels)
				status = read_key(object, &cases->key[i], item, items, each, error);
	return status ? status : check_ratios(item, items, error);
}

static int set_param(struct pf_loss *loss, const char *name, const json_t *value, int *known, struct pf_error *error)
{
	struct pf_number number;
	int status = 0;

	*known = 0;
	for (unsigned c = 0; c < loss->components && !status; c++)
		for (unsigned k = 0; k < loss->component[c].row->params && !status; k++) {
			const struct pf_loss_param *param = &loss->component[c].row->param[k];
			if (strcmp(param->name, name) != 0 && strcmp(param->oracle, name) != 0)
				continue;
			*known = 1;
			status = pf_number_read(value, name, &number, error);
			if (!status)
				status = pf_loss_set(loss, c, param->name, number.value, error);
		}
	return status;
}

static int set_scalar(struct pf_loss_batch *batch, const struct pf_case_key *key, const json_t *value,
                      struct pf_error *error)
{
	struct pf_number number;
	int status = pf_number_read(value, key->name, &number, error);

	if (!status)
		*(key->field == PF_CASE_Z0 ? &batch->z0 : &batch->delta) = number.value;
	return status;
}

static const struct pf_case_key *find_key(const struct pf_cases *cases, const char *name)
{
	for (unsigned i = 0; i < cases->keys; i++)
		if (strcmp(cases->key[i].name, name) == 0)
			return &cases->key[i];
	return NULL;
}

/* Everything that is not an item: parameters, batch scalars, keys of other losses, mistakes */
static int read_setting(const struct pf_cases *cases, json_t *object, struct pf_case_setting *setting,
                        struct pf_error *error)
{
	const char *name;
	json_t *value;
	int status = 0, known;

	json_object_foreach(object, name, value) {
		const struct pf_case_key *key = find_key(cases, name);
		if (key && is_scalar_field(key->field))
			status = set_scalar(&setting->batch, key, value, error);
		else if (!key)
			status = set_param(&setting->loss, name, value, &known, error);
		if (!status && !key && !known && !belongs_elsewhere(name))
			status = unknown_key(cases, name, error);
		if (status)
			return status;
	}
	return 0;
}

static void set_divisors(const struct pf_cases *cases, const struct pf_loss_item *item, uint32_t items, uint32_t length,
                         struct pf_loss_batch *batch)
{
	batch->divisor = pf_loss_form(&cases->loss) == PF_FORM_LIST ? 1 : length;
	for (uint32_t i = 0; i < items; i++)
		batch->tokens += item[i].kind == PF_KIND_CHOSEN ? item[i].n : 0;
	batch->tokens = batch->tokens > 0 ? batch->tokens : 1; /* likelihood of a batch without chosen items: 0 */
}

static int add_groups(struct pf_cases *cases, struct pf_case *c, uint32_t length, struct pf_error *error)
{
	int one_list = pf_loss_form(&cases->loss) == PF_FORM_LIST;

	c->groups = one_list ? 1 : length;
	if (c->items / c->groups > cases->group_max)
		return pf_fail(error, PF_E_RANGE, "a list of %u is too long: this loss takes at most %u on kernel pref",
		               c->items, cases->group_max);
	for (uint32_t g = 0; g < c->groups; g++)
		cases->group[cases->groups + g] = c->items / c->groups;
	return 0;
}

static int add_object(struct pf_cases *cases, json_t *object, size_t line, struct pf_error *error)
{
	struct pf_case c = { .line = line, .item = cases->items, .group = cases->groups };
	uint32_t length = 1;
	int status = measure(cases, object, &c, &length, error);

	c.setting.loss = cases->loss;
	c.items = length * group_members(pf_loss_form(&cases->loss));
	if (!status)
		status = make_room(cases, c.items, length, error);
	if (!status)
		status = read_items(cases, object, cases->item + c.item, c.items, error);
	if (!status)
		status = read_setting(cases, object, &c.setting, error);
	if (!status)
		status = add_groups(cases, &c, length, error);
	if (status)
		return status;
	set_divisors(cases, cases->item + c.item, c.items, length, &c.setting.batch);
	cases->items += c.items;
	cases->groups += c.groups;
	cases->list[cases->count++] = c;
	return 0;
}

int pf_cases_add(struct pf_cases *cases, const char *text, size_t length, size_t line, struct pf_error *error)
{
	json_error_t where;
	json_t *object = json_loadb(text, length, JSON_REJECT_DUPLICATES | JSON_DECODE_INT_AS_REAL, &where);
	int status;

	if (!object)
		return pf_fail(error, PF_E_FORMAT, "column %d: %s; a case is one JSON object a line", where.column,
		               where.text);
	if (json_is_object(object))
		status = add_object(cases, object, line, error);
	else
		status = pf_fail(error, PF_E_FORMAT, "a case must be a JSON object such as {\"%s\": -12.5, ...}",
		                 cases->key[0].name);
	json_decref(object);
	return status;
}
