/* Backend `cpu`: every kernel on the host, as fast as its instruction set and threads allow. Spec: cpu[:level] */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include "cpu.h"
#include "pool.h"
#include "prefpga/internal/backend.h"

enum {
	HUGE_PAGE = 2 << 20,
	CHUNK_BYTES = 256 << 10,       /* of logits, per turn of a thread */
	STREAM_BYTES = 4 << 20,        /* outputs beyond it go past the caches */
	SEQS_PER_TURN = 16,
};

struct pf_memory { void *base; uint64_t bytes; int adopted; };

struct card {
	const struct pf_cpu_level *level;
	struct pf_cpu_pool        *pool;
	uint64_t                   limit, used;
	char                       name[64];
};

/* ---- levels ---- */
#if defined(__x86_64__)
static int present_avx512(void)
{
	return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
	       __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
}

static int present_avx2(void)
{
	return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
}
#endif

static int present_baseline(void)
{
	return 1;
}

static const struct pf_cpu_level levels[] = {
#define PF_CPU_LEVEL_ROW(level) \
	{ #level, present_##level, pf_cpu_logprob_##level, pf_cpu_logit_grad_##level, pf_cpu_tile_scan_##level, \
	  pf_cpu_tile_finish_##level, pf_cpu_tile_dz_##level, pf_cpu_widen_##level, pf_cpu_narrow_##level, \
	  pf_cpu_mx_product_##level },
	PF_CPU_LEVELS(PF_CPU_LEVEL_ROW)
#undef PF_CPU_LEVEL_ROW
};
enum { LEVELS = sizeof levels / sizeof levels[0] };

static const struct pf_cpu_level *best_level(void)
{
	const struct pf_cpu_level *level = levels;
	while (!level->present())
		level++;                                       /* baseline, the last one, always is */
	return level;
}

static int find_level(const char *name, const struct pf_cpu_level **level, struct pf_error *error)
{
	char known[64] = "";
	*level = best_level();
	for (unsigned i = 0; i < LEVELS && *name; i++) {
		strcat(strcat(known, " "), levels[i].name);
		if (strcmp(name, levels[i].name) != 0)
			continue;
		*level = &levels[i];
		return levels[i].present() ? 0 : pf_fail(error, PF_E_ABSENT, "cpu:%s: this processor lacks these "
		       "instructions; plain cpu takes the best it has", name);
	}
	return *name ? pf_fail(error, PF_E_UNKNOWN, "cpu:%s: unknown instruction set; there are%s", name, known) : 0;
}

/* ---- open, close ---- */
static uint64_t host_memory(void)
{
	long pages = sysconf(_SC_PHYS_PAGES), size = sysconf(_SC_PAGESIZE);
	return pages > 0 && size > 0 ? (uint64_t)pages * (uint64_t)size : UINT64_MAX;
}

static void cpu_close(void *opaque)
{
	struct card *card = opaque;
	pf_cpu_pool_close(card->pool);
	free(card);
}

static int make_card(const struct pf_device_options *options, const struct pf_cpu_level *level, struct card **out,
                     struct pf_error *error)
{
	const unsigned threads = options->threads;
	struct card *card = calloc(1, sizeof *card);
	int status = card ? pf_cpu_pool_open(threads, &card->pool) : -ENOMEM;
	if (status) {
		free(card);
		return pf_fail(error, status, "cpu: cannot start %u threads: %s", threads, pf_error_text(status));
	}
	card->level = level;
	card->limit = options->memory_bytes ? options->memory_bytes : host_memory();
	snprintf(card->name, sizeof card->name, "host processor, %u thread%s", threads, threads == 1 ? "" : "s");
	*out = card;
	return 0;
}

static int cpu_open(const struct pf_backend_open *open, void **out, struct pf_device_facts *facts, uint32_t *cus,
                    struct pf_error *error)
{
	const struct pf_cpu_level *level;
	struct card *card = NULL;
	int status = find_level(open->where, &level, error);
	if (status == 0)
		status = make_card(open->options, level, &card, error);
	if (status)
		return status;
	*facts = (struct pf_device_facts){ .backend = "cpu", .name = card->name, .variant = level->name,
	                                   .memory_bytes = card->limit, .numerics = PF_NUMERICS, .host_visible = 1 };
	for (int k = 0; k < PF_KERNEL_COUNT; k++)
		cus[k] = pf_kernel_rows[k].built ? 1 : 0;
	*out = card;
	return 0;
}

/* ---- memory ---- */
static int cpu_alloc(void *opaque, enum pf_kernel kernel, unsigned arg, uint64_t bytes, struct pf_memory **out,
                     struct pf_error *error)
{
	struct card *card = opaque;
	struct pf_memory *memory = NULL;
	const size_t align = bytes >= HUGE_PAGE ? HUGE_PAGE : PF_PAGE_BYTES;
	(void)kernel;
	(void)arg;
	if (bytes > card->limit - card->used)
		return pf_fail(error, PF_E_MEMORY, "cpu: %llu bytes wanted, %llu of %llu free; allow more device "
		               "memory or use smaller chunks", (unsigned long long)bytes,
		               (unsigned long long)(card->limit - card->used), (unsigned long long)card->limit);
	memory = calloc(1, sizeof *memory);
	if (!memory || posix_memalign(&memory->base, align, bytes)) {
		free(memory);
		return pf_fail(error, PF_E_MEMORY, "cpu: the system has no %llu bytes left", (unsigned long long)bytes);
	}
	if (align == HUGE_PAGE)
		madvise(memory->base, bytes, MADV_HUGEPAGE);   /* fewer page walks; refused is no matter */
	memory->bytes = bytes;
	card->used += bytes;
	*out = memory;
	return 0;
}

static int cpu_adopt(void *opaque, void *host, uint64_t bytes, struct pf_memory **out, struct pf_error *error)
{
	const struct card *card = opaque;
	struct pf_memory *memory = calloc(1, sizeof *memory);
	if (!memory)
		return pf_fail(error, -ENOMEM, "cpu: no memory to describe a buffer of %s", card->name);
	*memory = (struct pf_memory){ host, bytes, 1 };
	*out = memory;
	return 0;
}

static void cpu_free(void *opaque, struct pf_memory *memory)
{
	struct card *card = opaque;
	if (!memory->adopted) {
		card->used -= memory->bytes;
		free(memory->base);
	}
	free(memory);
}

static void *cpu_map(void *card, struct pf_memory *memory)
{
	(void)card;
	return memory->base;
}

static int cpu_copy(void *card, enum pf_direction direction, struct pf_memory *memory, uint64_t offset, void *host,
                    uint64_t bytes, struct pf_error *error)
{
	char *device = (char *)memory->base + offset;
	(void)card;
	(void)error;
	if (direction == PF_TO_DEVICE)
		memcpy(device, host, bytes);
	else
		memcpy(host, device, bytes);
	return 0;
}

/* ---- kernels ---- */
static void *address(const struct pf_launch *launch, unsigned arg)
{
	return launch->memory[arg] ? (char *)launch->memory[arg]->base + launch->offset[arg] : NULL;
}

#define ARG(kernel, name) address(launch, PF_ARG_##kernel##_##name)
#define VALUE(kernel, name) launch->value[PF_ARG_##kernel##_##name]

/* Rows in turns of about CHUNK_BYTES */
struct rows {
	const struct pf_cpu_level *level;
	const void                *job;
	uint32_t                   rows, each;
};

static struct rows make_rows(const struct card *card, const void *job, uint32_t rows, size_t stride)
{
	return (struct rows){ card->level, job, rows, stride < CHUNK_BYTES ? (uint32_t)(CHUNK_BYTES / stride) : 1 };
}

static uint32_t turns(const struct rows *r)
{
	return (r->rows + r->each - 1) / r->each;
}

static void turn_logprob(const void *context, uint32_t turn)
{
	const struct rows *r = context;
	const uint32_t begin = turn * r->each;
	r->level->logprob(r->job, begin, r->rows - begin < r->each ? r->rows : begin + r->each);
}

static void turn_logit_grad(const void *context, uint32_t turn)
{
	const struct rows *r = context;
	const uint32_t begin = turn * r->each;
	r->level->logit_grad(r->job, begin, r->rows - begin < r->each ? r->rows : begin + r->each);
}

static void run_logprob(const struct card *card, const struct pf_launch *launch, int bf16)
{
	const struct pf_cpu_logprob job = {
		.z = ARG(logprob, z), .target = ARG(logprob, target), .out = ARG(logprob, out),
		.stride = (size_t)VALUE(logprob, stride) * PF_BEAT_BYTES, .vocab = VALUE(logprob, vocab),
		.flags = VALUE(logprob, flags), .bf16 = bf16,
	};
	const struct rows rows = make_rows(card, &job, VALUE(logprob, rows), job.stride);
	pf_cpu_pool_run(card->pool, turns(&rows), turn_logprob, &rows);
}

static void run_logit_grad(const struct card *card, const struct pf_launch *launch, int bf16)
{
	struct pf_cpu_logit_grad job = {
		.z = ARG(logit_grad, z), .target = ARG(logit_grad, target), .coef = ARG(logit_grad, coef),
		.row = ARG(logit_grad, row), .dz = ARG(logit_grad, dz),
		.stride = (size_t)VALUE(logit_grad, stride) * PF_BEAT_BYTES, .vocab = VALUE(logit_grad, vocab),
		.bf16 = bf16,
	};
	const struct rows rows = make_rows(card, &job, VALUE(logit_grad, rows), job.stride);
	job.stream = job.dz != job.z && rows.rows * job.stride > STREAM_BYTES;
	pf_cpu_pool_run(card->pool, turns(&rows), turn_logit_grad, &rows);
}

static void turn_seq_sum(const void *context, uint32_t turn)
{
	const struct pf_launch *launch = context;
	const uint32_t seqs = VALUE(seq_sum, seqs), first = turn * SEQS_PER_TURN;
	const struct pf_span *span = ARG(seq_sum, span);
	struct pf_seq *out = ARG(seq_sum, out);
	for (uint32_t b = first; b < seqs && b < first + SEQS_PER_TURN; b++)
		pf_cpu_seq_sum(ARG(seq_sum, row), VALUE(seq_sum, rows), &span[b], &out[b]);
}

static void run_seq_sum(const struct card *card, const struct pf_launch *launch)
{
	const uint32_t seqs = VALUE(seq_sum, seqs);
	pf_cpu_pool_run(card->pool, (seqs + SEQS_PER_TURN - 1) / SEQS_PER_TURN, turn_seq_sum, launch);
}

static int run_pref(const struct pf_launch *launch, struct pf_error *error)
{
	const struct pf_cpu_pref job = {
		.par = ARG(pref, par), .prog = ARG(pref, prog), .item = ARG(pref, item), .group = ARG(pref, group),
		.out = ARG(pref, out),
		.words = VALUE(pref, words), .items = VALUE(pref, items), .groups = VALUE(pref, groups),
	};
	int status = pf_cpu_pref(&job);
	return status ? pf_fail(error, status, "cpu: out of memory for %u items", job.items) : 0;
}

static float value_float(uint32_t bits)
{
	union { uint32_t bits; float value; } word = { bits };
	return word.value;
}

static void run_coef(const struct pf_launch *launch)
{
	pf_cpu_coef(ARG(coef, item), ARG(coef, span), ARG(coef, out), VALUE(coef, rows), VALUE(coef, seqs),
	            value_float(VALUE(coef, tail)));
}

static enum pf_cpu_format format_of(enum pf_kernel kernel)
{
	const unsigned lanes = pf_kernel_rows[kernel].lanes;
	return lanes == 64 ? PF_CPU_MXINT8 : lanes == 32 ? PF_CPU_BF16 : PF_CPU_F32;
}

/* What all kernels of the fused head have */
static struct pf_cpu_linear linear_head(const struct pf_launch *launch)
{
	const enum pf_cpu_format format = format_of(launch->kernel);
	const uint32_t beats = VALUE(linear_logprob, depth);
	struct pf_cpu_linear head = {
		.format = format, .hidden = ARG(linear_logprob, hidden), .target = ARG(linear_logprob, target),
		.rows = VALUE(linear_logprob, rows), .depth = beats * pf_kernel_rows[launch->kernel].lanes,
		.row_bytes = (size_t)(format == PF_CPU_MXINT8 ? PF_MX_BEATS(beats) : beats) * PF_BEAT_BYTES,
		.vocab = VALUE(linear_logprob, vocab), .stats = VALUE(linear_logprob, mode) & PF_LINEAR_STATS,
		.raw_ld = PF_TILES(VALUE(linear_logprob, vocab)) * (size_t)PF_TOKENS,
		.form = { value_float(VALUE(linear_logprob, scale)), value_float(VALUE(linear_logprob, softcap)),
		          1 / value_float(VALUE(linear_logprob, temperature)) },
	};
	for (unsigned p = 0; p < PF_WEIGHT_PORTS; p++)
		head.weight[p] = address(launch, PF_ARG_linear_logprob_weight + p);
	if (VALUE(linear_logprob, mode) & PF_LINEAR_BIAS)
		head.bias = ARG(linear_logprob, bias);
	return head;
}

static int no_room(int status, const struct pf_cpu_linear *head, struct pf_error *error)
{
	return status ? pf_fail(error, status, "cpu: out of memory for the head of %u tokens; use smaller chunks",
	                        head->rows) : 0;
}

static int run_linear_logprob(const struct card *card, const struct pf_launch *launch, struct pf_error *error)
{
	struct pf_cpu_linear head = linear_head(launch);
	head.row = ARG(linear_logprob, out);
	head.shard = VALUE(linear_logprob, mode) & PF_LINEAR_SHARD ? ARG(linear_logprob, shard) : NULL;
	if (VALUE(linear_logprob, mode) & PF_LINEAR_RAW)
		head.raw = ARG(linear_logprob, raw);
	return no_room(pf_cpu_linear_logprob(card->level, card->pool, &head), &head, error);
}

static int run_linear_grad(const struct card *card, const struct pf_launch *launch, struct pf_error *error)
{
	const uint32_t mode = VALUE(linear_grad, mode);
	struct pf_launch same = *launch;       /* scalars of linear_logprob stand elsewhere */
	memcpy(&same.value[PF_ARG_linear_logprob_rows], &launch->value[PF_ARG_linear_grad_rows],
	       (PF_ARG_linear_logprob_temperature - PF_ARG_linear_logprob_rows + 1) * sizeof *same.value);
	struct pf_cpu_linear head = linear_head(&same);
	head.row = ARG(linear_grad, row);
	head.raw = mode & PF_LINEAR_RAW ? ARG(linear_grad, raw) : NULL;
	head.coef = ARG(linear_grad, coef);
	head.dhidden = ARG(linear_grad, dhidden);
	for (unsigned p = 0; p < PF_WEIGHT_PORTS && mode & PF_LINEAR_DWEIGHT; p++)
		head.dweight[p] = address(launch, PF_ARG_linear_grad_dweight + p);
	head.dbias = mode & PF_LINEAR_BIAS ? ARG(linear_grad, dbias) : NULL;
	head.add = (mode & PF_LINEAR_ADD) != 0;
	head.zloss = value_float(VALUE(linear_grad, zloss));
	head.entropy = value_float(VALUE(linear_grad, entropy));
	if (mode & PF_LINEAR_FILTER) {
		head.filtered = ARG(linear_grad, filtered);
		head.filter = value_float(VALUE(linear_grad, filter));
		memset(head.filtered, 0, ((size_t)head.rows + 3) / 4 * PF_BEAT_BYTES);
	}
	return no_room(pf_cpu_linear_grad(card->level, card->pool, &head), &head, error);
}

/* linear_head reads the arguments that both begin with, and the scalars that both have in this order */
_Static_assert((int)PF_ARG_linear_grad_hidden == (int)PF_ARG_linear_logprob_hidden &&
               (int)PF_ARG_linear_grad_weight == (int)PF_ARG_linear_logprob_weight &&
               (int)PF_ARG_linear_grad_bias == (int)PF_ARG_linear_logprob_bias &&
               (int)PF_ARG_linear_grad_target == (int)PF_ARG_linear_logprob_target &&
               PF_ARG_linear_grad_temperature - PF_ARG_linear_grad_rows ==
               PF_ARG_linear_logprob_temperature - PF_ARG_linear_logprob_rows, "the fused head's arguments");

static void run_head_adamw(const struct card *card, const struct pf_launch *launch)
{
	struct pf_cpu_adamw a = {
		.vocab = VALUE(head_adamw, vocab), .depth = VALUE(head_adamw, depth) * (PF_BEAT_BYTES / 4),
		.beta1 = value_float(VALUE(head_adamw, beta1)), .beta2 = value_float(VALUE(head_adamw, beta2)),
		.rest1 = value_float(VALUE(head_adamw, rest1)), .rest2 = value_float(VALUE(head_adamw, rest2)),
		.grad = value_float(VALUE(head_adamw, grad)), .rate = value_float(VALUE(head_adamw, rate)),
		.root = value_float(VALUE(head_adamw, root)), .epsilon = value_float(VALUE(head_adamw, epsilon)),
		.keep = value_float(VALUE(head_adamw, keep)),
	};
	for (unsigned p = 0; p < PF_WEIGHT_PORTS; p++) {
		a.weight[p] = address(launch, PF_ARG_head_adamw_weight0 + p);
		a.moment1[p] = address(launch, PF_ARG_head_adamw_moment10 + p);
		a.moment2[p] = address(launch, PF_ARG_head_adamw_moment20 + p);
		a.dweight[p] = address(launch, PF_ARG_head_adamw_dweight0 + p);
	}
	pf_cpu_head_adamw(card->pool, &a);
}

static void run_head_norm(const struct card *card, const struct pf_launch *launch)
{
	struct pf_cpu_adamw a = { .square = ARG(head_norm, square), .vocab = VALUE(head_norm, vocab),
		                  .depth = VALUE(head_norm, depth) * (PF_BEAT_BYTES / 4) };
	for (unsigned p = 0; p < PF_WEIGHT_PORTS; p++)
		a.dweight[p] = address(launch, PF_ARG_head_norm_dweight0 + p);
	pf_cpu_head_norm(card->pool, &a);
}

static int cpu_run(void *opaque, unsigned cu, const struct pf_launch *launch, struct pf_error *error)
{
	const struct card *card = opaque;
	(void)cu;
	switch (launch->kernel) {
	case PF_KERNEL_logprob:
	case PF_KERNEL_logprob_bf16:
		run_logprob(card, launch, launch->kernel == PF_KERNEL_logprob_bf16);
		return 0;
	case PF_KERNEL_logit_grad:
	case PF_KERNEL_logit_grad_bf16:
		run_logit_grad(card, launch, launch->kernel == PF_KERNEL_logit_grad_bf16);
		return 0;
	case PF_KERNEL_seq_sum:
		run_seq_sum(card, launch);
		return 0;
	case PF_KERNEL_pref:
		return run_pref(launch, error);
	case PF_KERNEL_coef:
		run_coef(launch);
		return 0;
	case PF_KERNEL_linear_logprob:
	case PF_KERNEL_linear_logprob_bf16:
	case PF_KERNEL_linear_logprob_mxint8:
		return run_linear_logprob(card, launch, error);
	case PF_KERNEL_linear_grad:
	case PF_KERNEL_linear_grad_bf16:
		return run_linear_grad(card, launch, error);
	case PF_KERNEL_head_adamw:
		run_head_adamw(card, launch);
		return 0;
	case PF_KERNEL_head_norm:
		run_head_norm(card, launch);
		return 0;
	default:
		return pf_fail(error, PF_E_UNSUPPORTED, "cpu: there is no kernel number %d", (int)launch->kernel);
	}
}

const struct pf_backend pf_backend_cpu = {
	.name = "cpu", .open = cpu_open, .close = cpu_close, .alloc = cpu_alloc, .adopt = cpu_adopt, .free = cpu_free,
	.map = cpu_map, .copy = cpu_copy, .run = cpu_run,
};
