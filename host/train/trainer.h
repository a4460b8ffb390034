/* trainer.h: optimizer steps over a dataset, with evaluation, log, checkpoints and exact resumption; evaluation alone.
 *
 * The same loop serves supervised fine-tuning (loss `sft` over single completions) and preference training. One thread
 * calls; the host's numerics and the devices have their own. Everything pointed to stays the caller's. */
#ifndef PF_TRAIN_TRAINER_H
#define PF_TRAIN_TRAINER_H
#include <signal.h>
#include "adamw.h"
#include "checkpoint.h"
#include "renew.h"
#include "energy.h"
#include "schedule.h"
#include "step.h"
#include "alarm.h"

/* Samples to evaluate on */
struct pf_held { struct pf_corpus *corpus; enum pf_split split; };

/* Where the optimizer's state of the head lives. On the device it stays across steps and is brought back to be saved;
 * what it has beyond the last checkpoint is lost with the device. AUTO: on the device where that is possible and a
 * failed device ends the run anyway, else on the host */
enum pf_head_optimizer { PF_HEAD_OPTIMIZER_HOST, PF_HEAD_OPTIMIZER_DEVICE, PF_HEAD_OPTIMIZER_AUTO };

/* What training and evaluation share */
struct pf_run {
	struct pf_device *const *device;
	unsigned devices;
	uint64_t memory_bytes;         /* of each device; 0: half of it */
	uint32_t max_length;           /* of a sequence, as the corpora were cut */
	uint32_t chunk_tokens;         /* of a chunk; 0: 8192. A larger group still makes a chunk */
	uint32_t batch, accumulate;
	unsigned threads;              /* 0: all processors */
	int      logits;               /* 1: logits cross the link; 0: the fused head */
	enum pf_way way;               /* of the fused head, as the next ones (head.h) */
	enum pf_precision precision, reference_precision;
	float    filter;
	unsigned shards;
	const struct pf_loss  *loss;
	enum pf_advantages advantages;
	int      micro;                /* 1: losses that look beyond a group see each batch of a step alone */
	const struct pf_model *reference;      /* NULL: none; needed if the loss looks at it, unless */
	int      uniform;              /* 1: every completion is equally likely under the reference (log-ratio = logp) */
	const char *cache;             /* folder of reference caches; NULL: none kept */
	struct pf_trace *trace;        /* gets the phases; may be NULL */
	struct pf_renewal *renewal;    /* how failed devices are replaced, over the same array as `device`; NULL: not */
	const volatile sig_atomic_t *stop;     /* becomes non-zero: finish the step, save, return PF_E_INTERRUPTED. May be NULL */
};

/* Seconds of wall time; body and head include those of evaluations */
struct pf_times { double data, body, head, optimizer, evaluation, saving; };

/* One step of training, as logged */
struct pf_step_report {
	uint64_t step, steps, epoch;
	const struct pf_tally *tally;
	const struct pf_tally *held;   /* evaluation after this step, or NULL */
	double grad_norm, lr, seconds; /* of this step */
	uint64_t card_beats, card_bytes;       /* counted in this step, all devices */
};

struct pf_training {
	struct pf_run        run;
	struct pf_corpus    *corpus;   /* PF_SPLIT_TRAIN of it */
	struct pf_held       held;     /* corpus NULL: no evaluation */
	uint64_t             seed, steps;
	int                  shuffle;
	struct pf_adamw_options adamw;
	enum pf_head_optimizer head_optimizer;
	struct pf_schedule   schedule; /* steps of it are those of the training */
	struct pf_model     *synced;   /* run.reference, if it is to follow the policy (TR-DPO); NULL: frozen */
	double               mixup;    /* then, every sync_every steps: reference = mixup policy + (1 - mixup) reference */
	uint64_t             sync_every;
	struct pf_alarm_options alarm;
	const struct pf_tokenizer *tokenizer;  /* its files are saved with the model; NULL: none */
	const char          *out;      /* folder; NULL: nothing is saved */
	const char          *log;      /* metrics; NULL: metrics.jsonl in out, or none */
	struct pf_model_save_options save;     /* of the trained model in `out`; checkpoints hold F32 */
	uint64_t             save_every, eval_every;   /* 0: at the end only */
	int                  resume, exact;
	struct pf_meters    *meters;   /* energy is logged per window of steps; NULL: not measured */
	const struct pf_fact *fact;    /* what else the run depends on */
	size_t               facts;
	void (*report)(void *context, const struct pf_step_report *report);     /* after each step; may be NULL */
	void (*evaluating)(void *context, uint64_t done, uint64_t total);       /* while it evaluates; may be NULL */
	void (*note)(void *context, const char *text);  /* something a person should know; may be NULL */
	void *context;
};

struct pf_training_result {
	uint64_t first, steps;         /* steps done before this call, and in all */
	struct pf_tally held;          /* last evaluation; zeros if there was none */
	int      stopped;              /* 1: ended early, as the watch was told to */
	double   step0_check;          /* largest |logp policy - reference| of a token before step 1; NaN: not looked at */
	struct pf_times times;
};

/* Trains `model` in place. PF_E_INTERRUPTED after a stop, with everything saved */
int pf_train(const struct pf_training *training, struct pf_model *model, struct pf_training_result *result,
             struct pf_error *error);
/* Evaluates over all samples of `held`, in order; tally->loss is the mean over groups. progress(context, done, total)
 * in batches; may be NULL */
int pf_evaluate(const struct pf_run *run, const struct pf_model *model, const struct pf_held *held,
                void (*progress)(void *context, uint64_t done, uint64_t total), void *context, struct pf_tally *tally,
                struct pf_error *error);
#endif
