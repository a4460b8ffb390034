/* decoder_body.h: the functions of decoder.h for one element type, chosen by BODY_BITS (32 or 64).
 * Deliberately without a guard.
 *
 * Every stage runs over independent pieces: tiles of tokens, blocks of attention, tiles of weight
 * gradients. How the work is cut depends on shapes only, and every output has one writer, so the
 * bits do not depend on the threads. */
#include <cblas.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "config.h"
#include "decoder.h"
#include "lora.h"
#include "parallel.h"
#include "prefpga/internal/kmath.h"
#include "rows.h"
#define REAL_BITS BODY_BITS
#include "real.h"

static void product(CBLAS_TRANSPOSE ta, CBLAS_TRANSPOSE tb, size_t m, size_t n, size_t k,
                    REAL alpha, const REAL *a, size_t lda, const REAL *b, size_t ldb, int add,
                    REAL *c, size_t ldc)
{
	GEMM(CblasRowMajor, ta, tb, (int)m, (int)n, (int)k, alpha, a, (int)lda, b, (int)ldb,
	     (REAL)add, c, (int)ldc);
}

#include "decoder_state.h"
#include "decoder_open.h"
#include "decoder_attention.h"

typedef void (*stage_fn)(struct PF_T(decoder) *d, size_t index, REAL *scratch);
struct stage {
	struct PF_T(decoder) *d;
	stage_fn run;
};

static void stage_piece(void *context, size_t index, unsigned worker)
{
	const struct stage *s = context;
	s->run(s->d, index, s->d->scratch + worker * s->d->scratch_each);
}

static void run_stage(struct PF_T(decoder) *d, stage_fn run, size_t pieces)
{
	struct stage s = { d, run };
	pf_parallel(d->threads, pieces, stage_piece, &s);
}

#include "decoder_weights.h"
#include "decoder_layer.h"

static size_t tiles(const struct PF_T(decoder) *d)
{
	return (d->tokens + d->tile - 1) / d->tile;
}

static void forward_layers(struct PF_T(decoder) *d)
{
	const size_t heads = d->config.kv_heads;
	load_ends(d);
	for (d->at = 0; d->at < d->config.layers; d->at++) {
		enter_layer(d, 0);
		run_stage(d, stage_qkv, tiles(d));
		if (d->cache)
			run_stage(d, stage_keep, d->spans * heads);
		run_stage(d, stage_attend, d->blocks * heads);
		run_stage(d, stage_mlp, tiles(d));
	}
	run_stage(d, stage_final, tiles(d));
}

static int check_ids(const struct PF_T(decoder) *d, const int32_t *ids, uint32_t count,
                     struct pf_error *error)
{
	for (uint32_t i = 0; i < count; i++)
		if (ids[i] < 0 || (uint32_t)ids[i] >= d->config.vocab)
			return pf_fail(error, PF_E_RANGE,
			               "decoder: token %u has id %d; the vocabulary has %u", i,
			               ids[i], d->config.vocab);
	return 0;
}

static int check_offsets(const struct PF_T(decoder) *d, const uint32_t *offsets, uint32_t seqs,
                         struct pf_error *error)
{
	if (offsets[0] != 0)
		return pf_fail(error, PF_E_ARGUMENT, "decoder: the first offset is %u, not 0",
		               offsets[0]);
	for (uint32_t i = 0; i < seqs; i++)
		if (offsets[i + 1] < offsets[i] || offsets[i + 1] > d->max_tokens)
			return pf_fail(
			        error, PF_E_SHAPE,
			        "decoder: sequence %u ends at token %u after %u; offsets ascend "
			        "up to the workspace's %u tokens",
			        i, offsets[i + 1], offsets[i], d->max_tokens);
	return 0;
}

static int check_span(const struct PF_T(decoder) *d, uint32_t i, const struct span *s,
                      struct pf_error *error)
{
	uint32_t most = d->max_length;
	if (d->cache && d->cache->positions < most)
		most = d->cache->positions;
	if (s->length <= most && s->past <= most - s->length)
		return 0;
	return pf_fail(error, PF_E_SHAPE, "decoder: sequence %u has %llu tokens; at most %u fit", i,
	               (unsigned long long)s->past + s->length, most);
}

static int order_span(const void *a, const void *b)
{
	const struct span *x = a, *y = b;
	if (x->length != y->length)
		return x->length > y->length ? -1 : 1;
	return x->begin < y->begin ? -1 : 1;
}

static void cut_blocks(struct PF_T(decoder) *d)
{
	const uint32_t step = (uint32_t)query_tokens(d);
	d->blocks = 0;
	for (uint32_t i = 0; i < d->spans; i++)
		for (uint32_t first = 0; first < d->span[i].length; first += step)
			d->block[d->blocks++] = (struct block){
				i, first, (uint32_t)least(step, d->span[i].length - first)
			};
}

/* Small batches are cut finely enough to occupy threads, large ones coarsely enough for BLAS */
static uint32_t tile_rows(uint32_t tokens)
{
	const uint32_t rows = (tokens / TILES_WANTED + TILE_UNIT - 1) / TILE_UNIT * TILE_UNIT;
	return rows < TILE_LEAST ? TILE_LEAST : rows < TILE_MOST ? rows : TILE_MOST;
}

static int cut_batch(struct PF_T(decoder) *d, const uint32_t *slot, const uint32_t *offsets,
                     uint32_t seqs, struct pf_error *error)
{
	d->spans = 0;
	for (uint32_t i = 0; i < seqs; i++) {
		struct span s = { .begin = offsets[i], .length = offsets[i + 1] - offsets[i] };
		if (slot) {
			s.slot = slot[i];
			s.past = d->cache->length[slot[i]];
		}
		int code = check_span(d, i, &s, error);
		if (code != 0)
			return code;
		for (uint32_t j = 0; j < s.length; j++)
			d->position[s.begin + j] = s.past + j;
		if (s.length > 0)
			d->span[d->spans++] = s;
	}
	memcpy(d->longest, d->span, d->spans * sizeof *d->span);
	qsort(d->longest, d->spans, sizeof *d->longest, order_span);
	d->tokens = offsets[seqs];
	d->tile = tile_rows(d->tokens);
	cut_blocks(d);
	return 0;
}

static int begin(struct PF_T(decoder) *d, const struct PF_T(weights) *weights, struct PF_T(cache) *cache,
                 const uint32_t *slot, const int32_t *ids, const uint32_t *offsets, uint32_t seqs,
                 struct pf_error *error)
{
	d->ready = 0;
	d->cache = cache;
	d->source = *weights;
	d->param = weights->param;
	int code = check_offsets(d, offsets, seqs, error);
	code = code != 0 ? code : make_window(d, error);
	code = code != 0 ? code : check_ids(d, ids, offsets[seqs], error);
	if (code != 0)
		return code;
	memcpy(d->ids, ids, offsets[seqs] * sizeof *ids);
	return cut_batch(d, slot, offsets, seqs, error);
}

int PF_T(decoder_forward)(struct PF_T(decoder) *d, const REAL *param, const int32_t *ids,
                          const uint32_t *offsets, uint32_t seqs, struct pf_error *error)
{
	const struct PF_T(weights) weights = { .param = param };
	return PF_T(decoder_forward_with)(d, &weights, ids, offsets, seqs, error);
}

int PF_T(decoder_forward_with)(struct PF_T(decoder) *d, const struct PF_T(weights) *weights, const int32_t *ids,
                               const uint32_t *offsets, uint32_t seqs, struct pf_error *error)
{
	int code = begin(d, weights, NULL, NULL, ids, offsets, seqs, error);
	if (code != 0)
		return code;
	forward_layers(d);
	d->ready = d->keeps;
	return 0;
}

int PF_T(decoder_extend)(struct PF_T(decoder) *d, const REAL *param, struct PF_T(cache) *cache,
                         const uint32_t *slot, const int32_t *ids, const uint32_t *offsets,
                         uint32_t seqs, struct pf_error *error)
{
	const struct PF_T(weights) weights = { .param = param };
	return PF_T(decoder_extend_with)(d, &weights, cache, slot, ids, offsets, seqs, error);
}

int PF_T(decoder_extend_with)(struct PF_T(decoder) *d, const struct PF_T(weights) *weights, struct PF_T(cache) *cache,
                              const uint32_t *slot, const int32_t *ids, const uint32_t *offsets, uint32_t seqs,
                              struct pf_error *error)
{
	for (uint32_t i = 0; i < seqs; i++)
		if (slot[i] >= cache->slots)
			return pf_fail(error, PF_E_RANGE, "decoder: slot %u of a cache of %u",
			               slot[i], cache->slots);
	int code = begin(d, weights, cache, slot, ids, offsets, seqs, error);
	if (code != 0)
		return code;
	forward_layers(d);
	for (uint32_t i = 0; i < d->spans; i++)
		cache->length[d->span[i].slot] += d->span[i].length;
	return 0;
}

/* dweight[out, in] += dy[N, out]^T x[N, in] */
struct outer {
	size_t out, in;
	const REAL *dy, *x;
	REAL *dweight;
};

/* None for a matrix that is not trained */
static size_t outer_pieces(const struct outer *o)
{
	return !o->dweight ? 0 : (o->out + OUTER_ROWS - 1) / OUTER_ROWS * ((o->in + OUTER_COLS - 1) / OUTER_COLS);
}

static void outer_piece(const struct PF_T(decoder) *d, const struct outer *o, size_t index)
{
	const size_t across = (o->in + OUTER_COLS - 1) / OUTER_COLS;
	const size_t i = index / across * OUTER_ROWS, j = index % across * OUTER_COLS;
	product(CblasTrans, CblasNoTrans, least(OUTER_ROWS, o->out - i),
	        least(OUTER_COLS, o->in - j), d->tokens, 1, o->dy + i, o->out, o->x + j, o->in, 1,
	        o->dweight + i * o->in + j, o->in);
}

static REAL *matrix_grad(const struct PF_T(decoder) *d, enum pf_part part)
{
	return is_trained(d, part) ? part_grad(d, part) : NULL;
}

enum { MLP_OUTERS = 3 };

static void mlp_outers(const struct PF_T(decoder) *d, struct outer o[MLP_OUTERS])
{
	const struct gradients *g = &d->grad;
	o[0] = (struct outer){ d->up_dim, d->dim, g->gate_up, g->normed, matrix_grad(d, PF_PART_UP) };
	o[1] = (struct outer){ d->dim, d->ffn, g->branch2, g->hidden, matrix_grad(d, PF_PART_DOWN) };
	o[2] = (struct outer){ d->dim, d->q_dim, g->branch1, g->attended, matrix_grad(d, PF_PART_OUT) };
}

/* Attention on the way back and the weights of the MLP do not need each other: together they fill
 * the threads */
static void stage_attend_grad(struct PF_T(decoder) *d, size_t index, REAL *scratch)
{
	const size_t heads = (size_t)d->spans * d->config.kv_heads;
	struct outer o[MLP_OUTERS];
	if (index < heads) {
		attend_grad(d, index, scratch);
		return;
	}
	index -= heads;
	mlp_outers(d, o);
	for (int i = 0; i < MLP_OUTERS; i++) {
		const size_t pieces = outer_pieces(&o[i]);
		if (index < pieces) {
			outer_piece(d, &o[i], index);
			return;
		}
		index -= pieces;
	}
}

static size_t attend_grad_pieces(const struct PF_T(decoder) *d)
{
	struct outer o[MLP_OUTERS];
	size_t pieces = (size_t)d->spans * d->config.kv_heads;
	mlp_outers(d, o);
	for (int i = 0; i < MLP_OUTERS; i++)
		pieces += outer_pieces(&o[i]);
	return pieces;
}

static struct outer qkv_outer(const struct PF_T(decoder) *d)
{
	const struct gradients *g = &d->grad;
	return (struct outer){ d->qkv_dim, d->dim, g->qkv, g->normed, matrix_grad(d, PF_PART_QKV) };
}

static void stage_qkv_outer(struct PF_T(decoder) *d, size_t index, REAL *scratch)
{
	const struct outer o = qkv_outer(d);
	(void)scratch;
	outer_piece(d, &o, index);
}

/* The tiles' parts of a norm's or bias's gradient, in order */
static void add_vector(const struct PF_T(decoder) *d, enum pf_part part, REAL *to)
{
	const REAL *from = d->grad.vectors + d->vector_at[part];
	for (size_t i = 0; i < tiles(d); i++)
		for (size_t j = 0; j < d->vector_dim[part]; j++)
			to[j] += from[i * d->vector_width + j];
}

static void backward_layer(struct PF_T(decoder) *d)
{
	enter_layer(d, 1);
	const struct outer o = qkv_outer(d);
	run_stage(d, stage_mlp_grad, tiles(d));
	run_stage(d, stage_attend_grad, attend_grad_pieces(d));
	run_stage(d, stage_qkv_grad, tiles(d));
	run_stage(d, stage_qkv_outer, outer_pieces(&o));
	for (int part = 0; part < PF_PARTS; part++)
		if (d->vector_dim[part] > 0 && !d->source.lora)
			add_vector(d, (enum pf_part)part, part_grad(d, (enum pf_part)part));
	leave_layer(d);
}

/* A strip of columns for all tokens in order: tokens repeat, columns do not */
static void stage_embed_grad(struct PF_T(decoder) *d, size_t index, REAL *scratch)
{
	const size_t j = index * EMBED_COLS, cols = least(EMBED_COLS, d->dim - j);
	const REAL scale = embedding_scale(d);
	const int frozen = d->layout->frozen_head && d->layout->head == d->layout->embed;
	(void)scratch;
	for (size_t n = 0; n < d->tokens; n++) {
		REAL *to = d->dparam + d->layout->embed + (size_t)d->ids[n] * d->dim + j;
		const REAL *from = d->grad.x + n * d->dim + j;
		for (size_t i = 0; !frozen && i < cols; i++)
			to[i] += scale * from[i];
		if (d->layout->position != PF_ABSENT)
			d->rows->add_row(1, cols, from,
			                 d->dparam + d->layout->position + (size_t)d->position[n] * d->dim + j);
	}
}

static void add_ends(const struct PF_T(decoder) *d, REAL *grad)
{
	add_vector(d, PF_PART_NORM1, grad + d->layout->norm);
	if (d->layout->norm_bias != PF_ABSENT)
		add_vector(d, PF_PART_NORM1_BIAS, grad + d->layout->norm_bias);
}

int PF_T(decoder_backward)(struct PF_T(decoder) *d, const REAL *dhidden, REAL *grad,
                           struct pf_error *error)
{
	if (!d->ready)
		return pf_fail(error, PF_E_ARGUMENT,
		               "decoder: backward without a forward that keeps activations");
	d->ready = 0;
	d->dhidden = dhidden;
	d->dparam = grad;
	run_stage(d, stage_final_grad, tiles(d));
	if (!d->source.lora)
		add_ends(d, grad);
	for (d->at = d->config.layers; d->at-- > 0;)
		backward_layer(d);
	if (!d->source.lora)
		run_stage(d, stage_embed_grad, (d->dim + EMBED_COLS - 1) / EMBED_COLS);
	return 0;
}
