/* What a training needs before its first step, and how it is left */
#include "trainer_inside.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>
#include "../model/folder.h"

void pf_trainer_forget_caches(struct pf_trainer *r)
{
	pf_reference_close(r->cache);
	pf_reference_close(r->held_cache);
	r->cache = r->held_cache = NULL;
}

/* --resume takes the last checkpoint, so the one before is reached by removing it */
static int fail_damaged(const char *path, struct pf_error *error)
{
	char text[sizeof error->text];
	if (!error)
		return PF_E_FORMAT;
	memcpy(text, error->text, sizeof text);
	return pf_fail(error, PF_E_FORMAT,
	               "%s; if it is damaged, remove the folder %s: --resume then takes the checkpoint before", text,
	               path);
}

static int resume(struct pf_trainer *r, int64_t *keep, struct pf_error *error)
{
	struct pf_checkpoint c = { .fact = r->fact, .facts = r->facts, .reference = r->t->synced };
	char path[PF_TRAINER_PATH], text[PF_TRAINER_PATH + 64];
	int code = pf_checkpoint_find(r->t->out, path, sizeof path, error);
	if (code)
		return code;
	code = pf_checkpoint_load(path, r->model, &r->adamw, &c, r->t->exact, r->t->note, r->t->context, error);
	if (code)
		return code == PF_E_FORMAT || code == -ENOENT ? fail_damaged(path, error) : code;
	r->step = r->saved = c.step;
	r->running.objective.state = c.loss;
	if (r->t->synced && r->step >= r->t->sync_every)
		pf_trainer_forget_caches(r);
	*keep = c.log_position;
	snprintf(text, sizeof text, "resuming from %s", path);
	pf_trainer_say(r, text);
	return 0;
}

static int open_caches(struct pf_trainer *r, struct pf_error *error)
{
	const struct pf_held *held = &r->t->held;
	int code = pf_running_cache(&r->running, r->t->corpus, PF_SPLIT_TRAIN, &r->cache, error);
	if (!code && held->corpus)
		code = pf_running_cache(&r->running, held->corpus, held->split, &r->held_cache, error);
	return code;
}

/* Numbers of another program are nothing that this one can answer for: the run says so, and its checkpoints */
static int gather_facts(struct pf_trainer *r, struct pf_error *error)
{
	const uint64_t origin = pf_reference_origin(r->cache);
	char text[PF_TRAINER_PATH + 128];
	r->fact = calloc(r->t->facts + 1, sizeof *r->fact);
	if (!r->fact)
		return pf_fail(error, -ENOMEM, "no memory for what the run depends on");
	if (r->t->facts)
		memcpy(r->fact, r->t->fact, r->t->facts * sizeof *r->fact);
	r->facts = r->t->facts;
	if (!r->cache)
		return 0;
	struct pf_fact *fact = &r->fact[r->facts++];
	fact->key = "reference log-probs";
	int n = snprintf(fact->value, sizeof fact->value, origin ? "imported, %llu" : "computed",
	                 (unsigned long long)origin);
	snprintf(fact->value + n, sizeof fact->value - (size_t)n, ", %016llx",
	         (unsigned long long)pf_reference_key(r->cache));
	if (origin) {
		snprintf(text, sizeof text,
		         "log-probs of the reference were imported, not computed: %s; remove that file to have "
		         "them computed",
		         pf_reference_path(r->cache));
		pf_trainer_say(r, text);
	}
	return 0;
}

/* The folder is made, locked against other runs, and without checkpoints unless they are to be continued */
static int open_folder(struct pf_trainer *r, struct pf_error *error)
{
	const char *out = r->t->out;
	char path[PF_TRAINER_PATH];
	if (!out)
		return 0;
	const int made = pf_folder_make(out);
	if (made)
		return pf_fail(error, made, "%s: cannot be made: %s", out, strerror(-made));
	r->folder = open(out, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (r->folder < 0)
		return pf_fail(error, -errno, "%s: %s", out, strerror(errno));
	if (flock(r->folder, LOCK_EX | LOCK_NB) != 0)
		return pf_fail(error, -errno, "%s: another run uses this folder; wait for it or choose another --out",
		               out);
	if (!r->t->resume && pf_checkpoint_find(out, path, sizeof path, NULL) == 0)
		return pf_fail(error, PF_E_ARGUMENT,
		               "%s exists: --resume continues that run; for a new one choose another --out or "
		               "remove the folder",
		               path);
	return 0;
}

int pf_trainer_open(struct pf_trainer *r, struct pf_error *error)
{
	const struct pf_training *t = r->t;
	int64_t position = -1;
	int code = open_folder(r, error);
	if (!code)
		code = pf_running_open(&r->running, &t->run, r->model, 1, error);
	if (!code)
		code = pf_running_sampler(&r->running, t->corpus, PF_SPLIT_TRAIN, t->seed, t->shuffle,
		                          t->run.accumulate, &r->sampler, error);
	if (!code)
		code = pf_adamw_init(&r->adamw, pf_model_trained(r->model).layout, &t->adamw, error);
	if (!code && !(r->gradient = pf_floats_alloc(pf_model_trained(r->model).layout->size)))
		code = pf_fail(error, -ENOMEM, "no memory for the gradient");
	if (!code)
		code = open_caches(r, error);
	if (!code)
		code = gather_facts(r, error);
	if (!code && t->resume)
		code = resume(r, &position, error);
	if (!code)
		code = pf_trainer_keep(r, error);
	return code ? code : pf_trainer_log_open(r, position, error);
}

void pf_trainer_close(struct pf_trainer *r)
{
	pf_metrics_close(r->metrics);
	pf_reference_close(r->cache);
	pf_reference_close(r->held_cache);
	pf_adamw_fini(&r->adamw);
	pf_running_close(&r->running);
	free(r->gradient);
	free(r->fact);
	if (r->folder >= 0)
		close(r->folder);
}
