#include "replace.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

struct pf_replace {
	int fd;
	char *path;                    /* as the caller named it */
	char *target, *partial;
};

static void replace_free(struct pf_replace *file)
{
	if (file->fd >= 0)
		close(file->fd);
	free(file->path);
	free(file->target);
	free(file->partial);
	free(file);
}

void pf_replace_abandon(struct pf_replace *file)
{
	if (!file)
		return;
	unlink(file->partial);
	replace_free(file);
}

/* ---- the name ---- */

/* A file that is not there yet: its folder must be */
static int resolve_new(const char *path, char **target)
{
	const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
	char *folder = slash ? strndup(path, (size_t)(name - path)) : strdup(".");
	char *real = folder ? realpath(folder, NULL) : NULL;
	int code = !folder ? -ENOMEM : !real ? -errno : *name ? 0 : -ENOENT;
	if (code == 0) {
		size_t length = strlen(real) + strlen(name) + 2;
		*target = malloc(length);
		code = *target ? 0 : -ENOMEM;
		if (*target)
			snprintf(*target, length, "%s/%s", real, name);
	}
	free(folder);
	free(real);
	return code;
}

/* The file's own name, links followed */
static int resolve_name(const char *path, char **target)
{
	struct stat named;
	*target = NULL;
	if (lstat(path, &named) != 0)
		return errno == ENOENT ? resolve_new(path, target) : -errno;
	*target = realpath(path, NULL);
	if (!*target && errno == ENOENT && S_ISLNK(named.st_mode))
		return -ENOLINK;
	return *target ? 0 : -errno;
}

int pf_replace_same(const char *path, const char *other)
{
	char *a = NULL, *b = NULL;
	int same = resolve_name(path, &a) == 0 && resolve_name(other, &b) == 0 && strcmp(a, b) == 0;
	free(a);
	free(b);
	return same;
}

/* Only a regular file, or none, may give way */
static int check_target(const char *target)
{
	struct stat facts;
	if (stat(target, &facts) != 0)
		return errno == ENOENT ? 0 : -errno;
	return S_ISREG(facts.st_mode) ? 0 : S_ISDIR(facts.st_mode) ? -EISDIR : -ENOTSUP;
}

static int replace_name(struct pf_replace *file, const char *path)
{
	int code = resolve_name(path, &file->target);
	if (code == 0)
		code = check_target(file->target);
	if (code != 0)
		return code;
	size_t length = strlen(file->target) + sizeof ".partial";
	file->path = strdup(path);
	file->partial = malloc(length);
	if (!file->path || !file->partial)
		return -ENOMEM;
	snprintf(file->partial, length, "%s.partial", file->target);
	return 0;
}

/* ---- opening ---- */

/* The lock is on the open file; it protects the name while the name leads to that file */
static int replace_lock(const struct pf_replace *file)
{
	struct stat held, named;
	if (flock(file->fd, LOCK_EX | LOCK_NB) != 0)
		return errno == EWOULDBLOCK ? -EBUSY : -errno;
	if (fstat(file->fd, &held) != 0)
		return -errno;
	if (stat(file->partial, &named) != 0 || held.st_ino != named.st_ino ||
	    held.st_dev != named.st_dev)
		return -EBUSY;
	return ftruncate(file->fd, 0) == 0 ? 0 : -errno;
}

static int fail_open(const char *path, int code, struct pf_error *error)
{
	switch (code) {
	case -EBUSY:
		return pf_fail(error, code, "%s: another process is writing this file; wait for it",
		               path);
	case -EISDIR:
		return pf_fail(error, code, "%s: is a folder; name a file", path);
	case -ENOTSUP:
		return pf_fail(error, code, "%s: not a regular file, so it cannot be replaced as a "
		               "whole; name a regular or a new file", path);
	case -ENOLINK:
		return pf_fail(error, code, "%s: a link to a file that is not there; remove the "
		               "link, or name the file", path);
	default:
		return pf_fail(error, code, "%s: cannot write: %s", path, pf_error_text(code));
	}
}

int pf_replace_open(const char *path, struct pf_replace **out, struct pf_error *error)
{
	struct pf_replace *file = calloc(1, sizeof *file);
	int code = -ENOMEM;
	if (file) {
		file->fd = -1;
		code = replace_name(file, path);
	}
	if (code == 0) {
		/* whatever bears the name PATH.partial is neither waited for nor followed */
		file->fd = open(file->partial,
		                O_WRONLY | O_CREAT | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, 0666);
		code = file->fd < 0 ? -errno : replace_lock(file);
	}
	if (code == 0) {
		*out = file;
		return 0;
	}
	if (file)
		replace_free(file);
	return fail_open(path, code, error);
}

/* ---- writing ---- */

int pf_replace_write(struct pf_replace *file, const void *data, size_t bytes,
                     struct pf_error *error)
{
	const char *from = data;
	while (bytes > 0) {
		ssize_t done = write(file->fd, from, bytes < 1u << 30 ? bytes : 1u << 30);
		if (done < 0 && errno == EINTR)
			continue;
		if (done < 0)
			return pf_fail(error, -errno, "%s: cannot write: %s; nothing was replaced",
			               file->path, strerror(errno));
		from += done;
		bytes -= (size_t)done;
	}
	return 0;
}

int pf_replace_fd(const struct pf_replace *file)
{
	return file->fd;
}

/* A rename is only durable once its directory is on disk */
static int sync_directory(const char *path)
{
	char *directory = strdup(path);
	char *slash = directory ? strrchr(directory, '/') : NULL;
	if (!directory)
		return -ENOMEM;
	if (slash)
		slash[slash == directory] = '\0';
	int fd = open(slash ? directory : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int code = fd < 0 || fsync(fd) != 0 ? -errno : 0;
	if (fd >= 0)
		close(fd);
	free(directory);
	return code;
}

int pf_replace_commit(struct pf_replace *file, struct pf_error *error)
{
	int code = fsync(file->fd) != 0 || rename(file->partial, file->target) != 0 ? -errno : 0;
	if (code != 0) {
		pf_fail(error, code, "%s: cannot finish: %s; nothing was replaced", file->path,
		        pf_error_text(code));
		pf_replace_abandon(file);
		return code;
	}
	code = sync_directory(file->target);
	if (code != 0)
		pf_fail(error, code, "%s: written, but its directory cannot be synced: %s",
		        file->path, pf_error_text(code));
	replace_free(file);
	return code;
}
