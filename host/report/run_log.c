#include "run_log.h"
#include <errno.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct reading {
	const char         *path;
	unsigned            line, keys;
	const char *const  *key;
	struct pf_run_log  *log;
	struct pf_error    *error;
};

static int grow(struct reading *r)
{
	struct pf_run_log *log = r->log;
	const size_t room = log->room ? 2 * log->room : 1024;
	for (unsigned k = 0; k <= r->keys; k++) {
		double **array = k < r->keys ? &log->value[k] : &log->step;
		double *more = realloc(*array, room * sizeof *more);
		if (!more)
			return pf_fail(r->error, -ENOMEM, "%s: no memory for %zu steps", r->path, room);
		*array = more;
	}
	log->room = room;
	return 0;
}

static void see(struct pf_run_log *log, const char *name)
{
	unsigned n = 0;
	while (n < log->names && strcmp(log->seen[n], name) != 0)
		n++;
	if (n == log->names && n < PF_LOG_SEEN && strlen(name) < PF_LOG_NAME)
		strcpy(log->seen[log->names++], name);
}

static int take_line(struct reading *r, json_t *json)
{
	struct pf_run_log *log = r->log;
	const json_t *step = json_object_get(json, "step");
	const double at = (double)json_integer_value(step);
	const int follows = json_is_integer(step) && at >= 0 && (!log->steps || at > log->step[log->steps - 1]);
	const char *name;
	json_t *value;
	if (!follows)
		return pf_fail(r->error, PF_E_DATA, "%s:%u: %s; is it the metrics.jsonl of one training?", r->path,
		               r->line, step ? "its step is no number above the one before" : "no step");
	const int code = log->steps == log->room ? grow(r) : 0;
	if (code)
		return code;
	json_object_foreach(json, name, value)
		if (json_is_number(value))
			see(log, name);
	log->step[log->steps] = at;
	for (unsigned k = 0; k < r->keys; k++) {
		const json_t *found = json_object_get(json, r->key[k]);
		log->value[k][log->steps] = json_is_number(found) ? json_number_value(found) : NAN;
	}
	log->steps++;
	return 0;
}

static int read_lines(struct reading *r, FILE *file)
{
	char *line = NULL;
	size_t room = 0;
	int code = 0;
	for (ssize_t length; !code && (length = getline(&line, &room, file)) > 0;) {
		json_error_t where;
		json_t *json = json_loadb(line, (size_t)length, 0, &where);
		r->line++;
		if (json)
			code = take_line(r, json);
		else if (line[length - 1] == '\n')
			code = pf_fail(r->error, PF_E_FORMAT, "%s:%u: %s; a line is one JSON object", r->path, r->line,
			               where.text);
		json_decref(json);
	}
	if (!code && ferror(file))
		code = pf_fail(r->error, -EIO, "%s: %s", r->path, strerror(errno));
	free(line);
	return code;
}

int pf_run_log_read(const char *path, const char *const *key, unsigned keys, struct pf_run_log *log,
                    struct pf_error *error)
{
	struct reading r = { .path = path, .keys = keys, .key = key, .log = log, .error = error };
	*log = (struct pf_run_log){ 0 };
	FILE *file = fopen(path, "r");
	if (!file)
		return pf_fail(error, -errno, "%s: %s; give a run's folder, or its metrics.jsonl", path,
		               strerror(errno));
	int code = read_lines(&r, file);
	fclose(file);
	if (!code && !log->steps)
		code = pf_fail(error, PF_E_DATA, "%s: no steps in it", path);
	return code;
}

void pf_run_log_close(struct pf_run_log *log)
{
	for (unsigned k = 0; k < PF_LOG_KEYS; k++)
		free(log->value[k]);
	free(log->step);
	*log = (struct pf_run_log){ 0 };
}
