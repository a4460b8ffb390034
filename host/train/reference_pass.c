#include "reference_pass.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "run.h"

static void say(const struct pf_reference_pass *p, const char *text)
{
	if (p->note)
		p->note(p->context, text);
}

/* ---- devices ---- */

static int all_have(const struct pf_reference_pass *p, int kernel)
{
	int have = 1;
	for (unsigned i = 0; i < p->run->devices; i++)
		have &= pf_device_cus(p->device[i], kernel) > 0;
	return have;
}

static int can_reference(const struct pf_reference_pass *p)
{
	return all_have(p, pf_precision_forward_kernel(p->run->reference_precision));
}

static int can_policy(const struct pf_reference_pass *p)
{
	return all_have(p, pf_precision_forward_kernel(p->run->precision)) &&
	       (!p->backward || all_have(p, pf_precision_backward_kernel(p->run->precision)));
}

static void close_all(const struct pf_reference_pass *p)
{
	for (unsigned i = 0; i < p->run->devices; i++)
		if (!pf_device_repeats(p->device, i))  /* one may have taken over for another */
			pf_device_close(p->device[i]);
	for (unsigned i = 0; i < p->run->devices; i++)
		p->device[i] = NULL;
}

/* A card that cannot be opened, such as one that failed in the pass, is met like one that fails in a training: another
 * may take over */
static int reopen(const struct pf_reference_pass *p, uint64_t kernels, struct pf_error *error)
{
	struct pf_error why = { 0 };
	unsigned opened = 0;
	int code = 0;
	close_all(p);
	p->options->kernels = kernels;
	for (unsigned i = 0; i < p->run->devices; i++) {
		const int one = pf_device_open(p->spec[i], p->options, &p->device[i], code ? NULL : &why);
		code = code ? code : one;
		opened += one == 0;
	}
	if (code && p->run->renewal && (opened || pf_device_lost(code)))
		return pf_renew(p->run->renewal, &why, error);
	if (code)
		*error = why;
	return code;
}

/* ---- samples ---- */

struct part { struct pf_corpus *corpus; enum pf_split split; uint64_t seed, steps; int shuffle; uint32_t accumulate; };

static unsigned parts_of(const struct pf_reference_pass *p, struct part part[2])
{
	unsigned parts = 0;
	if (p->corpus)
		part[parts++] = (struct part){ p->corpus, PF_SPLIT_TRAIN, p->seed, p->steps, p->shuffle,
			                       p->run->accumulate };
	if (p->held.corpus)
		part[parts++] = (struct part){ p->held.corpus, p->held.split, 0, UINT64_MAX, 0, 1 };
	return parts;
}

/* 1: goes on; 0: ends well; else an error */
typedef int (*visit_fn)(struct pf_running *running, struct pf_error *error);

static int is_cached(struct pf_running *r, struct pf_error *error)
{
	return pf_step_cached(&r->objective, &r->pack, error);
}

static int compute(struct pf_running *r, struct pf_error *error)
{
	int code = pf_step_reference(&r->objective, &r->pack, NULL, error);
	return code ? code : 1;
}

/* The steps of a part, an epoch of it at most; returns the last visit's value, 1 without any */
static int visit_part(struct pf_running *r, const struct part *part, visit_fn visit, struct pf_error *error)
{
	struct pf_sampler sampler;
	struct pf_step facts;
	int code = pf_running_sampler(r, part->corpus, part->split, part->seed, part->shuffle, part->accumulate,
	                              &sampler, error);
	int more = 1;
	for (uint64_t i = 0; !code && more == 1 && i < sampler.steps && i < part->steps; i++) {
		code = pf_sampler_step(&sampler, i, &r->pack, &facts, error);
		more = code ? code : visit(r, error);
		if (more == 1 && r->run->stop && *r->run->stop)
			more = pf_fail(error, PF_E_INTERRUPTED, "interrupted; log-probs that were computed are kept");
	}
	return code ? code : more;
}

/* Opens the caches of all parts in turn */
static int visit_all(const struct pf_reference_pass *p, struct pf_running *r, visit_fn visit, struct pf_error *error)
{
	struct part part[2];
	const unsigned parts = parts_of(p, part);
	int more = 1;
	for (unsigned i = 0; more == 1 && i < parts; i++) {
		struct pf_reference *cache;
		int code = pf_running_cache(r, part[i].corpus, part[i].split, &cache, error);
		r->objective.cache = cache;
		more = code ? code : visit_part(r, &part[i], visit, error);
		pf_reference_close(cache);
	}
	r->objective.cache = NULL;
	return more;
}

/* 1 if the caches have all that the run will ask for, 0 if not, or an error */
static int complete(const struct pf_reference_pass *p, const struct pf_model *model, struct pf_error *error)
{
	struct pf_running r;
	int code = pf_running_describe(&r, p->run, model, p->backward, error);
	if (!code)
		code = visit_all(p, &r, is_cached, error);
	pf_running_close(&r);
	return code;
}

static int fill_once(const struct pf_reference_pass *p, const struct pf_model *model, struct pf_error *error)
{
	struct pf_run run = *p->run;
	struct pf_running r;
	run.precision = run.reference_precision;       /* the policy is not computed here */
	int code = pf_running_open(&r, &run, model, 0, error);
	if (!code)
		code = visit_all(p, &r, compute, error);
	pf_running_close(&r);
	return code < 0 ? code : 0;
}

/* A device that fails is renewed as in the middle of a training; what the caches have by then stays */
static int fill(const struct pf_reference_pass *p, const struct pf_model *model, struct pf_error *error)
{
	struct pf_renewal *renewal = p->run->renewal;
	int code;
	do {
		code = fill_once(p, model, error);
		if (!code || !renewal || !pf_device_lost(code))
			break;
		const struct pf_error why = *error;
		code = pf_renew(renewal, &why, error);
	} while (!code);
	if (!code && renewal)
		renewal->futile = 0;
	return code;
}

/* ---- the pass ---- */

/* What makes a run compute the reference at every step; NULL: nothing, once is enough */
static const char *needs_both(const struct pf_reference_pass *p)
{
	const struct pf_run *run = p->run;
	return p->moving                                ? "the reference follows the policy"
	       : pf_loss_per_token(run->loss)           ? "the loss compares token by token, which no cache holds"
	       : pf_loss_uses(run->loss, PF_LOSS_Z0)    ? "the loss pairs prompts with other prompts' completions"
	       : !run->cache                            ? "no --cache keeps its log-probs"
	                                                : NULL;
}

static int refuse_both(const struct pf_reference_pass *p, const char *why, struct pf_error *error)
{
	return pf_fail(error, PF_E_UNSUPPORTED,
	               "%s: its image lacks a kernel: the policy's head in %s and the reference's in %s are needed at "
	               "every step, because %s. Take one precision for both, or build an image with all these kernels "
	               "(-DPREFPGA_CUS)",
	               pf_device_facts(p->device[0])->name, pf_precision_name(p->run->precision),
	               pf_precision_name(p->run->reference_precision), why);
}

/* The command may be of any length */
static int say_command(const struct pf_reference_pass *p, struct pf_error *error)
{
	static const char form[] = "with an image that has kernel %s, run first: %s";
	const char *kernel = pf_precision_forward_name(p->run->reference_precision);
	const size_t room = sizeof form + strlen(kernel) + strlen(p->command);
	char *note = malloc(room);
	if (!note)
		return pf_fail(error, -ENOMEM, "no memory for a note");
	snprintf(note, room, form, kernel, p->command);
	say(p, note);
	free(note);
	return 0;
}

static int refuse(const struct pf_reference_pass *p, const char *why, struct pf_error *error)
{
	char text[sizeof error->text];
	snprintf(text, sizeof text, "%s", why);
	if (say_command(p, error) != 0)
		return error->code;
	return pf_fail(error, PF_E_UNSUPPORTED,
	               "the reference's log-probs are not all in the cache, and kernel %s, which computes them in %s, "
	               "cannot be had here: %.300s. Compute them first, with `prefpga reference export` and the "
	               "options of this run",
	               pf_precision_forward_name(p->run->reference_precision),
	               pf_precision_name(p->run->reference_precision), text);
}

static int pass_first(const struct pf_reference_pass *p, const struct pf_model *model, struct pf_error *error)
{
	char text[256];
	int code = reopen(p, p->reference, error);
	if (code)
		return refuse(p, error->text, error);
	if (!can_reference(p))
		return refuse(p, "no image that could be loaded has it", error);
	snprintf(text, sizeof text,
	         "log-probs of the reference first, in %s, as no image has the policy's kernels too; then the policy's "
	         "image",
	         pf_precision_name(p->run->reference_precision));
	say(p, text);
	return fill(p, model, error);
}

int pf_reference_pass(const struct pf_reference_pass *p, const struct pf_model *model, struct pf_error *error)
{
	const struct pf_run *run = p->run;
	if (run->logits || !run->reference || !pf_loss_needs_reference(run->loss) ||
	    run->precision == run->reference_precision || (can_policy(p) && can_reference(p)))
		return 0;
	const char *why = needs_both(p);
	if (why)
		return refuse_both(p, why, error);
	int code = complete(p, model, error);
	code = code == 0 ? pass_first(p, model, error) : code < 0 ? code : 0;
	return code || can_policy(p) ? code : reopen(p, p->policy, error);
}
