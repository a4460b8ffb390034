/* JSON cases into items: keys by table, values checked one by one */
#include "loss_case.h"
#include <errno.h>
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "prefpga/internal/abi.h"
#include "loss_keys.h"
#include "loss_tail.h"
#include "loss_value.h"

static uint32_t group_members(enum pf_loss_form form)
{
	return form == PF_FORM_PAIR ? 2 : form == PF_FORM_TRIPLE ? 3 : 1;
}

int pf_cases_init(struct pf_cases *cases, const struct pf_loss *loss, struct pf_error *error)
{
	memset(cases, 0, sizeof *cases);
	cases->loss = *loss;
	cases->prompts = pf_loss_prompts(loss);
	cases->each = group_members(pf_loss_form(loss)) + (uint32_t)cases->prompts;
	return pf_case_keys(cases, error);
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

/* ---- one case ---- */

static int is_scalar_field(enum pf_case_field field)
{
	return field == PF_CASE_Z0 || field == PF_CASE_DELTA;
}

uint32_t pf_cases_length(const struct pf_cases *cases, size_t i, unsigned key)
{
	const struct pf_case *c = &cases->list[i];

	if (c->tail.n[0])
		return c->tail.n[cases->key[key].member == PF_KIND_REJECTED];
	return c->items / cases->each;
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
		status = grow(&group, &cases->group_room, cases->groups + groups,
		              sizeof *cases->group);
	cases->list = list;
	cases->item = item;
	cases->group = group;
	return status ? pf_fail(error, status, "no memory for %zu more items", items) : 0;
}

/* Length of the batch: that of the lists, which must agree; 1 without any */
static int measure(const struct pf_cases *cases, const json_t *object, struct pf_case *c,
                   uint32_t *length, struct pf_error *error)
{
	const char *first = NULL;

	*length = 1;
	for (unsigned i = 0; i < cases->keys; i++) {
		const json_t *value = json_object_get(object, cases->key[i].name);
		size_t size = json_array_size(value);
		if (!value && cases->key[i].required)
			return pf_fail(error, PF_E_DATA, "key \"%s\" is missing",
			               cases->key[i].name);
		if (!json_is_array(value))
			continue;
		if (is_scalar_field(cases->key[i].field) || size == 0)
			return pf_fail(error, PF_E_DATA, "\"%s\" must be %s", cases->key[i].name,
			               size ? "one number for the whole case"
			                    : "a list with at least one number");
		if (first && size != *length)
			return pf_fail(error, PF_E_SHAPE, "\"%s\" has %zu values but \"%s\" has %u",
			               cases->key[i].name, size, first, *length);
		if (size > UINT32_MAX / 4)
			return pf_fail(error, PF_E_SHAPE, "\"%s\" has too many values",
			               cases->key[i].name);
		first = cases->key[i].name;
		*length = (uint32_t)size;
		c->lists |= 1u << i;
	}
	return 0;
}

/* The item of batch element `at` that a key describes; a prompt has keys of its own */
static int touches(const struct pf_case_key *key, const struct pf_loss_item *item)
{
	return key->member == 0 ? item->kind != PF_KIND_PROMPT : item->kind == key->member;
}

/* One number stands for every element of a batch */
static const json_t *element(const json_t *value, size_t at)
{
	return json_is_array(value) ? json_array_get(value, at) : value;
}

static int read_key(const json_t *object, const struct pf_case_key *key, struct pf_loss_item *item,
                    uint32_t items, uint32_t each, struct pf_error *error)
{
	const json_t *value = json_object_get(object, key->name);
	int status = 0;

	for (uint32_t i = 0; i < items && value && !status; i++)
		if (touches(key, &item[i]))
			status = pf_case_field_read(element(value, i / each), key, &item[i], error);
	return status;
}

static void start_items(const struct pf_cases *cases, struct pf_loss_item *item, uint32_t items)
{
	static const int kinds[] = { PF_KIND_CHOSEN, PF_KIND_REJECTED, PF_KIND_EXTRA };

	for (uint32_t i = 0; i < items; i++) {
		const uint32_t at = i % cases->each;
		item[i] = (struct pf_loss_item) { .n = 1, .weight = 1 };
		item[i].kind = cases->prompts && at == cases->each - 1 ? PF_KIND_PROMPT : kinds[at];
	}
}

static int check_ratios(const struct pf_loss_item *item, uint32_t items, struct pf_error *error)
{
	int64_t ratio;

	for (uint32_t i = 0; i < items; i++)
		if (__builtin_sub_overflow(item[i].policy, item[i].reference, &ratio))
			return pf_fail(error, PF_E_RANGE,
			               "policy - reference = %.10g nats is outside +-2^31",
			               ldexp((double)item[i].policy, -32) -
			                       ldexp((double)item[i].reference, -32));
	return 0;
}

/* Labels first: they decide which item is meant by keys of one member */
static int read_items(const struct pf_cases *cases, const json_t *object, struct pf_loss_item *item,
                      uint32_t items, struct pf_error *error)
{
	int status = 0;

	start_items(cases, item, items);
	for (int labels = 1; labels >= 0; labels--)
		for (unsigned i = 0; i < cases->keys && !status; i++)
			if (!is_scalar_field(cases->key[i].field) &&
			    (cases->key[i].field == PF_CASE_LABEL) == labels)
				status = read_key(object, &cases->key[i], item, items, cases->each, error);
	return status ? status : check_ratios(item, items, error);
}

static int set_param(struct pf_loss *loss, const char *name, const json_t *value, int *known,
                     struct pf_error *error)
{
	struct pf_number number;
	int status = 0;

	*known = 0;
	for (unsigned c = 0; c < loss->components && !status; c++)
		for (unsigned k = 0; k < loss->component[c].row->params && !status; k++) {
			const struct pf_loss_param *param = &loss->component[c].row->param[k];
			if (!pf_case_param_is(param, name))
				continue;
			*known = 1;
			status = pf_number_read(value, name, &number, error);
			if (!status)
				status = pf_loss_set(loss, c, param->name, number.value, error);
		}
	return status;
}

static int set_scalar(struct pf_loss_batch *batch, const struct pf_case_key *key,
                      const json_t *value, struct pf_error *error)
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
static int read_setting(const struct pf_cases *cases, json_t *object,
                        struct pf_case_setting *setting, struct pf_error *error)
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
		if (!status && !key && !known && !pf_case_key_known(name))
			status = pf_case_key_unknown(cases, name, error);
		if (status)
			return status;
	}
	return 0;
}

/* Elements of a list, tokens of a sequence: one loss for all */
static int is_one_group(const struct pf_loss *loss)
{
	return pf_loss_form(loss) == PF_FORM_LIST || pf_loss_form(loss) == PF_FORM_ROLLOUT;
}

/* Parameters of a case can make a loss look at a reference that it had no use for before */
static int check_reference(const struct pf_cases *cases, const struct pf_loss *loss, const json_t *object,
                           struct pf_error *error)
{
	if (!pf_loss_needs_reference(loss) || pf_loss_reward_kl(loss) > 0)
		return 0;
	for (unsigned i = 0; i < cases->keys; i++)
		if (cases->key[i].field == PF_CASE_REFERENCE && !json_object_get(object, cases->key[i].name))
			return pf_fail(error, PF_E_DATA,
			               "key \"%s\" is missing: with these parameters the loss looks at it",
			               cases->key[i].name);
	return 0;
}

static void set_divisors(const struct pf_cases *cases, const struct pf_loss_item *item,
                         uint32_t items, uint32_t length, struct pf_loss_batch *batch)
{
	batch->divisor = is_one_group(&cases->loss) ? 1 : length;
	for (uint32_t i = 0; i < items; i++) {
		batch->tokens += item[i].kind == PF_KIND_CHOSEN ? item[i].n : 0;
		batch->prompt_tokens += item[i].kind == PF_KIND_PROMPT ? item[i].n : 0;
	}
}

static int add_groups(struct pf_cases *cases, struct pf_case *c, uint32_t length,
                      struct pf_error *error)
{
	c->groups = is_one_group(&cases->loss) ? 1 : length;
	if (pf_loss_form(&cases->loss) == PF_FORM_LIST && c->items > PF_ITEMS_MAX)
		return pf_fail(error, PF_E_RANGE, "a list of %u is too long: a group has at most %u", c->items,
		               PF_ITEMS_MAX);
	for (uint32_t g = 0; g < c->groups; g++)
		cases->group[cases->groups + g] = c->items / c->groups;
	return 0;
}

static int add_object(struct pf_cases *cases, json_t *object, size_t line, struct pf_error *error)
{
	struct pf_case c = { .line = line, .item = cases->items, .group = cases->groups };
	uint32_t length = 1;
	int status = pf_loss_tail(&cases->loss) ? pf_case_tail_sums(&cases->loss, object, &c.tail, error) : 0;

	if (!status)
		status = measure(cases, object, &c, &length, error);
	c.setting.loss = cases->loss;
	c.items = length * cases->each;
	if (!status)
		status = make_room(cases, c.items, length, error);
	if (!status)
		status = read_items(cases, object, cases->item + c.item, c.items, error);
	if (!status)
		status = read_setting(cases, object, &c.setting, error);
	if (!status)
		status = check_reference(cases, &c.setting.loss, object, error);
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

int pf_cases_add(struct pf_cases *cases, const char *text, size_t length, size_t line,
                 struct pf_error *error)
{
	json_error_t where;
	json_t *object =
		json_loadb(text, length, JSON_REJECT_DUPLICATES | JSON_DECODE_INT_AS_REAL, &where);
	int status;

	if (!object)
		return pf_fail(error, PF_E_FORMAT,
		               "column %d: %s; a case is one JSON object a line", where.column,
		               where.text);
	if (json_is_object(object))
		status = add_object(cases, object, line, error);
	else
		status = pf_fail(error, PF_E_FORMAT,
		                 "a case must be a JSON object such as {\"%s\": -12.5, ...}",
		                 cases->key[0].name);
	json_decref(object);
	return status;
}
