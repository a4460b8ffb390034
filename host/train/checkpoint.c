#include "checkpoint.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "../model/config.h"
#include "../model/replace.h"
#include "../model/safetensors.h"

enum { PATH_ROOM = 4096 };

/* Beside the model's own files */
static const char *const parts[] = { "optimizer.safetensors", "trainer_state.json" };

/* ---- folders ---- */

/* Step of a complete checkpoint's folder name, or -1 */
static long long step_of(const char *name)
{
	unsigned long long step;
	int end = 0;
	if (sscanf(name, "checkpoint-%llu%n", &step, &end) != 1 || name[end] != '\0')
		return -1;
	return (long long)step;
}

/* The largest step below `limit` that has a checkpoint, or -1. A folder without a state is none */
static long long latest_step(const char *out, long long limit)
{
	DIR *dir = opendir(out);
	struct dirent *entry;
	long long latest = -1;
	while (dir && (entry = readdir(dir))) {
		char state[300];
		long long step = step_of(entry->d_name);
		snprintf(state, sizeof state, "%.255s/trainer_state.json", entry->d_name);
		if (step > latest && step < limit && faccessat(dirfd(dir), state, F_OK, 0) == 0)
			latest = step;
	}
	if (dir)
		closedir(dir);
	return latest;
}

static void checkpoint_path(const char *out, uint64_t step, const char *ending, char *path)
{
	snprintf(path, PATH_ROOM, "%s/checkpoint-%06llu%s", out, (unsigned long long)step, ending);
}

/* Removes what a checkpoint consists of, nothing else */
static void remove_part(const char *folder, const char *part)
{
	char path[PATH_ROOM + 64];
	snprintf(path, sizeof path, "%s/%s", folder, part);
	unlink(path);
	snprintf(path, sizeof path, "%s/%s.partial", folder, part);
	unlink(path);
}

static void remove_checkpoint(const char *folder)
{
	pf_model_unlink(folder);
	for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
		remove_part(folder, parts[i]);
	for (size_t i = 0; i < PF_TOKENIZER_FILES; i++)
		remove_part(folder, pf_tokenizer_files[i]);
	rmdir(folder);
}

static void remove_old(const char *out, unsigned keep)
{
	char path[PATH_ROOM];
	long long step = latest_step(out, INT64_MAX);
	for (unsigned i = 0; step >= 0; i++, step = latest_step(out, step)) {
		checkpoint_path(out, (uint64_t)step, "", path);
		if (i >= keep)
			remove_checkpoint(path);
	}
}

static int sync_folder(const char *path)
{
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int code = fd < 0 || fsync(fd) != 0 ? -errno : 0;
	if (fd >= 0)
		close(fd);
	return code;
}

/* ---- saving ---- */

static int save_optimizer(const char *folder, const struct pf_adamw *adamw, struct pf_error *error)
{
	struct pf_safetensors_writer *writer;
	char path[PATH_ROOM + 64];
	snprintf(path, sizeof path, "%s/optimizer.safetensors", folder);
	int code = pf_safetensors_create(path, &writer, error);
	if (code)
		return code;
	code = pf_adamw_declare(adamw, writer, error);
	if (!code)
		code = pf_adamw_write(adamw, writer, error);
	if (!code)
		return pf_safetensors_commit(writer, error);
	pf_safetensors_abandon(writer);
	return code;
}

static json_t *state_json(const struct pf_checkpoint *c)
{
	json_t *facts = json_object();
	for (size_t i = 0; i < c->facts; i++)
		json_object_set_new(facts, c->fact[i].key, json_string(c->fact[i].value));
	return json_pack("{s:i, s:I, s:I, s:{s:f, s:f}, s:o}", "version", 1, "step", (json_int_t)c->step,
	                 "log_position", (json_int_t)c->log_position, "loss_state", "mean", c->loss.mean, "count",
	                 c->loss.count, "facts", facts);
}

static int save_state(const char *folder, const struct pf_checkpoint *checkpoint, struct pf_error *error)
{
	struct pf_replace *file;
	char path[PATH_ROOM + 64];
	snprintf(path, sizeof path, "%s/trainer_state.json", folder);
	json_t *json = state_json(checkpoint);
	char *text = json ? json_dumps(json, JSON_INDENT(2) | JSON_SORT_KEYS) : NULL;
	json_decref(json);
	if (!text)
		return pf_fail(error, -ENOMEM, "no memory for %s", path);
	int code = pf_replace_open(path, &file, error);
	if (!code) {
		code = pf_replace_write(file, text, strlen(text), error);
		if (code)
			pf_replace_abandon(file);
		else
			code = pf_replace_commit(file, error);
	}
	free(text);
	return code;
}

int pf_checkpoint_save(const char *out, const struct pf_model *model, const struct pf_adamw *adamw,
                       const struct pf_checkpoint *checkpoint, unsigned keep, struct pf_error *error)
{
	char partial[PATH_ROOM], path[PATH_ROOM], old[PATH_ROOM];
	checkpoint_path(out, checkpoint->step, ".partial", partial);
	checkpoint_path(out, checkpoint->step, "", path);
	remove_checkpoint(partial);
	if (mkdir(partial, 0777) != 0)
		return pf_fail(error, -errno, "%s: cannot be made: %s", partial, strerror(errno));
	int code = pf_model_save(model, partial, error);
	if (!code && checkpoint->tokenizer)
		code = pf_tokenizer_save(checkpoint->tokenizer, partial, error);
	if (!code)
		code = save_optimizer(partial, adamw, error);
	if (!code)
		code = save_state(partial, checkpoint, error);
	if (!code && sync_folder(partial) != 0)
		code = pf_fail(error, -errno, "%s: cannot be synced: %s", partial, strerror(errno));
	if (code) {
		remove_checkpoint(partial);
		return code;
	}
	checkpoint_path(out, checkpoint->step, ".old", old);
	remove_checkpoint(old);
	if ((rename(path, old) != 0 && errno != ENOENT) || rename(partial, path) != 0 || sync_folder(out) != 0)
		return pf_fail(error, -errno, "%s: cannot be renamed to %s: %s", partial, path, strerror(errno));
	remove_checkpoint(old);
	remove_old(out, keep);
	return 0;
}

/* ---- loading ---- */

int pf_checkpoint_find(const char *out, char *path, size_t size, struct pf_error *error)
{
	char found[PATH_ROOM];
	long long step = latest_step(out, INT64_MAX);
	if (step < 0)
		return pf_fail(error, PF_E_ABSENT, "%s: no complete checkpoint to resume from; start without --resume", out);
	checkpoint_path(out, (uint64_t)step, "", found);
	if (strlen(found) >= size)
		return pf_fail(error, PF_E_RANGE, "%s: path too long", out);
	strcpy(path, found);
	return 0;
}

static int load_weights(const char *folder, struct pf_model *model, struct pf_error *error)
{
	struct pf_model *saved;
	int code = pf_model_load(folder, &saved, error);
	if (code)
		return code;
	if (!pf_config_equal(&saved->config, &model->config))
		code = pf_fail(error, PF_E_MISMATCH, "%s: a model of another shape; resume with the options that the run was "
		               "started with", folder);
	else
		memcpy(model->param, saved->param, saved->layout.size * sizeof *saved->param);
	pf_model_close(saved);
	return code;
}

static int load_optimizer(const char *folder, struct pf_adamw *adamw, struct pf_error *error)
{
	struct pf_safetensors *file;
	char path[PATH_ROOM + 64];
	snprintf(path, sizeof path, "%s/optimizer.safetensors", folder);
	int code = pf_safetensors_open(path, &file, error);
	if (code)
		return code;
	code = pf_adamw_read(adamw, file, error);
	pf_safetensors_close(file);
	return code;
}

struct compare {
	int exact, refused;
	void (*note)(void *context, const char *text);
	void *context;
	char first[512];               /* the first refused difference */
};

static void compare_fact(const struct pf_fact *now, const json_t *facts, struct compare *c)
{
	const char *saved = json_string_value(json_object_get(facts, now->key));
	char text[512];
	if (saved && strcmp(saved, now->value) == 0)
		return;
	snprintf(text, sizeof text, "%s: \"%s\" in the checkpoint, \"%s\" now", now->key, saved ? saved : "", now->value);
	if (c->note)
		c->note(c->context, text);
	if ((now->bound || c->exact) && !c->refused++)
		memcpy(c->first, text, sizeof c->first);
}

static int read_state(const char *path, const json_t *json, struct pf_checkpoint *c, struct compare *compare,
                      struct pf_error *error)
{
	json_int_t version, step, position;
	json_t *facts;
	if (json_unpack((json_t *)json, "{s:I, s:I, s:I, s:{s:F, s:F}, s:o}", "version", &version, "step", &step,
	                "log_position", &position, "loss_state", "mean", &c->loss.mean, "count", &c->loss.count, "facts",
	                &facts) != 0 || version != 1 || step < 0 || position < 0 || !json_is_object(facts) ||
	    !isfinite(c->loss.mean) || !(c->loss.count >= 0.0))
		return pf_fail(error, PF_E_FORMAT, "%s: not the state of a training run; resume from another checkpoint", path);
	c->step = (uint64_t)step;
	c->log_position = position;
	for (size_t i = 0; i < c->facts; i++)
		compare_fact(&c->fact[i], facts, compare);
	if (compare->refused)
		return pf_fail(error, PF_E_MISMATCH, "%s: %s; %s", path, compare->first, compare->exact
		               ? "leave out --exact to go on all the same" : "that would be another run: choose another --out");
	return 0;
}

int pf_checkpoint_load(const char *path, struct pf_model *model, struct pf_adamw *adamw, struct pf_checkpoint *checkpoint,
                       int exact, void (*note)(void *context, const char *text), void *context, struct pf_error *error)
{
	struct compare compare = { .exact = exact, .note = note, .context = context };
	char name[PATH_ROOM + 64];
	json_error_t where;
	snprintf(name, sizeof name, "%s/trainer_state.json", path);
	json_t *json = json_load_file(name, 0, &where);
	if (!json)
		return pf_fail(error, PF_E_FORMAT, "%s: line %d: %s; resume from another checkpoint", name,
		               where.line > 0 ? where.line : 0, where.text);
	int code = read_state(name, json, checkpoint, &compare, error);
	json_decref(json);
	if (!code)
		code = load_weights(path, model, error);
	if (!code)
		code = load_optimizer(path, adamw, error);
	if (!code && adamw->step != checkpoint->step)
		code = pf_fail(error, PF_E_FORMAT, "%s: optimizer at step %llu, state at %llu", path,
		               (unsigned long long)adamw->step, (unsigned long long)checkpoint->step);
	return code;
}
