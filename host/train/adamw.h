/* adamw.h: AdamW with decoupled weight decay, bias correction, and clipping by the global norm.
 *
 * Source: Loshchilov and Hutter 2019, algorithm 2, with the learning rate also on the decay, as in PyTorch:
 *	p -= rate decay p;  m = b1 m + (1 - b1) g;  v = b2 v + (1 - b2) g^2
 *	p -= rate / (1 - b1^t) m / (sqrt(v / (1 - b2^t)) + epsilon)
 * Decay applies to matrices, not to norms and biases; frozen tensors stay. The norm is summed in double in an order
 * that depends on sizes only, so results do not depend on the number of threads. An optimizer belongs to one thread at
 * a time. */
#ifndef PF_TRAIN_ADAMW_H
#define PF_TRAIN_ADAMW_H
#include "../model/layout.h"

struct pf_adamw_options {
	double beta1, beta2; /* in [0, 1); usual: 0.9, 0.999 */
	double epsilon;      /* > 0; usual: 1e-8 */
	double decay;        /* >= 0; usual: 0 for preference training, 0.1 for pretraining */
	double clip;         /* largest global norm; 0: no clipping */
	unsigned threads;    /* 0: all processors */
};

/* The factors of one step, rounded once: the formula is kernels.def's, of head_adamw */
struct pf_adamw_factors { float beta1, beta2, rest1, rest2, grad, rate, root, epsilon, keep; };

struct pf_adamw {
	struct pf_adamw_options options;
	const struct pf_layout *layout;
	uint64_t step; /* updates made */
	float *m, *v;  /* [layout->size] */
	const struct pf_tensor *away;  /* updated elsewhere with the same factors: not here; or NULL */
	double *part;  /* scratch of the norm */
};

/* `layout` must outlive the optimizer. Frees with fini, also after a failure */
int pf_adamw_init(struct pf_adamw *adamw, const struct pf_layout *layout,
                  const struct pf_adamw_options *options, struct pf_error *error);
void pf_adamw_fini(struct pf_adamw *adamw);
/* sqrt of the sum of grad^2 */
double pf_adamw_norm(const struct pf_adamw *adamw, const float *grad);
/* One update with `rate`. grad is read with the factor min(1, clip / norm); *norm: before clipping,
 * may be NULL. PF_E_NOT_FINITE, with nothing changed, when the norm is not finite or, unclipped,
 * above 1e19 */
int pf_adamw_step(struct pf_adamw *adamw, double rate, float *param, const float *grad,
                  double *norm);

/* The same where `square` of the norm's square belongs to the tensor that is away, whose gradient is 0 here; *factors:
 * what its update takes, keep as decay has it */
int pf_adamw_step_with(struct pf_adamw *adamw, double rate, float *param, const float *grad, double square,
                       struct pf_adamw_factors *factors, double *norm);

/* The state as tensors adamw.m.<name>, adamw.v.<name> and note adamw.step: declare, then write in
 * the same order */
int pf_adamw_declare(const struct pf_adamw *adamw, struct pf_safetensors_writer *writer,
                     struct pf_error *error);
int pf_adamw_write(const struct pf_adamw *adamw, struct pf_safetensors_writer *writer,
                   struct pf_error *error);
int pf_adamw_read(struct pf_adamw *adamw, const struct pf_safetensors *file,
                  struct pf_error *error);
#endif
