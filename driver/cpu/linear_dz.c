/* linear_grad on the host, the part between products: raw logits of a tile and the rows' records to dz. */
#include <stdatomic.h>
#include "bend.h"
#include "grad_row.h"
_Static_assert(PF_CPU_TILE_WORDS / PF_TILE_ROWS <= 32, "a bit for each group of words");

/* What a token's record and coefficient make of its row */
struct token { float c, extra, entropy, at_target; uint32_t target; };

/* p to dz: p (c + extra + entropy z) slope; at the target (p (extra + entropy z) - c (1 - p)) slope */
static void add_extras(const struct token *k, const float *z, const float *slope, uint32_t words, float *dz)
{
	const float own = k->target < words ? dz[k->target] : 0;
	for (uint32_t v = 0; v < words; v++)
		dz[v] = dz[v] > 0 ? dz[v] * (k->c + k->extra + k->entropy * z[v]) * slope[v] : 0;
	if (k->target < words)
		dz[k->target] = (own * (k->extra + k->entropy * z[k->target]) + k->at_target) * slope[k->target];
}

static void dz_row(const struct pf_cpu_tile *tile, uint32_t t, float *dz)
{
	const struct pf_cpu_linear *h = tile->head;
	const struct pf_row *r = &h->row[tile->token + t];
	_Alignas(64) float z[PF_CPU_TILE_WORDS], slope[PF_CPU_TILE_WORDS];
	const int bend = bend_needed(h), extras = h->zloss != 0 || h->entropy != 0 || h->form.softcap > 0;
	const float *raw = tile->raw + t * tile->ld;
	const float c = fabsf(h->coef[tile->token + t]) < 0x1p126f ? h->coef[tile->token + t] : NAN;
	const float steep = extras ? 1 : h->form.scale * h->form.inverse_temperature, lse = r->max + r->log_sum;
	const uint32_t room = (tile->words + 15) / 16 * 16;
	const struct token k = { c, 2 * h->zloss * lse + h->entropy * (r->entropy - lse), h->entropy, -(c * r->rest),
	                         (uint32_t)h->target[tile->token + t] - tile->word };
	if (h->target[tile->token + t] < 0 || r->status != 0) {
		memset(dz, 0, room * sizeof *dz);
		return;
	}
	if (bend || extras)
		bend_row(h, raw, tile->word, tile->words, z, slope);
	struct row row = { .z = (const char *)(bend || extras ? z : raw), .dz = (char *)dz, .vocab = tile->words,
	                   .target = extras || k.target >= tile->words ? INT32_MAX : k.target, .room = room,
	                   .exp2 = r->exp2, .scale = (extras ? 1 : c * steep) * r->inv,
	                   .at_target = k.at_target * steep };
	write_row(&row);
	if (extras)
		add_extras(&k, z, slope, tile->words, dz);
}

/* ---- the filter: groups of 16 words x 64 tokens, as kernels see them ---- */
enum { GROUP = PF_TILE_ROWS };

/* |p - onehot| of a token's words; 0 for tokens that do not count */
static void share_row(const struct pf_cpu_tile *tile, uint32_t t, float *share)
{
	const struct pf_cpu_linear *h = tile->head;
	const struct pf_row *r = &h->row[tile->token + t];
	_Alignas(64) float z[PF_CPU_TILE_WORDS];
	const float *raw = tile->raw + t * tile->ld;
	const uint32_t room = (tile->words + 15) / 16 * 16;
	const uint32_t target = (uint32_t)h->target[tile->token + t] - tile->word;
	memset(share, 0, room * sizeof *share);
	if (h->target[tile->token + t] < 0 || r->status != 0)
		return;
	const int bend = bend_needed(h);
	if (bend)
		bend_row(h, raw, tile->word, tile->words, z, NULL);
	const struct row row = { .z = (const char *)(bend ? z : raw), .dz = (char *)share, .vocab = tile->words,
	                         .target = target < tile->words ? target : INT32_MAX, .room = room, .exp2 = r->exp2,
	                         .scale = r->inv, .at_target = r->rest };
	write_row(&row);
}

static float largest_share(const float share[PF_TOKENS][PF_CPU_TILE_WORDS], uint32_t tokens, uint32_t word)
{
	float largest = 0;
	for (uint32_t t = 0; t < tokens; t++)
		for (uint32_t v = word; v < word + GROUP; v++)
			largest = share[t][v] > largest ? share[t][v] : largest;
	return largest;
}

static void count_share(const float *share, struct pf_filtered *f, uint32_t words)
{
	uint64_t mass = 0;
	for (uint32_t v = 0; v < GROUP; v++)
		mass += (uint64_t)(share[v] * 0x1p40f);
	atomic_fetch_add((_Atomic uint64_t *)&f->mass_q40, mass);
	atomic_fetch_add((_Atomic uint32_t *)&f->words, words);
}

/* Tokens [first, first + tokens) of the tile, at most PF_TOKENS; which groups of words stay is what is returned, a bit
 * each */
static uint32_t sieve(const struct pf_cpu_tile *tile, uint32_t first, uint32_t tokens,
                      float share[PF_TOKENS][PF_CPU_TILE_WORDS])
{
	const struct pf_cpu_linear *h = tile->head;
	uint32_t kept = 0;
	for (uint32_t t = 0; t < tokens; t++)
		share_row(tile, first + t, share[t]);
	for (uint32_t w = 0; w < tile->words; w += GROUP) {
		if (largest_share(share, tokens, w) >= h->filter) {
			kept |= 1u << w / GROUP;
			continue;
		}
		const uint32_t words = tile->words - w < GROUP ? tile->words - w : GROUP;
		for (uint32_t t = 0; t < tokens; t++)
			if (h->target[tile->token + first + t] >= 0 && h->row[tile->token + first + t].status == 0)
				count_share(share[t] + w, &h->filtered[tile->token + first + t], words);
	}
	return kept;
}

static void drop(uint32_t kept, uint32_t words, uint32_t tokens, float *dz, size_t ld)
{
	for (uint32_t w = 0; w < words; w += GROUP)
		for (uint32_t t = 0; t < tokens && !(kept >> w / GROUP & 1u); t++)
			memset(dz + t * ld + w, 0, GROUP * sizeof *dz);
}

int PF_CPU_PASTE(pf_cpu_tile_dz, PF_CPU_LEVEL)(const struct pf_cpu_tile *tile, float *dz, size_t ld)
{
	const uint32_t before = vec_enter();
	const int filtered = tile->head->filtered && tile->head->filter > 0;
	_Alignas(64) float share[PF_TOKENS][PF_CPU_TILE_WORDS];
	uint32_t any = !filtered;
	for (uint32_t t = 0; t < tile->tokens; t += PF_TOKENS) {
		const uint32_t tokens = tile->tokens - t < PF_TOKENS ? tile->tokens - t : PF_TOKENS;
		const uint32_t kept = filtered ? sieve(tile, t, tokens, share) : UINT32_MAX;
		for (uint32_t i = t; i < t + tokens; i++)
			dz_row(tile, i, dz + i * ld);
		if (filtered)
			drop(kept, tile->words, tokens, dz + t * ld, ld);
		any |= kept;
	}
	vec_leave(before);
	return any != 0;
}
