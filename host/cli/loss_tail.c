/* Lists of tokens into LD-DPO's sums */
#include "loss_tail.h"
#include <stdio.h>
#include "loss_keys.h"
#include "loss_value.h"

static int read_param(const json_t *object, const struct pf_loss *loss, const char *name, double *value,
                      struct pf_error *error)
{
	const struct pf_loss_row *row = loss->component[0].row;
	const char *key;
	json_t *given;
	struct pf_number number;

	pf_loss_param(loss, name, value);
	json_object_foreach((json_t *)object, key, given)
		for (unsigned i = 0; i < row->params; i++)
			if (pf_case_param_is(&row->param[i], key) && pf_case_param_is(&row->param[i], name)) {
				if (pf_number_read(given, key, &number, error))
					return PF_E_DATA;
				*value = number.value;
			}
	return 0;
}

/* Sum of list `key`: tokens from `shared` on count `weight` */
static int sum_list(json_t *object, const char *key, uint32_t shared, double weight, struct pf_error *error)
{
	const json_t *list = json_object_get(object, key);
	long double sum = 0;
	struct pf_number number;
	char text[64];

	for (size_t t = 0; t < json_array_size(list); t++) {
		if (pf_number_read(json_array_get(list, t), key, &number, error))
			return PF_E_DATA;
		sum += t < shared ? number.wide : (long double)weight * number.wide;
	}
	snprintf(text, sizeof text, "%.25Lg", sum);
	return json_object_set_new(object, key, json_string(text)) ? pf_fail(error, PF_E_DATA, "out of memory") : 0;
}

static int measure(const json_t *object, const char *policy, const char *reference, uint32_t *n, struct pf_error *error)
{
	const json_t *own = json_object_get(object, policy), *other = json_object_get(object, reference);

	if (!json_is_array(own) || !json_is_array(other) || json_array_size(own) == 0 ||
	    json_array_size(own) != json_array_size(other) || json_array_size(own) > UINT32_MAX)
		return pf_fail(error, PF_E_SHAPE,
		               "\"%s\" and \"%s\" must be lists of one log-prob a token, of one length", policy,
		               reference);
	*n = (uint32_t)json_array_size(own);
	return 0;
}

int pf_case_tail_sums(const struct pf_loss *loss, json_t *object, struct pf_case_tail *tail, struct pf_error *error)
{
	double both = 1;
	int status = measure(object, "tw", "rw", &tail->n[0], error);

	if (!status)
		status = measure(object, "tl", "rl", &tail->n[1], error);
	if (!status)
		status = read_param(object, loss, "ld_alpha", &tail->weight, error);
	if (!status)
		status = read_param(object, loss, "ld_reference", &both, error);
	tail->shared = tail->n[0] < tail->n[1] ? tail->n[0] : tail->n[1];
	for (int side = 0; side < 2 && !status; side++)
		if (!json_object_get(object, side ? "nl" : "nw") &&
		    json_object_set_new(object, side ? "nl" : "nw", json_integer(tail->n[side])))
			status = pf_fail(error, PF_E_DATA, "out of memory");
	for (int side = 0; side < 2 && !status; side++) {
		status = sum_list(object, side ? "tl" : "tw", tail->shared, tail->weight, error);
		if (!status)
			status =
				sum_list(object, side ? "rl" : "rw", tail->shared, both != 0 ? tail->weight : 1, error);
	}
	return status;
}
