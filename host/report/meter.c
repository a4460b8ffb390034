#include "meter.h"
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

enum { LINE_BYTES = 4096 };

struct parsing {
	const char *path;
	unsigned line;
	size_t room;
	struct pf_meter *meter;
	struct pf_error *error;
};

static int bad(const struct parsing *p, const char *what)
{
	return pf_fail(p->error, PF_E_FORMAT,
	               "%s:%u: %s; a line is time,watts or time,watts,marker, times in seconds and "
	               "ascending",
	               p->path, p->line, what);
}

static int add(struct parsing *p, struct pf_reading reading)
{
	struct pf_meter *m = p->meter;
	if (m->count == p->room) {
		const size_t room = p->room ? 2 * p->room : 1024;
		struct pf_reading *at = realloc(m->at, room * sizeof *at);
		if (!at)
			return pf_fail(p->error, -ENOMEM, "%s: no memory for %zu readings", p->path, room);
		m->at = at;
		p->room = room;
	}
	if (m->count)
		m->spacing = fmax(m->spacing, reading.time - m->at[m->count - 1].time);
	m->at[m->count++] = reading;
	return 0;
}

/* A finite number up to a comma or the end; *rest behind the comma, NULL at the end. 0 if there is none */
static int take_number(const char *text, double *value, const char **rest)
{
	char *end;
	*value = strtod(text, &end);
	if (end == text || !isfinite(*value))
		return 0;
	end += strspn(end, " \t\r");
	*rest = *end == ',' ? end + 1 : NULL;
	return *end == ',' || *end == '\0';
}

static int take_marker(struct parsing *p, const char *text, double time)
{
	size_t length;
	text += strspn(text, " \t\"");
	length = strcspn(text, " \t\r\",");
	double *marker = length == 5 && strncmp(text, "start", 5) == 0 ? &p->meter->start
	                 : length == 3 && strncmp(text, "end", 3) == 0 ? &p->meter->end
	                                                               : NULL;
	if (marker && !isnan(*marker))
		return bad(p, "the marker of an earlier line once more: which one is it?");
	if (marker)
		*marker = time;
	if (length == 4 && strncmp(text, "idle", 4) == 0) {
		p->meter->idle = isnan(p->meter->idle) ? time : p->meter->idle;
		p->meter->idle_end = time;
	}
	return 0;
}

/* ---- a first line of names ---- */

/* Whether a name has that word, as in power_mW and Power (mW); a word of one letter is all of the name */
static int has_word(const char *name, size_t length, const char *word)
{
	static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
	const size_t size = strlen(word);
	for (size_t at = 0; at < length; at++) {
		const size_t run = strspn(name + at, letters);
		if (run == size && strncasecmp(name + at, word, size) == 0 && (size > 1 || size == length))
			return 1;
		at += run;
	}
	return 0;
}

static const char *find_word(const char *name, size_t length, const char *const *words)
{
	while (*words && !has_word(name, length, *words))
		words++;
	return *words;
}

/* Names that say something else than seconds and watts would make every figure wrong by a thousand, or worse */
static int take_names(struct parsing *p, const char *line)
{
	static const char *const not_seconds[] = { "ms", "us", "ns", "msec", "millis", "milliseconds", "microseconds",
		                                   "nanoseconds", "min", "minutes", "hours", NULL };
	static const char *const not_watts[] = { "mw", "uw", "kw", "milliwatt", "milliwatts", "microwatts", "kilowatts",
		                                 "wh", "kwh", "mwh", "joule", "joules", "v", "mv", "volt",
		                                 "volts", "voltage", "a", "ma", "amp", "amps", "amperes", "current",
		                                 "va", "var", NULL };
	const size_t first = strcspn(line, ",");
	const char *second = line + first + (line[first] == ',');
	if (find_word(line, first, not_seconds))
		return bad(p, "the first column is not named as seconds");
	if (find_word(second, strcspn(second, ",\r"), not_watts))
		return bad(p, "the second column is not named as watts");
	return 0;
}

static int take_line(struct parsing *p, char *line)
{
	const struct pf_meter *m = p->meter;
	const char *rest = NULL;
	struct pf_reading r;
	line[strcspn(line, "\n")] = '\0';
	line += strspn(line, " \t\r");
	if (!*line || *line == '#')
		return 0;
	if (!take_number(line, &r.time, &rest))
		return p->line == 1 ? take_names(p, line) : bad(p, "no number of seconds");
	if (!rest || !take_number(rest, &r.watt, &rest) || !(r.watt >= 0.0))
		return bad(p, "no number of watts behind the time");
	if (m->count && !(r.time > m->at[m->count - 1].time))
		return bad(p, "a time that is not after the one before");
	const int code = rest ? take_marker(p, rest, r.time) : 0;
	return code ? code : add(p, r);
}

int pf_meter_read(const char *path, struct pf_meter *meter, struct pf_error *error)
{
	struct parsing p = { .path = path, .meter = meter, .error = error };
	const int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	FILE *file = fd < 0 ? NULL : fdopen(fd, "r");
	char line[LINE_BYTES];
	int code = 0;
	*meter = (struct pf_meter){ .start = NAN, .end = NAN, .idle = NAN, .idle_end = NAN };
	if (!file) {
		code = pf_fail(error, -errno, "%s: %s", path, strerror(errno));
		if (fd >= 0)
			close(fd);
		return code;
	}
	while (!code && fgets(line, sizeof line, file)) {
		p.line++;
		code = strchr(line, '\n') || feof(file) ? take_line(&p, line)
		                                        : bad(&p, "a line of more than 4095 bytes");
	}
	if (!code && ferror(file))
		code = pf_fail(error, -EIO, "%s: cannot be read", path);
	if (!code && meter->count < 2)
		code = pf_fail(error, PF_E_FORMAT, "%s: %zu readings; at least two are needed", path, meter->count);
	fclose(file);
	if (code)
		pf_meter_free(meter);
	return code;
}

void pf_meter_free(struct pf_meter *meter)
{
	free(meter->at);
	*meter = (struct pf_meter){ 0 };
}
