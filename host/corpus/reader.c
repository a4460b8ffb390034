#include "reader.h"
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "unpack.h"

#define WINDOW_NEXT (1u << 18)         /* reading on */
#define WINDOW_AT   (1u << 14)         /* reading one record somewhere */

struct source {
	char    *path;                 /* as the user named it */
	int      fd;
	uint64_t base, bytes;          /* offset of its first byte over all files; its size */
};

struct pf_reader {
	struct source *source;
	unsigned       sources;
	uint64_t       bytes;
	char          *window;
	size_t         room, length;
	const struct source *held;     /* whose bytes the window holds, from offset `start` in it on */
	uint64_t       start;
	const struct source *current;  /* pf_reader_next: file, number of its last line, offset of the next one */
	uint64_t       number, next;
};

/* ---- opening ---- */

struct magic { const char *bytes; size_t length; const char *text; };

static int check_magic(const unsigned char *bytes, size_t length, struct pf_error *error)
{
	static const struct magic magics[] = {
		{ "\x28\xb5\x2f\xfd", 4, "compressed with zstd; unpack it: unzstd FILE" },
		{ "\xfd""7zXZ", 5, "compressed with xz; unpack it: unxz FILE" },
		{ "BZh", 3, "compressed with bzip2; unpack it: bunzip2 FILE" },
		{ "PK\3\4", 4, "a zip archive; unpack it: unzip FILE" },
		{ "PAR1", 4, "a Parquet file; convert it, such as with Python's pandas: "
		  "pandas.read_parquet(FILE).to_json(NEW, orient='records', lines=True)" },
		{ "\xff\xfe", 2, "UTF-16 text; convert it: iconv -f utf-16 -t utf-8" },
		{ "\xfe\xff", 2, "UTF-16 text; convert it: iconv -f utf-16 -t utf-8" },
		{ "[", 1, "one JSON array; one record a line is needed: jq -c '.[]' FILE > FILE.jsonl" },
	};

	for (size_t i = 0; i < sizeof magics / sizeof *magics; i++)
		if (length >= magics[i].length && memcmp(bytes, magics[i].bytes, magics[i].length) == 0)
			return pf_fail(error, PF_E_FORMAT, "this is %s", magics[i].text);
	return 0;
}

static int check_kind(int fd, struct stat *facts, struct pf_error *error)
{
	if (fstat(fd, facts))
		return pf_fail(error, -errno, "%s", strerror(errno));
	if (S_ISDIR(facts->st_mode))
		return pf_fail(error, -EISDIR, "is a folder; name the files in it");
	if (!S_ISREG(facts->st_mode))
		return pf_fail(error, PF_E_UNSUPPORTED, "not a regular file: records are read by offset, so save the "
		               "stream to a file first");
	return 0;
}

/* Swaps the descriptor of a compressed file for that of its plain copy */
static int open_plain(struct source *source, const char *cache, const struct pf_watch *watch, struct pf_error *error)
{
	char *plain;
	int status;

	if (!cache)
		return pf_fail(error, PF_E_UNSUPPORTED, "is compressed, and there is no cache folder for a plain copy");
	status = pf_unpack(source->fd, source->path, cache, watch, &plain, error);
	if (status)
		return status;
	close(source->fd);
	source->fd = open(plain, O_RDONLY | O_CLOEXEC);
	if (source->fd < 0)
		status = pf_fail(error, -errno, "%s: %s", plain, strerror(errno));
	free(plain);
	return status;
}

static int open_source(struct source *source, const char *cache, const struct pf_watch *watch, struct pf_error *error)
{
	unsigned char head[8];
	struct stat facts;
	ssize_t length;
	int status;

	/* a FIFO without a writer must be refused, not waited for */
	source->fd = open(source->path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	if (source->fd < 0)
		return pf_fail(error, -errno, "%s: %s", source->path, strerror(errno));
	status = check_kind(source->fd, &facts, error);
	if (status) {
		pf_fail_in(error, "%s", source->path);
		return status;
	}
	if (pread(source->fd, head, sizeof head, 0) >= 2 && pf_is_gzip(head, 2)) {
		status = open_plain(source, cache, watch, error);
		if (status)
			return status;
		if (fstat(source->fd, &facts))
			return pf_fail(error, -errno, "%s: %s", source->path, strerror(errno));
	}
	source->bytes = (uint64_t)facts.st_size;
	length = pread(source->fd, head, sizeof head, 0);
	if (length < 0)
		return pf_fail(error, -errno, "%s: %s", source->path, strerror(errno));
	status = check_magic(head, (size_t)length, error);
	if (status)
		pf_fail_in(error, "%s", source->path);
	return status;
}

static int add_source(struct pf_reader *reader, const char *path, size_t length, const char *cache,
                      const struct pf_watch *watch, struct pf_error *error)
{
	struct source *source = realloc(reader->source, (reader->sources + 1) * sizeof *source);
	int status;

	if (!source)
		return pf_fail(error, -ENOMEM, "out of memory");
	reader->source = source;
	source += reader->sources;
	*source = (struct source){ .path = strndup(path, length), .fd = -1, .base = reader->bytes };
	if (!source->path)
		return pf_fail(error, -ENOMEM, "out of memory");
	reader->sources++;
	status = open_source(source, cache, watch, error);
	reader->bytes += source->bytes;
	return status;
}

static int add_sources(struct pf_reader *reader, const char *paths, const char *cache, const struct pf_watch *watch,
                       struct pf_error *error)
{
	for (;;) {
		size_t length = strcspn(paths, ",");
		int status;

		if (!length)
			return pf_fail(error, PF_E_ARGUMENT, "empty file name in the list of data files");
		status = add_source(reader, paths, length, cache, watch, error);
		if (status)
			return status;
		if (!paths[length])
			return 0;
		paths += length + 1;
	}
}

int pf_reader_open(const char *paths, const char *cache, const struct pf_watch *watch, struct pf_reader **reader,
                   struct pf_error *error)
{
	struct pf_reader *made = calloc(1, sizeof *made);
	int status;

	*reader = NULL;
	if (!made)
		return pf_fail(error, -ENOMEM, "out of memory");
	status = add_sources(made, paths, cache, watch, error);
	if (status)
		pf_reader_close(made);
	else
		*reader = made;
	return status;
}

void pf_reader_close(struct pf_reader *reader)
{
	if (!reader)
		return;
	for (unsigned i = 0; i < reader->sources; i++) {
		if (reader->source[i].fd >= 0)
			close(reader->source[i].fd);
		free(reader->source[i].path);
	}
	free(reader->source);
	free(reader->window);
	free(reader);
}

uint64_t pf_reader_bytes(const struct pf_reader *reader)
{
	return reader->bytes;
}

/* ---- the window ---- */

static const struct source *source_at(const struct pf_reader *reader, uint64_t at)
{
	for (unsigned i = 0; i < reader->sources; i++)
		if (at - reader->source[i].base < reader->source[i].bytes && at >= reader->source[i].base)
			return &reader->source[i];
	return NULL;
}

static int grow_window(struct pf_reader *reader, size_t room)
{
	char *window;

	if (room <= reader->room)
		return 0;
	window = realloc(reader->window, room);
	if (!window)
		return -ENOMEM;
	reader->window = window;
	reader->room = room;
	return 0;
}

/* Makes the window hold `want` bytes of a file from `start` on, or all up to its end */
static int fill_window(struct pf_reader *reader, const struct source *source, uint64_t start, size_t want,
                       struct pf_error *error)
{
	if (grow_window(reader, want))
		return pf_fail(error, -ENOMEM, "%s: out of memory for a line of %zu bytes", source->path, want);
	reader->held = source;
	reader->start = start;
	reader->length = 0;
	while (reader->length < want) {
		ssize_t got = pread(source->fd, reader->window + reader->length, want - reader->length,
		                    (off_t)(start + reader->length));

		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return pf_fail(error, -errno, "%s: %s", source->path, strerror(errno));
		if (got == 0)
			break;
		reader->length += (size_t)got;
	}
	if (reader->length < want && start + reader->length < source->bytes)
		return pf_fail(error, PF_E_DATA, "%s: became shorter while it was read", source->path);
	return 0;
}

/* The line at `start` if the window holds all of it. At the end of the file the line feed may be missing */
static int find_line(const struct pf_reader *reader, const struct source *source, uint64_t start, struct pf_line *line)
{
	const char *text, *end;
	size_t left;

	if (reader->held != source || start < reader->start || start - reader->start >= reader->length)
		return 0;
	text = reader->window + (start - reader->start);
	left = reader->length - (size_t)(start - reader->start);
	end = memchr(text, '\n', left);
	if (!end && start + left < source->bytes)
		return 0;
	*line = (struct pf_line){ text, end ? (size_t)(end - text) : left, source->base + start, 0 };
	return 1;
}

static int read_line(struct pf_reader *reader, const struct source *source, uint64_t at, size_t want,
                     struct pf_line *line, struct pf_error *error)
{
	uint64_t start = at - source->base;

	while (!find_line(reader, source, start, line)) {
		int status;

		if (reader->held == source && reader->start == start && reader->length >= PF_LINE_MAX)
			return pf_fail(error, PF_E_FORMAT, "line of more than %u MiB; one record a line is needed",
			               PF_LINE_MAX >> 20);
		if (reader->held == source && reader->start == start)
			want = reader->length * 2 > want ? reader->length * 2 : want;
		status = fill_window(reader, source, start, want, error);
		if (status)
			return status;
	}
	return 0;
}

/* ---- lines ---- */

int pf_reader_at(struct pf_reader *reader, uint64_t at, struct pf_line *line, struct pf_error *error)
{
	const struct source *source = source_at(reader, at);

	if (!source)
		return pf_fail(error, PF_E_RANGE, "offset %" PRIu64 " is behind the last record", at);
	return read_line(reader, source, at, WINDOW_AT, line, error);
}

static uint64_t mark_bytes(const struct source *source)
{
	char head[3];

	return pread(source->fd, head, 3, 0) == 3 && memcmp(head, "\xef\xbb\xbf", 3) == 0 ? 3 : 0;
}

int pf_reader_next(struct pf_reader *reader, struct pf_line *line, struct pf_error *error)
{
	const struct source *source = source_at(reader, reader->next);
	int status;

	if (!source)
		return 0;
	if (source != reader->current) {
		reader->current = source;
		reader->number = 0;
		reader->next += mark_bytes(source);
		if (reader->next >= source->base + source->bytes)
			return pf_reader_next(reader, line, error);
	}
	reader->number++;
	status = read_line(reader, source, reader->next, WINDOW_NEXT, line, error);
	if (status) {
		pf_fail_in(error, "%s:%" PRIu64, source->path, reader->number);
		return status;
	}
	line->number = reader->number;
	reader->next = line->at + line->length + 1;
	if (reader->next > source->base + source->bytes)
		reader->next = source->base + source->bytes;
	return 1;
}

static uint64_t count_lines(const struct source *source, uint64_t end)
{
	char piece[4096];
	uint64_t lines = 0, at = 0;

	while (at < end) {
		size_t want = end - at < sizeof piece ? (size_t)(end - at) : sizeof piece;
		ssize_t got = pread(source->fd, piece, want, (off_t)at);

		if (got <= 0)
			break;
		for (ssize_t i = 0; i < got; i++)
			lines += piece[i] == '\n';
		at += (uint64_t)got;
	}
	return lines;
}

void pf_reader_where(struct pf_reader *reader, const struct pf_line *line, char *out, size_t size)
{
	const struct source *source = source_at(reader, line->at);

	if (!source)
		snprintf(out, size, "byte %" PRIu64, line->at);
	else
		snprintf(out, size, "%s:%" PRIu64, source->path,
		         line->number ? line->number : count_lines(source, line->at - source->base) + 1);
}
