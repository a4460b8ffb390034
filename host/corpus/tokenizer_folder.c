/* Tokenizers of folders: tokenizer.json and what the files beside it say about beginning, end and conversations. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "../model/replace.h"
#include "tokenizer_text.h"

enum { PATH_ROOM = 4096, BYTES_MAX = 256 << 20 };      /* the largest tokenizer.json are of 30 MB */

enum { TOKENIZER, CONFIG, MAP, GENERATION, TEMPLATE };         /* the files that are read; the others go with them */
const char *const pf_tokenizer_files[PF_TOKENIZER_FILES] = { "tokenizer.json",
	                                                     "tokenizer_config.json",
	                                                     "special_tokens_map.json",
	                                                     "generation_config.json",
	                                                     "chat_template.jinja",
	                                                     "added_tokens.json",
	                                                     "vocab.json",
	                                                     "merges.txt",
	                                                     "tokenizer.model" };

/* ---- files ---- */

static int join(const char *folder, const char *name, char path[PATH_ROOM], struct pf_error *error)
{
	if (snprintf(path, PATH_ROOM, "%s/%s", folder, name) < PATH_ROOM)
		return 0;
	return pf_fail(error, -ENAMETOOLONG, "%.200s...: path too long", folder);
}

static int read_whole(int fd, const char *path, struct pf_buffer *out, struct pf_error *error)
{
	struct stat facts;
	ssize_t got = 1;

	if (fstat(fd, &facts))
		return pf_fail(error, -errno, "%s: %s", path, strerror(errno));
	if (!S_ISREG(facts.st_mode) || facts.st_size > BYTES_MAX)
		return pf_fail(error, PF_E_UNSUPPORTED, "%s: not a regular file of at most %d MiB", path,
		               BYTES_MAX >> 20);
	while (got > 0) {
		if (pf_buffer_reserve(out, out->length ? 1 : (size_t)facts.st_size + 1))
			return pf_fail(error, -ENOMEM, "%s: out of memory", path);
		got = read(fd, out->text + out->length, out->room - out->length);
		if (got < 0 && errno != EINTR)
			return pf_fail(error, -errno, "%s: %s", path, strerror(errno));
		out->length += got > 0 ? (size_t)got : 0;
		got = got < 0 ? 1 : out->length > BYTES_MAX ? 0 : got;
	}
	return 0;
}

/* Opens a file of the folder: its descriptor, -ENOENT without a text, or an error with one */
static int open_file(const char *folder, const char *name, char path[PATH_ROOM], struct pf_error *error)
{
	int status = join(folder, name, path, error), fd;

	if (status)
		return status;
	fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	if (fd >= 0 || errno == ENOENT || errno == ENOTDIR)
		return fd >= 0 ? fd : -ENOENT;
	return pf_fail(error, -errno, "%s: %s", path, strerror(errno));
}

static int read_file(const char *folder, const char *name, struct pf_buffer *out, struct pf_error *error)
{
	char path[PATH_ROOM];
	int fd = open_file(folder, name, path, error), status;

	if (fd < 0)
		return fd == -ENOENT ? 0 : fd;
	status = read_whole(fd, path, out, error);
	close(fd);
	return status;
}

static int read_files(struct pf_tokenizer_state *state, struct pf_error *error)
{
	int status = 0;

	for (size_t i = 0; i < PF_TOKENIZER_FILES && !status; i++)
		if (i != TOKENIZER)
			status = read_file(state->folder, pf_tokenizer_files[i], &state->file[i], error);
	return status;
}

/* A file of the folder as a JSON object; *root is NULL if it is not there */
static int parse_file(const struct pf_tokenizer_state *state, int file, json_t **root, struct pf_error *error)
{
	const struct pf_buffer *text = &state->file[file];
	json_error_t problem;

	*root = text->text ? json_loadb(text->text, text->length, 0, &problem) : NULL;
	if (!text->text || json_is_object(*root))
		return 0;
	if (!*root)
		return pf_fail(error, PF_E_FORMAT, "%s/%s: line %d: %s", state->folder, pf_tokenizer_files[file],
		               problem.line, problem.text);
	json_decref(*root);
	*root = NULL;
	return pf_fail(error, PF_E_FORMAT, "%s/%s: not a JSON object", state->folder, pf_tokenizer_files[file]);
}

/* ---- beginning, end, stops ---- */

static void add_stop(struct pf_tokenizer *face, int32_t id)
{
	if (id >= 0 && !pf_tokenizer_stops(face, id) && face->stops < PF_STOPS_MAX)
		face->stop[face->stops++] = id;
}

/* A special token named in tokenizer_config.json or special_tokens_map.json: a text, or an object with one. *id stays
 * as it is when there is none, or when the vocabulary does not have it */
static void take_named(const struct pf_tokenizer_state *state, const json_t *object, const char *name, int32_t *id)
{
	const json_t *value = json_object_get(object, name);
	const char *text = json_string_value(json_is_object(value) ? json_object_get(value, "content") : value);
	int32_t found = text ? pf_tokenizer_find(state, text) : -1;

	*id = found >= 0 ? found : *id;
}

static int32_t id_of(const struct pf_tokenizer_state *state, const json_t *value)
{
	json_int_t id = json_is_integer(value) ? json_integer_value(value) : -1;

	return id >= 0 && id < state->face.vocab ? (int32_t)id : -1;
}

/* eos_token_id of generation_config.json: one id, or a list, the first of which is taken for eos if there is no
 * other */
static void take_stops(struct pf_tokenizer_state *state, const json_t *generation)
{
	const json_t *eos = json_object_get(generation, "eos_token_id");
	int32_t first = id_of(state, json_is_array(eos) ? json_array_get(eos, 0) : eos);

	state->face.eos = state->face.eos >= 0 ? state->face.eos : first >= 0 ? first : state->closes;
	add_stop(&state->face, state->face.eos);
	add_stop(&state->face, first);
	for (size_t i = 0; i < json_array_size(eos); i++)
		add_stop(&state->face, id_of(state, json_array_get(eos, i)));
}

/* add_bos_token decides where it is said; else the template of tokenizer.json */
static void take_bos(struct pf_tokenizer_state *state, const json_t *config, const json_t *map)
{
	const json_t *adds = pf_json_member(config, "add_bos_token");
	int32_t bos = -1;

	take_named(state, map, "bos_token", &bos);
	take_named(state, config, "bos_token", &bos);
	state->face.bos = !adds ? state->opens : json_is_true(adds) ? bos : -1;
}

/* ---- the chat template ---- */

struct mark { enum pf_chat chat; const char *opens, *closes; };

static const struct mark marks[] = {
	{ PF_CHAT_CHATML, "<|im_start|>", "<|im_end|>" },
	{ PF_CHAT_LLAMA3, "<|start_header_id|>", "<|eot_id|>" },
	{ PF_CHAT_GEMMA, "<start_of_turn>", "<end_of_turn>" },
	{ PF_CHAT_MISTRAL, "[INST]", "</s>" },
};

/* The template that is used by default: a text, or of a list the one named so */
static const char *template_of(const json_t *config)
{
	const json_t *value = json_object_get(config, "chat_template");

	for (size_t i = 0; i < json_array_size(value); i++) {
		const json_t *item = json_array_get(value, i);
		const char *name = json_string_value(json_object_get(item, "name"));

		if (name && strcmp(name, "default") == 0)
			return json_string_value(json_object_get(item, "template"));
	}
	return json_string_value(value);
}

static void take_chat(struct pf_tokenizer_state *state, const char *text)
{
	for (size_t i = 0; i < sizeof marks / sizeof *marks && state->face.chat == PF_CHAT_UNKNOWN; i++) {
		int32_t opens = pf_tokenizer_find(state, marks[i].opens),
			closes = pf_tokenizer_find(state, marks[i].closes);
		int named = text && strstr(text, marks[i].opens);

		/* the first versions of Mistral have [INST] as plain text */
		if (closes < 0 || (opens < 0 && marks[i].chat != PF_CHAT_MISTRAL) || !(text ? named : opens >= 0))
			continue;
		state->face.chat = marks[i].chat;
		add_stop(&state->face, closes);
	}
}

static int read_chat(struct pf_tokenizer_state *state, const json_t *config, struct pf_error *error)
{
	struct pf_buffer *file = &state->file[TEMPLATE];

	if (!file->text) {
		take_chat(state, template_of(config));
		return 0;
	}
	if (pf_buffer_append(file, "", 1))
		return pf_fail(error, -ENOMEM, "%s: out of memory", state->folder);
	file->length--;
	take_chat(state, file->text);
	return 0;
}

/* ---- opening ---- */

static int read_beside(struct pf_tokenizer_state *state, struct pf_error *error)
{
	json_t *config = NULL, *map = NULL, *generation = NULL;
	int status = read_files(state, error);

	if (!status)
		status = parse_file(state, CONFIG, &config, error);
	if (!status)
		status = parse_file(state, MAP, &map, error);
	if (!status)
		status = parse_file(state, GENERATION, &generation, error);
	if (!status) {
		take_named(state, map, "eos_token", &state->face.eos);
		take_named(state, config, "eos_token", &state->face.eos);
		take_named(state, map, "pad_token", &state->face.pad);
		take_named(state, config, "pad_token", &state->face.pad);
		take_bos(state, config, map);
		take_stops(state, generation);
		status = read_chat(state, config, error);
	}
	json_decref(config);
	json_decref(map);
	json_decref(generation);
	return status;
}

static int read_tokenizer(const char *folder, struct pf_tokenizer_state **state, struct pf_error *error)
{
	struct pf_buffer text = { 0 };
	int status = read_file(folder, pf_tokenizer_files[TOKENIZER], &text, error);

	*state = NULL;
	if (!status && !text.text)
		return pf_fail(
			error, PF_E_ABSENT,
			"%s: there is no tokenizer.json in it. A tokenizer is \"bytes\", or a folder with "
			"this file; models with tokenizer.model alone are converted by loading and saving them with "
			"AutoTokenizer",
			folder);
	if (!status) {
		status = pf_tokenizer_parse(text.text, text.length, state, error);
		if (status)
			pf_fail_in(error, "%s/tokenizer.json", folder);
	}
	if (status)
		pf_buffer_free(&text);
	else
		(*state)->file[TOKENIZER] = text;
	return status;
}

int pf_tokenizer_open_folder(const char *folder, const struct pf_tokenizer **tokenizer, struct pf_error *error)
{
	struct pf_tokenizer_state *state;
	int status = read_tokenizer(folder, &state, error);

	*tokenizer = NULL;
	if (status)
		return status;
	state->folder = strdup(folder);
	status = state->folder ? read_beside(state, error) : pf_fail(error, -ENOMEM, "%s: out of memory", folder);
	if (status) {
		pf_tokenizer_state_free(state);
		return status;
	}
	state->face.name = state->folder;
	*tokenizer = &state->face;
	return 0;
}

int pf_tokenizer_open_model(const char *folder, const struct pf_tokenizer **tokenizer, struct pf_error *error)
{
	char path[PATH_ROOM];
	int fd = open_file(folder, "tokenizer.json", path, error);

	*tokenizer = NULL;
	if (fd == -ENOENT)
		return pf_tokenizer_open("bytes", tokenizer, error);
	if (fd < 0)
		return fd;
	close(fd);
	return pf_tokenizer_open_folder(folder, tokenizer, error);
}

/* ---- saving ---- */

static int write_whole(const char *path, const struct pf_buffer *text, struct pf_error *error)
{
	struct pf_replace *file;
	int status = pf_replace_open(path, &file, error);

	if (status)
		return status;
	status = pf_replace_write(file, text->text, text->length, error);
	if (!status)
		return pf_replace_commit(file, error);
	pf_replace_abandon(file);
	return status;
}

int pf_tokenizer_save(const struct pf_tokenizer *tokenizer, const char *folder, struct pf_error *error)
{
	char path[PATH_ROOM];
	int status = 0;

	for (size_t i = 0; tokenizer->state && i < PF_TOKENIZER_FILES && !status; i++) {
		if (!tokenizer->state->file[i].text)
			continue;
		status = join(folder, pf_tokenizer_files[i], path, error);
		if (!status)
			status = write_whole(path, &tokenizer->state->file[i], error);
	}
	return status;
}
