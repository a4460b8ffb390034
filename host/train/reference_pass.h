/* reference_pass.h: the reference's log-probs before a run whose devices cannot compute them beside the policy.
 *
 * A card's image has the kernels of one purpose (vitis.def), so that a head in one precision and a reference in another
 * may need one image after the other. Where every device has the kernels of both there is nothing to do: the run
 * computes what its caches lack. Otherwise, if the caches lack something, the devices are opened for the reference
 * alone, the caches are filled, and the devices are opened again for the policy. What is computed is what the run would
 * have computed, sample by sample, so the result does not depend on it.
 *
 * One thread; nothing else may use the devices. */
#ifndef PF_TRAIN_REFERENCE_PASS_H
#define PF_TRAIN_REFERENCE_PASS_H
#include "trainer.h"

struct pf_reference_pass {
	const struct pf_run *run;      /* over the array `device`; its renewal, if any, over the same options */
	uint64_t policy, reference;    /* kernels to open devices for, for each of the two (pf_kernel_set) */
	int      backward;             /* 1: the policy is trained */
	int      moving;               /* 1: the reference follows the policy */
	struct pf_corpus *corpus;      /* PF_SPLIT_TRAIN of it, of which `steps` steps in the order of the training; or NULL */
	uint64_t seed, steps;
	int      shuffle;
	struct pf_held held;           /* all of it; corpus NULL: none */
	struct pf_device **device;     /* [run->devices], replaced in place */
	const char *const *spec;       /* [run->devices] what each is opened by */
	struct pf_device_options *options;     /* kernels: left as what the devices were opened for last */
	const char *command;           /* fills the caches where an image for it is at hand; for a note */
	void (*note)(void *context, const char *text);         /* may be NULL */
	void *context;
};

/* PF_E_UNSUPPORTED, and a note with `command`, when the devices cannot be opened with an image for the reference; also
 * when the run needs both at every step: per-token losses, KTO's z0, a moving reference, no cache. A device may be NULL
 * after an error */
int pf_reference_pass(const struct pf_reference_pass *pass, const struct pf_model *model, struct pf_error *error);
#endif
