/* Verb logprob: log-probs and gradients of logits in NumPy files. */
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "arrays.h"
#include "host/train/score.h"
#include "host/train/seconds.h"
#include "progress.h"
#include "setup.h"

#define QUIET_SECONDS 2.0              /* no progress before */

struct outputs { struct pf_npy_out *logp, *lse, *grad; };

struct totals { struct pf_arrays_totals rows; double seconds; };

struct logprob {
	const struct pf_options *options;
	struct pf_npy            logits, targets, coef;
	struct outputs           out;
	struct pf_device        *device;
	struct pf_score_input    input;
	float                   *column;       /* of one batch */
	uint64_t                 column_rows, done;    /* done: rows so far */
	double                   started;
	struct totals            totals;
	struct pf_device_counts  counts;
	struct pf_progress       progress;
};

/* ---- what goes in ---- */
/* One number for each row of the logits? */
static int check_rows(const struct logprob *l, const struct pf_npy *npy, const char *path, struct pf_error *error)
{
	const struct pf_npy_shape *rows = &npy->shape, *z = &l->logits.shape;
	char want[256], got[256];
	struct pf_npy_shape expected = *z;
	expected.dims--;
	if (rows->dims == expected.dims && memcmp(rows->size, z->size, rows->dims * sizeof z->size[0]) == 0)
		return 0;
	return pf_fail(error, PF_E_SHAPE, "%s: shape %s, but the logits in %s have %s rows: one number a row is needed",
	               path, pf_arrays_shape(rows, got), l->options->logits, pf_arrays_shape(&expected, want));
}

static int open_logits(struct logprob *l, struct pf_error *error)
{
	const char *path = l->options->logits;
	char text[256];
	int code = pf_npy_open(path, &l->logits, error);
	if (code)
		return code;
	pf_npy_as_bf16(&l->logits);
	const struct pf_npy_shape *z = &l->logits.shape;
	if (z->type != PF_F32 && z->type != PF_F16 && z->type != PF_BF16)
		return pf_fail(error, PF_E_TYPE,
		               "%s: elements are %s; logits must be float32, float16, or bfloat16 stored as "
		               "uint16: convert them with a.astype('float32')",
		               path, pf_npy_type_name(z->type));
	if (z->dims < 2 || z->size[z->dims - 1] == 0)
		return pf_fail(error, PF_E_SHAPE, "%s: shape %s; logits must be [rows, vocabulary]", path,
		               pf_arrays_shape(z, text));
	if (z->size[z->dims - 1] > PF_VOCAB_MAX)
		return pf_fail(error, PF_E_SHAPE, "%s: shape %s; the last dimension, the vocabulary, may be %u at most",
		               path, pf_arrays_shape(z, text), PF_VOCAB_MAX);
	return 0;
}

static int open_inputs(struct logprob *l, struct pf_error *error)
{
	const struct pf_options *o = l->options;
	int code = open_logits(l, error);
	if (!code)
		code = pf_arrays_open(o->targets, PF_I32, &l->targets, error);
	if (!code)
		code = check_rows(l, &l->targets, o->targets, error);
	if (!code && o->coef)
		code = pf_arrays_open(o->coef, PF_F32, &l->coef, error);
	if (!code && o->coef)
		code = check_rows(l, &l->coef, o->coef, error);
	if (code)
		return code;
	const struct pf_npy_shape *z = &l->logits.shape;
	l->input = (struct pf_score_input){
		.logits = l->logits.data, .type = z->type, .rows = pf_npy_count(&l->targets.shape),
		.vocab = (uint32_t)z->size[z->dims - 1], .target = l->targets.data, .want_grad = o->grad != NULL,
		.coef = l->coef.data, .threads = (unsigned)o->threads,
	};
	return 0;
}

static int check_values(const struct logprob *l, struct pf_error *error)
{
	const char *path = l->options->targets;
	int code = pf_score_check_targets(&l->input, error);
	if (!code) {
		path = l->options->coef;
		code = pf_score_check_coef(&l->input, error);
	}
	if (code)
		pf_fail_in(error, "%s", path);
	return code;
}

/* ---- what comes out ---- */
static int open_outputs(struct logprob *l, struct pf_error *error)
{
	const struct pf_options *o = l->options;
	struct pf_npy_shape column = l->targets.shape;
	int code = 0;
	column.type = PF_F32;
	if (o->logp_out)
		code = pf_npy_create(o->logp_out, &column, &l->out.logp, error);
	if (!code && o->lse)
		code = pf_npy_create(o->lse, &column, &l->out.lse, error);
	if (!code && o->grad)
		code = pf_npy_create(o->grad, &l->logits.shape, &l->out.grad, error);
	return code;
}

static int commit_outputs(struct logprob *l, struct pf_error *error)
{
	int code = pf_arrays_commit(&l->out.logp, error);
	if (!code)
		code = pf_arrays_commit(&l->out.lse, error);
	return code ? code : pf_arrays_commit(&l->out.grad, error);
}

static float log_sum_exp(const struct pf_row *row)
{
	return (float)((double)row->max + (double)row->log_sum);
}

/* One number of each row, to a file */
static int write_column(struct logprob *l, struct pf_npy_out *out, const struct pf_score_batch *batch, int lse,
                        struct pf_error *error)
{
	if (!out)
		return 0;
	for (uint32_t t = 0; t < batch->rows; t++)
		l->column[t] = lse ? log_sum_exp(&batch->row[t]) : batch->row[t].logp;
	return pf_npy_append(out, l->column, batch->rows, error);
}

static int make_room(struct logprob *l, uint64_t rows, struct pf_error *error)
{
	if (rows <= l->column_rows)
		return 0;
	free(l->column);
	l->column = malloc(rows * sizeof *l->column);
	l->column_rows = l->column ? rows : 0;
	return l->column ? 0 : pf_fail(error, -ENOMEM, "no memory for %" PRIu64 " rows", rows);
}

static int take_batch(void *context, const struct pf_score_batch *batch, struct pf_error *error)
{
	struct logprob *l = context;
	if (*pf_setup_stop())
		return pf_fail(error, PF_E_INTERRUPTED, "interrupted; nothing was written");
	int code = make_room(l, batch->rows, error);
	for (uint32_t t = 0; t < batch->rows; t++)
		pf_arrays_count(&l->totals.rows, &batch->row[t]);
	if (!code)
		code = write_column(l, l->out.logp, batch, 0, error);
	if (!code)
		code = write_column(l, l->out.lse, batch, 1, error);
	if (!code && l->out.grad)
		code = pf_npy_append(l->out.grad, batch->grad, (uint64_t)batch->rows * l->input.vocab, error);
	l->done = batch->first + batch->rows;
	pf_npy_pass(&l->logits, l->done * l->input.vocab);
	if (pf_seconds() - l->started > QUIET_SECONDS)
		pf_progress_show(&l->progress, l->done, "");
	return code;
}

/* ---- the run ---- */
static int run(struct logprob *l, struct pf_error *error)
{
	l->started = pf_seconds();
	pf_setup_stop();
	pf_progress_start(&l->progress, stderr, "logprob", 0, l->input.rows);
	int code = pf_score(l->device, &l->input, take_batch, l, error);
	if (pf_seconds() - l->started > QUIET_SECONDS)
		pf_progress_finish(&l->progress, l->done, "");
	if (!code)
		code = commit_outputs(l, error);
	l->totals.seconds = pf_seconds() - l->started;
	pf_device_counts(l->device, &l->counts);
	return code;
}

static json_t *summary(const struct logprob *l)
{
	const struct pf_arrays_totals *t = &l->totals.rows;
	const double seconds = l->totals.seconds;
	const double mean = t->finite ? t->logp / (double)t->finite : NAN;
	const uint64_t bytes = l->counts.beats * PF_BEAT_BYTES, link = l->counts.bytes_in + l->counts.bytes_out;
	return json_pack("{s:s, s:s, s:I, s:I, s:I, s:I, s:o, s:o, s:o, s:I, s:I, s:f, s:o, s:o}", "device",
	                 pf_device_facts(l->device)->name, "variant", pf_device_facts(l->device)->variant, "rows",
	                 (json_int_t)l->input.rows, "vocabulary", (json_int_t)l->input.vocab, "tokens",
	                 (json_int_t)t->tokens, "bad_rows", (json_int_t)t->bad, "mean_logp", pf_arrays_number(mean),
	                 "perplexity", pf_arrays_number(exp(-mean)), "accuracy",
	                 pf_arrays_number((double)t->hits / (double)t->tokens), "device_bytes", (json_int_t)bytes,
	                 "link_bytes", (json_int_t)link, "seconds", seconds, "tokens_per_second",
	                 pf_arrays_number((double)t->tokens / seconds), "gigabytes_per_second",
	                 pf_arrays_number((double)bytes * 1e-9 / seconds));
}

static void close_all(struct logprob *l)
{
	pf_npy_abandon(l->out.logp);
	pf_npy_abandon(l->out.lse);
	pf_npy_abandon(l->out.grad);
	pf_device_close(l->device);
	pf_npy_close(&l->logits);
	pf_npy_close(&l->targets);
	pf_npy_close(&l->coef);
	free(l->column);
}

int pf_verb_logprob(const struct pf_options *options)
{
	struct logprob l = { .options = options };
	struct pf_error error = { 0 };
	if (!options->logits || !options->targets)
		return pf_cli_usage(options,
		                    "--logits and --targets are needed: NumPy files of [rows, vocabulary] and [rows]");
	if (options->coef && !options->grad)
		return pf_cli_usage(options, "--coef is for the gradient; say where it goes with --grad FILE.npy");
	const struct pf_arrays_file files[] = {
		{ "logits", options->logits, 0 }, { "targets", options->targets, 0 }, { "coef", options->coef, 0 },
		{ "out", options->logp_out, 1 },  { "lse", options->lse, 1 },         { "grad", options->grad, 1 },
	};
	int code = pf_arrays_apart(options, files, sizeof files / sizeof *files);
	if (code)
		return code;
	code = open_inputs(&l, &error);
	if (!code)
		code = check_values(&l, &error);
	if (!code)
		code = pf_arrays_device(options,
		                        l.logits.shape.type == PF_BF16 ? "logprob_bf16 logit_grad_bf16"
		                                                       : "logprob logit_grad",
		                        &l.device, &error);
	if (!code)
		code = open_outputs(&l, &error);
	if (!code)
		code = run(&l, &error);
	if (!code) {
		pf_arrays_print(options, summary(&l));
		pf_arrays_note(options, &l.totals.rows);
	}
	close_all(&l);
	return code ? pf_setup_exit(options, &error) : PF_EXIT_OK;
}
