#include "unpack.h"
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include <zlib.h>
#include "../model/replace.h"
#include "hash.h"

#define PIECE (1u << 16)

int pf_is_gzip(const unsigned char *bytes, size_t length)
{
	return length >= 2 && bytes[0] == 0x1f && bytes[1] == 0x8b;
}

/* ---- inflating ---- */

struct stream {
	z_stream zlib;
	int      from, ended;          /* ended: a member is complete and no other has begun */
	int    (*take)(void *context, const void *bytes, size_t length, struct pf_error *error);
	void    *context;
	unsigned char in[PIECE], out[PIECE];
};

static int drain(struct stream *stream, struct pf_error *error)
{
	size_t length = PIECE - stream->zlib.avail_out;

	stream->zlib.next_out = stream->out;
	stream->zlib.avail_out = PIECE;
	return length ? stream->take(stream->context, stream->out, length, error) : 0;
}

/* Behind a complete member comes another one, or padding with zeros, or nothing */
static int next_member(struct stream *stream, struct pf_error *error)
{
	while (stream->zlib.avail_in && !*stream->zlib.next_in) {
		stream->zlib.next_in++;
		stream->zlib.avail_in--;
	}
	if (!stream->zlib.avail_in)
		return 0;
	if (*stream->zlib.next_in != 0x1f)
		return pf_fail(error, PF_E_FORMAT, "bytes that are not gzip follow the compressed data");
	stream->ended = 0;
	return inflateReset(&stream->zlib) == Z_OK ? 0 : pf_fail(error, -ENOMEM, "out of memory");
}

static int fail_zlib(const struct stream *stream, int code, struct pf_error *error)
{
	if (code == Z_MEM_ERROR)
		return pf_fail(error, -ENOMEM, "out of memory while decompressing");
	return pf_fail(error, PF_E_FORMAT, "damaged gzip data (%s) at byte %lld",
	               stream->zlib.msg ? stream->zlib.msg : "unexpected dictionary",
	               (long long)lseek(stream->from, 0, SEEK_CUR) - (long long)stream->zlib.avail_in);
}

static int inflate_piece(struct stream *stream, struct pf_error *error)
{
	int status = 0;

	while (!status && (stream->zlib.avail_in || !stream->zlib.avail_out)) {
		int code;

		if (!stream->zlib.avail_out && (status = drain(stream, error)))
			return status;
		if (stream->ended) {
			status = next_member(stream, error);
			continue;
		}
		code = inflate(&stream->zlib, Z_NO_FLUSH);
		stream->ended = code == Z_STREAM_END;
		if (code != Z_OK && code != Z_STREAM_END && code != Z_BUF_ERROR)
			status = fail_zlib(stream, code, error);
	}
	return status;
}

static int inflate_all(struct stream *stream, struct pf_error *error)
{
	for (;;) {
		ssize_t length = read(stream->from, stream->in, PIECE);
		int status;

		if (length < 0 && errno == EINTR)
			continue;
		if (length < 0)
			return pf_fail(error, -errno, "%s", strerror(errno));
		if (length == 0)
			break;
		stream->zlib.next_in = stream->in;
		stream->zlib.avail_in = (unsigned)length;
		status = inflate_piece(stream, error);
		if (status)
			return status;
	}
	if (!stream->ended)
		return pf_fail(error, PF_E_FORMAT, "truncated gzip file: it ends in the middle of the compressed data; "
		               "download or compress it again");
	return drain(stream, error);
}

int pf_inflate(int from, int (*take)(void *context, const void *bytes, size_t length, struct pf_error *error),
               void *context, struct pf_error *error)
{
	struct stream *stream = calloc(1, sizeof *stream);
	int status;

	if (!stream || inflateInit2(&stream->zlib, 15 + 16) != Z_OK) {
		free(stream);
		return pf_fail(error, -ENOMEM, "out of memory");
	}
	stream->from = from;
	stream->take = take;
	stream->context = context;
	stream->zlib.next_out = stream->out;
	stream->zlib.avail_out = PIECE;
	status = inflate_all(stream, error);
	inflateEnd(&stream->zlib);
	free(stream);
	return status;
}

/* ---- the copy ---- */

static int file_key(int fd, uint64_t *bytes, uint64_t *key)
{
	unsigned char *end = malloc(PIECE);
	struct stat facts;
	ssize_t length;

	if (!end || fstat(fd, &facts)) {
		free(end);
		return -ENOMEM;
	}
	*bytes = (uint64_t)facts.st_size;
	*key = pf_hash_word(PF_HASH_START, *bytes);
	*key = pf_hash_word(*key, (uint64_t)facts.st_mtim.tv_sec);
	*key = pf_hash_word(*key, (uint64_t)facts.st_mtim.tv_nsec);
	length = pread(fd, end, PIECE, 0);
	*key = pf_hash_bytes(*key, end, length > 0 ? (size_t)length : 0);
	length = pread(fd, end, PIECE, facts.st_size > PIECE ? facts.st_size - PIECE : 0);
	*key = pf_hash_bytes(*key, end, length > 0 ? (size_t)length : 0);
	free(end);
	return 0;
}

/* "<cache>/<name without .gz>.<key>" */
static char *copy_name(const char *path, const char *cache, uint64_t key)
{
	const char *name = strrchr(path, '/') ? strrchr(path, '/') + 1 : path;
	size_t length = strlen(name), room = strlen(cache) + length + 32;
	char *plain = malloc(room);

	if (length > 3 && strcmp(name + length - 3, ".gz") == 0)
		length -= 3;
	if (plain)
		snprintf(plain, room, "%s/%.*s.%016" PRIx64, cache, (int)length, name, key);
	return plain;
}

static int make_folder(const char *path, struct pf_error *error)
{
	char *part = strdup(path);

	if (!part)
		return pf_fail(error, -ENOMEM, "out of memory");
	for (char *at = part + 1; *at; at++) {
		if (*at != '/')
			continue;
		*at = 0;
		mkdir(part, 0777);
		*at = '/';
	}
	free(part);
	if (mkdir(path, 0777) && errno != EEXIST)
		return pf_fail(error, -errno, "cache folder %s: %s; choose another one with --cache", path,
		               strerror(errno));
	return 0;
}

struct copy {
	int fd;                        /* of the compressed file */
	uint64_t bytes;                /* its size */
	const char *plain;
	struct pf_replace *file;
	const struct pf_watch *watch;
};

static int check_watch(const struct copy *copy, struct pf_error *error)
{
	const struct pf_watch *watch = copy->watch;
	off_t at = lseek(copy->fd, 0, SEEK_CUR);

	if (!watch || !watch->progress || !watch->progress(watch->context, at > 0 ? (uint64_t)at : 0, copy->bytes))
		return 0;
	return pf_fail(error, PF_E_INTERRUPTED, "interrupted while unpacking; nothing was written");
}

static int take_plain(void *context, const void *bytes, size_t length, struct pf_error *error)
{
	const struct copy *copy = context;
	int status = check_watch(copy, error);

	if (status)
		return status;
	status = pf_replace_write(copy->file, bytes, length, NULL);
	return status ? pf_fail(error, status, "writing the plain copy: %s; choose another folder with --cache",
	                        pf_error_text(status))
	              : 0;
}

/* Opens the copy. While another process makes it, waits for that one; then there may be nothing to do */
static int begin_copy(struct copy *copy, struct pf_error *error)
{
	static const struct timespec pause = { .tv_nsec = 50000000 };
	int status;

	for (;;) {
		status = check_watch(copy, error);
		if (status)
			return status;
		status = pf_replace_open(copy->plain, &copy->file, error);
		if (status != -EBUSY)
			break;
		nanosleep(&pause, NULL);
	}
	if (status)
		return pf_fail(error, status, "%s: %s; choose another folder with --cache", copy->plain,
		               pf_error_text(status));
	if (access(copy->plain, R_OK) == 0) {
		pf_replace_abandon(copy->file);
		copy->file = NULL;
	}
	return 0;
}

static int make_copy(struct copy *copy, struct pf_error *error)
{
	int status = lseek(copy->fd, 0, SEEK_SET) < 0 ? pf_fail(error, -errno, "%s", strerror(errno)) : 0;

	if (!status)
		status = begin_copy(copy, error);
	if (status || !copy->file)
		return status;
	status = pf_inflate(copy->fd, take_plain, copy, error);
	if (!status)
		return pf_replace_commit(copy->file, error);
	pf_replace_abandon(copy->file);
	return status;
}

int pf_unpack(int fd, const char *path, const char *cache, const struct pf_watch *watch, char **plain,
              struct pf_error *error)
{
	struct copy copy = { .fd = fd, .watch = watch };
	uint64_t key;
	int status = file_key(fd, &copy.bytes, &key);

	*plain = NULL;
	if (status)
		return pf_fail(error, status, "%s: %s", path, strerror(-status));
	status = make_folder(cache, error);
	if (status)
		return status;
	*plain = copy_name(path, cache, key);
	if (!*plain)
		return pf_fail(error, -ENOMEM, "out of memory");
	if (access(*plain, R_OK) == 0)
		return 0;
	copy.plain = *plain;
	status = make_copy(&copy, error);
	if (status) {
		free(*plain);
		*plain = NULL;
		pf_fail_in(error, "%s", path);
	}
	return status;
}
