#include "arrays.h"
#include <inttypes.h>
#include <math.h>
#include <string.h>
#include "host/model/replace.h"
#include "setup.h"

int pf_arrays_open(const char *path, enum pf_dtype type, struct pf_npy *npy, struct pf_error *error)
{
	int code = pf_npy_open(path, npy, error);
	if (code || npy->shape.type == type)
		return code;
	return pf_fail(error, PF_E_TYPE, "%s: elements are %s; convert them with a.astype('%s')", path,
	               pf_npy_type_name(npy->shape.type), pf_npy_type_name(type));
}

const char *pf_arrays_shape(const struct pf_npy_shape *shape, char text[256])
{
	size_t at = (size_t)snprintf(text, 256, "(");
	for (unsigned i = 0; i < shape->dims; i++)
		at += (size_t)snprintf(text + at, 256 - at, i ? ", %" PRIu64 : "%" PRIu64, shape->size[i]);
	snprintf(text + at, 256 - at, shape->dims == 1 ? ",)" : ")");
	return text;
}

int pf_arrays_commit(struct pf_npy_out **out, struct pf_error *error)
{
	struct pf_npy_out *file = *out;
	*out = NULL;
	return file ? pf_npy_commit(file, error) : 0;
}

void pf_arrays_count(struct pf_arrays_totals *totals, const struct pf_row *row)
{
	if (row->status & PF_ROW_IGNORED)
		return;
	totals->tokens++;
	totals->bad += (row->status & (PF_ROW_RANGE | PF_ROW_EMPTY)) != 0;
	totals->hits += row->target == row->max;
	if (!isfinite(row->logp))
		return;
	totals->finite++;
	totals->logp += (double)row->logp_q32 * 0x1p-32;
}

void pf_arrays_note(const struct pf_options *options, const struct pf_arrays_totals *totals)
{
	if (totals->bad)
		pf_cli_note(options,
		            "%" PRIu64 " rows have NaN, +inf, logits of %g and more, or nothing but -inf: their logp "
		            "is NaN, their gradient zero",
		            totals->bad, (double)PF_LOGIT_LIMIT);
}

int pf_arrays_apart(const struct pf_options *options, const struct pf_arrays_file *file, unsigned count)
{
	for (unsigned i = 0; i < count; i++)
		for (unsigned j = i + 1; j < count; j++) {
			const struct pf_arrays_file *a = &file[i], *b = &file[j];
			if (!a->path || !b->path || !b->output || !pf_replace_same(a->path, b->path))
				continue;
			return pf_cli_usage(options,
			                    a->output ? "the outputs --%s and --%s name one file; give each its own"
			                              : "--%s is read, and --%s would be written over it; give the "
			                                "output a file of its own",
			                    a->flag, b->flag);
		}
	return 0;
}

static void log_note(void *context, int level, const char *text)
{
	(void)level;
	pf_cli_note(context, "%s", text);
}

int pf_arrays_device(const struct pf_options *o, const char *kernels, struct pf_device **device,
                     struct pf_error *error)
{
	const struct pf_device_options options = {
		.memory_bytes = o->card_memory, .watchdog_ms = pf_option_milliseconds(o->timeout),
		.threads = (uint32_t)o->threads, .image = o->image, .kernels = pf_kernel_set(kernels), .log = log_note,
		.log_context = (void *)o,
	};
	return pf_device_open(o->device, &options, device, error);
}

json_t *pf_arrays_number(double value)
{
	return isfinite(value) ? json_real(value) : json_null();
}

void pf_arrays_print(const struct pf_options *options, json_t *summary)
{
	const char *key;
	json_t *value;
	if (strcmp(options->format, "json") == 0) {
		json_dumpf(summary, stdout, JSON_COMPACT | JSON_REAL_PRECISION(9));
		putchar('\n');
	} else {
		json_object_foreach(summary, key, value)
			if (json_is_string(value))
				printf("%-22s %s\n", key, json_string_value(value));
			else if (json_is_integer(value))
				printf("%-22s %" JSON_INTEGER_FORMAT "\n", key, json_integer_value(value));
			else if (json_is_real(value))
				printf("%-22s %.6g\n", key, json_real_value(value));
	}
	json_decref(summary);
}
