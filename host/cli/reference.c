/* Verb reference: log-probs of the reference policy out of the cache and into it. */
#include <math.h>
#include <string.h>
#include "host/corpus/hash.h"
#include "host/train/run.h"
#include "progress.h"
#include "setup.h"

enum { COMPARED = 8 };                 /* samples that an import computes itself */
#define FAR_NATS  1.0                  /* another program's rounding is far below it */
#define SAME_NATS 1e-3                 /* a sum with the right key that is further off was changed */

struct work {
	const struct pf_options  *options;
	struct pf_setup           setup;
	struct pf_run             run;
	struct pf_running         running;
	struct pf_reference      *cache[PF_SPLITS];
	struct pf_reference_table table[PF_SPLITS];
};

static const struct pf_option_row *row(enum pf_option option)
{
	return &pf_option_rows[option];
}

static int open_tables(struct work *w, struct pf_error *error)
{
	int code = 0;
	for (int split = 0; !code && split < PF_SPLITS; split++) {
		code = pf_running_cache(&w->running, w->setup.corpus, (enum pf_split)split, &w->cache[split], error);
		if (!code)
			code = pf_running_table(w->setup.corpus, (enum pf_split)split, w->cache[split],
						&w->table[split], error);
	}
	return code;
}

static int open_all(struct work *w, struct pf_error *error)
{
	const struct pf_options *o = w->options;
	int code = pf_loss_parse(o->loss, &w->setup.loss, error);
	if (!code && !pf_loss_needs_reference(&w->setup.loss))
		code = pf_fail(error, PF_E_ARGUMENT, "loss %s looks at no reference; give the --loss of the training",
			       o->loss);
	if (!code && pf_loss_per_token(&w->setup.loss))
		code = pf_fail(error, PF_E_ARGUMENT,
		               "loss %s compares token by token: sums of completions are of no use to it, "
		               "nothing is kept",
		               o->loss);
	if (!code)
		code = pf_setup_devices(&w->setup, o, error);
	if (!code)
		code = pf_setup_check_precision(&w->setup, o, error);
	if (!code)
		code = pf_setup_model(&w->setup, o, 0, error);
	if (!code)
		code = pf_setup_reference(&w->setup, o, error);
	if (!code && !w->setup.reference)
		code = pf_fail(error, PF_E_ARGUMENT, "--%s %s has no log-probs to keep", row(PF_OPTION_reference)->flag,
			       o->reference);
	if (!code)
		code = pf_setup_data(&w->setup, o, error);
	w->run = pf_setup_run(&w->setup, o);
	w->run.precision = w->run.reference_precision; /* the policy is not computed here */
	if (!code)
		code = pf_running_open(&w->running, &w->run, w->setup.model, 0, error);
	return code ? code : open_tables(w, error);
}

static void close_all(struct work *w)
{
	for (int split = 0; split < PF_SPLITS; split++) {
		pf_reference_close(w->cache[split]);
		pf_reference_table_free(&w->table[split]);
	}
	pf_running_close(&w->running);
	pf_setup_close(&w->setup);
}

/* ---- export ---- */

static int export_all(struct work *w, struct pf_error *error)
{
	struct pf_progress progress;
	int code = 0;
	for (int split = 0; !code && split < PF_SPLITS; split++) {
		pf_progress_start(&progress, stderr, "reference", 0, 0);
		code = pf_running_reference(&w->running, w->setup.corpus, (enum pf_split)split, w->cache[split],
					    &w->table[split], pf_progress_part, &progress, error);
		if (!code && pf_reference_origin(w->cache[split]))
			pf_cli_note(w->options, "these log-probs were imported, not computed: %s",
				    pf_reference_path(w->cache[split]));
	}
	if (!code)
		code = pf_reference_file_write(w->options->to, w->table, error);
	if (!code)
		printf("%llu samples written to %s\n", (unsigned long long)(w->table[0].samples + w->table[1].samples),
		       w->options->to);
	return code;
}

/* ---- import ---- */

/* Completion `which` of a sample's record, counted in the record */
static int take_record(struct work *w, int split, uint64_t i, struct pf_error *error)
{
	struct pf_reference_table *t = &w->table[split];
	struct pf_sample sample;
	double nats;
	int code = pf_corpus_load(w->setup.corpus, (enum pf_split)split, i, &sample, error);
	if (code)
		return code;
	for (unsigned k = sample.from; !code && k < sample.to; k++)
		code = pf_reference_of_record(&sample.record, k, &nats)
			   ? pf_reference_table_put(t, i, k - sample.from, nats, error)
			   : pf_fail(error, PF_E_DATA,
				     "sample %llu carries no log-probs of the reference (ref_chosen_logps, "
				     "ref_rejected_logps or reference_logps)",
				     (unsigned long long)i);
	pf_sample_free(&sample);
	return code;
}

static int read_records(struct work *w, struct pf_error *error)
{
	int code = 0;
	if (!w->options->foreign)
		return pf_fail(error, PF_E_MISMATCH,
			       "log-probs in the data carry no key: nothing shows which model they are of. "
			       "--foreign takes them all the same, and every run says so");
	for (int split = 0; !code && split < PF_SPLITS; split++)
		for (uint64_t i = 0; !code && i < w->table[split].samples; i++)
			code = take_record(w, split, i, error);
	if (code)
		pf_fail_in(error, "%s", w->options->data);
	return code;
}

/* Each completion of each sample must be there; a ranking's other places stay empty */
static int check_complete(struct work *w, int split, struct pf_error *error)
{
	const struct pf_reference_table *t = &w->table[split];
	for (uint64_t i = 0; i < t->samples; i++) {
		unsigned there = 0, wanted = t->sides;
		for (unsigned side = 0; side < t->sides; side++)
			there += t->sum[i * t->sides + side] != PF_REFERENCE_NONE;
		if (t->sides > 2) {
			struct pf_sample sample;
			int code = pf_corpus_load(w->setup.corpus, (enum pf_split)split, i, &sample, error);
			if (code)
				return code;
			wanted = sample.to - sample.from;
			pf_sample_free(&sample);
		}
		if (there != wanted)
			return pf_fail(
			    error, PF_E_DATA,
			    "sample %llu of %llu has %u log-probs, %u are needed; were the data read with the "
			    "same options?",
			    (unsigned long long)i, (unsigned long long)t->samples, there, wanted);
	}
	return 0;
}

/* The largest difference from what the reference itself says, over the first samples */
static int compare(struct work *w, int split, double *worst, struct pf_error *error)
{
	const struct pf_reference_table *t = &w->table[split];
	struct pf_reference_table own = *t;
	own.samples = t->samples < COMPARED ? t->samples : COMPARED;
	int code = pf_reference_table_init(&own, error);
	if (!code)
		code = pf_running_reference(&w->running, w->setup.corpus, (enum pf_split)split, NULL, &own, NULL, NULL,
					    error);
	for (uint64_t i = 0; !code && i < own.samples * own.sides; i++) {
		const double off =
		    own.sum[i] == PF_REFERENCE_NONE ? 0.0 : fabs(ldexp((double)own.sum[i] - (double)t->sum[i], -32));
		*worst = !(off <= *worst) ? off : *worst;
	}
	pf_reference_table_free(&own);
	return code;
}

static int keep(struct pf_reference *cache, const struct pf_reference_table *t, int foreign, struct pf_error *error)
{
	uint64_t hash = pf_hash_bytes(PF_HASH_START, t->sum, t->samples * t->sides * sizeof *t->sum);
	int code = pf_reference_restart(cache, foreign ? (hash >> 11) | 1 : 0, error);
	for (uint64_t i = 0; !code && i < t->samples; i++)
		for (unsigned side = 0; !code && side < t->sides; side++)
			if (t->sum[i * t->sides + side] != PF_REFERENCE_NONE)
				code = pf_reference_put(cache, i, side, t->sum[i * t->sides + side], error);
	return code ? code : pf_reference_commit(cache, error);
}

static int import_all(struct work *w, const char *path, struct pf_error *error)
{
	const int foreign = w->options->foreign;
	double worst = 0.0;
	int code = path ? pf_reference_file_read(path, w->table, foreign, error) : read_records(w, error);
	for (int split = 0; !code && split < PF_SPLITS; split++) {
		code = check_complete(w, split, error);
		if (!code)
			code = compare(w, split, &worst, error);
	}
	if (!code && !foreign && !(worst <= SAME_NATS))
		code = pf_fail(error, PF_E_MISMATCH,
			       "%s: the key fits, but a log-prob is %g nat off: the file was changed", path, worst);
	for (int split = 0; !code && split < PF_SPLITS; split++)
		if (w->cache[split])
			code = keep(w->cache[split], &w->table[split], foreign, error);
	if (!code && worst > FAR_NATS)
		pf_cli_note(w->options,
			    "warning: that far off they are of other weights, other tokens or another truncation");
	if (!code)
		printf("%llu samples imported; the first ones differ from --reference by at most %.3g nat\n",
		       (unsigned long long)(w->table[0].samples + w->table[1].samples), worst);
	return code;
}

/* ---- the verb ---- */

int pf_verb_reference(const struct pf_options *o)
{
	const int exports = strcmp(o->argument[0], "export") == 0;
	struct pf_options own = *o;
	struct work w = { .options = &own };
	struct pf_error error = { 0 };
	if (!o->model && o->reference && strcmp(o->reference, "none") != 0 && strcmp(o->reference, "uniform") != 0)
		own.model = o->reference;      /* whose tokenizer and shape are all that is looked at of it */
	if (!exports && strcmp(o->argument[0], "import") != 0)
		return pf_cli_usage(o, "\"%s\" is neither export nor import", o->argument[0]);
	if (exports && o->arguments > 1)
		return pf_cli_usage(o, "export writes to --to FILE; \"%s\" is one argument too many", o->argument[1]);
	if (exports != (o->to != NULL))
		return pf_cli_usage(o, exports ? "export needs --to FILE" : "import reads a file; --to is for export");
	int code = open_all(&w, &error);
	if (!code)
		code = exports ? export_all(&w, &error) : import_all(&w, o->argument[1], &error);
	close_all(&w);
	return code ? pf_setup_exit(o, &error) : PF_EXIT_OK;
}
