/* offload.h: whether the head of a training step belongs on a card: what it would take and burn there, what it takes on
 * this host, what bounds it, and when that would change.
 *
 * The times are pf_cost's (train/cost.h), the doubts pf_cycles_range's, the joules pf_energy_play's: all modelled and
 * uncalibrated but for reports of the synthesis and the host's rate of products, which the caller has measured or
 * assumed. A verdict is only given where the whole interval of the modelled time lies on one side of the host's, and
 * an image of the kernels is expected to be placed on the card.
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
	PF_OFFLOAD_RESIDENT,  /* W and dW stay: its optimizer is on the card too, and its runs are in it, while host_s
	                       * is the products' alone; fp32 and one card only */
	PF_OFFLOAD_FROZEN,    /* W stays, dW is not wanted */
	PF_OFFLOAD_REFERENCE, /* forward only */
	PF_OFFLOAD_HEADS
};
const char *pf_offload_head_name(enum pf_offload_head head);

struct pf_offload_shape {
	uint32_t tokens, vocab, dim, layers;
	double body_weights;         /* of the decoder layers' matrices together */
	enum pf_precision precision; /* of the head's products on the card; the host's are fp32 */
};
/* 12 dim^2 a layer, as GPT-2 has it */
struct pf_offload_shape pf_offload_plain(uint32_t dim, uint32_t vocab, uint32_t layers, uint32_t tokens);
struct pf_offload_shape pf_offload_of(const struct pf_model_config *config, uint32_t tokens);

struct pf_offload_place {
	const char *card;
	uint32_t cards, units; /* units of the head's kernels on a card; 0: what its ports and its logic allow */
	double host_flops;     /* operations/s of products */
	const struct pf_reports *reports; /* of the kernels' synthesis, or NULL */
};

/* The image of vitis.def that a head needs: of those that have its kernels the smallest one */
enum { PF_OFFLOAD_UNITS = 64 };
struct pf_offload_image {
	const char *name;            /* NULL: none has them all */
	uint32_t by_ports, by_logic; /* units of the head's kernels that the card has ports for, and logic by estimate
	                              * up to PF_FULL_SHARE (PF_OFFLOAD_UNITS where nobody says what it has) */
	uint32_t units;              /* the fewer of these, at least 1, or what was asked for */
	double share;                /* of the card's scarcest resource with them; NAN: not known */
	const char *resource;
	int placed;                  /* 1: it is expected to be placed, as far as that is known */
};
/* units: asked for, or 0. An unknown card has no ports */
void pf_offload_find_image(const char *card, enum pf_precision precision, enum pf_offload_head head, uint32_t units,
                           struct pf_offload_image *image);

enum pf_offload_bound {
	PF_BOUND_LINK,   /* bytes over PCIe */
	PF_BOUND_ARRAY,  /* multiply-adds of the kernels: DSPs */
	PF_BOUND_PORT,   /* bytes through ports and banks of the card's memory */
	PF_BOUND_HOST,   /* products that the host does for the card */
	PF_BOUND_WAITING /* launches, set-ups of copies, one after the other */
};
const char *pf_offload_bound_name(enum pf_offload_bound bound);

/* UNPLACED: the time would say YES or OPEN, but no image with these kernels is expected to be placed */
enum pf_offload_verdict { PF_VERDICT_NO, PF_VERDICT_YES, PF_VERDICT_OPEN, PF_VERDICT_UNPLACED };

struct pf_offload {
	uint32_t units;
	struct pf_offload_image image;
	double logits_s;           /* with ready logits, which the host multiplies */
	enum pf_cost_way way;      /* the best on the card */
	struct pf_cost_plan plan;  /* of that way */
	struct pf_interval head_s; /* the head on the card */
	struct pf_energy_modelled energy;
	double reported;           /* part of the kernels' cycles that reports calibrate, 0 to 1 */
	struct pf_cycles_doubt doubt[10]; /* of head_s.value, by figure of the card */
	unsigned doubts;
	double host_s;     /* the head on the host: its operations over the host's rate */
	double body_s;     /* the decoder layers, forward and backward, at that rate: at least so much */
	double operations; /* of the head */
	struct pf_interval joule_mac; /* of the kernels' operators for a multiply-add of the head, modelled */
	enum pf_offload_bound bound;
	double busy[PF_BOUND_WAITING]; /* s in which each was under way; of ARRAY and PORT those of all runs, without launches */
	enum pf_offload_verdict verdict;
	/* the host's operations/s below which the card is faster, and how many times faster its kernels would have to
	 * be if nothing else changed, to equal this host; infinite: the rest alone takes longer */
	double host_flops_equal, kernels_faster;
};

/* PF_E_UNKNOWN for a card without figures, names the nearest; PF_E_MEMORY when nothing fits it; PF_E_UNSUPPORTED for a
 * resident head that is not fp32, or on several cards */
int pf_offload_ask(const struct pf_offload_place *place, const struct pf_offload_shape *shape,
                   enum pf_offload_head head, struct pf_offload *answer, struct pf_error *error);
/* The fewest tokens of 64, 128, ... 2^20 at which the card's head is faster than the host's; 0: at none that fit. From
 * there to *most it is: with more of them logits may have to be formed twice, for want of memory */
uint32_t pf_offload_tokens(const struct pf_offload_place *place, const struct pf_offload_shape *shape,
                           enum pf_offload_head head, uint32_t *most);

/* What others have measured on other machines (gpu_anchors.def) */
struct pf_gpu_anchor {
	const char *gpu, *what, *type, *source;
	uint32_t tokens, vocab, dim;
	double seconds, flops; /* as printed there */
};
const struct pf_gpu_anchor *pf_gpu_anchor(unsigned i); /* NULL past the last */
#endif
