/* fused_inside.h: the inside of struct pf_fused: fused.c has the phases, fused_memory.c what lies on the device. */
#ifndef PF_TRAIN_FUSED_INSIDE_H
#define PF_TRAIN_FUSED_INSIDE_H
#include "fused.h"
#include "prefpga/internal/kernels.h"

enum { SETS = 2, PORTS = PF_WEIGHT_PORTS, PIECE = 1024, PIECES_MOST = 64, SMALL_BYTES = 4096, LANE = 16 };

/* A buffer that grows, and the padded copy of what goes through it, where the layout differs */
struct place { struct pf_buf *buf; uint64_t bytes; float *host; };

/* One W on the device */
struct set {
	const float   *weight;
	uint64_t       version, used;  /* used: of the clock, 0: empty */
	struct pf_buf *port[PORTS];
	struct place   bias;
};

/* What wait has still to do for a gradient that came back through staging */
struct sums { float *dweight, *dbias; };

struct pf_fused {
	struct pf_fused_options options;
	uint32_t      pitch;           /* D in whole beats, elements */
	int           visible;
	struct set    set[SETS], *now; /* now: of the last forward */
	uint64_t      clock, peak, held;
	struct place  hidden, dhidden, target, coef, row, span, seq, raw, dport[PORTS], dbias;
	struct pf_buf *adopted[PORTS];
	float        *stage_w;         /* [PF_PORT_SHARE, pitch]: a port's part, padded or on its way back */
	struct pf_fused_tokens tokens;
	uint32_t      mode;            /* of the last forward */
	const char   *why;
	struct pf_seq *sum;
	struct pf_row *to_row;
	float        *dhidden_to;
	struct sums   sums;
	int           forward_pending;
	struct pf_ticket in[16], run[PIECES_MOST], out[4];
	unsigned      ins, runs, outs;
};

/* ---- fused_memory.c ---- */
void pf_fused_drop(struct pf_fused *f, struct place *place);
/* At least `bytes` for argument `arg` of `kernel`; the contents are lost when it grows. 0 bytes: a buffer all the
 * same */
int  pf_fused_grow(struct pf_fused *f, struct place *place, int kernel, unsigned arg, uint64_t bytes,
                   struct pf_error *error);
/* The same in the caller's array `host` where the device can work in it */
int  pf_fused_lay(struct pf_fused *f, struct place *place, int kernel, unsigned arg, void *host, uint64_t bytes,
                  struct pf_error *error);
/* Room in the host's memory for [rows, pitch], zeros */
int  pf_fused_grow_host(float **host, uint64_t rows, uint32_t pitch, struct pf_error *error);
/* One copy, waited for */
int  pf_fused_move(struct pf_buf *buf, void *host, uint64_t bytes, int in, struct pf_error *error);
/* Makes f->now the set of this W */
int  pf_fused_load(struct pf_fused *f, const struct pf_fused_weight *weight, struct pf_error *error);
/* Where dW and dbias go: the caller's memory, or buffers whose sums pf_fused_bring_dweight adds to the caller's */
int  pf_fused_open_dweight(struct pf_fused *f, float *dweight, struct pf_error *error);
int  pf_fused_bring_dweight(struct pf_fused *f, float *dweight, struct pf_error *error);
void pf_fused_free_weights(struct pf_fused *f);
/* Rows of `cols` into rows of `pitch` elements, and added back */
void pf_fused_widen(const float *from, uint32_t cols, float *to, uint32_t pitch, uint64_t rows);
void pf_fused_add_narrowed(const float *from, uint32_t pitch, float *to, uint32_t cols, uint64_t rows);
#endif
