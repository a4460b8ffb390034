#include "adamw.h"
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "../model/model.h"
#include "../model/parallel.h"

enum { CHUNK = 1 << 14, LANES = 8 };
#define NORM_MOST 1e19 /* its square still fits v */

static int check(const struct pf_adamw_options *o, struct pf_error *error)
{
	if (!(o->beta1 >= 0.0 && o->beta1 < 1.0) || !(o->beta2 >= 0.0 && o->beta2 < 1.0))
		return pf_fail(error, PF_E_RANGE,
		               "adamw: beta1 %g and beta2 %g must be at least 0 and below 1",
		               o->beta1, o->beta2);
	if (!(o->epsilon > 0.0 && isfinite(o->epsilon)))
		return pf_fail(error, PF_E_RANGE, "adamw: epsilon %g must be above 0", o->epsilon);
	if (!(o->decay >= 0.0 && isfinite(o->decay)) || !(o->clip >= 0.0 && isfinite(o->clip)))
		return pf_fail(error, PF_E_RANGE,
		               "adamw: weight decay %g and clipping norm %g must be 0 or more",
		               o->decay, o->clip);
	return 0;
}

static uint64_t chunks(const struct pf_adamw *a)
{
	return (a->layout->size + CHUNK - 1) / CHUNK;
}

int pf_adamw_init(struct pf_adamw *a, const struct pf_layout *layout,
                  const struct pf_adamw_options *options, struct pf_error *error)
{
	memset(a, 0, sizeof *a);
	a->options = *options;
	a->options.threads = pf_threads(options->threads);
	a->layout = layout;
	int code = check(options, error);
	if (code != 0)
		return code;
	a->m = pf_floats_alloc(layout->size);
	a->v = pf_floats_alloc(layout->size);
	a->part = calloc(chunks(a), sizeof *a->part);
	if (!a->m || !a->v || !a->part)
		return pf_fail(error, -ENOMEM,
		               "adamw: out of memory for the moments of %" PRIu64 " parameters",
		               layout->parameters);
	return 0;
}

void pf_adamw_fini(struct pf_adamw *a)
{
	free(a->m);
	free(a->v);
	free(a->part);
	memset(a, 0, sizeof *a);
}

/* Part of the flat array that one piece works on */
static uint64_t chunk_end(const struct pf_adamw *a, uint64_t begin)
{
	return begin + CHUNK < a->layout->size ? begin + CHUNK : a->layout->size;
}

struct square {
	const struct pf_adamw *adamw;
	const float *grad;
};

/* The layout's size is a multiple of 16, so lanes come out even */
static void square_chunk(void *context, size_t index, unsigned worker)
{
	const struct square *s = context;
	const uint64_t begin = (uint64_t)index * CHUNK, end = chunk_end(s->adamw, begin);
	double lane[LANES] = { 0 };
	(void)worker;
	for (uint64_t i = begin; i < end; i += LANES)
		for (int l = 0; l < LANES; l++)
			lane[l] += (double)s->grad[i + l] * s->grad[i + l];
	for (int l = 1; l < LANES; l++)
		lane[0] += lane[l];
	s->adamw->part[index] = lane[0];
}

double pf_adamw_norm(const struct pf_adamw *a, const float *grad)
{
	struct square s = { a, grad };
	double sum = 0.0;
	pf_parallel(a->options.threads, chunks(a), square_chunk, &s);
	for (uint64_t i = 0; i < chunks(a); i++)
		sum += a->part[i];
	return sqrt(sum);
}

struct update {
	const struct pf_adamw *adamw;
	float *param;
	const float *grad;
	struct pf_adamw_factors factors;
};

static void update_run(const struct pf_adamw_factors *f, float keep, uint64_t count,
                       const float *restrict grad, float *restrict param, float *restrict m,
                       float *restrict v)
{
	for (uint64_t i = 0; i < count; i++) {
		const float g = grad[i] * f->grad;
		m[i] = f->beta1 * m[i] + f->rest1 * g;
		v[i] = f->beta2 * v[i] + f->rest2 * (g * g);
		param[i] = keep * param[i] - f->rate * m[i] / (sqrtf(v[i]) * f->root + f->epsilon);
	}
}

static void update_chunk(void *context, size_t index, unsigned worker)
{
	const struct update *u = context;
	const struct pf_adamw *a = u->adamw;
	const uint64_t begin = (uint64_t)index * CHUNK, end = chunk_end(a, begin);
	(void)worker;
	for (unsigned i = 0; i < a->layout->tensors; i++) {
		const struct pf_tensor *t = &a->layout->tensor[i];
		const uint64_t last = t->offset + pf_tensor_elements(t);
		const uint64_t from = t->offset > begin ? t->offset : begin,
		               to = last < end ? last : end;
		if (from < to && !t->frozen && t != a->away)
			update_run(&u->factors, pf_tensor_decays(t) ? u->factors.keep : 1.0f,
			           to - from, u->grad + from, u->param + from, a->m + from,
			           a->v + from);
	}
}

static struct pf_adamw_factors factors_of(const struct pf_adamw *a, double rate, double scale)
{
	const struct pf_adamw_options *o = &a->options;
	const double t = (double)a->step, bias1 = 1.0 - pow(o->beta1, t),
	             bias2 = 1.0 - pow(o->beta2, t);
	return (struct pf_adamw_factors){
		.beta1 = (float)o->beta1, .beta2 = (float)o->beta2,
		.rest1 = (float)(1.0 - o->beta1), .rest2 = (float)(1.0 - o->beta2),
		.grad = (float)scale, .rate = (float)(rate / bias1),
		.root = (float)(1.0 / sqrt(bias2)), .epsilon = (float)o->epsilon,
		.keep = (float)(1.0 - rate * o->decay),
	};
}

int pf_adamw_step(struct pf_adamw *a, double rate, float *param, const float *grad, double *norm)
{
	struct pf_adamw_factors factors;
	return pf_adamw_step_with(a, rate, param, grad, 0.0, &factors, norm);
}

int pf_adamw_step_with(struct pf_adamw *a, double rate, float *param, const float *grad, double square,
                       struct pf_adamw_factors *factors, double *norm)
{
	const double here = pf_adamw_norm(a, grad), clip = a->options.clip;
	const double length = square != 0.0 ? sqrt(here * here + square) : here;
	const double scale = clip > 0.0 && length > clip ? clip / length : 1.0;
	if (norm)
		*norm = length;
	if (!(length * scale <= NORM_MOST))
		return PF_E_NOT_FINITE;
	a->step++;
	struct update u = { a, param, grad, factors_of(a, rate, scale) };
	pf_parallel(a->options.threads, chunks(a), update_chunk, &u);
	*factors = u.factors;
	if (a->away && !pf_tensor_decays(a->away))
		factors->keep = 1.0f;
	return 0;
}

int pf_adamw_declare(const struct pf_adamw *a, struct pf_safetensors_writer *writer,
                     struct pf_error *error)
{
	char step[32];
	snprintf(step, sizeof step, "%" PRIu64, a->step);
	int code = pf_safetensors_annotate(writer, "adamw.step", step, error);
	code = code != 0 ? code : pf_layout_declare(a->layout, "adamw.m.", writer, error);
	return code != 0 ? code : pf_layout_declare(a->layout, "adamw.v.", writer, error);
}

int pf_adamw_write(const struct pf_adamw *a, struct pf_safetensors_writer *writer,
                   struct pf_error *error)
{
	int code = pf_layout_write(a->layout, a->m, writer, error);
	return code != 0 ? code : pf_layout_write(a->layout, a->v, writer, error);
}

static int read_moment(const struct pf_adamw *a, const char *prefix,
                       const struct pf_safetensors *file, float *flat, struct pf_error *error)
{
	uint8_t *seen = calloc(a->layout->tensors, 1);
	int code = seen ? pf_layout_fill(a->layout, prefix, file, flat, seen, error)
	                : pf_fail(error, -ENOMEM, "adamw: out of memory");
	const char *missing = seen ? pf_layout_missing(a->layout, seen) : NULL;
	if (code == 0 && missing)
		code = pf_fail(error, PF_E_FORMAT, "%s: tensor %s%s is missing",
		               pf_safetensors_where(file), prefix, missing);
	free(seen);
	return code;
}

int pf_adamw_read(struct pf_adamw *a, const struct pf_safetensors *file, struct pf_error *error)
{
	const char *text = pf_safetensors_note(file, "adamw.step");
	char *end;
	errno = 0;
	unsigned long long step = text ? strtoull(text, &end, 10) : 0;
	if (!text || end == text || *end != '\0' || *text == '-' || errno != 0)
		return pf_fail(error, PF_E_FORMAT, "%s: note adamw.step is missing or no number",
		               pf_safetensors_where(file));
	int code = read_moment(a, "adamw.m.", file, a->m, error);
	code = code != 0 ? code : read_moment(a, "adamw.v.", file, a->v, error);
	if (code == 0)
		a->step = step;
	return code;
}
