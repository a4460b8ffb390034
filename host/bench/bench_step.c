/* Work step: a whole optimizer step of DPO on a decoder of the shape's width, vocabulary and layers: body and head
 * forward and backward, the loss, AdamW. The reference's log-probs are taken as known, as they are after the first
 * epoch. */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "../train/adamw.h"
#include "../train/run.h"
#include "bench.h"
#include "prefpga/internal/kernels.h"

enum { LENGTH_MOST = 128, HEAD_DIM = 64 };
#define RATE         1e-6
#define LOSS_ERROR   1e-6
#define SLOPE_CHANGE 1e-3 /* of the loss, in which the gradient is looked at */
#define SLOPE_ERROR  0.05 /* curvature and rounding leave so much */

struct step {
	struct pf_bench_task task;
	const struct pf_tokenizer *tokenizer;
	struct pf_loss loss;
	struct pf_model *model;
	struct pf_run run;
	struct pf_running running;
	struct pf_adamw adamw;
	struct pf_step facts;
	float *gradient, *kept;
	int ready; /* running and adamw are open */
};

/* Scored tokens of a sequence; a pair has two */
static uint32_t length_of(const struct pf_bench_shape *s)
{
	const uint32_t half = s->tokens / 2;
	return half < 2 ? 2 : half < LENGTH_MOST ? half : LENGTH_MOST;
}

static uint32_t pairs_of(const struct pf_bench_shape *s)
{
	const uint32_t pairs = s->tokens / (2 * length_of(s));
	return pairs ? pairs : 1;
}

static void close_step(void *state)
{
	struct step *s = state;
	if (!s)
		return;
	if (s->ready) {
		pf_running_close(&s->running);
		pf_adamw_fini(&s->adamw);
	}
	pf_model_close(s->model);
	pf_tokenizer_close(s->tokenizer);
	free(s->gradient);
	free(s->kept);
	free(s);
}

/* ---- data ---- */
static int pack_sequence(struct step *s, uint32_t i, struct pf_error *error)
{
	const struct pf_member member = { .sample = i / 2,
		                          .member = i % 2,
		                          .weight = 1,
		                          .advantage = NAN,
		                          .kind = i % 2 ? PF_ITEM_REJECTED : PF_ITEM_CHOSEN };
	const uint32_t length = length_of(&s->task.shape);
	const struct pf_cut cut = { .max_length = length + 1 };
	char text[LENGTH_MOST];
	for (uint32_t k = 0; k + 1 < length; k++)
		text[k] = (char)('!' + (i * 31 + k * 17 + k * k % 7) % 90);
	const int code = pf_pack_sequence(&s->running.pack, s->tokenizer, (struct pf_text){ "", 0 },
	                                  (struct pf_text){ text, length - 1 }, cut, &member);
	return code ? pf_fail(error, code, "no memory for a batch") : 0;
}

static int32_t id_of(const struct step *s, int32_t byte)
{
	return (int32_t)((uint32_t)byte * 2654435761u % s->task.shape.vocab);
}

static int pack(struct step *s, struct pf_error *error)
{
	const uint32_t pairs = pairs_of(&s->task.shape);
	struct pf_pack *p = &s->running.pack;
	int code = 0;
	for (uint32_t i = 0; !code && i < 2 * pairs; i++) {
		code = pack_sequence(s, i, error);
		if (!code && i % 2 && pf_pack_group(p))
			code = pf_fail(error, -ENOMEM, "no memory for a batch");
	}
	for (size_t k = 0; !code && k < p->ids.count; k++)     /* bytes spread over the whole vocabulary */
		p->ids.id[k] = id_of(s, p->ids.id[k]);
	s->facts = (struct pf_step){ .groups = pairs,
		                     .sequences = p->sequences,
		                     .scored = code ? 0 : pf_pack_scored(p, 0, p->sequences) };
	return code;
}

/* ---- the model ---- */
static int open_model(struct step *s, struct pf_error *error)
{
	const struct pf_bench_shape *shape = &s->task.shape;
	const uint32_t head = shape->dim % HEAD_DIM ? shape->dim : HEAD_DIM;
	if (shape->dim % 2)
		return pf_fail(error, PF_E_RANGE, "a decoder of width %u: steps need an even one", shape->dim);
	const struct pf_model_config config = { .vocab = shape->vocab,
		                                .dim = shape->dim,
		                                .layers = shape->layers,
		                                .heads = shape->dim / head,
		                                .kv_heads = shape->dim / head,
		                                .head_dim = head,
		                                .ffn = (8 * shape->dim / 3 + 15) / 16 * 16,
		                                .max_positions = LENGTH_MOST + 2,
		                                .rope_theta = 1e4,
		                                .norm_eps = 1e-5,
		                                .tied = 1,
		                                .bos = -1,
		                                .eos = -1 };
	return pf_model_create(&config, 1, &s->model, error);
}

static int open_run(struct step *s, struct pf_error *error)
{
	const struct pf_adamw_options adamw = { 0.9, 0.999, 1e-8, 0, 1, s->task.threads };
	s->run = (struct pf_run){ .device = &s->task.device,
		                  .devices = 1,
		                  .memory_bytes = s->task.memory_bytes,
		                  .max_length = length_of(&s->task.shape) + 1,
		                  .batch = pairs_of(&s->task.shape),
		                  .accumulate = 1,
		                  .threads = s->task.threads,
		                  .loss = &s->loss,
		                  .uniform = 1,
		                  .logits = !pf_device_cus(s->task.device, PF_KERNEL_linear_grad) };
	int code = pf_running_open(&s->running, &s->run, s->model, 1, error);
	s->ready = 1;
	if (!code)
		code = pf_adamw_init(&s->adamw, pf_model_trained(s->model).layout, &adamw, error);
	s->gradient = pf_floats_alloc(s->model->layout.size);
	s->kept = pf_floats_alloc(s->model->layout.size);
	if (!code && (!s->gradient || !s->kept))
		code = pf_fail(error, -ENOMEM, "no memory for a gradient");
	return code ? code : pack(s, error);
}

static int open_step(const struct pf_bench_task *task, void **state, struct pf_error *error)
{
	struct step *s = calloc(1, sizeof *s);
	*state = s;
	if (!s)
		return pf_fail(error, -ENOMEM, "no memory for the bench");
	s->task = *task;
	int code = pf_tokenizer_open("bytes", &s->tokenizer, error);
	if (!code)
		code = pf_loss_parse("sigmoid:beta=0.1", &s->loss, error);
	if (!code)
		code = open_model(s, error);
	return code ? code : open_run(s, error);
}

/* ---- steps ---- */
static int pass(struct step *s, float *gradient, double *loss, struct pf_error *error)
{
	struct pf_tally tally;
	if (gradient)
		memset(gradient, 0, s->model->layout.size * sizeof *gradient);
	const int code = pf_step_run(&s->running.objective, &s->running.pack, &s->facts, gradient, &tally, error);
	*loss = tally.loss;
	return code;
}

static int run_step(void *state, struct pf_error *error)
{
	struct step *s = state;
	double loss;
	int code = pass(s, s->gradient, &loss, error);
	if (!code && pf_adamw_step(&s->adamw, RATE, s->model->param, s->gradient, NULL))
		code = pf_fail(error, PF_E_NOT_FINITE, "the gradient of a step is not finite");
	pf_model_touch(s->model);
	return code;
}

/* ---- what is known without computing it ---- */
/* Of a policy that is its own reference the loss is log 2 */
static int check_start(struct step *s, struct pf_error *error)
{
	double loss = NAN;
	s->running.objective.reference = s->model;
	int code = pass(s, NULL, &loss, error);
	s->running.objective.reference = NULL;
	if (!code && !(fabs(loss - log(2)) <= LOSS_ERROR))
		code = pf_fail(error, PF_E_DATA,
		               "the loss of a policy that is its own reference is %.9g, not log 2: %s "
		               "computes wrong numbers, nothing was timed",
		               loss, pf_device_facts(s->task.device)->name);
	return code;
}

static int loss_at(struct step *s, double along, double norm, double *loss, struct pf_error *error)
{
	for (uint64_t i = 0; i < s->model->layout.size; i++)
		s->model->param[i] = (float)((double)s->kept[i] + along * (double)s->gradient[i] / norm);
	pf_model_touch(s->model);
	return pass(s, NULL, loss, error);
}

/* Along the gradient the loss rises by its norm */
static int check_slope(struct step *s, struct pf_error *error)
{
	const uint64_t size = s->model->layout.size;
	double loss, low = NAN, high = NAN;
	int code = pass(s, s->gradient, &loss, error);
	const double norm = pf_adamw_norm(&s->adamw, s->gradient), along = SLOPE_CHANGE / norm;
	memcpy(s->kept, s->model->param, size * sizeof *s->kept);
	if (!code)
		code = loss_at(s, -along, norm, &low, error);
	if (!code)
		code = loss_at(s, along, norm, &high, error);
	memcpy(s->model->param, s->kept, size * sizeof *s->kept);
	pf_model_touch(s->model);
	if (!code && !(fabs((high - low) / (2 * SLOPE_CHANGE) - 1) <= SLOPE_ERROR))
		code = pf_fail(error, PF_E_DATA,
		               "the gradient's norm is %.6g, the loss rises by %.6g along it: %s computes "
		               "wrong numbers, nothing was timed",
		               norm, (high - low) / (2 * along), pf_device_facts(s->task.device)->name);
	return code;
}

static int check_step(void *state, struct pf_error *error)
{
	int code = check_start(state, error);
	return code ? code : check_slope(state, error);
}

/* ---- the work ---- */
/* Matrix products of body (12 D^2 a layer and token, three times) and head; attention's own are left out */
static double operations(const struct pf_bench_shape *s)
{
	const double tokens = 2.0 * pairs_of(s) * length_of(s);
	return 6.0 * tokens * s->dim * (12.0 * s->layers * s->dim + s->vocab);
}

static double pairs(const struct pf_bench_shape *s)
{
	return pairs_of(s);
}

const struct pf_bench_work pf_bench_step = { "step",
	                                     "f32",
	                                     PF_BENCH_SGEMM,
	                                     1,
	                                     -1,
	                                     operations,
	                                     pairs,
	                                     open_step,
	                                     check_step,
	                                     run_step,
	                                     close_step,
	                                     NULL,
	                                     "seq_sum pref linear_logprob linear_grad" };
