/* One sensor, read once. */
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include "power.h"

enum { STALE_REFRESHES = 3 };
#define WATTS_MOST 10000.0             /* no board, processor or meter of a machine shows more */

static const char *const scope_names[] = { "board", "chip", "package", "dram", "platform", "wall" };

const char *pf_power_scope_name(enum pf_power_scope scope)
{
	return (size_t)scope < sizeof scope_names / sizeof *scope_names ? scope_names[scope] : NULL;
}

int pf_power_slurp(const char *path, char *text, size_t room)
{
	size_t length = 0;
	const int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (fd < 0)
		return -errno;
	ssize_t n;
	do {
		n = read(fd, text + length, room - 1 - length);
		length += n > 0 ? (size_t)n : 0;
	} while ((n > 0 && length < room - 1) || (n < 0 && errno == EINTR));
	const int code = n < 0 ? -errno : 0;
	close(fd);
	text[length] = '\0';
	return code;
}

int pf_power_number(const char *text, double *value)
{
	char *end;
	if (*text < '0' || *text > '9')
		return PF_E_DATA;
	*value = strtod(text, &end);
	end += strspn(end, " \t\r\n");
	return *end == '\0' && isfinite(*value) ? 0 : PF_E_DATA;
}

static const char *why(const struct pf_sensor *s, int code)
{
	if ((code == -EACCES || code == -EPERM) && s->kind == PF_SENSOR_RAPL)
		return "; the kernel lets only root read it: run as root, or chmod a+r this file";
	if (code == -EACCES || code == -EPERM)
		return "; run as a user who may read it";
	return code == -ENOENT || code == -ENODEV ? "; the device may have left the bus" : "";
}

/* A report is a file that something else keeps writing: an old one is no measurement */
static int check_age(const struct pf_sensor *s, struct pf_error *error)
{
	struct timespec now;
	struct stat st;
	clock_gettime(CLOCK_REALTIME, &now);
	if (stat(s->path, &st) != 0)
		return pf_fail(error, -errno, "%s: %s", s->path, strerror(errno));
	const double age = (double)(now.tv_sec - st.st_mtim.tv_sec) + 1e-9 * (double)(now.tv_nsec - st.st_mtim.tv_nsec);
	if (age > STALE_REFRESHES * s->refresh_s)
		return pf_fail(error, PF_E_DATA, "%s was last written %.0f s ago, which is no measurement of now; keep "
		               "the command that writes it running", s->path, age);
	return 0;
}

static int parse(const struct pf_sensor *s, const char *text, double *value, struct pf_error *error)
{
	const char *bdf = strchr(s->name, ' ');
	if (s->kind == PF_SENSOR_REPORT)
		return pf_power_report(text, bdf ? bdf + 1 : "", value, error);
	if (s->kind == PF_SENSOR_AWS)
		return pf_power_aws(text, value, error);
	if (pf_power_number(text, value) != 0)
		return pf_fail(error, PF_E_DATA, "%s: \"%.40s\" is no number of %s", s->path, text,
		               s->counts ? "energy" : "power");
	*value *= s->unit;
	return 0;
}

int pf_sensor_read(const struct pf_sensor *s, double *value, struct pf_error *error)
{
	const int file = s->kind == PF_SENSOR_REPORT || s->kind == PF_SENSOR_AWS;
	char *text = malloc(PF_POWER_TEXT);
	*value = NAN;
	if (!text)
		return pf_fail(error, -ENOMEM, "no memory to read %s", s->path);
	int code = pf_power_slurp(s->path, text, PF_POWER_TEXT);
	if (code)
		pf_fail(error, code, "%s: %s%s", s->path, strerror(-code), why(s, code));
	if (!code && file)
		code = check_age(s, error);
	if (!code)
		code = parse(s, text, value, error);
	if (!code && !s->counts && !(*value <= WATTS_MOST))
		code = pf_fail(error, PF_E_DATA, "%s shows %.6g W, which is no power of a machine", s->path, *value);
	free(text);
	return code;
}
