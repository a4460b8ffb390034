/* Cases through the kernel: those with one setting share launches */
#include "loss_case.h"
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Cases [first, last) of an order by setting, gathered as one evaluation */
struct bucket {
	const struct pf_case **order;
	struct pf_loss_item   *item;
	struct pf_loss_result *result;
	uint32_t              *group;
};

static int compare_settings(const struct pf_case_setting *a, const struct pf_case_setting *b)
{
	int order = memcmp(&a->batch, &b->batch, sizeof a->batch);

	for (unsigned i = 0; i < a->loss.components && !order; i++)
		order = memcmp(a->loss.component[i].param, b->loss.component[i].param,
		               sizeof a->loss.component[i].param);
	return order;
}

static int by_setting(const void *a, const void *b)
{
	const struct pf_case *const *x = a, *const *y = b;
	int order = compare_settings(&(*x)->setting, &(*y)->setting);

	return order ? order : ((*x)->item > (*y)->item) - ((*x)->item < (*y)->item);
}

static int bucket_open(struct bucket *b, const struct pf_cases *cases, struct pf_error *error)
{
	b->order = malloc(cases->count * sizeof *b->order);
	b->item = malloc(cases->items * sizeof *b->item);
	b->result = malloc(cases->items * sizeof *b->result);
	b->group = malloc((cases->groups + 1) * sizeof *b->group);
	if (!b->order || !b->item || !b->result || !b->group)
		return pf_fail(error, -ENOMEM, "no memory for %zu cases", cases->count);
	for (size_t i = 0; i < cases->count; i++)
		b->order[i] = &cases->list[i];
	qsort(b->order, cases->count, sizeof *b->order, by_setting);
	return 0;
}

static void bucket_close(struct bucket *b)
{
	free(b->order);
	free(b->item);
	free(b->result);
	free(b->group);
}

static int run_bucket(struct bucket *b, struct pf_cases *cases, size_t first, size_t last,
                      struct pf_device *device, struct pf_error *error)
{
	const struct pf_case_setting *setting = &b->order[first]->setting;
	uint32_t items = 0, groups = 0;
	int status;

	for (size_t i = first; i < last; i++) {
		const struct pf_case *c = b->order[i];
		memcpy(b->item + items, cases->item + c->item, c->items * sizeof *b->item);
		for (uint32_t g = 0, at = items; g < c->groups; at += cases->group[c->group + g++])
			b->group[groups++] = at;
		items += c->items;
	}
	b->group[groups] = items;
	status = pf_loss_evaluate(device, &setting->loss, &setting->batch, b->item, items, b->group,
	                          groups, b->result, error);
	for (size_t i = first, at = 0; i < last && !status; at += b->order[i++]->items)
		memcpy(cases->result + b->order[i]->item, b->result + at,
		       b->order[i]->items * sizeof *b->result);
	return status;
}

static int run_all(struct bucket *b, struct pf_cases *cases, struct pf_device *device,
                   struct pf_error *error)
{
	const int alone = pf_loss_coupled(&cases->loss);       /* a case is a step then */
	int status = 0;

	for (size_t first = 0, last; first < cases->count && !status; first = last) {
		last = first + 1;
		while (last < cases->count && !alone &&
		       !compare_settings(&b->order[first]->setting, &b->order[last]->setting))
			last++;
		status = run_bucket(b, cases, first, last, device, error);
	}
	return status;
}

int pf_cases_evaluate(struct pf_cases *cases, struct pf_device *device, struct pf_error *error)
{
	struct bucket bucket = { 0 };
	void *result;
	int status;

	if (cases->count == 0)
		return 0;
	result = realloc(cases->result, cases->items * sizeof *cases->result);
	if (!result)
		return pf_fail(error, -ENOMEM, "no memory for %zu results", cases->items);
	cases->result = result;
	status = bucket_open(&bucket, cases, error);
	if (!status)
		status = run_all(&bucket, cases, device, error);
	bucket_close(&bucket);
	return status;
}

/* ---- results ---- */

int pf_cases_loss(const struct pf_cases *cases, size_t i, double *loss, struct pf_error *error)
{
	const struct pf_case *c = &cases->list[i];
	size_t invalid;

	*loss = pf_loss_total(&c->setting.loss, &c->setting.batch, cases->result + c->item,
	                      c->items, &invalid);
	if (invalid || !isfinite(*loss))
		return pf_fail(
			error, PF_E_NOT_FINITE,
			"the loss or its gradient is not finite; parameters or log-probs are "
			"too large for this loss");
	return 0;
}

double pf_cases_grad(const struct pf_cases *cases, size_t i, unsigned key, uint32_t at)
{
	const struct pf_case *c = &cases->list[i];
	int kind = cases->key[key].member;
	uint32_t offset = kind == PF_KIND_REJECTED ? 1
	                  : kind == PF_KIND_EXTRA  ? 2
	                  : kind == PF_KIND_PROMPT ? cases->each - 1
	                                           : 0;

	if (c->tail.n[0])
		return cases->result[c->item + offset].grad * (at < c->tail.shared ? 1 : c->tail.weight);
	return cases->result[c->item + (size_t)at * (c->items / pf_cases_length(cases, i, key)) + offset].grad;
}

static void print_grad(const struct pf_cases *cases, size_t i, unsigned key, FILE *out)
{
	int list = cases->list[i].lists != 0 || cases->list[i].tail.n[0] != 0;
	uint32_t length = pf_cases_length(cases, i, key);

	fprintf(out, "\"%s\":%s", cases->key[key].name, list ? "[" : "");
	for (uint32_t at = 0; at < length; at++)
		fprintf(out, "%s%.17g", at ? "," : "", pf_cases_grad(cases, i, key, at) + 0.0);
	fputs(list ? "]" : "", out);
}

int pf_cases_print(const struct pf_cases *cases, size_t i, FILE *out, struct pf_error *error)
{
	double loss;
	int status = pf_cases_loss(cases, i, &loss, error);
	const char *separator = "";

	if (status)
		return status;
	fprintf(out, "{\"loss\":%.17g,\"grad\":{", loss + 0.0);
	for (unsigned key = 0; key < cases->keys; key++)
		if (cases->key[key].field == PF_CASE_POLICY) {
			fputs(separator, out);
			print_grad(cases, i, key, out);
			separator = ",";
		}
	fputs("}}\n", out);
	return 0;
}
