#include "metrics.h"
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct pf_metrics {
	int fd;                        /* -1: not written */
	char *path;
	json_t *line;
	int64_t position;
};

static int cut_back(struct pf_metrics *m, int64_t keep, struct pf_error *error)
{
	struct stat st;
	m->position = keep < 0 ? 0 : keep;
	if (fstat(m->fd, &st) != 0)
		return pf_fail(error, -errno, "%s: %s", m->path, strerror(errno));
	if (!S_ISREG(st.st_mode))
		return 0;
	if (st.st_size < keep)
		return pf_fail(error, PF_E_MISMATCH,
		               "%s has %lld bytes, the checkpoint was written at %lld: not the log "
		               "of this run; give --log its own file",
		               m->path, (long long)st.st_size, (long long)keep);
	if (ftruncate(m->fd, keep < 0 ? 0 : keep) != 0 || lseek(m->fd, 0, SEEK_END) < 0)
		return pf_fail(error, -errno, "%s: cannot be cut back: %s", m->path, strerror(errno));
	return 0;
}

int pf_metrics_open(const char *path, int64_t keep, struct pf_metrics **metrics, struct pf_error *error)
{
	struct pf_metrics *m = calloc(1, sizeof *m);
	*metrics = NULL;
	if (!m || !(m->line = json_object())) {
		free(m);
		return pf_fail(error, -ENOMEM, "no memory for the log");
	}
	m->fd = -1;
	int code = 0;
	if (path) {
		m->path = strdup(path);
		m->fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0666);
		if (!m->path || m->fd < 0)
			code = pf_fail(error, -errno, "%s: cannot be written: %s", path, strerror(errno));
		else
			code = cut_back(m, keep, error);
	}
	if (code) {
		pf_metrics_close(m);
		return code;
	}
	*metrics = m;
	return 0;
}

void pf_metrics_close(struct pf_metrics *m)
{
	if (!m)
		return;
	if (m->fd >= 0)
		close(m->fd);
	json_decref(m->line);
	free(m->path);
	free(m);
}

void pf_metrics_number(struct pf_metrics *m, const char *key, double value)
{
	if (isfinite(value))
		json_object_set_new(m->line, key, json_real(value));
}

void pf_metrics_count(struct pf_metrics *m, const char *key, uint64_t value)
{
	json_object_set_new(m->line, key, json_integer((json_int_t)value));
}

json_t *pf_metrics_object(const struct pf_metrics_field *field, size_t n)
{
	json_t *object = json_object();
	for (size_t i = 0; i < n; i++)
		if (field[i].text || isfinite(field[i].number))
			json_object_set_new(object, field[i].key, field[i].text ? json_string(field[i].text)
			                                                        : json_real(field[i].number));
	return object;
}

void pf_metrics_append(struct pf_metrics *m, const char *key, const struct pf_metrics_field *field, size_t n)
{
	json_t *list = json_object_get(m->line, key);
	if (!list) {
		list = json_array();
		json_object_set_new(m->line, key, list);
	}
	json_array_append_new(list, pf_metrics_object(field, n));
}

static int write_all(int fd, const char *text, size_t bytes)
{
	while (bytes > 0) {
		ssize_t n = write(fd, text, bytes);
		if (n == 0 || (n < 0 && errno != EINTR))
			return n == 0 ? -ENOSPC : -errno;
		if (n > 0) {
			text += n;
			bytes -= (size_t)n;
		}
	}
	return 0;
}

int pf_metrics_end(struct pf_metrics *m, struct pf_error *error)
{
	int code = 0;
	char *text = m->fd >= 0 ? json_dumps(m->line, JSON_COMPACT | JSON_REAL_PRECISION(9)) : NULL;
	if (m->fd >= 0) {
		size_t bytes = text ? strlen(text) : 0;
		if (text)
			text[bytes++] = '\n';          /* over the terminator: the buffer ends there */
		code = text ? write_all(m->fd, text, bytes) : -ENOMEM;
		m->position += code ? 0 : (int64_t)bytes;
	}
	free(text);
	json_object_clear(m->line);
	return code ? pf_fail(error, code, "%s: cannot be written: %s", m->path, pf_error_text(code)) : 0;
}

int64_t pf_metrics_position(const struct pf_metrics *m)
{
	return m->position;
}

void pf_wilson(uint64_t hits, uint64_t count, double *low, double *high)
{
	const double z = 1.959963984540054, n = (double)count;
	*low = 0.0;
	*high = 1.0;
	if (count == 0)
		return;
	double p = (double)hits / n, denominator = 1.0 + z * z / n;
	double middle = (p + z * z / (2.0 * n)) / denominator;
	double half = z * sqrt(p * (1.0 - p) / n + z * z / (4.0 * n * n)) / denominator;
	*low = hits == 0 ? 0.0 : middle - half;
	*high = hits == count ? 1.0 : middle + half;
}
