/* fields.h: inner words of forms.h: the fields of one record while it is read.
 *
 * Functions that read return 0, or PF_E_DATA with the fault noted and the error's text naming the field. Texts point
 * into the JSON. Thread-safe: one reading belongs to one thread. */
#ifndef PF_CORPUS_FIELDS_H
#define PF_CORPUS_FIELDS_H
#include <jansson.h>
#include "forms.h"

struct pf_fields {
	json_t          *json;         /* the record */
	enum pf_fault   *fault;
	struct pf_error *error;
};

/* PF_FAULT_FIELD with a text */
PF_PRINTF(2, 3) int pf_field_fail(const struct pf_fields *reading, const char *format, ...);
/* PF_FAULT_EMPTY */
int pf_field_empty(const struct pf_fields *reading, const char *name);
/* What is in the field: NULL where it is missing or null */
json_t *pf_field(const struct pf_fields *reading, const char *name);
int pf_field_has(const struct pf_fields *reading, const char *name);
/* A value's type for people: "a list" */
const char *pf_json_type(const json_t *value);
/* `value`, which belongs to field `name`, as a text or number; value may be NULL for a text */
int pf_field_take_text(const struct pf_fields *reading, const json_t *value, const char *name, struct pf_text *text);
int pf_field_take_number(const struct pf_fields *reading, const json_t *value, const char *name, float *number);
int pf_field_text(const struct pf_fields *reading, const char *name, struct pf_text *text);
/* A number that may be missing: *number stays as it is then */
int pf_field_number(const struct pf_fields *reading, const char *name, float *number);
/* "weight", not negative, and "label" */
int pf_field_weight(const struct pf_fields *reading, float *weight);
int pf_field_label(const struct pf_fields *reading, int *desirable);
#endif
