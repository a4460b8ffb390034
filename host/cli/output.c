#include "output.h"
#include <errno.h>
#include <stdlib.h>
#include "host/model/replace.h"

int pf_output_check(const char *path, struct pf_error *error)
{
	struct pf_replace *file = NULL;
	int code = path ? pf_replace_open(path, &file, error) : 0;
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
	code = code ? code : replace(o, error);
	free(o->text);
	return code;
}
