/* setup.h: from options to what training, evaluation and generation work on: devices, model, data, loss. */
#ifndef PF_CLI_SETUP_H
#define PF_CLI_SETUP_H
#include "cli.h"
#include "host/corpus/corpus.h"
#include "host/model/model.h"
#include "host/train/trainer.h"

enum { PF_SETUP_DEVICES = 8 };

struct pf_setup {
	struct pf_trace    *trace;     /* --trace; NULL without */
	struct pf_device   *device[PF_SETUP_DEVICES];
	char               *specs;     /* --device, cut into spec[] */
	const char         *spec[PF_SETUP_DEVICES];
	unsigned            devices;
	struct pf_device_options device_options;
	struct pf_renewal   renewal;   /* what --on-fault asks for */
	const struct pf_tokenizer *tokenizer;
	struct pf_model    *model, *reference;
	int                 uniform;   /* every completion counts as equally likely under the reference */
	struct pf_loss      loss;
	uint32_t            max_length;        /* --max-length, or what the model can take if that is less and was not asked for */
	struct pf_corpus   *corpus, *eval_corpus;
	struct pf_held      held;      /* corpus NULL: nothing to evaluate on */
};

/* Each step of opening; all free through pf_setup_close, but the trace */
/* --trace: before the devices, which report to it */
int  pf_setup_trace(struct pf_setup *setup, const struct pf_options *options, struct pf_error *error);
int  pf_setup_devices(struct pf_setup *setup, const struct pf_options *options, struct pf_error *error);
/* The tokenizer of --model, or without it --tokenizer; pf_setup_model does it if it was not done */
int  pf_setup_tokenizer(struct pf_setup *setup, const struct pf_options *options, struct pf_error *error);
/* The same without the model coming after it: bytes only where config.json beside is of a model of bytes */
int  pf_setup_tokenizer_alone(struct pf_setup *setup, const struct pf_options *options, struct pf_error *error);
/* --model, or with `fresh` a new one when the option is not given */
int  pf_setup_model(struct pf_setup *setup, const struct pf_options *options, int fresh, struct pf_error *error);
/* --reference: its folder, or the model as it is now; nothing for `none` or if the loss does not look at one */
int  pf_setup_reference(struct pf_setup *setup, const struct pf_options *options, struct pf_error *error);
/* --data and --eval-data in the form that the loss wants; counts go to stderr */
int  pf_setup_data(struct pf_setup *setup, const struct pf_options *options, struct pf_error *error);
/* How --data is read, but for split and progress */
struct pf_corpus_options pf_setup_reading(const struct pf_setup *setup, const struct pf_options *options,
                                          enum pf_record_form want);
/* --head, `auto` resolved: "fused" where every device's image has the fused kernels that the verb runs, else
 * "logits" */
const char *pf_setup_head(const struct pf_setup *setup, const struct pf_options *options);
/* Kernels (pf_kernel_set) that the policy of the verb needs, that the reference needs; auto counts as fused */
uint64_t pf_setup_kernels(const struct pf_options *options);
uint64_t pf_setup_reference_kernels(const struct pf_options *options);
/* What training and evaluation share, from all of the above */
enum pf_way pf_setup_way(const struct pf_options *options);      /* of --way */
enum pf_precision pf_setup_precision(const struct pf_options *options);        /* of --head-precision */
enum pf_precision pf_setup_reference_precision(const struct pf_options *options);
/* Whether these precisions can be had with --head */
int pf_setup_check_precision(const struct pf_setup *setup, const struct pf_options *options, struct pf_error *error);
/* pf_cli_note, as the library calls it; options: struct pf_options */
void pf_setup_note(void *options, const char *text);
/* Before training or evaluating: where no image has the kernels of policy and reference, the reference's log-probs go
 * into the cache first (reference_pass.h). steps: of the training, 0 for eval */
int pf_setup_reference_pass(struct pf_setup *setup, const struct pf_options *options, const struct pf_run *run,
                            uint64_t steps, void (*note)(void *context, const char *text), void *context,
                            struct pf_error *error);
struct pf_run pf_setup_run(const struct pf_setup *setup, const struct pf_options *options);
void pf_setup_close(struct pf_setup *setup);

/* Ctrl-C and SIGTERM set a flag, which the caller polls; a second one ends the program at once */
const volatile sig_atomic_t *pf_setup_stop(void);
/* PF_EXIT_FAILED after saying why; 130 for an interruption */
int  pf_setup_exit(const struct pf_options *options, const struct pf_error *error);
#endif
