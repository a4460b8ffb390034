/* offload.h: whether the head of a training step belongs on a card: what it would take and burn there, what it takes on
 * this host, what bounds it, and when that would change.
 *
 * The times are pf_cost's (train/cost.h), the doubts pf_cycles_range's, the joules pf_energy_play's: all modelled and
 * uncalibrated but for reports of the synthesis and the host's rate of products, which the caller has measured or
 * assumed. A verdict is only given where the whole interval of the modelled time lies on one side of the host's.
 *
 * Thread-safe: nothing here has state. */
#ifndef PF_REPORT_OFFLOAD_H
#define PF_REPORT_OFFLOAD_H
#include "../train/cost.h"
#include "prefpga/energy.h"
#include "prefpga/model.h"

/* What stays on the card from step to step, and what a step has to compute */
enum pf_offload_head {
	PF_OFFLOAD_TRAINED,   /* W goes in and dW comes out every step: the optimizer is the host's */
	PF_OFFLOAD_RESIDENT,  /* W and dW stay: an optimizer on the card, which no kernel is yet */
	PF_OFFLOAD_FROZEN,    /* W stays, dW is not wanted */
	PF_OFFLOAD_REFERENCE, /* forward only */
	PF_OFFLOAD_HEADS
};
const char *pf_offload_head_name(enum pf_offload_head head);

struct pf_offload_shape {
	uint32_t tokens, vocab, dim, layers;
	double body_weights; /* of the decoder layers' matrices together */
};
/* 12 dim^2 a layer, as GPT-2 has it */
struct pf_offload_shape pf_offload_plain(uint32_t dim, uint32_t vocab, uint32_t layers, uint32_t tokens);
struct pf_offload_shape pf_offload_of(const struct pf_model_config *config, uint32_t tokens);

struct pf_offload_place {
	const char *card;
	uint32_t cards, units; /* units of each kernel on a card; 0: what its ports and its DSPs allow */
	double host_flops;     /* operations/s of products */
	const struct pf_reports *reports; /* of the kernels' synthesis, or NULL */
};

/* Units of the fused head that a card's memory has ports for, beside seq_sum and pref; 0 for unknown cards */
uint32_t pf_offload_units(const char *card);

enum pf_offload_bound {
	PF_BOUND_LINK,   /* bytes over PCIe */
	PF_BOUND_ARRAY,  /* multiply-adds of the kernels: DSPs */
	PF_BOUND_PORT,   /* bytes through ports and banks of the card's memory */
	PF_BOUND_HOST,   /* products that the host does for the card */
	PF_BOUND_WAITING /* launches, set-ups of copies, one after the other */
};
const char *pf_offload_bound_name(enum pf_offload_bound bound);

enum pf_offload_verdict { PF_VERDICT_NO, PF_VERDICT_YES, PF_VERDICT_OPEN };

struct pf_offload {
	uint32_t units;
	double logits_s;           /* with ready logits, which the host multiplies */
	enum pf_cost_way way;      /* the best on the card */
	struct pf_cost_plan plan;  /* of that way */
	struct pf_interval head_s; /* the head on the card */
	struct pf_energy_modelled energy;
	struct pf_cycles_doubt doubt[10]; /* of head_s.value, by figure of the card */
	unsigned doubts;
	double host_s;     /* the head on the host: its operations over the host's rate */
	double body_s;     /* the decoder layers, forward and backward, at that rate: at least so much */
	double operations; /* of the head */
	enum pf_offload_bound bound;
	double busy[PF_BOUND_WAITING]; /* s in which each was under way; of ARRAY and PORT those of all runs */
	enum pf_offload_verdict verdict;
	/* the host's operations/s below which the card is faster, and how many times faster its kernels would have to
	 * be if nothing else changed, to equal this host; infinite: the rest alone takes longer */
	double host_flops_equal, kernels_faster;
};

/* PF_E_UNKNOWN for a card without figures, names the nearest; PF_E_MEMORY when nothing fits it */
int pf_offload_ask(const struct pf_offload_place *place, const struct pf_offload_shape *shape,
                   enum pf_offload_head head, struct pf_offload *answer, struct pf_error *error);
/* The fewest tokens of 64, 128, ... 2^20 at which the card's head is faster than the host's; 0: at none that fit */
uint32_t pf_offload_tokens(const struct pf_offload_place *place, const struct pf_offload_shape *shape,
                           enum pf_offload_head head);

/* What others have measured on other machines (gpu_anchors.def) */
struct pf_gpu_anchor {
	const char *gpu, *what, *type, *source;
	uint32_t tokens, vocab, dim;
	double seconds, flops; /* as printed there */
};
const struct pf_gpu_anchor *pf_gpu_anchor(unsigned i); /* NULL past the last */
#endif
