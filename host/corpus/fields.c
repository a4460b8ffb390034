/* Fields of a record, and what is said about those that are not as they should be */
#include "fields.h"
#include <math.h>
#include <stdarg.h>
#include <stdio.h>

int pf_field_fail(const struct pf_fields *reading, const char *format, ...)
{
	char text[512];
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(text, sizeof text, format, arguments);
	va_end(arguments);
	*reading->fault = PF_FAULT_FIELD;
	return pf_fail(reading->error, PF_E_DATA, "%s", text);
}

json_t *pf_field(const struct pf_fields *reading, const char *name)
{
	json_t *value = json_object_get(reading->json, name);

	return json_is_null(value) ? NULL : value;
}

int pf_field_has(const struct pf_fields *reading, const char *name)
{
	return pf_field(reading, name) != NULL;
}

const char *pf_json_type(const json_t *value)
{
	static const char *const names[] = { "an object", "a list", "a string", "a number", "a number", "true", "false",
	                                     "null" };

	return names[json_typeof(value)];
}

int pf_field_take_text(const struct pf_fields *reading, const json_t *value, const char *name, struct pf_text *text)
{
	if (!value)
		return pf_field_fail(reading, "field \"%s\" is missing", name);
	if (!json_is_string(value))
		return pf_field_fail(reading, "field \"%s\" must be a string, it is %s", name, pf_json_type(value));
	*text = (struct pf_text){ json_string_value(value), json_string_length(value) };
	return 0;
}

int pf_field_text(const struct pf_fields *reading, const char *name, struct pf_text *text)
{
	return pf_field_take_text(reading, pf_field(reading, name), name, text);
}

int pf_field_take_number(const struct pf_fields *reading, const json_t *value, const char *name, float *number)
{
	double wide;

	if (!json_is_number(value))
		return pf_field_fail(reading, "field \"%s\" must be a number, it is %s", name, pf_json_type(value));
	wide = json_number_value(value);
	if (!(fabs(wide) <= 1e30))
		return pf_field_fail(reading, "field \"%s\" is too large", name);
	*number = (float)wide;
	return 0;
}

int pf_field_number(const struct pf_fields *reading, const char *name, float *number)
{
	json_t *value = pf_field(reading, name);

	return value ? pf_field_take_number(reading, value, name, number) : 0;
}

int pf_field_weight(const struct pf_fields *reading, float *weight)
{
	int status = pf_field_number(reading, "weight", weight);

	if (!status && *weight < 0)
		return pf_field_fail(reading, "field \"%s\" is negative", "weight");
	return status;
}

int pf_field_label(const struct pf_fields *reading, int *desirable)
{
	json_t *value = pf_field(reading, "label");

	if (!value)
		return pf_field_fail(reading, "field \"%s\" is missing", "label");
	if (json_is_boolean(value))
		*desirable = json_is_true(value);
	else if (json_is_integer(value) && (json_integer_value(value) == 0 || json_integer_value(value) == 1))
		*desirable = (int)json_integer_value(value);
	else
		return pf_field_fail(reading, "field \"%s\" must be true or false, it is %s", "label",
		                     pf_json_type(value));
	return 0;
}

int pf_field_empty(const struct pf_fields *reading, const char *name)
{
	*reading->fault = PF_FAULT_EMPTY;
	return pf_fail(reading->error, PF_E_DATA, "field \"%s\" holds an empty completion", name);
}
