/* The fused head on the host: products by BLAS in tiles, everything between them while a tile is in cache.
 *
 * Forward: the vocabulary is cut into stripes, tokens into blocks; a turn of the pool takes one stripe for one block,
 * tile by tile: product, then the scan of its rows into the block's parts. Backward: a panel of dz, some tokens x some
 * words of one port, at most PANEL floats, is made in one round of turns; in the next round dhidden (turns over
 * tokens) and dW (turns over words) take their products with it. So no memory grows with T V, or with the number of
 * threads by more than a tile: parts are 64 bytes a token and stripe.
 * All shapes follow from the launch alone, so results do not depend on the number of threads; on BLAS's kernels they
 * do. */
#include <cblas.h>
#include <errno.h>
#include <math.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include "cpu.h"
#include "pool.h"
#include "prefpga/internal/blas_threads.h"

enum {
	BLOCK = PF_CPU_TILE_TOKENS,    /* tokens of a turn */
	WORDS = PF_CPU_TILE_WORDS,     /* words of a tile */
	STRIPES = 16,                  /* of the vocabulary, at most; a part of each token's state is kept for each */
	PANEL = 4 << 20,               /* floats of dz at a time */
	PANEL_TOKENS = 2048,
	PANEL_WIDE = 4 << 20,          /* floats of hidden, and of dhidden, that a panel of bf16 keeps */
};

static uint32_t smaller(uint64_t a, uint64_t b)
{
	return (uint32_t)(a < b ? a : b);
}

static uint32_t port_tiles(const struct pf_cpu_linear *h, uint32_t port)
{
	return (uint32_t)((PF_PORT_ROWS(h->vocab, port) + WORDS - 1) / WORDS);
}

/* Tile number i of the vocabulary */
static struct pf_cpu_words tile_of(const struct pf_cpu_linear *h, uint32_t i)
{
	struct pf_cpu_words t = { 0, 0, 0 };
	while (i >= port_tiles(h, t.port))
		i -= port_tiles(h, t.port++);
	t.first = i * WORDS;
	t.words = smaller(WORDS, PF_PORT_ROWS(h->vocab, t.port) - t.first);
	return t;
}

static uint32_t tiles(const struct pf_cpu_linear *h)
{
	uint32_t n = 0;
	for (uint32_t p = 0; p < PF_WEIGHT_PORTS; p++)
		n += port_tiles(h, p);
	return n;
}

static uint32_t word_of(const struct pf_cpu_linear *h, uint32_t port, uint32_t first)
{
	return port * PF_PORT_SHARE(h->vocab) + first;
}

static void *aligned(size_t bytes)
{
	void *memory = NULL;
	return posix_memalign(&memory, PF_BEAT_BYTES, bytes ? bytes : 1) ? NULL : memory;
}

static float *raw_at(const struct pf_cpu_linear *h, uint32_t token, uint32_t port, uint32_t first)
{
	return h->raw + (size_t)token * h->raw_ld + port * (h->raw_ld / PF_WEIGHT_PORTS) + first;
}

/* Turns that call BLAS, in the thread of each */
struct turns { pf_cpu_turn_fn turn; const void *context; };

static void alone(const void *context, uint32_t i)
{
	const struct turns *t = context;
	struct pf_blas_hold hold;
	pf_blas_hold(&hold);
	t->turn(t->context, i);
	pf_blas_release(&hold);
}

static void run(struct pf_cpu_pool *pool, uint32_t count, pf_cpu_turn_fn turn, const void *context)
{
	const struct turns t = { turn, context };
	pf_cpu_pool_run(pool, count, alone, &t);
}

/* ---- forward ---- */
struct forward {
	const struct pf_cpu_level  *level;
	const struct pf_cpu_linear *head;
	struct pf_cpu_part         *part;      /* [stripes, rows] */
	uint32_t                    stripes, tiles, blocks;
	atomic_int                 *failed;
};

static void scan_tile(const struct forward *f, uint32_t i, uint32_t token, uint32_t tokens, struct pf_cpu_part *part,
                      float *scratch, void *room)
{
	const struct pf_cpu_linear *h = f->head;
	const struct pf_cpu_words t = tile_of(h, i);
	float *raw = h->raw ? raw_at(h, token, t.port, t.first) : scratch;
	const struct pf_cpu_tile tile = { h, raw, h->raw ? h->raw_ld : WORDS, token, tokens,
	                                  word_of(h, t.port, t.first), t.words, part };
	pf_cpu_product(f->level, h, token, tokens, &t, raw, tile.ld, room);
	f->level->tile_scan(&tile);
}

static void turn_forward(const void *context, uint32_t turn)
{
	const struct forward *f = context;
	const uint32_t stripe = turn / f->blocks, token = turn % f->blocks * BLOCK;
	const uint32_t tokens = smaller(BLOCK, f->head->rows - token);
	const uint32_t first = (uint32_t)((uint64_t)f->tiles * stripe / f->stripes);
	const uint32_t end = (uint32_t)((uint64_t)f->tiles * (stripe + 1) / f->stripes);
	struct pf_cpu_part *part = f->part + (size_t)stripe * f->head->rows + token;
	const size_t own = f->head->raw ? 0 : (size_t)tokens * WORDS * sizeof(float);
	char *scratch = aligned(own + pf_cpu_product_room(f->head));
	if (!scratch)
		atomic_store(f->failed, 1);
	for (uint32_t t = 0; t < tokens; t++)
		part[t] = (struct pf_cpu_part)PF_CPU_PART_NONE;
	for (uint32_t i = first; i < end && scratch; i++)
		scan_tile(f, i, token, tokens, part, (float *)(void *)scratch, scratch + own);
	free(scratch);
}

static void turn_finish(const void *context, uint32_t turn)
{
	const struct forward *f = context;
	const uint32_t begin = turn * BLOCK, end = smaller(f->head->rows, (uint64_t)begin + BLOCK);
	f->level->tile_finish(f->head, f->part + begin, f->stripes, f->head->rows, begin, end);
}

int pf_cpu_linear_logprob(const struct pf_cpu_level *level, struct pf_cpu_pool *pool, const struct pf_cpu_linear *h)
{
	atomic_int failed = 0;
	struct forward f = { level, h, NULL, smaller(tiles(h), STRIPES), tiles(h), (h->rows + BLOCK - 1) / BLOCK,
	                     &failed };
	f.part = aligned((size_t)f.stripes * h->rows * sizeof *f.part);
	if (!f.part)
		return -ENOMEM;
	run(pool, f.stripes * f.blocks, turn_forward, &f);
	pf_cpu_pool_run(pool, f.blocks, turn_finish, &f);
	free(f.part);
	return atomic_load(&failed) ? -ENOMEM : 0;
}

/* ---- backward ---- */

/* The panel at work: dz[tokens, ld] */
struct panel {
	const struct pf_cpu_level  *level;
	const struct pf_cpu_linear *head;
	float                      *dz;
	const float                *hidden;    /* of the panel's tokens, fp32, rows that do not count without NaN */
	float                      *dhidden;   /* of the panel's tokens, fp32 */
	size_t                      ld;
	uint32_t                    token, tokens, port, first, words;
	atomic_int                 *failed;
	uint8_t                    *kept;      /* of each tile, by turn: not all of it is 0 for the filter's sake */
};

static uint32_t pieces(uint32_t length, uint32_t each)
{
	return (length + each - 1) / each;
}

static int counts(const struct pf_cpu_linear *h, uint32_t t)
{
	return h->target[t] >= 0 && h->row[t].status == 0;
}

/* dz of one tile; raw logits are read, or formed where dz will lie */
static void turn_dz(const void *context, uint32_t turn)
{
	const struct panel *p = context;
	const struct pf_cpu_linear *h = p->head;
	const uint32_t across = pieces(p->words, WORDS), t = turn / across * BLOCK, w = turn % across * WORDS;
	const struct pf_cpu_words tile = { p->port, p->first + w, smaller(WORDS, p->words - w) };
	float *dz = p->dz + t * p->ld + w;
	struct pf_cpu_tile job = { h, dz, p->ld, p->token + t, smaller(BLOCK, p->tokens - t),
	                           word_of(h, p->port, tile.first), tile.words, NULL };
	if (h->raw) {
		job.raw = raw_at(h, job.token, p->port, tile.first);
		job.ld = h->raw_ld;
	} else {
		void *room = aligned(pf_cpu_product_room(h));
		if (room)
			pf_cpu_product(p->level, h, job.token, job.tokens, &tile, dz, p->ld, room);
		else
			atomic_store(p->failed, 1);
		free(room);
	}
	p->kept[turn] = (uint8_t)p->level->tile_dz(&job, dz, p->ld);
}

/* Tokens [t, t + BLOCK) of dhidden from words [w, w + words) of the panel */
static void add_words(const struct panel *p, uint32_t t, uint32_t w, uint32_t words, float beta)
{
	const struct pf_cpu_words from = { p->port, p->first + w, words };
	const struct pf_cpu_dz dz = { p->dz + t * p->ld + w, p->ld, smaller(BLOCK, p->tokens - t) };
	if (pf_cpu_product_back(p->level, p->head, &from, &dz, beta, p->dhidden + (size_t)t * p->head->depth))
		atomic_store(p->failed, 1);
}

static int tile_kept(const struct panel *p, uint32_t t, uint32_t w)
{
	return p->kept[t / BLOCK * pieces(p->words, WORDS) + w / WORDS];
}

static void count_saved(const struct panel *p, uint32_t t, uint32_t words)
{
	struct pf_filtered *f = p->head->filtered + p->token + t;
	for (uint32_t i = 0; i < smaller(BLOCK, p->tokens - t); i++)
		f[i].saved += counts(p->head, p->token + t + i) ? words : 0;
}

/* With a filter tile by tile, without those that it left out */
static void add_hidden(const struct panel *p, uint32_t t)
{
	const struct pf_cpu_linear *h = p->head;
	const int fresh = p->port == 0 && p->first == 0;
	if (!h->filtered) {
		add_words(p, t, 0, p->words, fresh ? 0 : 1);
		return;
	}
	if (fresh)
		memset(p->dhidden + (size_t)t * h->depth, 0,
		       (size_t)smaller(BLOCK, p->tokens - t) * h->depth * sizeof *p->dhidden);
	for (uint32_t w = 0; w < p->words; w += WORDS)
		if (tile_kept(p, t, w))
			add_words(p, t, w, smaller(WORDS, p->words - w), 1);
		else
			count_saved(p, t, smaller(WORDS, p->words - w));
}

static int any_kept(const struct panel *p, uint32_t w)
{
	int any = 0;
	for (uint32_t t = 0; t < p->tokens; t += BLOCK)
		any |= tile_kept(p, t, w);
	return any;
}

static void add_weight(const struct panel *p, uint32_t w)
{
	const struct pf_cpu_linear *h = p->head;
	const uint32_t words = smaller(WORDS, p->words - w);
	const float beta = p->token == 0 && !h->add ? 0 : 1;
	float *to = h->dweight[p->port] + (size_t)(p->first + w) * h->depth;
	if (any_kept(p, w))
		cblas_sgemm(CblasRowMajor, CblasTrans, CblasNoTrans, (int)words, (int)h->depth, (int)p->tokens, 1,
		            p->dz + w, (int)p->ld, p->hidden, (int)h->depth, beta, to, (int)h->depth);
	else if (beta == 0)
		memset(to, 0, (size_t)words * h->depth * sizeof *to);
}

static void add_bias(const struct panel *p, uint32_t w)
{
	const struct pf_cpu_linear *h = p->head;
	float *to = h->dbias + word_of(h, p->port, p->first + w);
	for (uint32_t v = 0; v < smaller(WORDS, p->words - w); v++) {
		double sum = p->token == 0 && !h->add ? 0 : (double)to[v];
		for (uint32_t t = 0; t < p->tokens; t++)
			sum += (double)p->dz[t * p->ld + w + v];
		to[v] = (float)sum;
	}
}

/* Tokens' turns first, then words' */
static void turn_products(const void *context, uint32_t turn)
{
	const struct panel *p = context;
	const uint32_t down = pieces(p->tokens, BLOCK);
	if (turn < down) {
		add_hidden(p, turn * BLOCK);
		return;
	}
	if (p->head->dweight[0])
		add_weight(p, (turn - down) * WORDS);
	if (p->head->dbias)
		add_bias(p, (turn - down) * WORDS);
}

static void run_panel(struct pf_cpu_pool *pool, const struct panel *p)
{
	const uint32_t down = pieces(p->tokens, BLOCK), across = pieces(p->words, WORDS);
	const int outer = p->head->dweight[0] || p->head->dbias;
	run(pool, down * across, turn_dz, p);
	run(pool, down + (outer ? across : 0), turn_products, p);
}

static int clean(const struct panel *p, const float *hidden)
{
	const struct pf_cpu_linear *h = p->head;
	int clean = 1;
	for (uint32_t t = 0; h->dweight[0] && t < p->tokens; t++)
		for (size_t d = 0; d < h->depth && !counts(h, p->token + t); d++)
			clean &= isfinite(hidden[t * h->depth + d]) != 0;
	return clean;
}

/* The tokens' hidden states; a copy, if they are not fp32 or a row that does not count holds what is not finite: 0
 * times that is NaN */
static int panel_hidden(struct panel *p, float **copy)
{
	const struct pf_cpu_linear *h = p->head;
	const size_t depth = h->depth;
	const char *hidden = h->hidden + p->token * h->row_bytes;
	*copy = NULL;
	p->hidden = (const float *)(const void *)hidden;
	if (!h->dweight[0] || (h->format == PF_CPU_F32 && clean(p, p->hidden)))
		return 0;
	*copy = aligned(p->tokens * depth * sizeof **copy);
	if (!*copy)
		return -ENOMEM;
	for (uint32_t t = 0; t < p->tokens; t++)
		if (!counts(h, p->token + t))
			memset(*copy + t * depth, 0, depth * sizeof **copy);
		else if (h->format == PF_CPU_BF16)
			p->level->widen(pf_cpu_half(hidden, h, t, 0), depth, 1, h->depth, *copy + t * depth);
		else
			memcpy(*copy + t * depth, p->hidden + t * depth, depth * sizeof **copy);
	p->hidden = *copy;
	return 0;
}

/* Rows that do not count are 0, whatever their dz were multiplied with; bf16 goes where it is wanted */
static void finish_dhidden(const struct panel *p)
{
	const struct pf_cpu_linear *h = p->head;
	for (uint32_t t = 0; t < p->tokens; t++) {
		char *to = h->dhidden + (p->token + t) * h->row_bytes;
		if (!counts(h, p->token + t))
			memset(to, 0, h->row_bytes);
		else if (h->format == PF_CPU_BF16)
			p->level->narrow(p->dhidden + (size_t)t * h->depth, h->depth, (uint16_t *)(void *)to);
	}
}

static int run_tokens(struct pf_cpu_pool *pool, struct panel *p, uint32_t words)
{
	const struct pf_cpu_linear *h = p->head;
	float *copy, *own = NULL;
	int status = panel_hidden(p, &copy);
	p->dhidden = (float *)(void *)(h->dhidden + p->token * h->row_bytes);
	if (status == 0 && h->format == PF_CPU_BF16) {
		p->dhidden = own = aligned((size_t)p->tokens * h->depth * sizeof *own);
		status = own ? 0 : -ENOMEM;
	}
	for (p->port = 0; status == 0 && p->port < PF_WEIGHT_PORTS; p->port++)
		for (p->first = 0; p->first < PF_PORT_ROWS(h->vocab, p->port); p->first += words) {
			p->words = smaller(words, PF_PORT_ROWS(h->vocab, p->port) - p->first);
			run_panel(pool, p);
		}
	if (status == 0)
		finish_dhidden(p);
	free(copy);
	free(own);
	return status;
}

/* bf16 keeps hidden and dhidden of a panel as fp32: fewer tokens when rows are long */
static uint32_t panel_tokens(const struct pf_cpu_linear *h)
{
	const uint32_t most = h->format == PF_CPU_BF16 ? PANEL_WIDE / h->depth / BLOCK * BLOCK : PANEL_TOKENS;
	return smaller(h->rows, most < BLOCK ? BLOCK : most > PANEL_TOKENS ? PANEL_TOKENS : most);
}

int pf_cpu_linear_grad(const struct pf_cpu_level *level, struct pf_cpu_pool *pool, const struct pf_cpu_linear *h)
{
	const uint32_t tokens = panel_tokens(h);
	const uint32_t share = (PF_PORT_SHARE(h->vocab) + 15) / 16 * 16;
	const uint32_t room = tokens ? PANEL / pieces(tokens, 16) / 16 / WORDS * WORDS : 0;
	const uint32_t words = smaller(share, room);
	atomic_int failed = 0;
	struct panel p = { .level = level, .head = h, .ld = words, .failed = &failed };
	int status = 0;
	if (h->rows == 0)
		return 0;
	p.dz = aligned((size_t)tokens * words * sizeof *p.dz);
	p.kept = malloc((size_t)pieces(tokens, BLOCK) * pieces(words, WORDS));
	if (!p.dz || !p.kept)
		status = -ENOMEM;
	for (p.token = 0; status == 0 && p.token < h->rows; p.token += tokens) {
		p.tokens = smaller(tokens, h->rows - p.token);
		status = run_tokens(pool, &p, words);
	}
	free(p.dz);
	free(p.kept);
	return status == 0 && atomic_load(&failed) ? -ENOMEM : status;
}
