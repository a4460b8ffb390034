#include "prefpga/flat.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "coefficient.h"
#include "head.h"
#include "prefpga/internal/kernels.h"
#include "prefpga/loss.h"
#include "score.h"

struct pf_flat_head {
	struct pf_head *head;
	int32_t        *target;        /* [room] copies of the last forward's */
	struct pf_span *span;          /* [span_room] */
	struct pf_seq  *sum;           /* [span_room] */
	uint64_t        room, span_room;
	enum pf_precision precision;
};

int pf_flat_version(void)
{
	return PF_FLAT_VERSION;
}

/* ---- errors and names ---- */

static int answer(int code, const struct pf_error *error, char *text, uint64_t size)
{
	if (code && text && size)
		snprintf(text, size, "%s", *error->text ? error->text : pf_error_text(code));
	return code;
}

enum { NEEDS_REFERENCE = 1, NEEDS_Z0 = 2, NEEDS_DELTA = 4, NEEDS_TOKENS = 8, PER_ITEM = 16, PER_TOKEN = 32,
       OWN_WEIGHTS = 64, TAIL = 128, COUPLED = 256, PROMPTS = 512 };

int pf_flat_number(const char *name)
{
	static const struct { const char *name; int number; } names[] = {
		{ "f32", PF_F32 }, { "f16", PF_F16 }, { "bf16", PF_BF16 }, { "chosen", PF_KIND_CHOSEN },
		{ "rejected", PF_KIND_REJECTED }, { "extra", PF_KIND_EXTRA }, { "prompt", PF_KIND_PROMPT },
		{ "reference", NEEDS_REFERENCE },
		{ "z0", NEEDS_Z0 }, { "delta", NEEDS_DELTA }, { "tokens", NEEDS_TOKENS }, { "per_item", PER_ITEM },
		{ "per_token", PER_TOKEN }, { "own_weights", OWN_WEIGHTS }, { "tail", TAIL }, { "coupled", COUPLED },
		{ "prompts", PROMPTS },
	};

	for (size_t i = 0; i < sizeof names / sizeof *names; i++)
		if (strcmp(name, names[i].name) == 0)
			return names[i].number;
	return -1;
}

struct pf_device *pf_flat_open(const char *spec, uint64_t memory_bytes, uint32_t threads, char *text, uint64_t size)
{
	const struct pf_device_options options = { .memory_bytes = memory_bytes, .threads = threads };
	struct pf_device *device = NULL;
	struct pf_error error = { 0 };

	return answer(pf_device_open(spec, &options, &device, &error), &error, text, size) ? NULL : device;
}

static int check_offsets(const uint64_t *offset, uint64_t sequences, uint64_t rows, struct pf_error *error)
{
	if (offset[0] != 0 || offset[sequences] != rows)
		return pf_fail(error, PF_E_SHAPE,
			       "offsets run from %llu to %llu; they must begin with 0 and end with the %llu rows",
			       (unsigned long long)offset[0], (unsigned long long)offset[sequences],
			       (unsigned long long)rows);
	for (uint64_t i = 0; i < sequences; i++)
		if (offset[i] > offset[i + 1])
			return pf_fail(error, PF_E_SHAPE, "offset %llu of sequence %llu is behind the next one, %llu",
				       (unsigned long long)offset[i], (unsigned long long)i,
				       (unsigned long long)offset[i + 1]);
	return 0;
}

/* ---- ready logits ---- */

struct pass {
	struct pf_score_input in;
	const int32_t  *target;        /* the caller's */
	const uint64_t *offset;
	uint64_t        sequence;      /* of the next row */
	int64_t        *sum;
	float          *logp;
	char           *dlogits;
};

static int not_finite(const struct pass *p, uint64_t t, struct pf_error *error)
{
	return pf_fail(error, PF_E_NOT_FINITE,
		       "row %llu (sequence %llu) has no finite log-prob: a logit is NaN or beyond 11000, "
		       "or the target's is -inf",
		       (unsigned long long)t, (unsigned long long)p->sequence);
}

static int add_row(struct pass *p, uint64_t t, const struct pf_row *row, struct pf_error *error)
{
	while (p->offset[p->sequence + 1] <= t)
		p->sequence++;
	if (p->logp)
		p->logp[t] = p->target[t] < 0 ? 0.0f : row->logp;
	if (p->target[t] < 0)
		return 0;
	if (row->status & PF_ROW_BAD)
		return not_finite(p, t, error);
	if (__builtin_add_overflow(p->sum[p->sequence], row->logp_q32, &p->sum[p->sequence]))
		return pf_fail(error, PF_E_RANGE, "the log-prob of sequence %llu is below -2^31",
		               (unsigned long long)p->sequence);
	return 0;
}

static int take(void *context, const struct pf_score_batch *batch, struct pf_error *error)
{
	struct pass *p = context;
	const size_t row_bytes = p->in.vocab * pf_dtype_bytes(p->in.type);
	int code = 0;

	for (uint32_t i = 0; !code && p->sum && i < batch->rows; i++)
		code = add_row(p, batch->first + i, &batch->row[i], error);
	if (p->dlogits && p->dlogits + batch->first * row_bytes != batch->grad)
		memcpy(p->dlogits + batch->first * row_bytes, batch->grad, batch->rows * row_bytes);
	return code;
}

/* Targets as kernels want them: any negative id is PF_IGNORE */
static int run(struct pf_device *device, struct pass *p, const void *logits, int type, uint64_t rows, uint64_t vocab,
               uint64_t sequences, struct pf_error *error)
{
	int32_t *target = malloc((rows + 1) * sizeof *target);
	int code = check_offsets(p->offset, sequences, rows, error);

	if (!target)
		code = pf_fail(error, -ENOMEM, "no memory for %llu targets", (unsigned long long)rows);
	if (!code && (vocab == 0 || vocab > PF_VOCAB_MAX))
		code = pf_fail(error, PF_E_SHAPE, "a vocabulary of %llu; 1 to %u is possible",
			       (unsigned long long)vocab, PF_VOCAB_MAX);
	for (uint64_t t = 0; !code && t < rows; t++)
		target[t] = p->target[t] < 0 ? PF_IGNORE : p->target[t];
	p->in.logits = logits;
	p->in.type = (enum pf_dtype)type;
	p->in.rows = rows;
	p->in.vocab = (uint32_t)vocab;
	p->in.target = target;
	if (!code)
		code = pf_score(device, &p->in, take, p, error);
	free(target);
	return code;
}

int pf_flat_logps(struct pf_device *device, const void *logits, int type, uint64_t rows, uint64_t vocab,
		  const int32_t *target, const uint64_t *offset, uint64_t sequences, int64_t *sum, float *logp,
		  char *text, uint64_t size)
{
	struct pass p = { .target = target, .offset = offset, .sum = sum, .logp = logp };
	struct pf_error error = { 0 };

	memset(sum, 0, sequences * sizeof *sum);
	return answer(run(device, &p, logits, type, rows, vocab, sequences, &error), &error, text, size);
}

int pf_flat_logps_grad(struct pf_device *device, const void *logits, int type, uint64_t rows, uint64_t vocab,
		       const int32_t *target, const uint64_t *offset, uint64_t sequences, const double *grad,
		       void *dlogits, char *text, uint64_t size)
{
	struct pass p = { .target = target, .offset = offset, .dlogits = dlogits };
	struct pf_error error = { 0 };
	float *coef = malloc((rows + 1) * sizeof *coef);
	int code = check_offsets(offset, sequences, rows, &error);

	if (!coef)
		code = pf_fail(&error, -ENOMEM, "no memory for %llu coefficients", (unsigned long long)rows);
	for (uint64_t i = 0; !code && i < sequences; i++)
		for (uint64_t t = offset[i]; t < offset[i + 1]; t++)
			coef[t] = pf_coefficient(grad[i]);
	p.in.want_grad = 1;
	p.in.coef = coef;
	p.in.grad = dlogits;
	if (!code)
		code = run(device, &p, logits, type, rows, vocab, sequences, &error);
	free(coef);
	return answer(code, &error, text, size);
}

/* ---- hidden states and weight ---- */

struct pf_flat_head *pf_flat_head_open_as(struct pf_device *device, const char *precision, uint32_t vocab, uint32_t dim,
                                          uint64_t memory_bytes, uint32_t threads, char *text, uint64_t size)
{
	const int form = pf_precision_find(precision);
	const struct pf_head_options options = { .device = &device, .devices = 1, .vocab = vocab, .dim = dim,
		.memory_bytes = memory_bytes, .threads = threads, .backward = 1,
		.fused = form > PF_PRECISION_FP32 || pf_device_cus(device, PF_KERNEL_linear_grad) > 0,
		.precision = (enum pf_precision)form };
	struct pf_flat_head *h = calloc(1, sizeof *h);
	struct pf_error error = { 0 };
	int code = form < 0 ? pf_fail(&error, PF_E_UNKNOWN, "precision %.40s: fp32, bf16 and mxint8 are known",
	                              precision ? precision : "(none)")
	           : h ? pf_head_open(&options, &h->head, &error)
	               : pf_fail(&error, -ENOMEM, "no memory for a head");

	if (!answer(code, &error, text, size)) {
		h->precision = options.precision;
		return h;
	}
	free(h);
	return NULL;
}

struct pf_flat_head *pf_flat_head_open(struct pf_device *device, uint32_t vocab, uint32_t dim, uint64_t memory_bytes,
                                       uint32_t threads, char *text, uint64_t size)
{
	return pf_flat_head_open_as(device, "fp32", vocab, dim, memory_bytes, threads, text, size);
}

void pf_flat_head_close(struct pf_flat_head *h)
{
	if (!h)
		return;
	pf_head_close(h->head);
	free(h->target);
	free(h->span);
	free(h->sum);
	free(h);
}

static int make_room(struct pf_flat_head *h, uint64_t rows, uint64_t sequences, struct pf_error *error)
{
	if (rows > INT32_MAX || sequences > INT32_MAX)
		return pf_fail(error, PF_E_SHAPE, "more than 2^31 - 1 rows or sequences");
	if (rows > h->room || !h->target) {
		free(h->target);
		h->target = malloc((rows + 1) * sizeof *h->target);
		h->room = h->target ? rows : 0;
	}
	if (sequences > h->span_room || !h->span) {
		free(h->span);
		free(h->sum);
		h->span = malloc((sequences + 1) * sizeof *h->span);
		h->sum = malloc((sequences + 1) * sizeof *h->sum);
		h->span_room = h->span && h->sum ? sequences : 0;
	}
	return h->target && h->span && h->sum ? 0 : pf_fail(error, -ENOMEM, "no memory for %llu targets",
	                                                   (unsigned long long)rows);
}

static int forward(struct pf_flat_head *h, const float *hidden, const float *weight, const int32_t *target,
		   uint64_t rows, const uint64_t *offset, uint64_t sequences, int64_t *sum, struct pf_error *error)
{
	int code = check_offsets(offset, sequences, rows, error);

	if (!code)
		code = make_room(h, rows, sequences, error);
	if (code)
		return code;
	memcpy(h->target, target, rows * sizeof *target);
	for (uint64_t i = 0; i < sequences; i++)
		h->span[i] = (struct pf_span){(uint32_t)offset[i], (uint32_t)offset[i + 1], (uint32_t)offset[i + 1], 0};
	const struct pf_head_input input = { .hidden = hidden, .weight = weight, .target = h->target, .span = h->span,
		.tokens = (uint32_t)rows, .seqs = (uint32_t)sequences, .precision = h->precision };
	code = pf_head_forward(h->head, &input, h->sum, NULL, error);
	for (uint64_t i = 0; !code && i < sequences; i++) {
		sum[i] = h->sum[i].logp;
		if (h->sum[i].status & PF_ROW_BAD)
			code = pf_fail(error, PF_E_NOT_FINITE,
				       "sequence %llu has no finite log-prob: a hidden state or a weight is NaN or "
				       "huge",
				       (unsigned long long)i);
	}
	return code;
}

int pf_flat_head_logps(struct pf_flat_head *head, const float *hidden, const float *weight, const int32_t *target,
		       uint64_t rows, const uint64_t *offset, uint64_t sequences, int64_t *sum, char *text,
		       uint64_t size)
{
	struct pf_error error = { 0 };

	return answer(forward(head, hidden, weight, target, rows, offset, sequences, sum, &error), &error, text, size);
}

int pf_flat_head_logps_grad(struct pf_flat_head *head, const double *grad, float *dhidden, float *dweight, char *text,
                            uint64_t size)
{
	struct pf_error error = { 0 };

	return answer(pf_head_backward(head->head, grad, dhidden, dweight, &error), &error, text, size);
}

/* ---- losses ---- */

const char *pf_flat_loss_name(uint32_t i)
{
	const struct pf_loss_row *row = pf_loss_row(i);

	return row ? row->name : NULL;
}

const char *pf_flat_loss_form(const char *loss)
{
	struct pf_loss parsed;

	return pf_loss_parse(loss, &parsed, NULL) ? NULL : pf_loss_form_name(pf_loss_form(&parsed));
}

int pf_flat_loss_needs(const char *loss, char *text, uint64_t size)
{
	struct pf_error error = { 0 };
	struct pf_loss parsed;

	if (answer(pf_loss_parse(loss, &parsed, &error), &error, text, size))
		return error.code;
	return (pf_loss_needs_reference(&parsed) ? NEEDS_REFERENCE : 0) |
	       (pf_loss_uses(&parsed, PF_LOSS_Z0) ? NEEDS_Z0 : 0) |
	       (pf_loss_uses(&parsed, PF_LOSS_DELTA) ? NEEDS_DELTA : 0) |
	       (pf_loss_uses(&parsed, PF_LOSS_TOKENS) ? NEEDS_TOKENS : 0) | (pf_loss_per_item(&parsed) ? PER_ITEM : 0) |
	       (pf_loss_per_token(&parsed) ? PER_TOKEN : 0) | (pf_loss_own_weights(&parsed) ? OWN_WEIGHTS : 0) |
	       (pf_loss_tail(&parsed) ? TAIL : 0) | (pf_loss_coupled(&parsed) ? COUPLED : 0) |
	       (pf_loss_prompts(&parsed) ? PROMPTS : 0);
}

static int find_parameter(const struct pf_loss *loss, uint32_t component, const char *name, double *value,
                          struct pf_error *error)
{
	if (component >= loss->components)
		return pf_fail(error, PF_E_RANGE, "the loss has %u components", loss->components);
	const struct pf_loss_component *c = &loss->component[component];
	*value = c->weight;
	if (strcmp(name, "weight") == 0)
		return 0;
	for (unsigned i = 0; i < c->row->params; i++)
		if (strcmp(c->row->param[i].name, name) == 0) {
			*value = c->param[i];
			return 0;
		}
	return pf_fail(error, PF_E_UNKNOWN, "loss %s has no parameter %.60s", c->row->name, name);
}

int pf_flat_loss_parameter(const char *loss, uint32_t component, const char *name, double *value, char *text,
                           uint64_t size)
{
	struct pf_error error = { 0 };
	struct pf_loss parsed;
	int code = pf_loss_parse(loss, &parsed, &error);

	if (!code)
		code = find_parameter(&parsed, component, name, value, &error);
	return answer(code, &error, text, size);
}

/* items[i] and result[i] are there; the rest of pf_flat_loss */
static int evaluate(struct pf_device *device, const struct pf_loss *loss, const struct pf_loss_batch *batch,
                    const struct pf_loss_item *item, uint64_t count, const uint32_t *groups, uint64_t group_count,
                    struct pf_loss_result *result, double *total, double *grad, double *each, struct pf_error *error)
{
	size_t invalid = 0;
	int code = pf_loss_evaluate(device, loss, batch, item, count, groups, group_count, result, error);

	if (code)
		return code;
	*total = pf_loss_total(loss, batch, result, count, &invalid);
	for (uint64_t i = 0; i < count; i++) {
		grad[i] = result[i].grad;
		if (each)
			each[i] = result[i].loss;
	}
	return invalid ? pf_fail(error, PF_E_NOT_FINITE, "the loss of %zu items is not finite", invalid) : 0;
}

int pf_flat_loss(struct pf_device *device, const char *loss, uint64_t count, const int64_t *policy,
                 const int64_t *reference, const int64_t *old, const uint32_t *tokens, const int32_t *kind,
                 const float *score, const float *margin, const float *weight, const float *advantage,
                 const uint32_t *groups, uint64_t group_count, double divisor, double z0, double delta,
                 double scored_tokens, double prompt_tokens, double *total, double *grad, double *each, char *text,
                 uint64_t size)
{
	const struct pf_loss_batch batch = { .divisor = divisor, .z0 = z0, .delta = delta, .tokens = scored_tokens,
		                             .prompt_tokens = prompt_tokens };
	struct pf_loss_item *item = calloc(count + 1, sizeof *item);
	struct pf_loss_result *result = calloc(count + 1, sizeof *result);
	struct pf_error error = { 0 };
	struct pf_loss parsed;
	int code = item && result ? pf_loss_parse(loss, &parsed, &error)
	                          : pf_fail(&error, -ENOMEM, "no memory for %llu items", (unsigned long long)count);

	for (uint64_t i = 0; !code && i < count; i++)
		item[i] = (struct pf_loss_item){.policy = policy[i],
						.reference = reference ? reference[i] : 0,
						.old = old ? old[i] : 0,
						.n = tokens[i],
						.kind = kind[i],
						.score = score ? score[i] : 0,
						.margin = margin ? margin[i] : 0,
						.weight = weight ? weight[i] : 1,
						.advantage = advantage ? advantage[i] : 0};
	if (!code)
		code = evaluate(device, &parsed, &batch, item, count, groups, group_count, result, total, grad, each,
				&error);
	free(item);
	free(result);
	return answer(code, &error, text, size);
}
