/* Values of JSON cases, with the exactness of the kernel's tables */
#include "loss_value.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

static int read_text(const char *text, struct pf_number *number)
{
	char *end, *end_wide;

	if (!*text || strspn(text, "0123456789+-.eE") != strlen(text))
		return 0;
	number->value = strtod(text, &end);
	number->wide = strtold(text, &end_wide);
	return !*end && !*end_wide && isfinite(number->value);
}

int pf_number_read(const json_t *value, const char *key, struct pf_number *number,
                   struct pf_error *error)
{
	int good = 1;

	*number = (struct pf_number) { 0 };
	if (json_is_string(value))
		good = read_text(json_string_value(value), number);
	else if (json_is_number(value))
		number->wide = number->value = json_number_value(value);
	else
		good = 0;
	if (!good)
		return pf_fail(error, PF_E_DATA,
		               "\"%.64s\" must be a finite number or a string that holds one", key);
	return 0;
}

static int read_nats(const struct pf_number *number, const char *key, int64_t *q32,
                     struct pf_error *error)
{
	long double scaled = rintl(ldexpl(number->wide, 32));

	if (!(scaled > -0x1p63L && scaled < 0x1p63L))
		return pf_fail(error, PF_E_RANGE,
		               "\"%s\" = %.10Lg nats is outside +-2^31, the range of sums", key,
		               number->wide);
	*q32 = (int64_t)scaled;
	return 0;
}

static int read_count(const struct pf_number *number, const char *key, uint32_t *n,
                      struct pf_error *error)
{
	if (!(number->value >= 1 && number->value <= UINT32_MAX) ||
	    number->value != floor(number->value))
		return pf_fail(error, PF_E_RANGE,
		               "\"%s\" = %.10g must be a whole number of tokens, at least 1", key,
		               number->value);
	*n = (uint32_t)number->value;
	return 0;
}

static int read_single(const struct pf_number *number, const char *key, float *value,
                       struct pf_error *error)
{
	*value = (float)number->value;
	if (!isfinite(*value))
		return pf_fail(error, PF_E_RANGE,
		               "\"%s\" = %.10g is outside the range of single precision", key,
		               number->value);
	return 0;
}

static int read_label(const json_t *value, const char *key, int *kind, struct pf_error *error)
{
	struct pf_number number = { .value = json_is_true(value) };
	int status = json_is_boolean(value) ? 0 : pf_number_read(value, key, &number, error);

	if (status || (number.value != 0 && number.value != 1))
		return pf_fail(error, PF_E_RANGE, "\"%s\" must be true (desirable) or false", key);
	*kind = number.value == 1 ? PF_KIND_CHOSEN : PF_KIND_REJECTED;
	return 0;
}

int pf_case_field_read(const json_t *value, const struct pf_case_key *key,
                       struct pf_loss_item *item, struct pf_error *error)
{
	struct pf_number number;
	int status;

	if (key->field == PF_CASE_LABEL)
		return read_label(value, key->name, &item->kind, error);
	status = pf_number_read(value, key->name, &number, error);
	if (status)
		return status;
	switch (key->field) {
	case PF_CASE_POLICY:    return read_nats(&number, key->name, &item->policy, error);
	case PF_CASE_REFERENCE: return read_nats(&number, key->name, &item->reference, error);
	case PF_CASE_OLD:       return read_nats(&number, key->name, &item->old, error);
	case PF_CASE_N:         return read_count(&number, key->name, &item->n, error);
	case PF_CASE_SCORE:     return read_single(&number, key->name, &item->score, error);
	case PF_CASE_MARGIN:    return read_single(&number, key->name, &item->margin, error);
	case PF_CASE_ADVANTAGE: return read_single(&number, key->name, &item->advantage, error);
	default:                return read_single(&number, key->name, &item->weight, error);
	}
}
