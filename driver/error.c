#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include "prefpga/error.h"

const char *pf_error_text(int code)
{
	switch (code) {
	case PF_OK:
		return "no error";
#define PF_ERROR_CASE(name, number, text) case number: return text;
	PF_ERRORS(PF_ERROR_CASE)
#undef PF_ERROR_CASE
	}
	return code < 0 && code > -4096 ? strerror(-code) : "unknown error code";
}

int pf_fail(struct pf_error *error, int code, const char *format, ...)
{
	va_list list;
	if (!error)
		return code;
	error->code = code;
	va_start(list, format);
	vsnprintf(error->text, sizeof error->text, format, list);
	va_end(list);
	return code;
}

void pf_fail_in(struct pf_error *error, const char *format, ...)
{
	char cause[sizeof error->text];
	va_list list;
	if (!error)
		return;
	memcpy(cause, error->text, sizeof cause);
	va_start(list, format);
	vsnprintf(error->text, sizeof error->text, format, list);
	va_end(list);
	size_t used = strlen(error->text);
	snprintf(error->text + used, sizeof error->text - used, ": %s", cause);
}
