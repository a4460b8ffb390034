#include "progress.h"
#include <inttypes.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define SECOND_NS 1000000000ull
#define BAR 24

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * SECOND_NS + (uint64_t)now.tv_nsec;
}

void pf_progress_start(struct pf_progress *progress, FILE *out, const char *what, uint64_t first, uint64_t total)
{
	*progress = (struct pf_progress){ .out = out, .what = what, .first = first, .total = total,
	                                  .started_ns = now_ns(), .terminal = isatty(fileno(out)) };
}

/* "1:02:33" or "2:33" */
static void clock_text(uint64_t seconds, char *text, size_t size)
{
	unsigned minute = (unsigned)(seconds / 60 % 60), second = (unsigned)(seconds % 60);

	if (seconds >= 3600)
		snprintf(text, size, "%" PRIu64 ":%02u:%02u", seconds / 3600, minute, second);
	else
		snprintf(text, size, "%u:%02u", minute, second);
}

static void bar_text(uint64_t done, uint64_t total, char *text)
{
	unsigned full = total ? (unsigned)((done < total ? done : total) * BAR / total) : 0;

	memset(text, '#', full);
	memset(text + full, '.', BAR - full);
	text[BAR] = 0;
}

static int line_text(const struct pf_progress *progress, uint64_t done, const char *note, char *text, size_t size)
{
	uint64_t spent = now_ns() - progress->started_ns;
	char bar[BAR + 1], passed[32], left[32] = "?";

	bar_text(done, progress->total, bar);
	clock_text(spent / SECOND_NS, passed, sizeof passed);
	if (!progress->total)
		return snprintf(text, size, "%s %" PRIu64 " | %s%s%s", progress->what, done, passed, *note ? " | " : "",
		                note);
	if (done > progress->first && done <= progress->total)
		clock_text((uint64_t)((double)spent / (double)(done - progress->first) *
		                      (double)(progress->total - done) / 1e9), left, sizeof left);
	return snprintf(text, size, "%s %s%s%s%" PRIu64 "/%" PRIu64 " | %s, %s left%s%s", progress->what,
	                progress->terminal ? "[" : "", progress->terminal ? bar : "", progress->terminal ? "] " : "",
	                done, progress->total, passed, left, *note ? " | " : "", note);
}

static void print_line(struct pf_progress *progress, uint64_t done, const char *note)
{
	char text[256];
	int length = line_text(progress, done, note, text, sizeof text);

	if (length >= (int)sizeof text)
		length = (int)sizeof text - 1;
	if (progress->terminal)
		fprintf(progress->out, "\r%-*s", progress->width, text);
	else
		fprintf(progress->out, "%s\n", text);
	progress->width = length;
	fflush(progress->out);
}

void pf_progress_show(struct pf_progress *progress, uint64_t done, const char *note)
{
	uint64_t now = now_ns(), pause = progress->terminal ? SECOND_NS / 10 : SECOND_NS * 10;

	if (progress->shown_ns && now - progress->shown_ns < pause)
		return;
	progress->shown_ns = now;
	print_line(progress, done, note);
}

void pf_progress_finish(struct pf_progress *progress, uint64_t done, const char *note)
{
	print_line(progress, done, note);
	if (progress->terminal)
		fputc('\n', progress->out);
	progress->width = 0;
}

void pf_progress_part(void *context, uint64_t done, uint64_t total)
{
	struct pf_progress *progress = context;
	progress->total = total;
	if (done == total)
		pf_progress_finish(progress, done, "");
	else
		pf_progress_show(progress, done, "");
}
