#include "text.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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

int pf_text_read(const char *path, char **text, struct pf_error *error)
{
	errno = 0;
	FILE *file = fopen(path, "rb");
	*text = NULL;
	if (!file)
		return pf_fail(error, -errno, "%s: %s", path, strerror(errno));
	int code = read_all(file, path, text, error);
	fclose(file);
	if (code != 0) {
		free(*text);
		*text = NULL;
	}
	return code;
}
