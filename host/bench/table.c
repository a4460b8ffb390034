#include "table.h"
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { LINE_BYTES = 32768, COLUMNS_MOST = 64, ROWS_MOST = 100000 };

/* ---- writing ---- */
void pf_bench_write_head(FILE *out, const char *tail)
{
	fprintf(out,
	        "work,type,device,variant,tokens,vocabulary,dim,layers,threads,repeats,limit,least_s,q25_s,median_s,"
	        "q75_s,"
	        "most_s,limit_per_s,part_of_limit,tokens_per_s,pairs_per_s,scope,joule_per_token,"
	        "joule_per_token_low,joule_per_token_high,idle_joule_per_token,joule_per_pair,modelled_s,"
	        "modelled_part_of_line_rate,modelled_tokens_per_s,modelled_joule_per_token,"
	        "modelled_joule_per_token_low,modelled_joule_per_token_high,samples_s,limits_s%s\n",
	        tail);
}

static void put(FILE *out, double value)
{
	if (isfinite(value))
		fprintf(out, ",%.5g", value);
	else
		putc(',', out);
}

static void put_list(FILE *out, const double *value, unsigned count)
{
	putc(',', out);
	for (unsigned i = 0; i < count; i++)
		fprintf(out, "%s%.6g", i ? ";" : "", value[i]);
}

double pf_bench_part(const struct pf_bench_row *row)
{
	double part[PF_BENCH_REPEATS_MOST];
	for (unsigned i = 0; i < row->times.repeats; i++)
		part[i] = row->times.limit[i] / row->times.second[i];
	return pf_compare_quantile(part, row->times.repeats, 0.5);
}

static void put_measured(FILE *out, const struct pf_bench_row *row)
{
	const struct pf_bench_times *t = &row->times;
	const double median = pf_compare_quantile(t->second, t->repeats, 0.5);
	for (int quarter = 0; quarter <= 4; quarter++)
		put(out, pf_compare_quantile(t->second, t->repeats, quarter / 4.0));
	put(out, row->amount / pf_compare_quantile(t->limit, t->repeats, 0.5));
	put(out, pf_bench_part(row));
	put(out, row->shape.tokens / median);
	put(out, row->pairs > 0 ? row->pairs / median : NAN);
}

static void put_joules(FILE *out, const struct pf_bench_row *row)
{
	const struct pf_bench_joules *j = &row->joules;
	const double tokens = j->scope ? row->shape.tokens : NAN;
	fprintf(out, ",%s", j->scope ? j->scope : "");
	put(out, j->joule / tokens);
	put(out, j->low / tokens);
	put(out, j->high / tokens);
	put(out, j->idle / tokens);
	put(out, j->scope && row->pairs > 0 ? j->joule / row->pairs : NAN);
}

void pf_bench_write_row(FILE *out, const struct pf_bench_row *row, const char *tail)
{
	const struct pf_bench_shape *s = &row->shape;
	const struct pf_bench_times *t = &row->times;
	fprintf(out, "%s,%s,\"%s\",\"%s\",%u,%u,%u,%u,%u,%u,%s", row->work, row->type, row->device, row->variant,
	        s->tokens, s->vocab, s->dim, s->layers, row->threads, t->repeats, t->repeats ? row->limit : "");
	put_measured(out, row);
	put_joules(out, row);
	put(out, row->modelled_s);
	put(out, row->modelled_line_s / row->modelled_s);
	put(out, s->tokens / row->modelled_s);
	put(out, row->modelled_joule / s->tokens);
	put(out, row->modelled_low / s->tokens);
	put(out, row->modelled_high / s->tokens);
	put_list(out, t->second, t->repeats);
	put_list(out, t->limit, t->repeats);
	fprintf(out, "%s\n", tail);
}

/* ---- reading ---- */
enum column { WORK, TYPE, DEVICE, TOKENS, VOCABULARY, DIM, LAYERS, THREADS, SAMPLES, LIMITS, NEEDED };
static const char *const names[NEEDED] = { "work", "type",   "device",  "tokens",    "vocabulary",
	                                   "dim",  "layers", "threads", "samples_s", "limits_s" };

struct reading {
	const char *path;
	unsigned line;
	unsigned place[NEEDED]; /* which field of a line has the column */
	unsigned machine;       /* the same, of a column that need not be there */
	struct pf_bench_row *rows;
	size_t count, room;
	struct pf_error *error;
};

static int bad(const struct reading *r, const char *what)
{
	return pf_fail(r->error, PF_E_FORMAT,
	               "%s:%u: %s; give --against a table that `prefpga bench --csv` has written", r->path, r->line,
	               what);
}

/* Cuts a line into fields, in place; quotes go, and commas within them stay. The count, or 0 if a quote does not end */
static unsigned split(char *line, char *field[COLUMNS_MOST])
{
	unsigned count = 0;
	char *to = line;
	for (const char *from = line;; from++) {
		int quoted = 0;
		if (count == COLUMNS_MOST)
			return count;
		field[count++] = to;
		for (; *from && (quoted || *from != ','); from++)
			if (*from == '"')
				quoted = !quoted;
			else
				*to++ = *from;
		const int last = !*from;
		*to++ = '\0';
		if (quoted)
			return 0;
		if (last)
			return count;
	}
}

static int take_head(struct reading *r, char *line)
{
	char *field[COLUMNS_MOST];
	const unsigned count = split(line, field);
	for (unsigned k = 0; k < NEEDED; k++) {
		for (r->place[k] = 0; r->place[k] < count && strcmp(field[r->place[k]], names[k]) != 0;)
			r->place[k]++;
		if (r->place[k] >= count) {
			char what[64];
			snprintf(what, sizeof what, "there is no column %s", names[k]);
			return bad(r, what);
		}
	}
	for (r->machine = 0; r->machine < count && strcmp(field[r->machine], "machine") != 0;)
		r->machine++;
	return 0;
}

/* 1: a whole number below 2^32 and nothing else */
static int take_count(const char *text, uint32_t *value)
{
	char *end;
	const unsigned long long number = strtoull(text, &end, 10);
	*value = (uint32_t)number;
	return *text >= '0' && *text <= '9' && !*end && number <= UINT32_MAX;
}

/* Positive numbers with ; between them; the count, or PF_BENCH_REPEATS_MOST + 1 if they are something else */
static unsigned take_list(const char *text, double value[PF_BENCH_REPEATS_MOST])
{
	unsigned count = 0;
	for (char *end; *text && count < PF_BENCH_REPEATS_MOST; text = end + (*end == ';')) {
		value[count] = strtod(text, &end);
		if (end == text || !(value[count] > 0) || !isfinite(value[count]) || (*end && (*end != ';' || !end[1])))
			return PF_BENCH_REPEATS_MOST + 1;
		count++;
	}
	return *text ? PF_BENCH_REPEATS_MOST + 1 : count;
}

static int take_name(const char *text, char *to, size_t room)
{
	const size_t length = strlen(text);
	if (length == 0 || length >= room)
		return 0;
	memcpy(to, text, length + 1);
	return 1;
}

static int take_row(struct reading *r, char *const *field, struct pf_bench_row *row)
{
	const unsigned *at = r->place;
	uint32_t threads;
	*row = (struct pf_bench_row){ .limit = "", .modelled_s = NAN };
	if (!take_name(field[at[WORK]], row->work, sizeof row->work) ||
	    !take_name(field[at[TYPE]], row->type, sizeof row->type) ||
	    !take_name(field[at[DEVICE]], row->device, sizeof row->device))
		return bad(r, "work, type or device is empty or too long");
	if (!take_count(field[at[TOKENS]], &row->shape.tokens) ||
	    !take_count(field[at[VOCABULARY]], &row->shape.vocab) || !take_count(field[at[DIM]], &row->shape.dim) ||
	    !take_count(field[at[LAYERS]], &row->shape.layers) || !take_count(field[at[THREADS]], &threads))
		return bad(r, "tokens, vocabulary, dim, layers or threads is no whole number");
	row->threads = threads;
	row->times.repeats = take_list(field[at[SAMPLES]], row->times.second);
	if (row->times.repeats > PF_BENCH_REPEATS_MOST ||
	    take_list(field[at[LIMITS]], row->times.limit) != row->times.repeats)
		return bad(r, "samples_s and limits_s are not as many positive numbers, at most 99");
	return 0;
}

static int take_line(struct reading *r, char *line)
{
	char *field[COLUMNS_MOST];
	const unsigned count = split(line, field);
	if (count == 0)
		return bad(r, "a quote does not end");
	for (unsigned k = 0; k < NEEDED; k++)
		if (r->place[k] >= count)
			return bad(r, "fewer fields than columns");
	if (r->count == ROWS_MOST)
		return bad(r, "more than 100000 rows");
	if (r->count == r->room) {
		const size_t room = r->room ? 2 * r->room : 16;
		struct pf_bench_row *rows = realloc(r->rows, room * sizeof *rows);
		if (!rows)
			return pf_fail(r->error, -ENOMEM, "%s: no memory for %zu rows", r->path, room);
		r->rows = rows;
		r->room = room;
	}
	const int code = take_row(r, field, &r->rows[r->count]);
	if (!code && r->machine < count)
		snprintf(r->rows[r->count].machine, sizeof r->rows->machine, "%s", field[r->machine]);
	r->count += !code && r->rows[r->count].times.repeats > 0;
	return code;
}

static int read_lines(struct reading *r, FILE *file, char *line)
{
	int code = 0;
	while (!code && fgets(line, LINE_BYTES, file)) {
		r->line++;
		if (!strchr(line, '\n') && !feof(file))
			return bad(r, "a line of more than 32767 bytes");
		line[strcspn(line, "\r\n")] = '\0';
		if (r->line == 1)
			code = take_head(r, line);
		else if (*line)
			code = take_line(r, line);
	}
	if (!code && ferror(file))
		return pf_fail(r->error, -EIO, "%s: cannot be read", r->path);
	return !code && r->line == 0 ? bad(r, "the file is empty") : code;
}

int pf_bench_read(const char *path, struct pf_bench_row **rows, size_t *count, struct pf_error *error)
{
	struct reading r = { .path = path, .error = error };
	FILE *file = fopen(path, "re");
	char *line = malloc(LINE_BYTES);
	int code = !file   ? pf_fail(error, -errno, "%s: %s", path, strerror(errno))
	           : !line ? pf_fail(error, -ENOMEM, "%s: no memory for a line", path)
	                   : read_lines(&r, file, line);
	if (file)
		fclose(file);
	free(line);
	if (code)
		free(r.rows);
	*rows = code ? NULL : r.rows;
	*count = code ? 0 : r.count;
	return code;
}

/* ---- two tables ---- */
const struct pf_bench_row *pf_bench_same(const struct pf_bench_row *rows, size_t count, const struct pf_bench_row *row)
{
	for (size_t i = 0; i < count; i++)
		if (strcmp(rows[i].work, row->work) == 0 && strcmp(rows[i].type, row->type) == 0 &&
		    strcmp(rows[i].device, row->device) == 0 && rows[i].threads == row->threads &&
		    memcmp(&rows[i].shape, &row->shape, sizeof row->shape) == 0)
			return &rows[i];
	return NULL;
}

struct pf_comparison pf_bench_compare(const struct pf_bench_row *before, const struct pf_bench_row *now)
{
	double ratio[2][PF_BENCH_REPEATS_MOST];
	const struct pf_bench_row *row[2] = { before, now };
	double median[2];
	for (int k = 0; k < 2; k++) {
		for (unsigned i = 0; i < row[k]->times.repeats; i++)
			ratio[k][i] = row[k]->times.second[i] / row[k]->times.limit[i];
		median[k] = pf_compare_quantile(ratio[k], row[k]->times.repeats, 0.5);
	}
	return (struct pf_comparison){ .change = median[1] / median[0] - 1,
		                       .p = pf_compare_ranks(ratio[0], before->times.repeats, ratio[1],
		                                             now->times.repeats) };
}
