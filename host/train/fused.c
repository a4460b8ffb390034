#include "fused_inside.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

int pf_fused_check_kernels(const struct pf_fused_options *o, enum pf_precision precision, int backward,
                           struct pf_error *error)
{
	const int forward = pf_precision_forward_kernel(precision), back = pf_precision_backward_kernel(precision);
	const char *lacks = !pf_device_cus(o->device, forward)             ? pf_precision_forward_name(precision)
	                    : backward && !pf_device_cus(o->device, back) ? pf_precision_backward_name(precision)
	                                                                   : NULL;
	return !lacks ? 0
	              : pf_fail(error, PF_E_UNSUPPORTED,
	                        "%s has no kernel %s in its image, which the head in %s needs; load one that has it, "
	                        "take another precision, or give --head logits",
	                        pf_device_facts(o->device)->name, lacks, pf_precision_name(precision));
}

/* What follows from the precision of the next forward */
void pf_fused_set_precision(struct pf_fused *f, enum pf_precision precision)
{
	const uint32_t dim = f->options.dim;
	f->precision = precision;
	f->back = pf_precision_back(precision);
	f->visible = f->host_visible && pf_precision_as_is(precision, dim);
	f->dweight_visible = f->host_visible && pf_precision_pitch(f->back, dim) == dim;
}

int pf_fused_open(const struct pf_fused_options *options, struct pf_fused **fused, struct pf_error *error)
{
	const struct pf_fused_form *form = &options->form;
	*fused = NULL;
	if (options->vocab == 0 || options->vocab > PF_VOCAB_MAX)
		return pf_fail(error, PF_E_RANGE, "vocabulary of %u: 1 to %u are possible", options->vocab,
		               PF_VOCAB_MAX);
	if (options->dim == 0 || options->dim > PF_DEPTH_MAX * 16)
		return pf_fail(error, PF_E_RANGE, "hidden states of %u numbers: 1 to %u are possible", options->dim,
		               PF_DEPTH_MAX * 16);
	if (!(form->scale > 0 && form->softcap >= 0 && form->temperature > 0))
		return pf_fail(error, PF_E_RANGE,
		               "scale %g, softcap %g, temperature %g: scale and temperature must be above 0, "
		               "softcap above 0 or 0 for none",
		               (double)form->scale, (double)form->softcap, (double)form->temperature);
	if (!(options->filter >= 0 && options->filter < 1) ||
	    (options->filter > 0 && (form->zloss != 0 || form->entropy != 0)))
		return pf_fail(error, PF_E_RANGE,
		               "filter %g with z-loss %g and entropy bonus %g: a filter is below 1, and what it "
		               "leaves out is only bounded without these terms", (double)options->filter,
		               (double)form->zloss, (double)form->entropy);
	int code = pf_fused_check_kernels(options, options->precision, options->backward, error);
	if (code)
		return code;
	if (options->precision == PF_PRECISION_MXINT8 && options->backward && options->way == PF_WAY_RECOMPUTE)
		return pf_fail(error, PF_E_UNSUPPORTED,
		               "the way back of mxint8 reads the logits that the forward wrote; it cannot form them "
		               "once more: take --way spill or auto, or bf16");
	struct pf_fused *f = calloc(1, sizeof *f);
	if (!f)
		return pf_fail(error, -ENOMEM, "no memory for the head");
	f->options = *options;
	f->host_visible = pf_device_facts(options->device)->host_visible;
	pf_fused_set_precision(f, options->precision);
	*fused = f;
	return 0;
}

void pf_fused_close(struct pf_fused *f)
{
	if (!f)
		return;
	struct place *all[] = { &f->hidden, &f->hidden_back, &f->dhidden, &f->stage_w, &f->target, &f->coef, &f->row,
		                &f->span,   &f->seq,         &f->raw,     &f->dbias,   &f->state,  &f->filtered,
		                &f->range_target, &f->range_state };
	pf_fused_wait(f, NULL);
	pf_fused_free_weights(f);
	for (size_t i = 0; i < sizeof all / sizeof *all; i++)
		pf_fused_drop(f, all[i]);
	free(f->left_out);
	free(f);
}

static int settle(struct pf_ticket *ticket, unsigned *count, int code, struct pf_error *error)
{
	for (unsigned i = 0; i < *count; i++) {
		int one = pf_wait(&ticket[i], code ? NULL : error);
		code = code ? code : one;
	}
	*count = 0;
	return code;
}

int pf_fused_settle(struct pf_fused *f, struct pf_error *error)
{
	int code = settle(f->in, &f->ins, 0, error);
	code = settle(f->run, &f->runs, code, error);
	return settle(f->out, &f->outs, code, error);
}

int pf_fused_wait(struct pf_fused *f, struct pf_error *error)
{
	int code = pf_fused_settle(f, error);
	if (!code && f->forward_pending)
		code = pf_fused_finish_forward(f, error);
	if (!code && f->filter_pending)
		code = pf_fused_bring_filtered(f, error);
	if (!code && f->dhidden_to)
		code = pf_fused_bring_dhidden(f, f->dhidden_to, error);
	if (!code && f->sums.dweight)
		code = pf_fused_bring_dweight(f, f->sums.dweight, error);
	if (!code && f->sums.dbias) {
		code = pf_fused_move(f->dbias.buf, f->stage_w.host, f->options.vocab * sizeof(float), 0, error);
		if (!code)
			pf_fused_add_narrowed(f->stage_w.host, 1, f->sums.dbias, 1, f->options.vocab);
	}
	f->forward_pending = f->filter_pending = 0;
	f->dhidden_to = NULL;
	f->sums = (struct sums){ NULL, NULL };
	return code;
}

enum pf_way pf_fused_way(const struct pf_fused *f, const char **why)
{
	if (why)
		*why = f->why ? f->why : "nothing was computed yet";
	return f->mode & PF_LINEAR_RAW ? PF_WAY_SPILL : PF_WAY_RECOMPUTE;
}

void pf_left_out_add(struct pf_left_out *sum, const struct pf_left_out *more)
{
	sum->tokens += more->tokens;
	sum->mass += more->mass;
	sum->most = more->most > sum->most ? more->most : sum->most;
	sum->words += more->words;
	sum->saved += more->saved;
}

void pf_left_out_count(struct pf_left_out *sum, const struct pf_filtered *filtered, const int32_t *target,
                       uint32_t tokens)
{
	for (uint32_t t = 0; filtered && t < tokens; t++) {
		const double mass = (double)filtered[t].mass_q40 * 0x1p-40;
		const struct pf_left_out one = { 1, mass, mass, filtered[t].words, filtered[t].saved };
		if (target[t] >= 0)
			pf_left_out_add(sum, &one);
	}
}

const struct pf_filtered *pf_fused_filtered(const struct pf_fused *f)
{
	return f->left_out;
}

int pf_fused_in_place(const struct pf_fused *f)
{
	return f->dweight_visible;
}

uint64_t pf_fused_peak(const struct pf_fused *f)
{
	return f->peak;
}
