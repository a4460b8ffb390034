/* abi.h: the words that kernels, simulator, drivers and host share, bit for bit.
 *
 * Only fixed-width integers, float, double and structs of them. Every struct is a whole number of 512-bit beats
 * (or an even divisor of one), so it crosses an AXI port without a seam; the static asserts below hold it there.
 * Symbols: B sequences, T scored tokens, V vocabulary, L lanes per beat.
 * Changing the meaning of anything here needs a new PF_NUMERICS or a new kernel name; fields are appended, never
 * moved. */
#ifndef PF_INTERNAL_ABI_H
#define PF_INTERNAL_ABI_H
#include <stdint.h>

#define PF_NUMERICS 2u                 /* version of the numerics: same version, same bits, on every card */

/* ---- beats: 512 bits of a port ---- */
#define PF_BEAT_BYTES 64u
#define PF_PAGE_BYTES 4096u            /* granularity of buffers and of offsets into them */
struct pf_beat_f32  { uint32_t lane[16]; };              /* fp32 lanes as their bits */
struct pf_beat_bf16 { uint16_t lane[32]; };              /* bfloat16 lanes as their bits */
struct pf_beat_mxint8 { int8_t lane[64]; };              /* two MX blocks of int8, or 64 of their exponents as bytes */

/* ---- limits, checked before submit ---- */
#define PF_VOCAB_MAX  262144u          /* V */
#define PF_ROWS_MAX   (1u << 20)       /* T per launch */
#define PF_SEQS_MAX   65536u           /* B per launch of seq_sum, coef */
#define PF_ITEMS_MAX  8192u            /* items per launch of pref */
#define PF_DEPTH_MAX  512u             /* beats of a row of hidden or W in fp32: D up to 8192 */
#define PF_LOGIT_LIMIT 11000.0f        /* |z| below it; at or above: PF_ROW_RANGE. At or below -limit (and -inf):
                                        * probability 0 */

/* ---- one scored token: what logprob writes and logit_grad reads ---- */
#define PF_IGNORE (-100)               /* target of a token that is not scored (any negative value is) */
enum pf_row_status {
	PF_ROW_RANGE   = 1,            /* a logit is NaN, +inf or >= PF_LOGIT_LIMIT: the row's numbers are NaN */
	PF_ROW_EMPTY   = 2,            /* no logit above -PF_LOGIT_LIMIT: nothing to normalise; numbers are NaN */
	PF_ROW_TARGET  = 4,            /* target >= V: no logp; numbers of the row otherwise valid */
	PF_ROW_MASKED  = 8,            /* the target's own logit is -inf: logp = -inf */
	PF_ROW_IGNORED = 16,           /* negative target: row not read, every number 0 */
};
#define PF_ROW_BAD (PF_ROW_RANGE | PF_ROW_EMPTY | PF_ROW_TARGET | PF_ROW_MASKED)
#define PF_Q32_NONE INT64_MIN          /* logp_q32 of a row that has no finite logp */

struct pf_row {
	int64_t  logp_q32;             /* log p(target) in nats, Q31.32; sums of it are exact in any order */
	float    logp;                 /* the same, rounded once to fp32 */
	float    max;                  /* m = largest logit */
	float    log_sum;              /* log sum exp(z - m), in [0, log V]; lse = max + log_sum */
	float    target;               /* the target's logit */
	float    inv;                  /* sum exp(z) = 2^exp2 / inv, 0.5 < inv <= 1; 0: no finite sum */
	int32_t  exp2;
	float    rest;                 /* 1 - p(target); relative precision 2^-24 down to about V 2^-48, below: 0 */
	uint32_t status;               /* enum pf_row_status */
	float    entropy;              /* -sum p log p, nats            } only if flags & PF_WANT_STATS, */
	float    mean;                 /* mean logit; -inf if any counts as -inf } else 0 */
	float    log_sum_p2;           /* log sum p^2                   } */
	uint32_t argmax;               /* smallest index of the largest logit (-0 is below +0); 0 if there is none */
	uint32_t reserved[2];
};
enum pf_logprob_flags { PF_WANT_STATS = 1 };

/* ---- raw state of a row over one vocabulary shard (meaning: row_sum.h); shards merge exactly ---- */
struct pf_shard {
	int64_t  sum[4], sum_p2[4], moment[4];
	int64_t  logits;               /* sum of logits, Q39.24; INT64_MIN: one counts as -inf */
	int32_t  top, top_p2;
	float    max;
	float    target;               /* the target's logit; 0 where the target is no word of the shard */
	uint32_t argmax;               /* within the shard */
	uint32_t status;               /* PF_ROW_RANGE, PF_ROW_IGNORED or 0: the rest is known when shards are merged */
};

/* ---- the fused head: linear_logprob, linear_grad ---- */
enum pf_linear_mode {
	PF_LINEAR_STATS   = 1,         /* PF_WANT_STATS; an entropy bonus needs them */
	PF_LINEAR_BIAS    = 2,         /* bias is read, dbias written */
	PF_LINEAR_RAW     = 4,         /* raw logits are written by linear_logprob, read by linear_grad */
	PF_LINEAR_DWEIGHT = 8,         /* dweight is written; without: a frozen head */
	PF_LINEAR_ADD     = 16,        /* dweight and dbias are added to */
	PF_LINEAR_SHARD   = 32,        /* linear_logprob: W is a range of words; `shard` is written, not `out` */
	PF_LINEAR_FILTER  = 64,        /* linear_grad: `filtered` is written, what is below `filter` left out */
	PF_LINEAR_MODES   = 127
};
#define PF_TOKENS 64u                  /* tokens of a block, rows of W in a tile, products of a partial sum */
#define PF_TILE_ROWS 16u               /* of them from each port */
#define PF_WEIGHT_PORTS 4
/* Rows of W[V, D] that lie behind port 0..3 */
#define PF_PORT_SHARE(vocab) (((vocab) + 3u) / 4u)
#define PF_PORT_LEFT(vocab, port) \
	((port) * PF_PORT_SHARE(vocab) < (vocab) ? (vocab) - (port) * PF_PORT_SHARE(vocab) : 0)
#define PF_PORT_ROWS(vocab, port) \
	((uint64_t)(PF_PORT_LEFT(vocab, port) < PF_PORT_SHARE(vocab) ? PF_PORT_LEFT(vocab, port) \
	                                                             : PF_PORT_SHARE(vocab)))
#define PF_TILES(vocab) ((PF_PORT_SHARE(vocab) + PF_TILE_ROWS - 1) / PF_TILE_ROWS)
/* Beats of the raw logits of `rows` tokens */
#define PF_RAW_BEATS(rows, vocab) \
	(((uint64_t)(rows) + PF_TOKENS - 1) / PF_TOKENS * PF_TILES(vocab) * (PF_TOKENS * PF_TOKENS / 16))
/* Beats of a row of MXINT8 whose elements take `depth`: the exponents of two blocks a beat lie behind them */
#define PF_MX_BLOCK 32u
#define PF_MX_BEATS(depth) ((depth) + ((depth) + 31) / 32)
/* `count` elements in a mode with bit PF_LINEAR_<bit>, else none; the other way round */
#define PF_WITH(bit, mode, count) ((mode) & PF_LINEAR_##bit ? (uint64_t)(count) : 0)
#define PF_WITHOUT(bit, mode, count) ((mode) & PF_LINEAR_##bit ? 0 : (uint64_t)(count))
/* What the filter of linear_grad left out of one token; 0 for tokens that do not count */
struct pf_filtered {
	uint64_t mass_q40;             /* sum of |p - onehot| over what was left out, each cut to 2^-40 */
	uint32_t words;                /* words left out */
	uint32_t saved;                /* of them those whose products were not formed: how many is up to the backend */
};

/* ---- one sequence of a chunk ---- */
struct pf_span {                       /* tokens [begin, end) of the chunk; [split, end) is the tail (LD-DPO),
	                                * split = end: none */
	uint32_t begin, end, split, reserved;
};
struct pf_seq {                        /* sums over the span; integers, so partial sums of chunks just add. Bad rows add
	                                * status and n only; a statistic that is not finite adds nothing */
	int64_t  logp;                 /* Q31.32 over all tokens */
	int64_t  logp_tail;            /* Q31.32 over [split, end) */
	int64_t  entropy;              /* Q31.32 */
	int64_t  log_weight;           /* Q31.32 of logp - log_sum_p2 (WPO) */
	int64_t  mean_logit;           /* Q31.32 */
	uint32_t n;                    /* scored tokens (ignored ones do not count) */
	uint32_t hits;                 /* rows whose target has the largest logit (ties count) */
	uint32_t status;               /* OR of the rows' status without PF_ROW_IGNORED */
	uint32_t reserved[3];
};

/* ---- preference items: the table pref reads ---- */
enum pf_item_kind {
	PF_ITEM_CHOSEN   = 1,          /* chosen of a pair, desirable sample */
	PF_ITEM_REJECTED = 2,          /* rejected of a pair, undesirable sample */
	PF_ITEM_EXTRA    = 4,          /* third member of a triple: SFT target, sample of the reference */
	PF_ITEM_PROMPT   = 8,          /* prompt of the chosen side: none of the above is what programs see of it */
};
struct pf_item {
	int64_t  policy;               /* sum of logp, Q31.32 */
	int64_t  reference;            /* the same under the reference policy; 0 when there is none */
	int64_t  old;                  /* under the policy that sampled it (PPO family) */
	uint32_t n;                    /* scored tokens */
	uint32_t kind;                 /* enum pf_item_kind */
	float    score, margin, weight, advantage;
	uint32_t status;               /* from pf_seq; with any PF_ROW_BAD bit the whole group is invalid */
	uint32_t reserved[3];
};
struct pf_item_out {
	double   loss;                 /* of the item's group (broadcast) or of the item, as the program says, weights
	                                * applied, before the division by PF_PAR_DIVISOR; NaN if invalid */
	double   grad;                 /* G = d(total loss) / d(sum of logp), divisor and weights applied; 0: invalid */
	uint32_t status;               /* enum pf_item_status */
	uint32_t group;                /* index of the item's group */
	uint64_t reserved;
};
enum pf_item_status {
	PF_ITEM_BAD_ROW   = 1,         /* a member's row statistics are not finite */
	PF_ITEM_NO_TOKENS = 2,         /* a member has n = 0 */
	PF_ITEM_NOT_FINITE = 4,        /* the program gave a member a loss or gradient that is not finite */
	PF_ITEM_BAD_PROGRAM = 8,       /* program or group table malformed: nothing was computed, for any item */
};

/* ---- programs: what a loss is (docs: losses.def) ----
 * A program is a sequence of 32-bit words, opcode in the low 8 bits, operand above. It runs on a stack whose slots
 * are vectors over the items of the launch (doubles, one lane per item): an ordinary operation works lane by lane, a
 * g-operation reduces over the lane's group and hands every member the result, a b-operation looks at all items of the
 * launch. What lies between loop and next runs once for every position of the launch's largest group (at least once),
 * leaves the stack as deep as it was, and holds no further loop. It ends with one slot on the stack.
 *   O(symbol, mnemonic, operands taken, results left, takes an immediate, what it leaves) */
#define PF_OPS(O) \
	O(END,      "end",      0, 0, 0, "ends the program") \
	O(CONST,    "const",    0, 1, 1, "par[PF_PAR_CONST + operand]") \
	O(PAR,      "par",      0, 1, 1, "hyper-parameter number operand of the component") \
	O(SCALAR,   "scalar",   0, 1, 1, "batch scalar number operand") \
	O(L,        "l",        0, 1, 0, "policy logp of the item") \
	O(R,        "r",        0, 1, 0, "reference logp of the item") \
	O(OLD,      "old",      0, 1, 0, "logp under the sampling policy") \
	O(U,        "u",        0, 1, 0, "policy - reference, formed in integers") \
	O(N,        "n",        0, 1, 0, "scored tokens") \
	O(SIGN,     "sign",     0, 1, 0, "+1 chosen, -1 rejected, 0 extra") \
	O(IS,       "is",       0, 1, 1, "1 if kind & operand, else 0") \
	O(SCORE,    "score",    0, 1, 0, "score of the item") \
	O(MARGIN,   "margin",   0, 1, 0, "margin of the item") \
	O(WEIGHT,   "weight",   0, 1, 0, "weight of the item") \
	O(ADV,      "adv",      0, 1, 0, "advantage of the item") \
	O(DUP,      "dup",      1, 2, 0, "a -> a a") \
	O(DROP,     "drop",     1, 0, 0, "a -> ") \
	O(SWAP,     "swap",     2, 2, 0, "a b -> b a") \
	O(OVER,     "over",     2, 3, 0, "a b -> a b a") \
	O(STORE,    "store",    1, 0, 1, "a -> ; register operand = a") \
	O(LOAD,     "load",     0, 1, 1, "register operand") \
	O(ADD,      "+",        2, 1, 0, "a + b") \
	O(SUB,      "-",        2, 1, 0, "a - b") \
	O(MUL,      "*",        2, 1, 0, "a * b") \
	O(DIV,      "/",        2, 1, 0, "a / b") \
	O(MIN,      "min",      2, 1, 0, "smaller of a, b") \
	O(MAX,      "max",      2, 1, 0, "larger of a, b") \
	O(LT,       "<",        2, 1, 0, "1 if a < b, else 0") \
	O(LE,       "<=",       2, 1, 0, "1 if a <= b, else 0") \
	O(EQ,       "==",       2, 1, 0, "1 if a == b, else 0") \
	O(SELECT,   "select",   3, 1, 0, "c a b -> a if c != 0, else b") \
	O(NEG,      "neg",      1, 1, 0, "-a") \
	O(ABS,      "abs",      1, 1, 0, "|a|") \
	O(EXP,      "exp",      1, 1, 0, "e^a") \
	O(LOG,      "log",      1, 1, 0, "log a") \
	O(LOG1P,    "log1p",    1, 1, 0, "log(1 + a)") \
	O(EXPM1,    "expm1",    1, 1, 0, "e^a - 1") \
	O(SIGMOID,  "sigmoid",  1, 1, 0, "1 / (1 + e^-a)") \
	O(SOFTPLUS, "softplus", 1, 1, 0, "log(1 + e^a)") \
	O(LOG1MEXP, "log1mexp", 1, 1, 0, "log(1 - e^a), a < 0") \
	O(GSUM,     "gsum",     1, 1, 0, "sum over the group") \
	O(GMEAN,    "gmean",    1, 1, 0, "mean over the group") \
	O(GMAX,     "gmax",     1, 1, 0, "maximum of the group") \
	O(GLSE,     "glse",     1, 1, 0, "log sum exp over the group") \
	O(GVAR,     "gvar",     1, 1, 0, "unbiased variance of the group; 0 for one item") \
	O(GRANK,    "grank",    1, 1, 0, "rank in the group, 0 = largest; ties by index") \
	O(GCOUNT,   "gcount",   0, 1, 0, "items of the group") \
	O(BSUM,     "bsum",     1, 1, 0, "sum over all items") \
	O(BRANK,    "brank",    1, 1, 0, "rank among all items, 0 = largest; ties by index") \
	O(BPUT,     "bput",     2, 1, 0, "a i -> a at item floor(i), the last of several; 0 where none is") \
	O(BGET,     "bget",     2, 1, 0, "a i -> a of item floor(i); 0 if there is none") \
	O(LOOP,     "loop",     0, 0, 0, "begins a loop over the positions of the largest group") \
	O(NEXT,     "next",     0, 0, 0, "ends it")
enum pf_op {
#define PF_OP_ENUM(symbol, mnemonic, takes, leaves, imm, text) PF_OP_##symbol,
	PF_OPS(PF_OP_ENUM)
#undef PF_OP_ENUM
	PF_OP_COUNT
};
#define PF_WORD(op, operand) ((uint32_t)(op) | (uint32_t)(operand) << 8)

#define PF_STACK_MAX     8u            /* slots */
#define PF_REGISTERS     8u            /* store/load */
#define PF_COMPONENTS    4u            /* weighted losses in one launch */
#define PF_PARAMS        8u            /* hyper-parameters of a component */
#define PF_CONSTS        32u           /* constants of the launch */
#define PF_PROG_MAX      1024u         /* words of prog[], header included */

/* par[]: doubles */
enum pf_par {
	PF_PAR_DIVISOR   = 0,          /* of the mean over pairs, samples or groups of the whole step */
	PF_PAR_Z0        = 1,          /* KTO reference point */
	PF_PAR_DELTA     = 2,          /* BCO running mean */
	PF_PAR_TOKENS    = 3,          /* scored tokens of the whole step (SFT) */
	PF_PAR_PROMPT    = 4,          /* tokens of its prompts that are scored too */
	PF_PAR_SCALARS   = 8,          /* batch scalars before this index */
	PF_PAR_COMPONENT = 8,          /* component c: [8 + 16c] weight, [9 + 16c ...] its PF_PARAMS parameters */
	PF_PAR_STRIDE    = 16,
	PF_PAR_CONST     = PF_PAR_COMPONENT + 16 * 4,
	PF_PAR_COUNT     = PF_PAR_CONST + 32
};
/* prog[]: words [0] number of components; [4 + 4c] start of the value program, [5 + 4c] start of the gradient program,
 * [6 + 4c] 1 if the loss is per item, 0 if per group; then code. Starts count from prog[0] */
#define PF_PROG_COMPONENT 4u
#define PF_PROG_CODE      (PF_PROG_COMPONENT + 4u * PF_COMPONENTS)

_Static_assert(sizeof(struct pf_beat_f32) == PF_BEAT_BYTES && sizeof(struct pf_beat_bf16) == PF_BEAT_BYTES &&
               sizeof(struct pf_beat_mxint8) == PF_BEAT_BYTES, "beat");
_Static_assert(sizeof(struct pf_row) == 64, "row");
_Static_assert(sizeof(struct pf_shard) == 128, "shard");
_Static_assert(sizeof(struct pf_filtered) == 16, "filtered");
_Static_assert(sizeof(struct pf_span) == 16, "span");
_Static_assert(sizeof(struct pf_seq) == 64, "seq");
_Static_assert(sizeof(struct pf_item) == 64, "item");
_Static_assert(sizeof(struct pf_item_out) == 32, "item_out");
_Static_assert((int)PF_PAR_CONST == (int)PF_PAR_COMPONENT + (int)PF_PAR_STRIDE * (int)PF_COMPONENTS, "par");
_Static_assert((int)PF_PAR_COUNT == (int)PF_PAR_CONST + (int)PF_CONSTS, "par");
_Static_assert((int)PF_OP_COUNT <= 256, "opcode byte");
#endif
