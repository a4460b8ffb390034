/* linear_grad on the host, the part between products: raw logits of a tile and the rows' records to dz. */
#include "bend.h"
#include "grad_row.h"

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

void PF_CPU_PASTE(pf_cpu_tile_dz, PF_CPU_LEVEL)(const struct pf_cpu_tile *tile, float *dz, size_t ld)
{
	const uint32_t before = vec_enter();
	for (uint32_t t = 0; t < tile->tokens; t++)
		dz_row(tile, t, dz + t * ld);
	vec_leave(before);
}
