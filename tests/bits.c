/* One hash over every output bit of all kernels and elementary functions. Compiled by bits.sh in many ways; the hash
 * must not depend on the compiler, its options, PF_STEP, or on flushing of subnormals (argument `flush`). Plain C, so
 * that any compiler of the kernels takes it; the input comes from integers only. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "prefpga/internal/kernels.h"
#include "prefpga/internal/kmath.h"
#include "prefpga/internal/kmath64.h"
#ifdef __SSE__
#include <xmmintrin.h>
#endif
PF_KERNELS(PF_PROTOTYPE)

enum { ROWS = 12, SEQS = 9, ITEMS = 40, GROUPS = 11, VALUES = 60000 };

static uint64_t hash = 1469598103934665603u, seed = 88172645463325252u;

static void add(const void *from, size_t bytes)
{
	for (size_t i = 0; i < bytes; i++)
		hash = (hash ^ ((const unsigned char *)from)[i]) * 1099511628211u;
}

static uint32_t draw(void)
{
	seed = seed * 6364136223846793005u + 1442695040888963407u;
	return (uint32_t)(seed >> 32);
}

static void *room(size_t bytes)
{
	void *block = aligned_alloc(64, (bytes + 63) / 64 * 64 + 64);
	if (!block)
		exit(2);
	memset(block, 0, bytes);
	return block;
}

/* A float of random sign and fraction with an exponent in [low, high]: its bits */
static uint32_t draw_float(uint32_t low, uint32_t high)
{
	return (draw() & 0x807fffffu) | (low + draw() % (high - low + 1)) << 23;
}

static double draw_double(uint32_t low, uint32_t high)
{
	const uint64_t fraction = (uint64_t)draw() << 20 | draw() >> 12, sign = (uint64_t)draw() << 63;
	return pf_float64(sign | (uint64_t)(low + draw() % (high - low + 1)) << 52 | fraction);
}

/* ---- logits: rows of every sort ---- */
static uint32_t draw_logit(uint32_t row, uint32_t index)
{
	switch (row) {
	case 0: return draw_float(120, 132);                   /* up to 64 */
	case 1: return draw() % 5 ? draw_float(110, 128) : 0xff800000u;
	case 2: return draw_float(0, 1);                       /* subnormals and what is next to them */
	case 3: return draw_float(136, 139);                   /* up to 8192 */
	case 4: return 0xc0000000u;                            /* -2 */
	case 5: return index == 3 ? 0x7fc00000u : draw_float(120, 128);
	case 6: return 0xff800000u;
	case 7: return index == 7 ? 0x42480000u : draw_float(126, 129) | 0x80000000u;  /* 50 against negative ones */
	case 8: return draw_float(100, 127);
	case 9: return draw() & 0x80000000u;
	default: return draw_float(125, 130);
	}
}

static void draw_rows(void *beats, int bf16, uint32_t vocab, uint32_t lanes)
{
	for (uint32_t row = 0; row < ROWS; row++)
		for (uint32_t v = 0; v < lanes; v++) {
			uint32_t bits = v < vocab ? draw_logit(row, v) : draw();       /* padding does not matter */
			if (bf16)
				((uint16_t *)beats)[row * lanes + v] = (uint16_t)(bits >> 16);
			else
				((uint32_t *)beats)[row * lanes + v] = bits;
		}
}

static struct pf_row last_rows[ROWS];

static void hash_logits(int bf16, uint32_t vocab)
{
	const uint32_t beat = bf16 ? 32 : 16, stride = (vocab + beat - 1) / beat + vocab % 2;
	const size_t bytes = (size_t)ROWS * stride * PF_BEAT_BYTES;
	void *z = room(bytes), *dz = room(bytes);
	int32_t target[ROWS];
	float coef[ROWS];
	draw_rows(z, bf16, vocab, stride * beat);
	for (uint32_t r = 0; r < ROWS; r++) {
		target[r] = r == 11 ? -1 : (int32_t)(draw() % (vocab + (r == 10)));
		coef[r] = pf_float(r == 8 ? draw_float(0, 3) : draw_float(100, 140));
	}
	memset(last_rows, 0, sizeof last_rows);
	if (bf16) {
		PF_KERNEL_NAME(logprob_bf16)(z, target, last_rows, ROWS, vocab, stride, PF_WANT_STATS);
		PF_KERNEL_NAME(logit_grad_bf16)(z, target, coef, last_rows, dz, ROWS, vocab, stride);
	} else {
		PF_KERNEL_NAME(logprob)(z, target, last_rows, ROWS, vocab, stride, PF_WANT_STATS);
		PF_KERNEL_NAME(logit_grad)(z, target, coef, last_rows, dz, ROWS, vocab, stride);
	}
	add(last_rows, sizeof last_rows);
	add(dz, bytes);
	free(z);
	free(dz);
}

/* ---- the fused head ---- */
enum format { F32, BF16, MXINT8 };

/* Beats of a row of `depth` beats of numbers */
static uint32_t row_beats(enum format format, uint32_t depth)
{
	return format == MXINT8 ? PF_MX_BEATS(depth) : depth;
}

static void draw_matrix(unsigned char *to, enum format format, uint32_t rows, uint32_t depth)
{
	const uint32_t pitch = row_beats(format, depth) * PF_BEAT_BYTES;
	for (uint32_t r = 0; r < rows; r++, to += pitch)
		for (uint32_t i = 0; i < pitch; i += 4) {
			const uint32_t one = format == MXINT8 ? draw() : draw_float(118, 126);
			const uint32_t bits = format == F32 ? one
			                      : format == BF16 ? one >> 16 | (draw_float(118, 126) & 0xffff0000u)
			                      : i < depth * PF_BEAT_BYTES ? one : 0x7f7e7d7cu + (one & 0x01010101u);
			memcpy(to + i, &bits, 4);
		}
}

struct shape { uint32_t rows, depth, vocab, mode; float softcap; };
#define PORTS(type, w, step) (const struct type *)(w), (const struct type *)((w) + (step)), \
	(const struct type *)((w) + 2 * (step)), (const struct type *)((w) + 3 * (step))
#define FORWARD(kernel, type, more) \
	PF_KERNEL_NAME(kernel)((const struct type *)h, PORTS(type, w, step), bias, target, out, raw, s.rows, s.depth, \
	                       s.vocab, (s.mode) | (more), 0.75f, s.softcap, 1.25f, shard)
#define BACKWARD(kernel, type) \
	PF_KERNEL_NAME(kernel)((const struct type *)h, PORTS(type, w, step), bias, target, coef, out, raw, \
	                       (struct type *)dh, dw, dw + dstep, dw + 2 * dstep, dw + 3 * dstep, dbias, s.rows, s.depth, \
	                       s.vocab, s.mode | PF_LINEAR_FILTER, 0.75f, s.softcap, 1.25f, 0.01f, 0.05f, \
	                       filtered, 0.02f)

static void hash_head(enum format format, struct shape s)
{
	const size_t row = (size_t)row_beats(format, s.depth) * PF_BEAT_BYTES, step = PF_PORT_SHARE(s.vocab) * row;
	const size_t drow = (size_t)s.depth * (format == BF16 ? 2 : 1), dstep = PF_PORT_SHARE(s.vocab) * drow;
	unsigned char *h = room(s.rows * row), *w = room(4 * step), *dh = room(s.rows * row);
	struct pf_beat_f32 *dw = room(4 * dstep * PF_BEAT_BYTES);
	struct pf_beat_f32 *raw = room(PF_RAW_BEATS(s.rows, s.vocab) * PF_BEAT_BYTES);
	struct pf_beat_f32 *shard = room(s.rows * sizeof(struct pf_shard)), *filtered = room(s.rows * 16 + 64);
	struct pf_row *out = room(s.rows * sizeof *out);
	float *bias = room(s.vocab * sizeof *bias), *dbias = room(s.vocab * sizeof *dbias),
	      *coef = room(s.rows * sizeof *coef);
	int32_t *target = room(s.rows * sizeof *target);
	draw_matrix(h, format, s.rows, s.depth);
	draw_matrix(w, format, s.vocab, s.depth);
	for (uint32_t v = 0; v < s.vocab; v++)
		bias[v] = pf_float(draw_float(110, 127));
	for (uint32_t t = 0; t < s.rows; t++) {
		target[t] = t % 9 == 8 ? PF_IGNORE : (int32_t)(draw() % s.vocab);
		coef[t] = pf_float(draw_float(110, 127));
	}
	for (uint32_t more = 0; more <= PF_LINEAR_SHARD; more += PF_LINEAR_SHARD) {
		if (format == MXINT8)
			FORWARD(linear_logprob_mxint8, pf_beat_mxint8, more);
		else if (format == BF16)
			FORWARD(linear_logprob_bf16, pf_beat_bf16, more);
		else
			FORWARD(linear_logprob, pf_beat_f32, more);
	}
	if (format == BF16)
		BACKWARD(linear_grad_bf16, pf_beat_bf16);
	else if (format == F32)
		BACKWARD(linear_grad, pf_beat_f32);
	add(out, s.rows * sizeof *out);
	add(raw, s.mode & PF_LINEAR_RAW ? PF_RAW_BEATS(s.rows, s.vocab) * PF_BEAT_BYTES : 0);
	add(dh, s.rows * row);
	add(dw, 4 * dstep * PF_BEAT_BYTES);
	add(dbias, s.vocab * sizeof *dbias);
	add(shard, s.rows * sizeof(struct pf_shard));
	add(filtered, s.rows * sizeof(struct pf_filtered));
	void *all[] = { h, w, dh, dw, raw, out, bias, dbias, coef, target, shard, filtered };
	for (size_t i = 0; i < sizeof all / sizeof *all; i++)
		free(all[i]);
}

static void hash_adamw(uint32_t vocab, uint32_t depth)
{
	const uint32_t step = PF_PORT_SHARE(vocab) * depth, size = 4 * step;
	struct pf_beat_f32 *w = room(4 * (size_t)size * PF_BEAT_BYTES), *m = w + size, *v = m + size, *dw = v + size;
	double square[PF_WEIGHT_PORTS];
	for (uint32_t i = 0; i < vocab * depth; i++)
		for (uint32_t l = 0; l < 16; l++) {
			w[i].lane[l] = draw_float(118, 126);
			dw[i].lane[l] = draw_float(l == 3 ? 0 : 60, l == 3 ? 2 : 130);
			m[i].lane[l] = draw_float(l == 5 ? 0 : 100, l == 5 ? 1 : 127);
			v[i].lane[l] = draw_float(l == 7 ? 0 : 90, l == 7 ? 1 : 127) & PF_F32_ABS;
		}
	PF_KERNEL_NAME(head_norm)(dw, dw + step, dw + 2 * step, dw + 3 * step, square, vocab, depth);
	PF_KERNEL_NAME(head_adamw)
	(w, w + step, w + 2 * step, w + 3 * step, m, m + step, m + 2 * step, m + 3 * step, v, v + step, v + 2 * step,
	 v + 3 * step, dw, dw + step, dw + 2 * step, dw + 3 * step, vocab, depth, 0.9f, 0.999f, 0.1f, 0.001f, 0.5f,
	 1e-3f, 1.5f, 1e-8f, 0.999f);
	add(square, sizeof square);
	add(w, 4 * (size_t)size * PF_BEAT_BYTES);
	free(w);
}

static void hash_heads(void)
{
	hash_adamw(67, 3);
	hash_adamw(1, 1);
	const uint32_t all = PF_LINEAR_STATS | PF_LINEAR_BIAS | PF_LINEAR_DWEIGHT;
	for (int format = F32; format <= MXINT8; format++) {
		hash_head((enum format)format, (struct shape){ 1, 1, 1, all, 0.0f });
		hash_head((enum format)format, (struct shape){ 70, 5, 67, all | PF_LINEAR_RAW, 3.0f });
		hash_head((enum format)format, (struct shape){ 65, 8, 300, all, 0.0f });
		hash_head((enum format)format, (struct shape){ 9, 3, 130, 0, 20.0f });
	}
}

/* ---- sums, losses, coefficients ---- */
static void hash_sums(void)
{
	struct pf_span span[SEQS];
	struct pf_seq seq[SEQS];
	struct pf_item_out grad[SEQS];
	float coef[ROWS];
	memset(grad, 0, sizeof grad);
	for (uint32_t s = 0; s < SEQS; s++) {
		span[s].begin = draw() % ROWS;
		span[s].end = span[s].begin + draw() % (ROWS - span[s].begin);
		span[s].split = (span[s].begin + span[s].end) / 2;
		span[s].reserved = 0;
		grad[s].grad = draw_double(s & 1 ? 0 : 890, s & 1 ? 2 : 905);  /* subnormal as double, as float */
	}
	PF_KERNEL_NAME(seq_sum)(last_rows, span, seq, ROWS, SEQS);
	PF_KERNEL_NAME(coef)(grad, span, coef, ROWS, SEQS, 0.3f);
	add(seq, sizeof seq);
	add(coef, sizeof coef);
}

/* One program for each operation: operands from the item, the operation, its first result */
static uint32_t write_program(uint32_t *prog, uint32_t op)
{
	static const struct { uint32_t takes, leaves; } shapes[] = {
#define SHAPE(symbol, mnemonic, takes, leaves, imm, text) { takes, leaves },
		PF_OPS(SHAPE)
#undef SHAPE
	};
	uint32_t words = PF_PROG_CODE;
	prog[0] = 1;
	prog[PF_PROG_COMPONENT] = prog[PF_PROG_COMPONENT + 1] = words;
	prog[PF_PROG_COMPONENT + 2] = 1;
	for (uint32_t i = 0; i < shapes[op].takes; i++)
		prog[words++] = i == 0 ? PF_OP_ADV : i == 1 ? PF_OP_SCORE : PF_OP_MARGIN;
	if (op == PF_OP_LOAD) {
		prog[words++] = PF_OP_U;
		prog[words++] = PF_OP_STORE;
	}
	prog[words++] = op;
	for (uint32_t left = shapes[op].leaves; left > 1; left--)
		prog[words++] = PF_OP_MUL;
	if (shapes[op].leaves == 0)
		prog[words++] = PF_OP_L;
	prog[words++] = PF_OP_END;
	return words;
}

static void hash_losses(void)
{
	struct pf_item item[ITEMS];
	struct pf_item_out out[ITEMS];
	uint32_t group[GROUPS + 1] = { 0, 1, 1, 5, 9, 10, 14, 20, 21, 30, 39, ITEMS }, prog[64];
	double par[PF_PAR_COUNT];
	memset(item, 0, sizeof item);
	for (uint32_t i = 0; i < PF_PAR_COUNT; i++)
		par[i] = i % 7 ? draw_double(1015, 1030) : draw_double(0, 2);
	for (uint32_t i = 0; i < ITEMS; i++) {
		item[i].policy = -((int64_t)draw() << draw() % 12);
		item[i].reference = -((int64_t)draw() << draw() % 12);
		item[i].n = 1 + draw() % 9;
		item[i].kind = 1u << draw() % 3;
		item[i].score = pf_float(draw_float(0, 130));
		item[i].margin = pf_float(draw_float(0, 2));
		item[i].advantage = pf_float(draw_float(90, 132));
	}
	for (uint32_t op = PF_OP_END + 1; op < PF_OP_COUNT; op++) {
		PF_KERNEL_NAME(pref)(par, prog, item, group, out, write_program(prog, op), ITEMS, GROUPS);
		add(out, sizeof out);
	}
}

/* ---- elementary functions ---- */
static void add_float(float y)
{
	uint32_t bits = y != y ? PF_F32_NAN : pf_bits(y);              /* the payload of a NaN is not specified */
	add(&bits, sizeof bits);
}

static void add_double(double y)
{
	uint64_t bits = y != y ? PF_F64_NAN : pf_bits64(y);
	add(&bits, sizeof bits);
}

static void hash_functions(void)
{
	for (uint32_t i = 0; i < VALUES; i++) {
		const float x = pf_float(i % 3 ? draw_float(90, 140) : draw());
		add_float(pf_exp(x));
		add_float(pf_expm1(x));
		add_float(pf_log(x));
		add_float(pf_log1p(x));
		add_float(pf_sigmoid(x));
		add_float(pf_softplus(x));
		const double d = i % 3 ? draw_double(960, 1040) : draw_double(0, 2047);
		add_double(pf_exp64(d));
		add_double(pf_expm1_64(d));
		add_double(pf_log64(d));
		add_double(pf_log1p64(d));
		add_double(pf_sigmoid64(d));
		add_double(pf_softplus64(d));
		add_double(pf_log1mexp64(d));
	}
}

int main(int argc, char **argv)
{
	static const uint32_t vocabs[] = { 1, 2, 15, 16, 17, 31, 32, 33, 63, 97, 1023, 1025, 2049, 6001 };
	if (argc > 1 && strcmp(argv[1], "flush") == 0) {
#ifdef __SSE__
		_mm_setcsr(_mm_getcsr() | 0x8040);
#endif
	}
	for (unsigned i = 0; i < sizeof vocabs / sizeof *vocabs; i++) {
		hash_logits(0, vocabs[i]);
		hash_logits(1, vocabs[i]);
		hash_sums();
	}
	hash_losses();
	hash_heads();
	hash_functions();
	printf("%016llx\n", (unsigned long long)hash);
	return 0;
}
