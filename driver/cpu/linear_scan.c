/* linear_logprob on the host, the part between products: tiles of logits, while they are in cache, into what is known
 * of each token; and the records. Partial sums merge in double; the target is kept out of them, as in scan.h. */
#include "bend.h"
#include "scan.h"

/* The scan of some words as one part */
static struct pf_cpu_part part_of(const struct scan *s)
{
	struct pf_cpu_part p = { .max = s->max, .min = s->min, .shift = s->shift, .target = -INFINITY,
	                         .base = s->base };
	for (int i = 0; i < PF_VEC; i++) {
		p.sum += s->sum[i];
		p.square += s->square[i];
		p.moment += s->moment[i];
		p.logits += s->logits[i];
	}
	return p;
}

/* Adds b to a. Sums of the one with the smaller maximum go to the other's power of two; NaN survives */
static void part_add(struct pf_cpu_part *a, const struct pf_cpu_part *b)
{
	const int up = b->max > a->max;
	const struct pf_cpu_part high = up ? *b : *a, low = up ? *a : *b;
	const double factor = alive(low.max) ? ldexp(1, low.base - high.base) : 0;
	*a = high;
	a->moment += factor * (low.moment + low.sum * ((double)low.shift - (double)high.shift));
	a->square += factor * factor * low.square;
	a->sum += factor * low.sum;
	a->logits += low.logits;
	a->min = low.min < high.min ? low.min : high.min;
	a->target = low.target > high.target || low.target != low.target ? low.target : high.target;
	a->top = low.max == high.max && low.top < high.top ? low.top : high.top;
}

/* Index in z[words] of its largest logit but the target */
static uint32_t find_top(const struct row *row, const struct scan *s)
{
	const float *z = (const float *)(const void *)row->z;
	for (uint32_t v = s->top; v < row->vocab; v++)
		if (z[v] == s->max && v != row->target)
			return v;
	return 0;
}

static void scan_tile_row(const struct pf_cpu_tile *tile, uint32_t t, int bend)
{
	const struct pf_cpu_linear *h = tile->head;
	_Alignas(64) float z[PF_CPU_TILE_WORDS];
	const float *raw = tile->raw + t * tile->ld;
	const uint32_t target = (uint32_t)h->target[tile->token + t] - tile->word;
	struct pf_cpu_part *part = &tile->part[t];
	struct scan scan;
	if (h->target[tile->token + t] < 0)
		return;
	if (bend)
		bend_row(h, raw, tile->word, tile->words, z, NULL);
	struct row row = { .z = (const char *)(bend ? z : raw), .vocab = tile->words,
	                   .target = target < tile->words ? target : UINT32_MAX, .stats = h->stats };
	scan_row(&row, &scan);
	if (alive(scan.max) && scan.max < NEAR_LIMIT) {
		row.careful = 1;
		scan_row(&row, &scan);
	}
	struct pf_cpu_part own = part_of(&scan);
	if (own.max >= part->max)
		own.top = tile->word + find_top(&row, &scan);
	if (target < tile->words)
		own.target = vec_logit(row.z, row.bf16, target);
	part_add(part, &own);
}

void PF_CPU_PASTE(pf_cpu_tile_scan, PF_CPU_LEVEL)(const struct pf_cpu_tile *tile)
{
	const int bend = bend_needed(tile->head);
	const uint32_t before = vec_enter();
	for (uint32_t t = 0; t < tile->tokens; t++)
		scan_tile_row(tile, t, bend);
	vec_leave(before);
}

static void finish_token(const struct pf_cpu_linear *h, const struct pf_cpu_part *part, uint32_t t)
{
	const uint32_t y = (uint32_t)h->target[t];
	const float target = y < h->vocab ? part->target : -INFINITY;
	struct row row = { .vocab = h->vocab, .target = y, .stats = h->stats };
	struct scan scan = { .sum[0] = part->sum, .square[0] = part->square, .moment[0] = part->moment,
	                     .logits[0] = part->logits, .max = part->max, .min = part->min, .shift = part->shift,
	                     .base = part->base };
	const int wins = y < h->vocab && (target > part->max || (target == part->max && y < part->top));
	finish(&row, &scan, target, wins ? y : part->top, &h->row[t]);
}

void PF_CPU_PASTE(pf_cpu_tile_finish, PF_CPU_LEVEL)(const struct pf_cpu_linear *h, const struct pf_cpu_part *part,
                                                    uint32_t parts, size_t stride, uint32_t begin, uint32_t end)
{
	for (uint32_t t = begin; t < end; t++) {
		struct pf_cpu_part all = PF_CPU_PART_NONE;
		for (uint32_t i = 0; i < parts; i++)
			part_add(&all, &part[i * stride + t - begin]);
		if (h->shard) {
			pf_cpu_shard(h, &all, t, &h->shard[t]);
			continue;
		}
		memset(&h->row[t], 0, sizeof h->row[t]);
		if (h->target[t] < 0)
			h->row[t].status = PF_ROW_IGNORED;
		else
			finish_token(h, &all, t);
	}
}
