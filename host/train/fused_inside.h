/* fused_inside.h: the inside of struct pf_fused: fused.c opens and waits, fused_forward.c and fused_backward.c have the
 * phases, fused_memory.c what lies on the device. */
#ifndef PF_TRAIN_FUSED_INSIDE_H
#define PF_TRAIN_FUSED_INSIDE_H
#include "fused.h"
#include "prefpga/internal/kernels.h"

enum { SETS = 3, PORTS = PF_WEIGHT_PORTS, PIECES_MOST = 64, SMALL_BYTES = 4096 };

/* A buffer that grows, and the padded copy of what goes through it, where the layout differs */
struct place { struct pf_buf *buf; uint64_t bytes, host_bytes; void *host; };

/* One W on the device */
struct set {
	const float   *weight;
	enum pf_precision precision;
	uint64_t       version, used;  /* used: of the clock, 0: empty */
	int            adopted;        /* the ports are the caller's memory */
	struct pf_buf *port[PORTS];
	struct place   bias;
};

/* What wait has still to do for a gradient that came back through staging */
struct sums { float *dweight, *dbias; };

struct pf_fused {
	struct pf_fused_options options;
	enum pf_precision precision, back;     /* of the last forward, of its way back */
	int           host_visible, visible;   /* visible: of the last forward, W, hidden and dhidden in place */
	int           dweight_visible;
	struct set    set[SETS], *now; /* now: of the last run */
	struct pf_fused_weight weight; /* of the last forward */
	uint64_t      clock, peak, held;
	struct place  hidden, hidden_back, dhidden, target, coef, row, span, seq, raw, dport[PORTS], dbias;
	struct place  state, filtered, range_target, range_state;
	struct pf_buf *adopted[PORTS];
	struct place  stage_w;         /* .host of .bytes: a port's part, in another form or on its way back */
	struct pf_fused_tokens tokens;
	uint32_t      mode;            /* of the last forward, as the next two: fused_cut.c */
	uint32_t      each;            /* tokens of a strip, whole blocks */
	unsigned      ranges;          /* of the vocabulary, for each strip */
	const char   *why;
	struct pf_seq *sum;
	struct pf_row *to_row;
	struct pf_shard *to_state;     /* the last forward was a range's */
	struct pf_filtered *left_out;  /* [left_out_room], of the last backward */
	uint32_t      left_out_room;
	float        *dhidden_to;
	struct sums   sums;
	int           forward_pending, filter_pending, merge_pending;
	struct set   *kept;            /* whose optimizer's state is here too; NULL: the host's */
	struct place  moment1[PORTS], moment2[PORTS], square;
	int           summed;          /* dport holds sums of this step */
	struct pf_ticket in[16], run[PIECES_MOST], out[4];
	unsigned      ins, runs, outs;
};

/* Whether a way back may follow the last forward */
static inline int pf_fused_may_return(const struct pf_fused *f)
{
	return f->options.backward && !f->tokens.forward_only;
}

/* ---- fused.c ---- */
int  pf_fused_check_kernels(const struct pf_fused_options *options, enum pf_precision precision, int backward,
                            struct pf_error *error);
/* What follows from the precision of the next forward */
void pf_fused_set_precision(struct pf_fused *f, enum pf_precision precision);
/* Waits for all operations of a phase; the first failure is the one that is told */
int  pf_fused_settle(struct pf_fused *f, struct pf_error *error);
/* ---- fused_forward.c ---- */
void pf_fused_copy_in(struct pf_fused *f, struct pf_buf *buf, const void *from, uint64_t bytes);
struct pf_arg pf_fused_piece(struct pf_buf *buf, uint64_t offset);
/* Where the raw logits of a piece begin */
uint64_t pf_fused_raw_at(const struct pf_fused *f, uint32_t first);
/* Scalars that both kernels have, rows .. temperature, from arg[0] on */
void pf_fused_put_scalars(const struct pf_fused *f, enum pf_precision precision, uint32_t rows, uint32_t mode,
                          struct pf_arg *arg);
/* The tokens' hidden states into `place`, in a precision */
int  pf_fused_send_hidden(struct pf_fused *f, enum pf_precision precision, struct place *place, struct pf_error *error);
/* What comes behind all pieces of a forward: sums over sequences, records */
int  pf_fused_finish_forward(struct pf_fused *f, struct pf_error *error);
/* ---- fused_cut.c ---- */
/* Strips and ranges of the tokens at hand */
void pf_fused_choose_cut(struct pf_fused *f);
/* An array of numbers of `size` bytes a token, as it lies on the device: strips that begin on pages. Bytes of a strip,
 * where the one that begins with token `first` lies, bytes of all */
uint64_t pf_fused_strip_bytes(const struct pf_fused *f, uint64_t size);
uint64_t pf_fused_strip_at(const struct pf_fused *f, uint32_t first, uint64_t size);
uint64_t pf_fused_strips_bytes(const struct pf_fused *f, uint64_t size);
/* from[T] of 4 bytes into such an array; what the filter left out, out of one */
int  pf_fused_send_numbers(struct pf_fused *f, struct place *place, const void *from, struct pf_error *error);
int  pf_fused_bring_filtered(struct pf_fused *f, struct pf_error *error);
/* Rows [from, to) of every port, and how many words that are */
struct range { uint32_t from, to, words; };
struct range pf_fused_range(const struct pf_fused *f, unsigned number);
int  pf_fused_send_range_targets(struct pf_fused *f, struct pf_error *error);
/* The ranges' states, which have been computed, to f->row, in the host's memory too */
int  pf_fused_merge_ranges(struct pf_fused *f, struct pf_error *error);
/* ---- fused_backward.c ---- */
int  pf_fused_bring_dhidden(struct pf_fused *f, float *to, struct pf_error *error);
/* ---- fused_memory.c ---- */
void pf_fused_drop(struct pf_fused *f, struct place *place);
/* At least `bytes` for argument `arg` of `kernel`; the contents are lost when it grows. 0 bytes: a buffer all the
 * same */
int  pf_fused_grow(struct pf_fused *f, struct place *place, int kernel, unsigned arg, uint64_t bytes,
                   struct pf_error *error);
/* The same in the caller's array `host` where the device can work in it */
int  pf_fused_lay(struct pf_fused *f, struct place *place, int kernel, unsigned arg, void *host, uint64_t bytes,
                  struct pf_error *error);
/* Room in the host's memory, zeros where it is new */
int  pf_fused_grow_host(struct place *place, uint64_t bytes, struct pf_error *error);
/* One copy, waited for */
int  pf_fused_move(struct pf_buf *buf, void *host, uint64_t bytes, int in, struct pf_error *error);
/* Makes f->now the set of this W in a precision */
int  pf_fused_load(struct pf_fused *f, const struct pf_fused_weight *weight, enum pf_precision precision,
                   struct pf_error *error);
/* Where dW and dbias go: the caller's memory, or buffers whose sums pf_fused_bring_dweight adds to the caller's */
int  pf_fused_open_dweight(struct pf_fused *f, float *dweight, struct pf_error *error);
int  pf_fused_bring_dweight(struct pf_fused *f, float *dweight, struct pf_error *error);
void pf_fused_free_weights(struct pf_fused *f);
/* Rows of `pitch` elements added to rows of `cols` */
void pf_fused_add_narrowed(const float *from, uint32_t pitch, float *to, uint32_t cols, uint64_t rows);
#endif
