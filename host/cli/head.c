/* Verb head: the fused head over NumPy files: hidden states and W in, log-probs and gradients out; no [T, V] anywhere
 * on the host. */
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include "arrays.h"
#include "cost_note.h"
#include "host/train/shard.h"
#include "host/train/seconds.h"
#include "prefpga/internal/kmath.h"
#include "progress.h"
#include "setup.h"

enum { CHUNK = 8192 };                 /* tokens at a time, whole blocks of the kernels */
#define QUIET_SECONDS 2.0

struct head {
	const struct pf_options  *options;
	struct pf_npy             hidden, weight, bias, targets, coef;
	struct pf_npy_out        *logp, *dhidden, *dweight, *dbias;
	struct pf_device         *device;
	struct pf_fused          *fused;       /* or */
	struct pf_shards         *shards;      /* of --shards */
	struct pf_left_out        left_out;    /* of --filter */
	uint64_t                  rows;
	uint32_t                  vocab, dim, chunk;
	int                       backward;
	struct pf_row            *row;         /* of a chunk, as the next three */
	float                    *column, *ones, *dh;
	float                    *dw, *db;     /* [V, D], [V] */
	float                    *wide_weight, *wide_hidden;   /* of files in bf16: [V, D], [chunk, D]; else NULL */
	struct pf_arrays_totals   totals;
	struct pf_device_counts   counts;
	struct pf_progress        progress;
	double                    started, seconds;
};

/* ---- what goes in ---- */
static int bad_shape(const char *path, const struct pf_npy *npy, const char *want, struct pf_error *error)
{
	char text[256];
	return pf_fail(error, PF_E_SHAPE, "%s: shape %s; %s", path, pf_arrays_shape(&npy->shape, text), want);
}

/* [rows] or [rows, cols] with rows, cols known, or 0 for any */
static int open_array(const char *path, enum pf_dtype type, unsigned dims, uint64_t rows, uint64_t cols,
                      const char *want, struct pf_npy *npy, struct pf_error *error)
{
	int code = pf_arrays_open(path, type, npy, error);
	if (code)
		return code;
	const struct pf_npy_shape *s = &npy->shape;
	if (s->dims != dims || (rows && s->size[0] != rows) || (dims == 2 && cols && s->size[1] != cols))
		return bad_shape(path, npy, want, error);
	return 0;
}

/* [rows, D] of float32 or bfloat16 */
static int open_matrix(const char *path, uint64_t cols, const char *want, struct pf_npy *npy, struct pf_error *error)
{
	int code = pf_npy_open(path, npy, error);
	if (code)
		return code;
	pf_npy_as_bf16(npy);
	if (npy->shape.type != PF_F32 && npy->shape.type != PF_BF16)
		return pf_fail(error, PF_E_TYPE,
		               "%s: elements are %s; float32 is taken, or bfloat16 stored as uint16: convert them with "
		               "a.astype('float32')",
		               path, pf_npy_type_name(npy->shape.type));
	return npy->shape.dims != 2 || (cols && npy->shape.size[1] != cols) ? bad_shape(path, npy, want, error) : 0;
}

static int check_sizes(struct head *h, struct pf_error *error)
{
	const struct pf_npy_shape *hidden = &h->hidden.shape, *weight = &h->weight.shape;
	if (hidden->size[1] == 0 || hidden->size[1] > PF_DEPTH_MAX * 16)
		return bad_shape(h->options->hidden, &h->hidden, "hidden states have 1 to 8192 numbers", error);
	if (weight->size[0] == 0 || weight->size[0] > PF_VOCAB_MAX)
		return bad_shape(h->options->weight, &h->weight, "a vocabulary has 1 to 262144 words", error);
	if (hidden->size[0] > UINT32_MAX)
		return bad_shape(h->options->hidden, &h->hidden, "that is too many rows", error);
	h->rows = hidden->size[0];
	h->dim = (uint32_t)hidden->size[1];
	h->vocab = (uint32_t)weight->size[0];
	h->chunk = (uint32_t)(h->rows < CHUNK ? h->rows : CHUNK);
	return 0;
}

static int open_inputs(struct head *h, struct pf_error *error)
{
	const struct pf_options *o = h->options;
	int code = open_matrix(o->hidden, 0, "hidden states must be [rows, D]", &h->hidden, error);
	if (!code)
		code = open_matrix(o->weight, h->hidden.shape.size[1],
		                   "the weight must be [vocabulary, D] with the D of the hidden states", &h->weight,
		                   error);
	if (!code)
		code = check_sizes(h, error);
	if (!code)
		code = open_array(o->targets, PF_I32, 1, h->rows, 0, "one target for each hidden state is needed",
		                  &h->targets, error);
	if (!code && o->bias)
		code = open_array(o->bias, PF_F32, 1, h->vocab, 0, "one bias for each word is needed", &h->bias, error);
	if (!code && o->coef)
		code = open_array(o->coef, PF_F32, 1, h->rows, 0, "one coefficient for each hidden state is needed",
		                  &h->coef, error);
	return code;
}

static int check_values(const struct head *h, struct pf_error *error)
{
	const int32_t *target = h->targets.data;
	const float *coef = h->coef.data;
	for (uint64_t t = 0; t < h->rows; t++) {
		if (target[t] != PF_IGNORE && (target[t] < 0 || (uint32_t)target[t] >= h->vocab))
			return pf_fail(error, PF_E_RANGE,
			               "%s: row %" PRIu64 ": target %d is no token of a vocabulary of %u; use "
			               "0..%u, or %d to ignore the row",
			               h->options->targets, t, target[t], h->vocab, h->vocab - 1, PF_IGNORE);
		if (coef && !(fabsf(coef[t]) < 0x1p126f))
			return pf_fail(error, PF_E_RANGE,
			               "%s: row %" PRIu64 ": coefficient %g; must be finite and below 2^126",
			               h->options->coef, t, (double)coef[t]);
	}
	return 0;
}

/* ---- what comes out ---- */
static int create(const char *path, struct pf_npy_shape shape, struct pf_npy_out **out, struct pf_error *error)
{
	return path ? pf_npy_create(path, &shape, out, error) : 0;
}

static int open_outputs(struct head *h, struct pf_error *error)
{
	const struct pf_options *o = h->options;
	int code = create(o->logp_out, (struct pf_npy_shape){ PF_F32, 1, { h->rows } }, &h->logp, error);
	if (!code)
		code = create(o->dhidden, h->hidden.shape, &h->dhidden, error);
	if (!code)
		code = create(o->dweight, (struct pf_npy_shape){ PF_F32, 2, { h->vocab, h->dim } }, &h->dweight, error);
	return code ? code : create(o->dbias, (struct pf_npy_shape){ PF_F32, 1, { h->vocab } }, &h->dbias, error);
}

static void widen(const uint16_t *from, size_t count, float *to)
{
	for (size_t i = 0; i < count; i++)
		to[i] = pf_from_bf16(from[i]);
}

static int open_arrays(struct head *h, struct pf_error *error)
{
	const size_t tokens = h->chunk ? h->chunk : 1, matrix = (size_t)h->vocab * h->dim;
	h->row = malloc(tokens * sizeof *h->row);
	h->column = malloc(tokens * sizeof *h->column);
	h->ones = malloc(tokens * sizeof *h->ones);
	h->dh = h->backward ? malloc(tokens * h->dim * sizeof *h->dh) : NULL;
	h->dw = h->options->dweight ? calloc(matrix, sizeof *h->dw) : NULL;
	h->db = h->options->dbias ? calloc(h->vocab, sizeof *h->db) : NULL;
	const int wide_hidden = h->hidden.shape.type == PF_BF16, wide_weight = h->weight.shape.type == PF_BF16;
	h->wide_hidden = wide_hidden ? malloc(tokens * h->dim * sizeof *h->wide_hidden) : NULL;
	h->wide_weight = wide_weight ? malloc(matrix * sizeof *h->wide_weight) : NULL;
	if (!h->row || !h->column || !h->ones || (h->backward && !h->dh) || (h->options->dweight && !h->dw) ||
	    (h->options->dbias && !h->db) || (wide_hidden && !h->wide_hidden) || (wide_weight && !h->wide_weight))
		return pf_fail(error, -ENOMEM, "no memory for gradients of [%u, %u]", h->vocab, h->dim);
	for (size_t t = 0; t < tokens; t++)
		h->ones[t] = 1;
	if (wide_weight)
		widen(h->weight.data, matrix, h->wide_weight);
	return 0;
}

static const char *kernels_of(const struct head *h)
{
	const enum pf_precision precision = (enum pf_precision)pf_precision_find(h->options->precision);
	return h->backward ? pf_precision_kernels(precision) : pf_precision_forward_name(precision);
}

static int open_fused(struct head *h, struct pf_error *error)
{
	const struct pf_options *o = h->options;
	const struct pf_fused_options options = {
		.device = h->device, .vocab = h->vocab, .dim = h->dim, .bias = o->bias != NULL, .backward = h->backward,
		.precision = (enum pf_precision)pf_precision_find(o->precision), .way = pf_setup_way(o),
		.memory_bytes = o->card_memory / 2,
		.form = { (float)o->head_scale, (float)o->softcap, (float)o->head_temperature, (float)o->z_loss,
		          (float)o->entropy_bonus },
		.filter = (float)o->filter,
	};
	struct pf_device *device[64];
	for (unsigned i = 0; i < 64; i++)
		device[i] = h->device;
	return o->shards > 1 ? pf_shards_open(&options, device, (unsigned)o->shards, &h->shards, error)
	                     : pf_fused_open(&options, &h->fused, error);
}

/* ---- the run ---- */
/* In the type of the hidden states; bf16 is narrowed where it lies */
static int write_dhidden(struct head *h, size_t count, struct pf_error *error)
{
	for (size_t i = 0; h->wide_hidden && i < count; i++) {
		const uint16_t half = pf_bf16_any(h->dh[i]);
		memcpy((char *)h->dh + i * sizeof half, &half, sizeof half);
	}
	return pf_npy_append(h->dhidden, h->dh, count, error);
}

static int forward(struct head *h, const struct pf_fused_weight *weight, const struct pf_fused_tokens *tokens,
                   struct pf_error *error)
{
	if (h->shards)
		return pf_shards_forward(h->shards, weight, tokens, NULL, h->row, error);
	int code = pf_fused_forward(h->fused, weight, tokens, NULL, h->row, error);
	return code ? code : pf_fused_wait(h->fused, error);
}

static int backward(struct head *h, const struct pf_fused_tokens *tokens, const float *coef, struct pf_error *error)
{
	int code = h->shards ? pf_shards_backward(h->shards, coef, h->dh, h->dw, h->db, error)
	                     : pf_fused_backward(h->fused, coef, h->dh, h->dw, h->db, error);
	if (!code && h->fused)
		code = pf_fused_wait(h->fused, error);
	if (!code)
		pf_left_out_count(&h->left_out,
		                  h->shards ? pf_shards_filtered(h->shards) : pf_fused_filtered(h->fused),
		                  tokens->target, tokens->tokens);
	return code;
}

static int run_chunk(struct head *h, uint64_t first, uint32_t rows, struct pf_error *error)
{
	const struct pf_fused_weight weight = { h->wide_weight ? h->wide_weight : h->weight.data, h->bias.data, 1,
		(enum pf_precision)pf_precision_find(h->options->precision) };
	const size_t numbers = (size_t)rows * h->dim, at = first * h->dim;
	if (h->wide_hidden)
		widen((const uint16_t *)h->hidden.data + at, numbers, h->wide_hidden);
	const struct pf_fused_tokens tokens = { h->wide_hidden ? h->wide_hidden : (const float *)h->hidden.data + at,
		(const int32_t *)h->targets.data + first, NULL, rows, 0, 0, 0 };
	const float *coef = h->coef.data ? (const float *)h->coef.data + first : h->ones;
	int code = forward(h, &weight, &tokens, error);
	if (!code && h->backward)
		code = backward(h, &tokens, coef, error);
	for (uint32_t t = 0; !code && t < rows; t++) {
		pf_arrays_count(&h->totals, &h->row[t]);
		h->column[t] = h->row[t].logp;
	}
	if (!code && h->logp)
		code = pf_npy_append(h->logp, h->column, rows, error);
	return !code && h->dhidden ? write_dhidden(h, numbers, error) : code;
}

static int run_chunks(struct head *h, struct pf_error *error)
{
	int code = 0;
	for (uint64_t first = 0; !code && first < h->rows; first += h->chunk) {
		const uint64_t left = h->rows - first;
		if (*pf_setup_stop())
			return pf_fail(error, PF_E_INTERRUPTED, "interrupted; nothing was written");
		code = run_chunk(h, first, (uint32_t)(left < h->chunk ? left : h->chunk), error);
		if (pf_seconds() - h->started > QUIET_SECONDS)
			pf_progress_show(&h->progress, left < h->chunk ? h->rows : first + h->chunk, "");
	}
	return code;
}

static int commit_all(struct head *h, struct pf_error *error)
{
	int code = 0;
	if (h->dweight)
		code = pf_npy_append(h->dweight, h->dw, (uint64_t)h->vocab * h->dim, error);
	if (!code && h->dbias)
		code = pf_npy_append(h->dbias, h->db, h->vocab, error);
	if (!code)
		code = pf_arrays_commit(&h->logp, error);
	if (!code)
		code = pf_arrays_commit(&h->dhidden, error);
	if (!code)
		code = pf_arrays_commit(&h->dweight, error);
	return code ? code : pf_arrays_commit(&h->dbias, error);
}

static int run(struct head *h, struct pf_error *error)
{
	h->started = pf_seconds();
	pf_setup_stop();
	pf_progress_start(&h->progress, stderr, "head", 0, h->rows);
	int code = run_chunks(h, error);
	if (pf_seconds() - h->started > QUIET_SECONDS)
		pf_progress_finish(&h->progress, h->rows, "");
	if (!code)
		code = commit_all(h, error);
	h->seconds = pf_seconds() - h->started;
	pf_device_counts(h->device, &h->counts);
	return code;
}

static void add_left_out(json_t *json, const struct pf_left_out *l)
{
	const double tokens = (double)l->tokens;
	json_object_set_new(json, "dropped_mean", pf_arrays_number(l->mass / tokens));
	json_object_set_new(json, "dropped_max", pf_arrays_number(l->most));
	json_object_set_new(json, "dropped_words", pf_arrays_number((double)l->words / tokens));
	json_object_set_new(json, "saved_words", pf_arrays_number((double)l->saved / tokens));
}

/* What the cost model says of a whole chunk, beside what was measured */
static void add_cost(json_t *json, const struct head *h)
{
	const int dweight = h->options->dweight != NULL;
	const struct pf_cost_head head = { .tokens = h->chunk, .vocab = h->vocab, .dim = h->dim,
		                           .backward = h->backward, .dweight = dweight, .moves = dweight };
	char text[512];
	pf_cli_cost_note(h->options, h->device, 1, h->options->precision, head, text, sizeof text);
	if (text[0])
		json_object_set_new(json, "cost_model", json_string(text));
}

static json_t *summary(const struct head *h)
{
	const struct pf_arrays_totals *t = &h->totals;
	const double mean = t->finite ? t->logp / (double)t->finite : NAN;
	const json_int_t peak = (json_int_t)(h->shards ? pf_shards_peak(h->shards) : pf_fused_peak(h->fused));
	struct rusage usage = { 0 };
	const char *why;
	const enum pf_way own = h->shards ? pf_shards_way(h->shards, &why) : pf_fused_way(h->fused, &why);
	const char *way = own == PF_WAY_SPILL ? "spill" : "recompute";
	getrusage(RUSAGE_SELF, &usage);
	json_t *json = json_pack(
		"{s:s, s:s, s:s, s:I, s:I, s:I, s:I, s:I, s:o, s:o, s:o, s:s, s:s, s:I, s:I, s:I, s:I, s:I, s:f, s:o}",
		"device", pf_device_facts(h->device)->name, "variant", pf_device_facts(h->device)->variant,
		"precision", h->options->precision, "rows",
		(json_int_t)h->rows, "vocabulary", (json_int_t)h->vocab, "dim", (json_int_t)h->dim, "tokens",
		(json_int_t)t->tokens, "bad_rows", (json_int_t)t->bad, "mean_logp", pf_arrays_number(mean),
		"perplexity", pf_arrays_number(exp(-mean)), "accuracy",
		pf_arrays_number((double)t->hits / (double)t->tokens), "way", h->backward ? way : "none", "way_because",
		why, "link_bytes_in", (json_int_t)h->counts.bytes_in, "link_bytes_out", (json_int_t)h->counts.bytes_out,
		"device_bytes", (json_int_t)(h->counts.beats * PF_BEAT_BYTES), "peak_device_bytes",
		peak, "peak_host_bytes", (json_int_t)usage.ru_maxrss * 1024, "seconds",
		h->seconds, "tokens_per_second", pf_arrays_number((double)t->tokens / h->seconds));
	if (h->shards)
		json_object_set_new(json, "shards", json_integer(pf_shards_parts(h->shards)));
	if (h->left_out.tokens)
		add_left_out(json, &h->left_out);
	if (h->chunk)
		add_cost(json, h);
	return json;
}

static void close_all(struct head *h)
{
	struct pf_npy *in[] = { &h->hidden, &h->weight, &h->bias, &h->targets, &h->coef };
	struct pf_npy_out *out[] = { h->logp, h->dhidden, h->dweight, h->dbias };
	float *memory[] = { h->column, h->ones, h->dh, h->dw, h->db, h->wide_weight, h->wide_hidden };
	pf_fused_close(h->fused);
	pf_shards_close(h->shards);
	pf_device_close(h->device);
	for (size_t i = 0; i < sizeof out / sizeof *out; i++)
		pf_npy_abandon(out[i]);
	for (size_t i = 0; i < sizeof in / sizeof *in; i++)
		pf_npy_close(in[i]);
	for (size_t i = 0; i < sizeof memory / sizeof *memory; i++)
		free(memory[i]);
	free(h->row);
}

int pf_verb_head(const struct pf_options *options)
{
	struct head h = { .options = options, .backward = options->dhidden || options->dweight || options->dbias };
	struct pf_error error = { 0 };
	if (!options->hidden || !options->weight || !options->targets)
		return pf_cli_usage(options, "--hidden, --weight and --targets are needed: NumPy files of [rows, D], "
		                    "[vocabulary, D] and [rows]");
	if (options->coef && !h.backward)
		return pf_cli_usage(options,
		                    "--coef is for gradients; say where they go with --dhidden, --dweight or --dbias");
	if (options->dbias && !options->bias)
		return pf_cli_usage(options, "--dbias is the gradient of --bias, which is not given");
	if (options->filter > 0 && (options->z_loss != 0 || options->entropy_bonus != 0))
		return pf_cli_usage(options,
		                    "--filter bounds what it drops by the coefficients alone; leave out --z-loss and "
		                    "--entropy-bonus, or --filter");
	const struct pf_arrays_file files[] = {
		{ "hidden", options->hidden, 0 },   { "weight", options->weight, 0 },   { "targets", options->targets, 0 },
		{ "bias", options->bias, 0 },       { "coef", options->coef, 0 },       { "out", options->logp_out, 1 },
		{ "dhidden", options->dhidden, 1 }, { "dweight", options->dweight, 1 }, { "dbias", options->dbias, 1 },
	};
	int code = pf_arrays_apart(options, files, sizeof files / sizeof *files);
	if (code)
		return code;
	code = open_inputs(&h, &error);
	if (!code)
		code = check_values(&h, &error);
	if (!code)
		code = open_arrays(&h, &error);
	if (!code)
		code = pf_arrays_device(options, kernels_of(&h), &h.device, &error);
	if (!code)
		code = open_fused(&h, &error);
	if (!code)
		code = open_outputs(&h, &error);
	if (!code)
		code = run(&h, &error);
	if (!code) {
		pf_arrays_print(options, summary(&h));
		pf_arrays_note(options, &h.totals);
	}
	close_all(&h);
	return code ? pf_setup_exit(options, &error) : PF_EXIT_OK;
}
