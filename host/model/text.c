#include "text.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "replace.h"

enum { BYTES_MOST = 1 << 28, PIECE = 1 << 16 };

static int read_all(FILE *file, const char *path, char **text, struct pf_error *error)
{
	size_t length = 0, room = 0, got;
	do {
		if (room - length <= PIECE) {
			char *grown = realloc(*text, room = 2 * room + 2 * PIECE);
			if (!grown)
				return pf_fail(error, -ENOMEM, "%s: out of memory", path);
			*text = grown;
		}
		got = fread(*text + length, 1, PIECE, file);
		length += got;
	} while (got > 0 && length <= BYTES_MOST);
	(*text)[length] = '\0';
	if (ferror(file))
		return pf_fail(error, -EIO, "%s: cannot be read", path);
	return length > BYTES_MOST ? pf_fail(error, PF_E_RANGE, "%s: more than 256 MiB of text", path) : 0;
}

static int open_regular(const char *path, int *fd, struct pf_error *error)
{
	struct stat st;
	*fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	if (*fd < 0 || fstat(*fd, &st) != 0)
		return pf_fail(error, -errno, "%s: %s", path, strerror(errno));
	if (S_ISREG(st.st_mode))
		return 0;
	return pf_fail(error, S_ISDIR(st.st_mode) ? -EISDIR : PF_E_FORMAT, "%s: %s", path,
	               S_ISDIR(st.st_mode) ? strerror(EISDIR) : "not a regular file");
}

int pf_text_read(const char *path, char **text, struct pf_error *error)
{
	int fd, code = open_regular(path, &fd, error);
	FILE *file = code ? NULL : fdopen(fd, "rb");
	*text = NULL;
	if (!file) {
		if (fd >= 0)
			close(fd);
		return code ? code : pf_fail(error, -ENOMEM, "%s: out of memory", path);
	}
	code = read_all(file, path, text, error);
	fclose(file);
	if (code != 0) {
		free(*text);
		*text = NULL;
	}
	return code;
}

int pf_text_write(const char *path, const char *text, struct pf_error *error)
{
	struct pf_replace *file;
	int code = pf_replace_open(path, &file, error);
	if (code != 0)
		return code;
	code = pf_replace_write(file, text, strlen(text), error);
	code = code != 0 ? code : pf_replace_write(file, "\n", 1, error);
	if (code == 0)
		return pf_replace_commit(file, error);
	pf_replace_abandon(file);
	return code;
}
