#include "reference.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>
#include "../corpus/hash.h"
#include "../model/folder.h"
#include "../model/replace.h"

enum { HEADER_BYTES = 512 };           /* the JSON, padded with blanks as the form allows */

struct entry {
	int64_t sum;
	uint64_t check;
};

struct pf_reference {
	int fd;
	struct pf_replace *next;       /* between restart and commit: entries go there */
	char *path;
	uint64_t key, records, origin;
	unsigned sides;
};

static uint64_t check_word(const struct pf_reference *r, uint64_t place, int64_t sum)
{
	return pf_hash_word(pf_hash_word(pf_hash_word(PF_HASH_START, r->key ^ r->origin), place), (uint64_t)sum);
}

static off_t place_offset(uint64_t place)
{
	return (off_t)(sizeof(uint64_t) + HEADER_BYTES + place * sizeof(struct entry));
}

static void make_header(const struct pf_reference *r, unsigned char header[sizeof(uint64_t) + HEADER_BYTES])
{
	const unsigned long long records = r->records, bytes = records * r->sides * sizeof(struct entry);
	char text[HEADER_BYTES + 1];
	int n = snprintf(
		text, sizeof text,
		"{\"logp_q32\":{\"dtype\":\"I64\",\"shape\":[%llu,%u,2],"
		"\"data_offsets\":[0,%llu]},\"__metadata__\":{\"writer\":\"prefpga\",\"key\":\"%016llx\",\"origin\":"
		"\"%016llx\"}}",
		records, r->sides, bytes, (unsigned long long)r->key, (unsigned long long)r->origin);
	memset(text + n, ' ', sizeof text - (size_t)n);
	memset(header, 0, sizeof(uint64_t));
	header[0] = HEADER_BYTES & 255;
	header[1] = HEADER_BYTES >> 8;
	memcpy(header + sizeof(uint64_t), text, HEADER_BYTES);
}

/* 0, or -errno of what failed; fewer bytes than asked for are -EIO */
static int read_at(int fd, void *to, size_t bytes, off_t at)
{
	const ssize_t n = pread(fd, to, bytes, at);
	return n == (ssize_t)bytes ? 0 : n < 0 ? -errno : -EIO;
}

static int write_at(int fd, const void *from, size_t bytes, off_t at)
{
	const ssize_t n = pwrite(fd, from, bytes, at);
	return n == (ssize_t)bytes ? 0 : n < 0 ? -errno : -ENOSPC;
}

static int start_file(struct pf_reference *r, int fd, struct pf_error *error)
{
	unsigned char header[sizeof(uint64_t) + HEADER_BYTES];
	make_header(r, header);
	int code = ftruncate(fd, 0) != 0 ? -errno : write_at(fd, header, sizeof header, 0);
	if (!code && ftruncate(fd, place_offset(r->records * r->sides)) != 0)
		code = -errno;
	return code ? pf_fail(error, code, "%s: cannot be written: %s", r->path, strerror(-code)) : 0;
}

/* Whether the file is one of this key, and where its numbers come from */
static int recognise(struct pf_reference *r)
{
	unsigned char want[sizeof(uint64_t) + HEADER_BYTES], have[sizeof want + 1] = { 0 };
	static const char name[] = "\"origin\":\"";
	struct stat st;
	if (fstat(r->fd, &st) != 0 || st.st_size != place_offset(r->records * r->sides) ||
	    read_at(r->fd, have, sizeof want, 0) != 0)
		return 0;
	const char *origin = strstr((const char *)have + sizeof(uint64_t), name);
	r->origin = origin ? strtoull(origin + sizeof name - 1, NULL, 16) : 0;
	make_header(r, want);
	return memcmp(want, have, sizeof want) == 0;
}

static int begin_file(struct pf_reference *r, struct pf_error *error)
{
	if (recognise(r))
		return 0;
	r->origin = 0;
	return start_file(r, r->fd, error);
}

static int open_file(struct pf_reference *r, const char *folder, struct pf_error *error)
{
	const size_t room = strlen(folder) + 64;
	const int made = pf_folder_make(folder);
	if (made)
		return pf_fail(error, made, "%s: cannot be made: %s; choose another --cache", folder, strerror(-made));
	r->path = malloc(room);
	if (!r->path)
		return pf_fail(error, -ENOMEM, "no memory for a path");
	snprintf(r->path, room, "%s/reference-%016llx.safetensors", folder, (unsigned long long)r->key);
	r->fd = open(r->path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
	if (r->fd < 0)
		return pf_fail(error, -errno, "%s: cannot be opened: %s", r->path, strerror(errno));
	if (flock(r->fd, LOCK_EX) != 0)        /* while the file is begun; afterwards runs share it */
		return pf_fail(error, -errno, "%s: cannot be locked: %s", r->path, strerror(errno));
	int code = begin_file(r, error);
	flock(r->fd, LOCK_UN);
	return code;
}

int pf_reference_open(const char *folder, uint64_t key, uint64_t records, unsigned sides,
                      struct pf_reference **reference, struct pf_error *error)
{
	struct pf_reference *r = calloc(1, sizeof *r);
	*reference = NULL;
	if (!r)
		return pf_fail(error, -ENOMEM, "no memory for the reference cache");
	key = pf_hash_word(pf_hash_word(key, records), sides);
	*r = (struct pf_reference){ .fd = -1, .key = key, .records = records, .sides = sides };
	int code = open_file(r, folder, error);
	if (code) {
		pf_reference_close(r);
		return code;
	}
	*reference = r;
	return 0;
}

void pf_reference_close(struct pf_reference *r)
{
	if (!r)
		return;
	pf_replace_abandon(r->next);
	if (r->fd >= 0)
		close(r->fd);
	free(r->path);
	free(r);
}

int pf_reference_restart(struct pf_reference *r, uint64_t origin, struct pf_error *error)
{
	int code = pf_replace_open(r->path, &r->next, error);
	if (code)
		return code;
	r->origin = origin;
	return start_file(r, pf_replace_fd(r->next), error);
}

int pf_reference_commit(struct pf_reference *r, struct pf_error *error)
{
	int code = pf_replace_commit(r->next, error);
	r->next = NULL;
	if (code)
		return code;
	close(r->fd);
	r->fd = open(r->path, O_RDWR | O_CLOEXEC);
	return r->fd >= 0 && recognise(r) ? 0 : pf_fail(error, PF_E_DATA, "%s: was replaced at once by another file",
	                                               r->path);
}

uint64_t pf_reference_origin(const struct pf_reference *r)
{
	return r ? r->origin : 0;
}

uint64_t pf_reference_key(const struct pf_reference *r)
{
	return r->key;
}

const char *pf_reference_path(const struct pf_reference *r)
{
	return r->path;
}

static int no_entry(const struct pf_reference *r, uint64_t record, unsigned side, struct pf_error *error)
{
	return record < r->records && side < r->sides
	               ? 0
	               : pf_fail(error, PF_E_RANGE,
	                         "%s: has no entry for side %u of sample %llu: it holds %llu samples of %u sides",
	                         r->path, side, (unsigned long long)record, (unsigned long long)r->records, r->sides);
}

int pf_reference_get(const struct pf_reference *r, uint64_t record, unsigned side, int64_t *sum, struct pf_error *error)
{
	const uint64_t place = record * r->sides + side;
	struct entry e;
	int code = no_entry(r, record, side, error);
	if (code)
		return code;
	code = read_at(r->fd, &e, sizeof e, place_offset(place));
	if (code)
		return pf_fail(error, code, "%s: entry %llu cannot be read: %s", r->path, (unsigned long long)place,
		               strerror(-code));
	*sum = e.sum;
	if (e.check == check_word(r, place, e.sum))
		return 1;
	return !r->origin ? 0
	                  : pf_fail(error, PF_E_DATA,
	                            "%s: its log-probs were imported, but entry %llu is torn; import them "
	                            "again, or remove the file to have them computed",
	                            r->path, (unsigned long long)place);
}

int pf_reference_put(struct pf_reference *r, uint64_t record, unsigned side, int64_t sum, struct pf_error *error)
{
	const uint64_t place = record * r->sides + side;
	const struct entry e = { sum, check_word(r, place, sum) };
	int code = no_entry(r, record, side, error);
	if (code)
		return code;
	code = write_at(r->next ? pf_replace_fd(r->next) : r->fd, &e, sizeof e, place_offset(place));
	return code ? pf_fail(error, code, "%s: cannot be written: %s; make room, or give --cache another folder",
	                      r->path, strerror(-code))
	            : 0;
}
