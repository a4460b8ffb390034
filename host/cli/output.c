#include "output.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include "host/model/replace.h"

/* A terminal, a pipe or /dev/null: there is nothing to replace */
static int is_stream(const char *path)
{
	struct stat facts;
	return stat(path, &facts) == 0 && (S_ISCHR(facts.st_mode) || S_ISFIFO(facts.st_mode));
}

int pf_output_check(const char *path, struct pf_error *error)
{
	struct pf_replace *file = NULL;
	int code = path && !is_stream(path) ? pf_replace_open(path, &file, error) : 0;
	if (!code)
		pf_replace_abandon(file);
	return code;
}

int pf_output_open(struct pf_output *o, const char *path, struct pf_error *error)
{
	*o = (struct pf_output){ .path = path };
	o->stream = open_memstream(&o->text, &o->bytes);
	return o->stream ? 0 : pf_fail(error, -ENOMEM, "%s: out of memory", path);
}

static int write_stream(const struct pf_output *o, struct pf_error *error)
{
	FILE *file = fopen(o->path, "we");
	if (!file)
		return pf_fail(error, -errno, "%s: %s", o->path, strerror(errno));
	const int written = fwrite(o->text, 1, o->bytes, file) == o->bytes;
	return fclose(file) || !written ? pf_fail(error, -EIO, "%s: could not be written whole", o->path) : 0;
}

static int replace(const struct pf_output *o, struct pf_error *error)
{
	struct pf_replace *file;
	int code = pf_replace_open(o->path, &file, error);
	if (code)
		return code;
	code = pf_replace_write(file, o->text, o->bytes, error);
	if (!code)
		return pf_replace_commit(file, error);
	pf_replace_abandon(file);
	return code;
}

int pf_output_close(struct pf_output *o, struct pf_error *error)
{
	const int failed = ferror(o->stream);
	int code = fclose(o->stream) || failed ? pf_fail(error, -ENOMEM, "%s: out of memory", o->path) : 0;
	if (!code)
		code = is_stream(o->path) ? write_stream(o, error) : replace(o, error);
	free(o->text);
	return code;
}
