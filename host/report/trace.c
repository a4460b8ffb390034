#include "trace.h"
#include <errno.h>
#include <pthread.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "prefpga/internal/kernels.h"

enum { NAME_BYTES = 96, FIGURES = 16 };

/* A track of a group: process and thread of the file's form, numbered as they come */
struct track { char group[NAME_BYTES], name[NAME_BYTES]; unsigned pid, tid; };

/* An opening of a device, whose own name ends with it */
struct life { struct life *next; const char *device; char name[NAME_BYTES]; };

struct pf_trace {
	pthread_mutex_t lock;          /* everything below */
	FILE *file;
	char *path;
	double zero;                   /* CLOCK_MONOTONIC, s */
	int events, keep, dropped;     /* dropped: some operation was not kept */
	struct track *track;
	size_t tracks, tracks_room;
	struct pf_operation *kept;     /* device: the name of one of `life` */
	size_t count, room;
	struct life *life;             /* the last first */
	struct { char key[NAME_BYTES]; struct pf_interval value; } figure[FIGURES];
	unsigned figures;
};

static double monotonic(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

int pf_trace_open(const char *path, int keep, struct pf_trace **trace, struct pf_error *error)
{
	struct pf_trace *t = calloc(1, sizeof *t);
	*trace = NULL;
	if (t)
		t->path = strdup(path);
	if (!t || !t->path) {
		free(t);
		return pf_fail(error, -ENOMEM, "no memory for a trace");
	}
	t->file = fopen(path, "w");
	if (!t->file) {
		const int code = pf_fail(error, -errno, "%s: cannot be written: %s", path, strerror(errno));
		free(t->path);
		free(t);
		return code;
	}
	pthread_mutex_init(&t->lock, NULL);
	t->keep = keep;
	t->zero = monotonic();
	fputs("{\"displayTimeUnit\":\"ms\",\"traceEvents\":[\n", t->file);
	*trace = t;
	return 0;
}

static void free_lives(struct pf_trace *t)
{
	while (t->life) {
		struct life *next = t->life->next;
		free(t->life);
		t->life = next;
	}
}

int pf_trace_close(struct pf_trace *t, struct pf_error *error)
{
	if (!t)
		return 0;
	fputs("\n]", t->file);
	for (unsigned i = 0; i < t->figures; i++)
		fprintf(t->file, "%s\"%s\":[%.9g,%.9g,%.9g]", i ? "," : ",\"otherData\":{", t->figure[i].key,
		        t->figure[i].value.value, t->figure[i].value.low, t->figure[i].value.high);
	fputs(t->figures ? "}}\n" : "}\n", t->file);
	const int bad = ferror(t->file) | (fclose(t->file) != 0);
	const int code =
		bad ? pf_fail(error, -EIO, "%s: the trace could not be written whole; is the disk full?", t->path) : 0;
	pthread_mutex_destroy(&t->lock);
	free(t->track);
	free(t->kept);
	free_lives(t);
	free(t->path);
	free(t);
	return code;
}

/* ---- events; with the lock held ---- */

static void begin(struct pf_trace *t)
{
	fputs(t->events++ ? ",\n" : "", t->file);
}

/* Names are ours or a sensor's and a device's: quotes and control characters become blanks */
static void put_text(struct pf_trace *t, const char *text)
{
	for (; *text; text++)
		putc(*text == '"' || *text == '\\' || (unsigned char)*text < ' ' ? ' ' : *text, t->file);
}

static void put_name(struct pf_trace *t, const char *what, unsigned pid, unsigned tid, const char *name)
{
	begin(t);
	fprintf(t->file, "{\"ph\":\"M\",\"name\":\"%s\",\"pid\":%u,\"tid\":%u,\"args\":{\"name\":\"", what, pid, tid);
	put_text(t, name);
	fputs("\"}}", t->file);
}

static const struct track *new_track(struct pf_trace *t, const char *group, const char *name)
{
	unsigned pid = 0, groups = 0, members = 0;
	if (t->tracks == t->tracks_room) {
		const size_t room = t->tracks_room ? 2 * t->tracks_room : 32;
		struct track *more = realloc(t->track, room * sizeof *more);
		if (!more)
			return NULL;
		t->track = more;
		t->tracks_room = room;
	}
	for (size_t i = 0; i < t->tracks; i++) {
		groups = t->track[i].pid > groups ? t->track[i].pid : groups;
		if (strcmp(t->track[i].group, group) == 0) {
			pid = t->track[i].pid;
			members++;
		}
	}
	struct track *track = &t->track[t->tracks++];
	*track = (struct track){ .pid = pid ? pid : groups + 1, .tid = members + 1 };
	snprintf(track->group, sizeof track->group, "%s", group);
	snprintf(track->name, sizeof track->name, "%s", name);
	if (!pid)
		put_name(t, "process_name", track->pid, 0, group);
	put_name(t, "thread_name", track->pid, track->tid, name);
	return track;
}

static const struct track *find_track(struct pf_trace *t, const char *group, const char *name)
{
	for (size_t i = 0; i < t->tracks; i++)
		if (strcmp(t->track[i].name, name) == 0 && strcmp(t->track[i].group, group) == 0)
			return &t->track[i];
	return new_track(t, group, name);
}

/* args: what stands between the braces, or "". Both ends are rounded to the nanosecond, not the time between: a viewer
 * leaves out what begins before the one before it ends */
static void put_event(struct pf_trace *t, const char *group, const char *track_name, const char *name, double from,
                      double to, const char *args)
{
	const struct track *track = find_track(t, group, track_name);
	if (!track)
		return;
	const double began = round(1e9 * from), ended = round(1e9 * to);
	begin(t);
	fprintf(t->file, "{\"ph\":\"X\",\"pid\":%u,\"tid\":%u,\"ts\":%.3f,\"dur\":%.3f,\"name\":\"", track->pid,
	        track->tid, 1e-3 * began, 1e-3 * (ended - began));
	put_text(t, name);
	fprintf(t->file, "\",\"args\":{%s}}", args);
}

/* ---- what is added ---- */

void pf_trace_event(struct pf_trace *t, const char *group, const char *track, const char *name, double from, double to)
{
	if (!t)
		return;
	pthread_mutex_lock(&t->lock);
	put_event(t, group, track, name, from, to, "");
	pthread_mutex_unlock(&t->lock);
}

void pf_trace_phase(struct pf_trace *t, const char *name, double from, double to)
{
	if (t)
		pf_trace_event(t, "host, measured", "phases", name, from - t->zero, to - t->zero);
}

/* Our copy of a device's name, one per opening; NULL: no memory. Nobody else's is where an open device's is */
static const char *name_of(struct pf_trace *t, const char *device)
{
	struct life *l = t->life;
	while (l && (l->device != device || strncmp(l->name, device, NAME_BYTES - 1) != 0))
		l = l->next;
	if (l || !(l = malloc(sizeof *l)))
		return l ? l->name : NULL;
	l->next = t->life;
	l->device = device;
	snprintf(l->name, sizeof l->name, "%s", device);
	t->life = l;
	return l->name;
}

static void keep(struct pf_trace *t, const struct pf_operation *o)
{
	const char *name = name_of(t, o->device);
	if (t->count == t->room && !t->dropped) {
		const size_t room = t->room ? 2 * t->room : 1024;
		struct pf_operation *more = room <= 2 * PF_TRACE_KEPT ? realloc(t->kept, room * sizeof *more) : NULL;
		t->kept = more ? more : t->kept;
		t->room = more ? room : t->room;
	}
	t->dropped |= t->count == t->room || !name;
	if (t->dropped)
		return;
	t->kept[t->count] = *o;
	t->kept[t->count++].device = name;
}

static void put_operation(struct pf_trace *t, const struct pf_operation *o)
{
	static const char *const kernels[] = {
#define PF_KERNEL_TEXT(kernel, file, state, lanes, brief) #kernel,
		PF_KERNELS(PF_KERNEL_TEXT)
	};
	const double from = 1e-9 * (double)o->started_ns - t->zero, to = 1e-9 * (double)o->done_ns - t->zero;
	char group[NAME_BYTES], track[NAME_BYTES], args[160];
	snprintf(group, sizeof group, "%.80s, measured", o->device);
	snprintf(args, sizeof args,
	         "\"serial\":%llu,\"after\":%llu,\"bytes\":%llu,\"beats\":%llu,\"queued_us\":%.3f,\"status\":%d",
	         (unsigned long long)o->serial, (unsigned long long)o->after, (unsigned long long)o->bytes,
	         (unsigned long long)o->beats, 1e6 * (1e-9 * (double)o->queued_ns - t->zero), o->status);
	if (o->kind == PF_OP_RUN)
		snprintf(track, sizeof track, "%s unit %u", kernels[o->kernel], o->cu + 1);
	else
		snprintf(track, sizeof track, "%s", o->kind == PF_OP_IN ? "copies in" : "copies out");
	put_event(t, group, track, o->kind == PF_OP_RUN ? kernels[o->kernel] : track, from, to, args);
}

void pf_trace_operation(void *trace, const struct pf_operation *o)
{
	struct pf_trace *t = trace;
	if (!t)
		return;
	pthread_mutex_lock(&t->lock);
	if (o->kind != PF_OP_WAIT)
		put_operation(t, o);
	if (t->keep)
		keep(t, o);
	pthread_mutex_unlock(&t->lock);
}

void pf_trace_counter(struct pf_trace *t, const char *group, const char *name, const char *unit, double time,
                      double value)
{
	if (!t)
		return;
	pthread_mutex_lock(&t->lock);
	const struct track *track = find_track(t, group, name);
	if (track) {
		begin(t);
		fprintf(t->file, "{\"ph\":\"C\",\"pid\":%u,\"ts\":%.3f,\"name\":\"", track->pid, 1e6 * time);
		put_text(t, name);
		fprintf(t->file, "\",\"args\":{\"%s\":%.6g}}", unit, value);
	}
	pthread_mutex_unlock(&t->lock);
}

void pf_trace_power(struct pf_trace *t, const char *sensor, double time, double watt)
{
	if (t)
		pf_trace_counter(t, "power, measured", sensor, "W", time - t->zero, watt);
}

void pf_trace_figure(struct pf_trace *t, const char *key, struct pf_interval value)
{
	if (!t)
		return;
	pthread_mutex_lock(&t->lock);
	if (t->figures < FIGURES) {
		snprintf(t->figure[t->figures].key, NAME_BYTES, "%s", key);
		t->figure[t->figures++].value = value;
	}
	pthread_mutex_unlock(&t->lock);
}

int pf_trace_operations(const struct pf_trace *t, const struct pf_operation **operations, size_t *count)
{
	*operations = t->kept;
	*count = t->count;
	return t->dropped ? -ENOMEM : 0;
}
