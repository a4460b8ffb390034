#include "unpack.h"
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>
#include "hash.h"

#define PIECE (1u << 16)

int pf_is_gzip(const unsigned char *bytes, size_t length)
{
	return length >= 2 && bytes[0] == 0x1f && bytes[1] == 0x8b;
}

/* ---- inflating ---- */

struct stream {
	z_stream zlib;
	int      from, to, ended;      /* ended: a member is complete and no other has begun */
	unsigned char in[PIECE], out[PIECE];
};

static int write_all(int to, const unsigned char *bytes, size_t length)
{
	while (length) {
		ssize_t written = write(to, bytes, length);

		if (written < 0 && errno == EINTR)
			continue;
		if (written <= 0)
			return written ? -errno : -EIO;
		bytes += written;
		length -= (size_t)written;
	}
	return 0;
}

static int drain(struct stream *stream, struct pf_error *error)
{
	int status = write_all(stream->to, stream->out, PIECE - stream->zlib.avail_out);

	stream->zlib.next_out = stream->out;
	stream->zlib.avail_out = PIECE;
	return status ? pf_fail(error, status, "writing the plain copy: %s", strerror(-status)) : 0;
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

int pf_inflate(int from, int to, struct pf_error *error)
{
	struct stream *stream = calloc(1, sizeof *stream);
	int status;

	if (!stream || inflateInit2(&stream->zlib, 15 + 16) != Z_OK) {
		free(stream);
		return pf_fail(error, -ENOMEM, "out of memory");
	}
	stream->from = from;
	stream->to = to;
	stream->zlib.next_out = stream->out;
	stream->zlib.avail_out = PIECE;
	status = inflate_all(stream, error);
	inflateEnd(&stream->zlib);
	free(stream);
	return status;
}

/* ---- the copy ---- */

static int file_key(int fd, uint64_t *key)
{
	unsigned char *end = malloc(PIECE);
	struct stat facts;
	ssize_t length;

	if (!end || fstat(fd, &facts)) {
		free(end);
		return -ENOMEM;
	}
	*key = pf_hash_word(PF_HASH_START, (uint64_t)facts.st_size);
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

static int fill_copy(int fd, const char *part, struct pf_error *error)
{
	int to = open(part, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666), status;

	if (to < 0)
		return pf_fail(error, -errno, "%s: %s; choose another folder with --cache", part, strerror(errno));
	status = lseek(fd, 0, SEEK_SET) < 0 ? pf_fail(error, -errno, "%s", strerror(errno)) : pf_inflate(fd, to, error);
	if (!status && fsync(to))
		status = pf_fail(error, -errno, "%s: %s", part, strerror(errno));
	if (close(to) && !status)
		status = pf_fail(error, -errno, "%s: %s", part, strerror(errno));
	if (status == -ENOSPC)
		pf_fail(error, status, "the plain copy does not fit into the cache folder's disk; choose another folder "
		        "with --cache");
	return status;
}

static int make_copy(int fd, const char *plain, struct pf_error *error)
{
	size_t room = strlen(plain) + 32;
	char *part = malloc(room);
	int status;

	if (!part)
		return pf_fail(error, -ENOMEM, "out of memory");
	snprintf(part, room, "%s.part.%ld", plain, (long)getpid());
	status = fill_copy(fd, part, error);
	if (!status && rename(part, plain))
		status = pf_fail(error, -errno, "%s: %s", plain, strerror(errno));
	if (status)
		unlink(part);
	free(part);
	return status;
}

int pf_unpack(int fd, const char *path, const char *cache, char **plain, struct pf_error *error)
{
	uint64_t key;
	int status = file_key(fd, &key);

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
	status = make_copy(fd, *plain, error);
	if (status) {
		free(*plain);
		*plain = NULL;
		pf_fail_in(error, "%s", path);
	}
	return status;
}
