/* loss_value.h: single values of a JSON case (loss_case.h): numbers, numeric strings and labels into
 * an item's fields, each within the range of its field. Errors name the key. Thread-safe. */
#ifndef PF_CLI_LOSS_VALUE_H
#define PF_CLI_LOSS_VALUE_H
#include <jansson.h>
#include "loss_case.h"

struct pf_number {
	double      value;             /* correctly rounded */
	long double wide;              /* enough for every Q31.32 value */
};
/* JSON number or string that holds one; always finite */
int pf_number_read(const json_t *value, const char *key, struct pf_number *number,
                   struct pf_error *error);
/* One value into the field of an item that `key` names; not for batch scalars */
int pf_case_field_read(const json_t *value, const struct pf_case_key *key,
                       struct pf_loss_item *item, struct pf_error *error);
#endif
