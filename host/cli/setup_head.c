/* The head of training and evaluation: its form, precisions and kernels, and what is done where no image has all of
 * these. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "host/train/reference_pass.h"
#include "setup.h"

enum pf_way pf_setup_way(const struct pf_options *o)
{
	return strcmp(o->way, "spill") == 0       ? PF_WAY_SPILL
	       : strcmp(o->way, "recompute") == 0 ? PF_WAY_RECOMPUTE
	                                          : PF_WAY_AUTO;
}

enum pf_precision pf_setup_precision(const struct pf_options *o)
{
	return o->head_precision ? (enum pf_precision)pf_precision_find(o->head_precision) : PF_PRECISION_FP32;
}

enum pf_precision pf_setup_reference_precision(const struct pf_options *o)
{
	const int own = o->reference_precision ? pf_precision_find(o->reference_precision) : -1;
	return own < 0 ? pf_setup_precision(o) : (enum pf_precision)own;
}

/* ---- kernels ---- */

static int trains(const struct pf_options *o)
{
	return strcmp(o->verb, "sft") == 0 || strcmp(o->verb, "train") == 0;
}

/* The optimizer's kernels are asked for where it is to be on the device, or may be */
static const char *optimizer_kernels(const struct pf_options *o)
{
	const int device = trains(o) && pf_setup_precision(o) == PF_PRECISION_FP32 && o->head_optimizer &&
	                   (strcmp(o->head_optimizer, "device") == 0 ||
	                    (strcmp(o->head_optimizer, "auto") == 0 && strcmp(o->on_fault, "stop") == 0));
	return device ? "head_adamw head_norm" : "";
}

uint64_t pf_setup_kernels(const struct pf_options *o)
{
	const enum pf_precision precision = pf_setup_precision(o);
	if (o->head && strcmp(o->head, "logits") == 0)
		return pf_kernel_set("seq_sum pref coef logprob logit_grad");
	if (strcmp(o->verb, "reference") == 0)
		return pf_setup_reference_kernels(o);
	return pf_kernel_set("seq_sum pref") | pf_kernel_set(optimizer_kernels(o)) |
	       pf_kernel_set(trains(o) ? pf_precision_kernels(precision) : pf_precision_forward_name(precision));
}

uint64_t pf_setup_reference_kernels(const struct pf_options *o)
{
	return o->head && strcmp(o->head, "logits") == 0
	               ? pf_setup_kernels(o)
	               : pf_kernel_set("seq_sum") |
	                         pf_kernel_set(pf_precision_forward_name(pf_setup_reference_precision(o)));
}

/* The fused form's that are the policy's own and no other form has; for verb reference the reference's */
static int has_fused(const struct pf_device *device, const struct pf_options *o)
{
	const enum pf_precision policy = pf_setup_precision(o), reference = pf_setup_reference_precision(o);
	if (strcmp(o->verb, "reference") == 0)
		return pf_device_cus(device, pf_precision_forward_kernel(reference)) > 0;
	return pf_device_cus(device, pf_precision_forward_kernel(policy)) > 0 &&
	       (!trains(o) || pf_device_cus(device, pf_precision_backward_kernel(policy)) > 0);
}

const char *pf_setup_head(const struct pf_setup *s, const struct pf_options *o)
{
	if (strcmp(o->head, "auto") != 0)
		return o->head;
	for (unsigned i = 0; i < s->devices; i++)
		if (!has_fused(s->device[i], o))
			return "logits";
	return "fused";
}

int pf_setup_check_precision(const struct pf_setup *s, const struct pf_options *o, struct pf_error *error)
{
	const enum pf_precision policy = pf_setup_precision(o), reference = pf_setup_reference_precision(o);
	if (strcmp(pf_setup_head(s, o), "logits") != 0 || (policy == PF_PRECISION_FP32 && reference == policy))
		return 0;
	return pf_fail(error, PF_E_ARGUMENT,
	               "--head-precision %s, reference %s: only the fused head has other precisions than fp32; leave "
	               "--head logits out, or load an image with these kernels",
	               pf_precision_name(policy), pf_precision_name(reference));
}

/* ---- the reference before the policy ---- */

/* In single quotes where a shell would see more than a word */
static void add_word(FILE *to, const char *text)
{
	const int plain = *text && strspn(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
	                                        "_-./,:=+@%") == strlen(text);
	fputs(plain ? " " : " '", to);
	for (; *text; text++)
		if (*text == '\'')
			fputs("'\\''", to);
		else
			fputc(*text, to);
	fputs(plain ? "" : "'", to);
}

static void add_option(const struct pf_options *o, const struct pf_option_row *row, FILE *to)
{
	const void *field = (const char *)o + row->at;
	const int off = row->type == PF_TYPE_FLAG && !*(const int *)field;
	char number[64] = "";
	fprintf(to, " --%s%s", row->flag, off ? "=0" : "");
	if (row->type == PF_TYPE_INT)
		snprintf(number, sizeof number, "%lld", (long long)*(const int64_t *)field);
	else if (row->type == PF_TYPE_FLOAT)
		snprintf(number, sizeof number, "%.17g", *(const double *)field);
	else if (row->type == PF_TYPE_SIZE)
		snprintf(number, sizeof number, "%llu", (unsigned long long)*(const uint64_t *)field);
	if (row->type != PF_TYPE_FLAG)
		add_word(to, *number ? number : *(const char *const *)field);
}

/* `prefpga reference export` with what was given for this run, but the image; `data`: instead of --data and its part */
static void add_export(const struct pf_options *o, const char *data, const char *to_file, FILE *to)
{
	fprintf(to, "prefpga reference export --to %s", to_file);
	for (int i = 0; i < PF_OPTION_COUNT; i++) {
		const struct pf_option_row *row = &pf_option_rows[i];
		if (o->source[i] >= PF_FROM_FILE && pf_option_belongs(row, o->verb) &&
		    pf_option_belongs(row, "reference") && i != PF_OPTION_config && i != PF_OPTION_image &&
		    !(data && (i == PF_OPTION_data || i == PF_OPTION_holdout)))
			add_option(o, row, to);
	}
	fputs(data ? " --data" : "", to);
	if (data)
		add_word(to, data);
	fputs(" --image IMAGE", to);
}

/* As long as it gets; the caller frees it, NULL: no memory */
static char *export_command(const struct pf_options *o)
{
	char *text = NULL;
	size_t bytes;
	FILE *to = open_memstream(&text, &bytes);
	if (!to)
		return NULL;
	add_export(o, NULL, "reference.jsonl", to);
	if (trains(o) && o->eval_data) {
		fputs("; ", to);
		add_export(o, o->eval_data, "reference-eval.jsonl", to);
	}
	const int failed = ferror(to);
	if (fclose(to) == 0 && !failed)
		return text;
	free(text);
	return NULL;
}

int pf_setup_reference_pass(struct pf_setup *s, const struct pf_options *o, const struct pf_run *run, uint64_t steps,
                            void (*note)(void *context, const char *text), void *context, struct pf_error *error)
{
	char *command = export_command(o);
	const struct pf_reference_pass pass = { .run = run, .policy = pf_setup_kernels(o),
		.reference = pf_setup_reference_kernels(o), .backward = trains(o), .moving = o->sync_ref_model,
		.corpus = trains(o) ? s->corpus : NULL, .seed = (uint64_t)o->seed, .steps = steps,
		.shuffle = o->shuffle,
		.held = s->held, .device = s->device, .spec = s->spec, .options = &s->device_options,
		.command = command, .note = note, .context = context };
	const int code = command ? pf_reference_pass(&pass, s->model, error)
	                         : pf_fail(error, -ENOMEM, "no memory for a command");
	free(command);
	return code;
}
