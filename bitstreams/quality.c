#include "quality.h"
#include <math.h>
#include <string.h>
#include "prefpga/cycles.h"
#include "prefpga/internal/cards.def"
#include "prefpga/internal/operations.def"
#include "prefpga/reports.h"
#include "vitis.h"
#include "prefpga/internal/vitis.def"

/* A kernel at work: its scalars; products: of T V D, that its array forms; main: the loop that takes the time */
struct use {
	enum pf_kernel kernel;
	const char *how, *main;
	double lanes, vocab, depth, products;
	unsigned values;
	uint32_t value[10];
};
enum { MAC_LANES = 64, MACS = PF_ARRAY_WHOLE * MAC_LANES, MX_MACS = 2048 };
enum { TRAINED = PF_LINEAR_DWEIGHT | PF_LINEAR_ADD, SPILLED = TRAINED | PF_LINEAR_RAW };
#define BEATS(v, lanes) (((v) + (lanes) - 1) / (lanes))
#define SCORE(kernel, lanes, v) \
	{ PF_KERNEL_##kernel, "", "steps", lanes, v, 0, 0, 4, { 1024, v, BEATS(v, lanes), 0 } }
#define GRAD(kernel, lanes, v) \
	{ PF_KERNEL_##kernel, "", "steps", lanes, v, 0, 0, 3, { 1024, v, BEATS(v, lanes) } }
#define HEAD(d, v) { PF_KERNEL_linear_logprob, "", "visits", MACS, v, d, 1, 7, { 1024, BEATS(d, 16), v, 0 } }
#define BACK(how, mode, products, d, v) \
	{ PF_KERNEL_linear_grad, how, "visits", MACS, v, d, products, 10, { 1024, BEATS(d, 16), v, mode } }
static const struct use uses[] = {
	SCORE(logprob, 16, 32000), SCORE(logprob, 16, 128256), SCORE(logprob_bf16, 32, 128256),
	{ PF_KERNEL_seq_sum, "16 sequences", "tokens", 1, 0, 0, 0, 2, { 1024, 16 } },
	{ PF_KERNEL_pref, "32 words, at most; a token is an item", "lanes", 1, 0, 0, 0, 3, { 32, 1024, 512 } },
	{ PF_KERNEL_coef, "16 sequences", "tokens", 1, 0, 0, 0, 3, { 1024, 16 } },
	GRAD(logit_grad, 16, 32000), GRAD(logit_grad, 16, 128256), GRAD(logit_grad_bf16, 32, 128256),
	HEAD(128, 264), HEAD(768, 50257), HEAD(4096, 128256),
	BACK("frozen head", 0, 2, 768, 50257), BACK("recompute", TRAINED, 3, 768, 50257),
	BACK("spill", SPILLED, 2, 768, 50257), BACK("recompute", TRAINED, 3, 4096, 128256),
	{ PF_KERNEL_linear_logprob_bf16, "", "visits", MACS, 128256, 4096, 1, 7, { 1024, BEATS(4096, 32), 128256, 0 } },
	{ PF_KERNEL_linear_grad_bf16, "recompute", "visits", MACS, 128256, 4096, 3, 10,
	  { 1024, BEATS(4096, 32), 128256, TRAINED } },
	{ PF_KERNEL_linear_logprob_mxint8, "", "products", MX_MACS, 128256, 4096, 1, 7,
	  { 1024, BEATS(4096, 64), 128256, 0 } },
};
enum { USES = sizeof uses / sizeof *uses };

struct loop { enum pf_kernel kernel; const char *label, *why; unsigned claimed, derived, depth; };
#define LOOP_ROW(kernel, file, label, claimed, derived, why, depth, ...) \
	{ PF_KERNEL_##kernel, #label, why, claimed, derived, depth },
static const struct loop loops[] = { PF_OPERATIONS(LOOP_ROW) };
static const struct loop loops_half[] = { PF_OPERATIONS_HALF(LOOP_ROW) };      /* those that differ */
enum { LOOPS = sizeof loops / sizeof *loops, LOOPS_HALF = sizeof loops_half / sizeof *loops_half };

enum { RESOURCES = 5 };
static const char *const cards[] = {
#define CARD_ROW(name, ...) #name,
	PF_CARDS(CARD_ROW)
};

struct row {
	const char *card;
	const struct use *use;
	const struct loop *main;
	double cycles, bytes, line, array;     /* a token; shares */
};

static const struct loop *find_loop(const struct loop *list, int count, enum pf_kernel kernel, const char *label)
{
	for (int i = 0; i < count; i++)
		if (list[i].kernel == kernel && strcmp(list[i].label, label) == 0)
			return &list[i];
	return NULL;
}

static const struct loop *main_loop(const char *card, const struct use *use)
{
	const struct loop *half = pf_card_array(card) == PF_ARRAY_WHOLE
	                                  ? NULL
	                                  : find_loop(loops_half, LOOPS_HALF, use->kernel, use->main);
	return half ? half : find_loop(loops, LOOPS, use->kernel, use->main);
}

/* Products a cycle: of the fused head's kernels in fp32 and bf16 what the card's array has */
static double lanes_of(const char *card, const struct use *use)
{
	return use->lanes == MACS ? pf_card_array(card) * MAC_LANES : use->lanes;
}

static int measure(const char *card, const struct use *use, struct row *row, struct pf_error *error)
{
	struct pf_run_cost cost;
	const double tokens = use->kernel == PF_KERNEL_pref ? use->value[1] : use->value[0];
	const int status = pf_reports_cost(NULL, pf_card_array(card), use->kernel, use->value, use->values, &cost,
	                                   error);
	*row = (struct row){ .card = card, .use = use, .main = main_loop(card, use) };
	if (!status && !row->main)
		return pf_fail(error, PF_E_DATA, "operations.def lacks kernel %s, loop %s",
		               pf_kernel_rows[use->kernel].name, use->main);
	if (status)
		return status;
	row->cycles = cost.cycles / tokens;
	row->bytes = (cost.bytes[0] + cost.bytes[1] + cost.bytes[2]) / tokens;
	row->line = cost.port_most / (cost.cycles * PF_BEAT_BYTES);
	row->array = use->products * use->vocab * use->depth / (lanes_of(card, use) * row->cycles);
	return 0;
}

static void add_kernels(const struct pf_layout *layout, const char *card, double sum[RESOURCES])
{
	for (unsigned k = 0; k < PF_KERNEL_COUNT; k++)
		for (unsigned r = 0; layout->cus[k] && r < RESOURCES; r++)
			sum[r] += layout->cus[k] * pf_card_takes(card, k, r, NULL);
}

double pf_quality_share(const struct pf_layout *layout, const char *card, const char **resource)
{
	return pf_card_share(card, layout->cus, PF_KERNEL_COUNT, resource);
}

const char *pf_quality_verdict(double share)
{
	if (share > 1.0)
		return "too large";
	if (share > PF_FULL_SHARE)
		return "more than the fullest design at hand takes, do not expect it to be placed";
	return "";
}

/* ---- CSV ---- */

static void csv_row(FILE *out, const struct row *r)
{
	const char *card = r->card;
	uint32_t one[PF_KERNEL_COUNT] = { 0 };
	const char *which;
	one[r->use->kernel] = 1;
	const double share = pf_card_share(card, one, PF_KERNEL_COUNT, &which);
	fprintf(out, "%s,\"%s\",%s,%.0f,%.0f,%.0f,%s,%u,%u,\"%s\",%u,%.1f,%.1f,%.3f,",
	        pf_kernel_rows[r->use->kernel].name, r->use->how, card, r->use->vocab, r->use->depth,
	        lanes_of(card, r->use), r->main->label, r->main->claimed,
	        r->main->derived, r->main->why, r->main->depth, r->cycles, r->bytes, r->line);
	if (r->use->products > 0.0)
		fprintf(out, "%.3f", r->array);
	for (unsigned i = 0; i < RESOURCES; i++)
		fprintf(out, ",%.0f", pf_card_takes(card, r->use->kernel, i, NULL));
	if (isnan(share))
		fputs(",unknown,\n", out);
	else
		fprintf(out, ",%.1f,%s\n", 100.0 * share, which);
}

static int csv(FILE *out, struct pf_error *error)
{
	fputs("kernel,how,card,V,D,lanes,main_loop,ii,derived_ii,set_by,depth,cycles_per_token_estimate,", out);
	fputs("bytes_per_token,share_of_port_estimate,share_of_array_estimate,dsp_estimate,lut_estimate,ff_estimate,"
	      "bram18_estimate,uram_estimate,percent_of_card_estimate,scarcest\n", out);
	for (unsigned i = 0; i < USES; i++)
		for (size_t c = 0; c < sizeof cards / sizeof *cards; c++) {
			struct row row;
			const int status = measure(cards[c], &uses[i], &row, error);
			if (status)
				return status;
			csv_row(out, &row);
		}
	return 0;
}

/* ---- markdown of one card ---- */

static void shares(FILE *out, const char *card, const double of[RESOURCES])
{
	for (unsigned r = 0; r < RESOURCES; r++) {
		const char *name;
		pf_card_takes(card, 0, r, &name);
		const double all = pf_card_figure(card, name);
		fprintf(out, " %.0f", of[r]);
		if (!isnan(all))
			fprintf(out, " (%.1f %%)", 100.0 * of[r] / all);
		fputs(" |", out);
	}
	fputc('\n', out);
}

static int image_rows(FILE *out, const char *card, struct pf_error *error)
{
	fputs("\n| image | DSP | LUT | FF | BRAM18 | URAM |\n|---|--:|--:|--:|--:|--:|\n", out);
	for (unsigned i = 0; pf_image_name(i, NULL); i++) {
		struct pf_layout layout;
		double sum[RESOURCES] = { 0 };
		pf_layout_default(&layout);
		const int status = pf_layout_image(&layout, card, pf_image_name(i, NULL), error);
		if (status)
			return status;
		add_kernels(&layout, card, sum);
		const char *which, *verdict = pf_quality_verdict(pf_quality_share(&layout, card, &which));
		fprintf(out, "| %s%s%s |", pf_image_name(i, NULL), verdict[0] ? ": " : "", verdict);
		shares(out, card, sum);
	}
	return 0;
}

/* ---- where the array's cycles go ---- */

enum { PF_WIDE = 2112, NUMBERS = 64, WORDS_MANY = 50257, WORDS_FEW = 6400, BLOCK = 64 };

/* Cycles of a block of 64 tokens with `words` words of `numbers` numbers */
static int block_cycles(const char *card, enum pf_kernel kernel, uint32_t lanes, uint32_t words, uint32_t numbers,
                        double *cycles, struct pf_error *error)
{
	const uint32_t value[7] = { BLOCK, BEATS(numbers, lanes), words, 0 };
	struct pf_run_cost cost;
	const int status = pf_reports_cost(NULL, pf_card_array(card), kernel, value, 7, &cost, error);
	*cycles = cost.cycles;
	return status;
}

/* What a forward of the fused head takes: of a block, of each of its tiles, of a piece of 64 numbers; wide enough for
 * the scan to go by beside the products. from: the least width, by 64, that reaches `share` of the array */
struct anatomy { double block, tile, piece, products; uint32_t from; };

static int dissect(const char *card, enum pf_kernel kernel, uint32_t lanes, double macs, double share,
                   struct anatomy *a, struct pf_error *error)
{
	const uint32_t wide = PF_WIDE;
	double few, many, wider, own = 0;
	int status = block_cycles(card, kernel, lanes, WORDS_FEW, wide, &few, error);
	if (!status)
		status = block_cycles(card, kernel, lanes, 2 * WORDS_FEW, wide, &many, error);
	if (!status)
		status = block_cycles(card, kernel, lanes, 2 * WORDS_FEW, wide + NUMBERS, &wider, error);
	if (status)
		return status;
	const double tiles = WORDS_FEW / 64, tile = (many - few) / tiles;
	if (!status)
		status = block_cycles(card, kernel, lanes, WORDS_FEW, wide + NUMBERS, &own, error);
	a->piece = (wider - own) / tiles - tile;
	a->tile = tile - a->piece * wide / NUMBERS;
	a->block = few - tiles * tile;
	a->products = 64.0 * 64 * NUMBERS / macs;
	for (a->from = NUMBERS; !status && a->from < PF_DEPTH_MAX * 16; a->from += NUMBERS) {
		double cycles;
		status = block_cycles(card, kernel, lanes, WORDS_MANY, a->from, &cycles, error);
		if ((double)BLOCK * WORDS_MANY * a->from / (macs * cycles) >= share)
			break;
	}
	return status;
}

static int anatomies(FILE *out, const char *card, struct pf_error *error)
{
	const double array = pf_card_array(card) * MAC_LANES;
	const struct { enum pf_kernel kernel; uint32_t lanes; double macs; } heads[] = {
		{ PF_KERNEL_linear_logprob, 16, array }, { PF_KERNEL_linear_logprob_bf16, 32, array },
		{ PF_KERNEL_linear_logprob_mxint8, 64, MX_MACS },
	};
	fputs("\nWhere the cycles of the fused head's forward go. A tile is 64 tokens by 64 words; what it takes\n"
	      "beside its pieces fills and empties the processes of its products, and reads exponents. The block of\n"
	      "64 tokens has its hidden states read (at D = 2112 here, in proportion to it), its last scan and its\n"
	      "records on top. A vocabulary is formed in whole tiles: of 264 words 5, 82.5 % of them used. From D on,\n"
	      "at V = 50257, at least 85 % of the array's peak are used; where D is small, the scan may take longer\n"
	      "than a tile's products.\n\n"
	      "| kernel | a piece of 64 numbers | of it products | a tile, besides | a block, besides | 85 % from D |\n"
	      "|---|--:|--:|--:|--:|--:|\n", out);
	for (size_t i = 0; i < sizeof heads / sizeof *heads; i++) {
		struct anatomy a;
		const int status = dissect(card, heads[i].kernel, heads[i].lanes, heads[i].macs, 0.85, &a, error);
		if (status)
			return status;
		fprintf(out, "| %s | %.0f | %.0f | %.0f | %.0f | ", pf_kernel_rows[heads[i].kernel].name, a.piece,
		        a.products, a.tile, a.block);
		if (a.from < PF_DEPTH_MAX * 16)
			fprintf(out, "%u |\n", a.from);
		else
			fprintf(out, "nowhere, %.1f %% at most |\n", 100.0 * a.products / a.piece);
	}
	return 0;
}

static int markdown(FILE *out, const char *card, struct pf_error *error)
{
	fprintf(out, "# Kernels on %s: estimates\n\nMade by `prefpga-emit quality` of cycles.def and operations.def.\n",
	        card);
	fprintf(out, "No tool has seen these kernels:\nintervals and depths are what the sources allow with the "
	        "latencies of operators.def, logic is operators,\nmemories and ports, without multiplexers and "
	        "control. Tokens: 1024. Share of the port: bytes of the busiest\nport by 64 a cycle; of the array: "
	        "products of T V D by the lanes a cycle.\n\n");
	fputs("| kernel | how | V | D | lanes | loop | II | set by | depth | cycles/token | bytes/token | of the port |"
	      " of the array |\n|---|---|--:|--:|--:|---|--:|---|--:|--:|--:|--:|--:|\n", out);
	for (unsigned i = 0; i < USES; i++) {
		struct row r;
		const int status = measure(card, &uses[i], &r, error);
		if (status)
			return status;
		fprintf(out, "| %s | %s | %.0f | %.0f | %.0f | %s | %u | %s | %u | %.1f | %.1f | %.1f %% |",
		        pf_kernel_rows[r.use->kernel].name, r.use->how, r.use->vocab, r.use->depth,
		        r.use->lanes, r.main->label, r.main->claimed, r.main->why, r.main->depth, r.cycles,
		        r.bytes, 100.0 * r.line);
		if (r.use->products > 0.0)
			fprintf(out, " %.1f %%", 100.0 * r.array);
		fputs(" |\n", out);
	}
	const int status = anatomies(out, card, error);
	if (status)
		return status;
	fputs("\n| kernel | DSP | LUT | FF | BRAM18 | URAM |\n|---|--:|--:|--:|--:|--:|\n", out);
	for (unsigned k = 0; k < PF_KERNEL_COUNT; k++) {
		double of[RESOURCES];
		for (unsigned r = 0; r < RESOURCES; r++)
			of[r] = pf_card_takes(card, k, r, NULL);
		fprintf(out, "| %s |", pf_kernel_rows[k].name);
		shares(out, card, of);
	}
	return image_rows(out, card, error);
}

int pf_quality(FILE *out, const char *card, struct pf_error *error)
{
	if (!card)
		return csv(out, error);
	for (size_t c = 0; c < sizeof cards / sizeof *cards; c++)
		if (strcmp(cards[c], card) == 0)
			return markdown(out, card, error);
	return pf_fail(error, PF_E_UNKNOWN, "no card is called %s", card);
}
