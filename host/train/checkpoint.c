#include "checkpoint.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "../model/config.h"
#include "../model/replace.h"
#include "../model/safetensors.h"
#include "../model/text.h"
#include "trainer_state.h"

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

static int reference_path(const char *folder, char path[PATH_ROOM + 64])
{
	return snprintf(path, PATH_ROOM + 64, "%s/reference", folder);
}

static void remove_checkpoint(const char *folder)
{
	char reference[PATH_ROOM + 64];
	reference_path(folder, reference);
	pf_model_unlink(reference);
	rmdir(reference);
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

static int save_reference(const char *folder, const struct pf_model *reference, struct pf_error *error)
{
	char path[PATH_ROOM + 64];
	reference_path(folder, path);
	if (mkdir(path, 0777) != 0)
		return pf_fail(error, -errno, "%s: cannot be made: %s", path, strerror(errno));
	int code = pf_model_save(reference, path, error);
	if (!code && sync_folder(path) != 0)
		code = pf_fail(error, -errno, "%s: cannot be synced: %s", path, strerror(errno));
	return code;
}

static int save_state(const char *folder, const struct pf_checkpoint *checkpoint, struct pf_error *error)
{
	struct pf_replace *file;
	char path[PATH_ROOM + 64];
	snprintf(path, sizeof path, "%s/trainer_state.json", folder);
	char *text = pf_trainer_state_text(checkpoint);
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
	if (!code && checkpoint->reference)
		code = save_reference(partial, checkpoint->reference, error);
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
		return pf_fail(error, PF_E_ABSENT, "%s: no complete checkpoint to resume from; start without --resume",
		               out);
	checkpoint_path(out, (uint64_t)step, "", found);
	if (strlen(found) >= size)
		return pf_fail(error, PF_E_RANGE, "%s: path too long", out);
	strcpy(path, found);
	return 0;
}

static int load_adapter(const char *folder, struct pf_model *model, struct pf_error *error)
{
	struct pf_lora saved;
	float *adapter;
	int code = pf_lora_load(folder, &model->layout, &saved, &adapter, error);
	if (code)
		return code;
	if (saved.layout.size != model->lora->layout.size || saved.scale != model->lora->scale ||
	    strcmp(saved.modules, model->lora->modules) != 0)
		code = pf_fail(error, PF_E_MISMATCH,
		               "%s: an adapter of rank %u on %s; resume with the options that the run was "
		               "started with",
		               folder, saved.rank, saved.modules);
	else
		memcpy(model->adapter, adapter, saved.layout.size * sizeof *adapter);
	pf_lora_fini(&saved);
	free(adapter);
	return code;
}

static int load_weights(const char *folder, struct pf_model *model, struct pf_error *error)
{
	struct pf_model *saved;
	if (model->lora)
		return load_adapter(folder, model, error);
	int code = pf_model_load(folder, &saved, error);
	if (code)
		return code;
	if (!pf_config_equal(&saved->config, &model->config))
		code = pf_fail(error, PF_E_MISMATCH,
		               "%s: a model of another shape; resume with the options that the run was "
		               "started with",
		               folder);
	else
		memcpy(model->param, saved->param, saved->layout.size * sizeof *saved->param);
	pf_model_touch(model);
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

int pf_checkpoint_load(const char *path, struct pf_model *model, struct pf_adamw *adamw,
                       struct pf_checkpoint *checkpoint, int exact, void (*note)(void *context, const char *text),
                       void *context, struct pf_error *error)
{
	const struct pf_state_compare compare = { exact, note, context };
	char name[PATH_ROOM + 64];
	char *text;
	snprintf(name, sizeof name, "%s/trainer_state.json", path);
	int code = pf_text_read(name, &text, error);
	if (!code)
		code = pf_trainer_state_parse(text, strlen(text), name, &compare, checkpoint, error);
	free(text);
	if (!code)
		code = load_weights(path, model, error);
	if (!code && checkpoint->reference) {
		char reference[PATH_ROOM + 64];
		reference_path(path, reference);
		code = load_weights(reference, checkpoint->reference, error);
	}
	if (!code)
		code = load_optimizer(path, adamw, error);
	if (!code && adamw->step != checkpoint->step)
		code = pf_fail(error, PF_E_FORMAT, "%s: optimizer at step %llu, state at %llu", path,
		               (unsigned long long)adamw->step, (unsigned long long)checkpoint->step);
	return code;
}
