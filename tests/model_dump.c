/* model_dump MODEL BATCH.safetensors OUT.safetensors: logits of a batch and the gradient of a sum of log-probs, for
 * comparison with other programs. Batch: ids, target I32 [N], offsets I32 [B + 1], coef F32 [N]. Out: logits F32 [N,
 * V]; grad.<name>, of sum coef log p(target), for every tensor of the model. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "host/model/decoder.h"
#include "host/model/logits.h"
#include "host/model/model.h"

struct batch {
	const int32_t *ids, *target;
	uint32_t offsets[65], seqs, tokens;
	const float *coef;
};

static void check(int code, const struct pf_error *error)
{
	if (code == 0)
		return;
	fprintf(stderr, "model_dump: %s\n", error->text);
	exit(1);
}

static const void *tensor(const struct pf_safetensors *file, const char *name, uint64_t *elements)
{
	const struct pf_safetensor *t = pf_safetensors_find(file, name);
	if (!t) {
		fprintf(stderr, "model_dump: no tensor %s\n", name);
		exit(1);
	}
	*elements = t->elements;
	void *copy = malloc(t->bytes + 1);
	memcpy(copy, t->data, t->bytes);
	return copy;
}

static void read_batch(const char *path, struct batch *b)
{
	struct pf_safetensors *file;
	struct pf_error error = { 0 };
	uint64_t tokens, offsets, other;
	check(pf_safetensors_open(path, &file, &error), &error);
	b->ids = tensor(file, "ids", &tokens);
	b->target = tensor(file, "target", &other);
	b->coef = tensor(file, "coef", &other);
	const uint32_t *begin = tensor(file, "offsets", &offsets);
	b->tokens = (uint32_t)tokens;
	b->seqs = (uint32_t)offsets - 1;
	memcpy(b->offsets, begin, (offsets < 65 ? offsets : 65) * sizeof *begin);
	free((void *)begin);
	pf_safetensors_close(file);
}

/* dz = coef (onehot - softmax), in double */
static void rows_grad(const struct batch *b, uint32_t vocab, const float *z, float *dz)
{
	for (uint32_t t = 0; t < b->tokens; t++, z += vocab, dz += vocab) {
		double high = z[0], sum = 0;
		for (uint32_t v = 1; v < vocab; v++)
			high = fmax(high, z[v]);
		for (uint32_t v = 0; v < vocab; v++)
			sum += exp(z[v] - high);
		for (uint32_t v = 0; v < vocab; v++)
			dz[v] = (float)(b->coef[t] * (((int32_t)v == b->target[t]) - exp(z[v] - high) / sum));
	}
}

struct results {
	float *logits, *raw, *dz, *dhidden, *grad;
};

static void compute(const struct pf_model *m, const struct batch *b, struct results *r)
{
	const struct pf_model_config *c = &m->config;
	const struct pf_decoder_options options = { b->tokens, 0, 2, 1 };
	const struct pf_head_shape shape = { b->tokens, c->vocab, c->dim, c->vocab };
	const size_t cells = (size_t)b->tokens * c->vocab;
	struct pf_decoder *d;
	struct pf_error error = { 0 };
	*r = (struct results){ pf_floats_alloc(cells), pf_floats_alloc(cells), pf_floats_alloc(cells),
		               pf_floats_alloc((uint64_t)b->tokens * c->dim), pf_floats_alloc(m->layout.size) };
	check(pf_decoder_open(c, &m->layout, &options, &d, &error), &error);
	check(pf_decoder_forward(d, m->param, b->ids, b->offsets, b->seqs, &error), &error);
	const float *hidden = pf_decoder_hidden(d), *head = m->param + m->layout.head;
	pf_logits(2, &shape, hidden, head, r->raw);
	memcpy(r->logits, r->raw, cells * sizeof *r->raw);
	if (c->logit_cap > 0)
		pf_logits_cap(2, &shape, c->logit_cap, r->logits);
	rows_grad(b, c->vocab, r->logits, r->dz);
	if (c->logit_cap > 0)
		pf_logits_cap_grad(2, &shape, c->logit_cap, r->raw, r->dz);
	pf_logits_grad(2, &shape, r->dz, hidden, head, r->dhidden, r->grad + m->layout.head);
	check(pf_decoder_backward(d, r->dhidden, r->grad, &error), &error);
	pf_decoder_close(d);
}

int main(int argc, char **argv)
{
	struct pf_model *model;
	struct pf_safetensors_writer *w;
	struct batch b;
	struct results r;
	struct pf_error error = { 0 };
	if (argc != 4)
		return 2;
	check(pf_model_load(argv[1], &model, &error), &error);
	read_batch(argv[2], &b);
	compute(model, &b, &r);
	const uint64_t shape[2] = { b.tokens, model->config.vocab };
	check(pf_safetensors_create(argv[3], &w, &error), &error);
	check(pf_safetensors_declare(w, "logits", PF_F32, 2, shape, &error), &error);
	check(pf_layout_declare(&model->layout, "grad.", w, &error), &error);
	check(pf_safetensors_write(w, r.logits, shape[0] * shape[1] * sizeof(float), &error), &error);
	check(pf_layout_write(&model->layout, r.grad, w, &error), &error);
	check(pf_safetensors_commit(w, &error), &error);
	float *const all[] = { r.logits, r.raw, r.dz, r.dhidden, r.grad };
	for (size_t i = 0; i < sizeof all / sizeof *all; i++)
		free(all[i]);
	free((void *)b.ids);
	free((void *)b.target);
	free((void *)b.coef);
	pf_model_close(model);
	return 0;
}
