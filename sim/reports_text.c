/* What csynth.xml and cosim reports say. The XML reader knows elements, text, comments and declarations; attributes are
 * passed over, entities do not occur in numbers and labels. */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "prefpga/internal/kernels.h"
#include "reports.h"

enum { DEPTH = 32, NAME = PF_REPORT_NAME, TEXT = 64 };

struct reader {
	struct pf_reports *reports;
	const char *file, *at, *end;
	char   path[DEPTH][NAME];      /* names of the open elements */
	char   text[DEPTH][TEXT];      /* what stands in them, cut */
	struct pf_loop_report loop[DEPTH];     /* what an element says if it is a loop */
	int    depth, kernel;          /* kernel: of the file's top, -1: not known */
	size_t line;
};

static int fail(const struct reader *r, struct pf_error *error, const char *what)
{
	return pf_fail(error, PF_E_DATA, "%s:%zu: %s; is it a report of Vitis HLS, and whole?", r->file, r->line, what);
}

/* "pf_k_logprob", or a module of it, pf_k_logprob_Pipeline_steps; -1: no kernel's */
int pf_report_kernel(const char *name, size_t length)
{
	int found = -1;
	size_t best = 0;
	for (int k = 0; k < PF_KERNEL_COUNT; k++) {
		const size_t own = strlen(pf_kernel_rows[k].name);
		if (length < 5 + own || memcmp(name, "pf_k_", 5) != 0 ||
		    memcmp(name + 5, pf_kernel_rows[k].name, own) != 0 || own < best)
			continue;
		if (length == 5 + own || name[5 + own] == '_' || name[5 + own] == '.') {
			found = k;
			best = own;
		}
	}
	return found;
}

static int inside(const struct reader *r, const char *name)
{
	for (int i = 0; i < r->depth; i++)
		if (strcmp(r->path[i], name) == 0)
			return 1;
	return 0;
}

/* ---- what an element says when it closes ---- */

static void take_loop(struct reader *r, const struct pf_loop_report *own)
{
	struct pf_kernel_report *k = &r->reports->kernel[r->kernel];
	for (unsigned i = 0; i < k->loops; i++)
		if (strcmp(k->loop[i].name, own->name) == 0) {
			k->loop[i].ii = fmax(k->loop[i].ii, own->ii);
			k->loop[i].depth = fmax(k->loop[i].depth, own->depth);
			return;
		}
	if (k->loops < PF_REPORT_LOOPS)
		k->loop[k->loops++] = *own;
}

/* Where a number of the top goes, or NULL */
static double *place_of(struct reader *r, const char *name)
{
	struct pf_kernel_report *k = &r->reports->kernel[r->kernel];
	const struct { const char *name, *within; double *to; } places[] = {
		{ "TargetClockPeriod", "UserAssignments", &k->target_ns },
		{ "ClockUncertainty", "UserAssignments", &k->uncertainty_ns },
		{ "EstimatedClockPeriod", "SummaryOfTimingAnalysis", &k->estimated_ns },
		{ "DSP", "Resources", &k->dsp }, { "DSP48E", "Resources", &k->dsp },
		{ "LUT", "Resources", &k->lut }, { "FF", "Resources", &k->ff },
		{ "BRAM_18K", "Resources", &k->bram18 }, { "URAM", "Resources", &k->uram },
	};
	for (size_t i = 0; i < sizeof places / sizeof *places; i++)
		if (strcmp(places[i].name, name) == 0 && inside(r, places[i].within) && !inside(r, "ModuleInformation"))
			return places[i].to;
	return NULL;
}

static int number(const struct reader *r, const char *text, double *value, struct pf_error *error)
{
	char *end;
	const double x = strtod(text, &end);
	if (end == text || *end || !(x >= 0.0 && x <= 1e12))
		return fail(r, error, "a number was expected");
	*value = x;
	return 0;
}

static int closed(struct reader *r, const char *name, const char *text, const struct pf_loop_report *own,
                  struct pf_error *error)
{
	double *to;
	if (strcmp(name, "TopModelName") == 0)
		r->kernel = pf_report_kernel(text, strlen(text));
	if (r->kernel < 0)
		return 0;
	if (strcmp(name, "TopModelName") == 0)
		r->reports->kernel[r->kernel].synthesised = 1;
	if (inside(r, "SummaryOfLoopLatency") && r->depth > 0) {
		struct pf_loop_report *around = &r->loop[r->depth - 1];
		if (strcmp(name, "Name") == 0 && text[0])
			memcpy(around->name, text, strlen(text) + 1);
		if (strcmp(name, "PipelineII") == 0)
			return number(r, text, &around->ii, error);
		if (strcmp(name, "PipelineDepth") == 0)
			return number(r, text, &around->depth, error);
		if (own->ii > 0.0)
			take_loop(r, own);
		return 0;
	}
	to = place_of(r, name);
	return to ? number(r, text, to, error) : 0;
}

/* ---- elements ---- */

static void add_text(struct reader *r, const char *from, const char *to)
{
	char *text = r->depth ? r->text[r->depth - 1] : NULL;
	for (; from < to; from++) {
		r->line += *from == '\n';
		const size_t have = text ? strlen(text) : TEXT;
		if (have + 1 < TEXT && *from && !(strchr(" \t\r\n", *from) && !have)) {
			text[have] = *from;
			text[have + 1] = '\0';
		}
	}
}

static void strip(char *text)
{
	size_t length = strlen(text);
	while (length && strchr(" \t\r\n", text[length - 1]))
		text[--length] = '\0';
}

static int open_element(struct reader *r, const char *name, size_t length, struct pf_error *error)
{
	if (r->depth == DEPTH)
		return fail(r, error, "elements are nested too deeply");
	memcpy(r->path[r->depth], name, length);
	r->path[r->depth][length] = '\0';
	r->text[r->depth][0] = '\0';
	r->loop[r->depth] = (struct pf_loop_report){ .ii = 0.0 };
	memcpy(r->loop[r->depth].name, r->path[r->depth], length + 1);
	r->depth++;
	return 0;
}

static int close_element(struct reader *r, const char *name, size_t length, struct pf_error *error)
{
	if (!r->depth || strlen(r->path[r->depth - 1]) != length || memcmp(r->path[r->depth - 1], name, length) != 0)
		return fail(r, error, "an element ends that did not begin");
	r->depth--;
	strip(r->text[r->depth]);
	return closed(r, r->path[r->depth], r->text[r->depth], &r->loop[r->depth], error);
}

/* <...>, which ends before `close` */
static int element(struct reader *r, const char *open, const char *close, struct pf_error *error)
{
	const char *name = open + 1 + (open[1] == '/');
	size_t length = 0;
	if (name < close && (*name == '?' || *name == '!'))
		return 0;
	while (name + length < close && !strchr(" \t\r\n/", name[length]))
		length++;
	if (!length || length >= NAME || memchr(name, '\0', length))
		return fail(r, error, "an element without a name, or with too long a one");
	if (open[1] == '/')
		return close_element(r, name, length, error);
	const int code = open_element(r, name, length, error);
	return code || close[-1] != '/' ? code : close_element(r, name, length, error);
}

int pf_report_csynth(struct pf_reports *reports, const char *name, const char *text, size_t bytes,
                     struct pf_error *error)
{
	struct reader *r = calloc(1, sizeof *r);
	int code = 0;
	if (!r)
		return pf_fail(error, -ENOMEM, "%s: no memory", name);
	r->reports = reports;
	r->file = name;
	r->at = text;
	r->end = text + bytes;
	r->kernel = -1;
	r->line = 1;
	while (!code && r->at < r->end) {
		const char *open = memchr(r->at, '<', (size_t)(r->end - r->at));
		const char *close = open ? memchr(open, '>', (size_t)(r->end - open)) : NULL;
		add_text(r, r->at, open ? open : r->end);
		if (open && !close)
			code = fail(r, error, "an element does not end");
		else if (open)
			code = element(r, open, close, error);
		for (const char *c = open; !code && open && c < close; c++)
			r->line += *c == '\n';
		r->at = open && close ? close + 1 : r->end;
	}
	if (!code && r->depth)
		code = fail(r, error, "the file ends within an element");
	free(r);
	return code;
}

/* ---- cosim ---- */

/* Cell `n` of a row | a | b | ..., without blanks */
static int cell(const char *row, const char *end, unsigned n, char *to, size_t room)
{
	for (unsigned i = 0; row && i <= n; i++) {
		row = memchr(row, '|', (size_t)(end - row));
		row = row ? row + 1 : NULL;
	}
	const char *close = row ? memchr(row, '|', (size_t)(end - row)) : NULL;
	if (!close)
		return 0;
	while (row < close && *row == ' ')
		row++;
	while (close > row && close[-1] == ' ')
		close--;
	if ((size_t)(close - row) >= room || memchr(row, '\0', (size_t)(close - row)))
		return 0;
	memcpy(to, row, (size_t)(close - row));
	to[close - row] = '\0';
	return 1;
}

static int cosim_row(struct pf_kernel_report *k, const char *row, const char *end)
{
	char language[16], status[16], text[3][24];
	double *to[3] = { &k->latency_least, &k->latency_mean, &k->latency_most };
	if (!cell(row, end, 0, language, sizeof language) || !cell(row, end, 1, status, sizeof status) ||
	    (strcmp(language, "Verilog") != 0 && strcmp(language, "VHDL") != 0))
		return 0;
	if (strcmp(status, "NA") == 0)
		return 1;
	k->cosim = strcmp(status, "Pass") == 0 && k->cosim != PF_COSIM_FAIL ? PF_COSIM_PASS : PF_COSIM_FAIL;
	for (unsigned i = 0; i < 3; i++) {
		char *stop;
		const double value = cell(row, end, 2 + i, text[i], sizeof text[i]) ? strtod(text[i], &stop) : NAN;
		if (value >= 0.0 && value < 1e15 && !*stop)
			*to[i] = value;
	}
	return 1;
}

int pf_report_cosim(struct pf_reports *reports, const char *name, int kernel, const char *text, size_t bytes,
                    struct pf_error *error)
{
	int rows = 0;
	if (kernel < 0 || kernel >= PF_KERNEL_COUNT)
		return pf_fail(error, PF_E_ARGUMENT, "%s: kernel number %d", name, kernel);
	for (const char *at = text, *end = text + bytes; at < end;) {
		const char *stop = memchr(at, '\n', (size_t)(end - at));
		stop = stop ? stop : end;
		rows += cosim_row(&reports->kernel[kernel], at, stop);
		at = stop + 1;
	}
	if (!rows)
		return pf_fail(error, PF_E_DATA, "%s: no row of Verilog or VHDL with a status; is it cosim's report?",
		               name);
	return 0;
}

/* ---- the runs behind cosim's cycles ---- */

/* The integers of a line up to `end`, at most `room`; -1: something else stands there */
static int read_run(const char *at, const char *end, uint32_t *value, int room)
{
	int count = 0;
	while (at < end && *at != '#') {
		uint64_t sum = 0;
		const char *first = at;
		for (; at < end && *at >= '0' && *at <= '9' && sum <= UINT32_MAX; at++)
			sum = 10 * sum + (uint64_t)(*at - '0');
		if (at > first && (count == room || sum > UINT32_MAX))
			return -1;
		if (at > first)
			value[count++] = (uint32_t)sum;
		else if (!strchr(" \t\r", *at) || !*at)
			return -1;
		else
			at++;
	}
	return count;
}

int pf_report_runs(struct pf_reports *reports, const char *name, int kernel, const char *text, size_t bytes,
                   struct pf_error *error)
{
	if (kernel < 0 || kernel >= PF_KERNEL_COUNT)
		return pf_fail(error, PF_E_ARGUMENT, "%s: kernel number %d", name, kernel);
	struct pf_kernel_report *k = &reports->kernel[kernel];
	const int scalars = (int)pf_report_scalars(kernel);
	size_t line = 1;
	k->runs = 0;
	for (const char *at = text, *end = text + bytes; at < end; line++) {
		uint32_t value[PF_CYCLES_VALUES];
		const char *stop = memchr(at, '\n', (size_t)(end - at));
		stop = stop ? stop : end;
		const int count = read_run(at, stop, value, PF_CYCLES_VALUES);
		if (count && (count != scalars || k->runs == PF_REPORT_RUNS))
			return pf_fail(error, PF_E_DATA,
			               "%s:%zu: a run of kernel %s is %d integers, and at most %d runs are taken; is "
			               "it what make_bench wrote?",
			               name, line, pf_kernel_rows[kernel].name, scalars, PF_REPORT_RUNS);
		if (count)
			memcpy(k->run[k->runs++], value, (size_t)count * sizeof *value);
		at = stop + 1;
	}
	return 0;
}
