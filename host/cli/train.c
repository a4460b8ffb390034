/* Verbs sft and train: the same loop; sft is the loss `sft` over single completions. */
#include <errno.h>
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "host/corpus/hash.h"
#include "host/model/parallel.h"
#include "host/report/metrics.h"
#include "host/train/seconds.h"
#include "prefpga/internal/abi.h"
#include "cost_note.h"
#include "meters.h"
#include "replay.h"
#include "setup.h"
#include "train_view.h"

enum { FACTS = 32 };

struct facts { struct pf_fact row[FACTS]; size_t count; };

PF_PRINTF(4, 5) static void add_fact(struct facts *f, const char *key, int bound, const char *format, ...)
{
	va_list arguments;
	struct pf_fact *fact = &f->row[f->count++];
	fact->key = key;
	fact->bound = bound;
	va_start(arguments, format);
	vsnprintf(fact->value, sizeof fact->value, format, arguments);
	va_end(arguments);
}

/* Hash of this program's file: another build may round differently */
static uint64_t program_hash(void)
{
	unsigned char block[1 << 16];
	uint64_t hash = PF_HASH_START;
	FILE *file = fopen("/proc/self/exe", "rb");
	for (size_t n; file && (n = fread(block, 1, sizeof block, file)) > 0;)
		hash = pf_hash_bytes(hash, block, n);
	if (file)
		fclose(file);
	return hash;
}

/* What the run depends on: bound facts make another run, the rest may change bits */
static void gather_facts(const struct pf_setup *s, const struct pf_options *o, uint64_t steps, struct facts *f)
{
	struct pf_blas_facts blas;
	pf_blas_facts(&blas);
	add_fact(f, "verb", 1, "%s", o->verb);
	add_fact(f, "data", 1, "%016llx", (unsigned long long)pf_corpus_hash(s->corpus, PF_SPLIT_TRAIN));
	add_fact(f, "seed", 1, "%lld", (long long)o->seed);
	add_fact(f, "order", 1, "%s", o->shuffle ? "shuffled" : "as in the file");
	add_fact(f, "batch", 1, "%lld", (long long)o->batch);
	add_fact(f, "accumulate", 1, "%lld", (long long)o->accumulate);
	add_fact(f, "loss", 0, "%s", strcmp(o->verb, "sft") == 0 ? o->sft_loss : o->loss);
	if (o->coupled)
		add_fact(f, "coupled", 0, "%s", o->coupled);
	add_fact(f, "steps", 0, "%llu", (unsigned long long)steps);
	add_fact(f, "learning rate", 0, "%.17g %s, warm-up %lld, %.17g", o->lr, o->schedule, (long long)o->warmup_steps,
	         o->warmup_ratio);
	add_fact(f, "AdamW", 0, "%.17g %.17g %.17g, decay %.17g, clip %.17g", o->beta1, o->beta2, o->eps,
	         o->weight_decay, o->max_grad_norm);
	add_fact(f, "weights", 1, "%s%s", o->weights, o->freeze_head ? ", head frozen" : "");
	if (s->model->lora)
		add_fact(f, "adapter", 1, "rank %u, alpha %.17g, %.120s", s->model->lora->rank, s->model->lora->alpha,
		         s->model->lora->modules);
	if (o->sync_ref_model)
		add_fact(f, "reference", 1, "follows by %.17g every %lld steps", o->ref_model_mixup_alpha,
		         (long long)o->ref_model_sync_steps);
	if (o->advantages)
		add_fact(f, "advantages", 0, "%s", o->advantages);
	if (o->reference && strcmp(o->reference, "uniform") == 0)
		add_fact(f, "reference log-probs", 0, "uniform");       /* of others the cache says whose they are */
	add_fact(f, "device", 0, "%s", o->device);
	add_fact(f, "head", 0, "%s, %s", pf_setup_head(s, o), o->way);
	add_fact(f, "precision of the head", 0, "%s, reference %s", o->head_precision,
	         pf_precision_name(pf_setup_reference_precision(o)));
	add_fact(f, "filter and shards of the head", 0, "%.17g, %lld", o->filter, (long long)o->shards);
	add_fact(f, "card memory", 0, "%lld", (long long)o->card_memory);       /* products of the head go by blocks */
	add_fact(f, "numerics version", 0, "%u", PF_NUMERICS);
	add_fact(f, "program", 0, "%016llx", (unsigned long long)program_hash());
	add_fact(f, "threads", 0, "%u", pf_threads((unsigned)o->threads));
	add_fact(f, "BLAS kernels", 0, "%s", blas.core);
	add_fact(f, "BLAS", 0, "%s", blas.version);
}

/* ---- afterwards ---- */

static double ratio(double a, uint64_t b)
{
	return b ? a / (double)b : NAN;
}

static json_t *number(double value)
{
	return isfinite(value) ? json_real(value) : json_null();
}

static void print_json(const struct pf_setup *s, const struct pf_options *o, const struct pf_training_result *r,
                       struct pf_meters *meters, double seconds)
{
	const struct pf_times *t = &r->times;
	json_t *json = json_pack("{s:s, s:I, s:I, s:o, s:f, s:{s:f, s:f, s:f, s:f, s:f, s:f}, s:s?}", "verb", o->verb,
	                         "steps", (json_int_t)r->steps, "first_step", (json_int_t)r->first, "step0_check",
	                         number(r->step0_check), "seconds", seconds, "times", "data", t->data, "body", t->body,
	                         "head", t->head, "optimizer", t->optimizer, "evaluation", t->evaluation, "saving",
	                         t->saving, "out", o->out);
	if (s->held.corpus && r->held.tokens) {
		json_object_set_new(json, "eval_loss", number(r->held.loss));
		json_object_set_new(json, "eval_accuracy", number(ratio((double)r->held.accurate, r->held.pairs)));
		json_object_set_new(json, "kl_reference", number(pf_tally_kl(&r->held)));
		json_object_set_new(json, "chosen_drift", number(pf_tally_chosen_drift(&r->held)));
		json_object_set_new(json, "length_bias", number(pf_tally_length_bias(&r->held)));
		json_object_set_new(json, "label_noise", number(pf_tally_label_noise(&r->held)));
		json_object_set_new(json, "longer_chosen", number(ratio((double)r->held.longer, r->held.pairs)));
		json_object_set_new(json, "eval_likelier", number(ratio((double)r->held.likelier, r->held.pairs)));
	}
	if (meters)
		json_object_set_new(json, "energy", pf_cli_energy_json(o, meters));
	json_t *modelled = pf_cli_replay_json(o, s);
	if (modelled)
		json_object_set_new(json, "modelled", modelled);
	json_dumpf(json, stdout, JSON_COMPACT | JSON_REAL_PRECISION(9));
	putchar('\n');
	json_decref(json);
}

/* What the held-out pairs say beside the loss: each figure only where there is one */
static void print_watch(const struct pf_tally *t)
{
	const double bias = pf_tally_length_bias(t), noise = pf_tally_label_noise(t);
	if (isfinite(pf_tally_kl(t)))
		printf("against the reference: KL about %.3g nats a sequence, chosen %+.3f nat a token\n",
		       pf_tally_kl(t), pf_tally_chosen_drift(t));
	if (isfinite(bias))
		printf("length: chosen is longer in %.0f %% of the pairs; margins go with length differences by %+.2f "
		       "(correlation)\n",
		       100.0 * (double)t->longer / (double)t->pairs, bias);
	if (isfinite(noise))
		printf("labels: if the rewards are as sure as they should be, about %.0f %% of the pairs are labelled "
		       "the wrong way round\n",
		       100.0 * noise);
}

static void print_text(const struct pf_setup *s, const struct pf_options *o, const struct pf_training_result *r,
                       struct pf_meters *meters, double seconds)
{
	const struct pf_times *t = &r->times;
	const double rest = seconds - t->data - t->body - t->head - t->optimizer - t->saving;
	printf("%llu steps in %.1f s on %s\n", (unsigned long long)(r->steps - r->first), seconds,
	       pf_device_facts(s->device[0])->name);
	printf("time: body %.1f s, head (products, device) %.1f s, optimizer %.1f s, data %.1f s, saving %.1f s, rest "
	       "%.1f s\n",
	       t->body, t->head, t->optimizer, t->data, t->saving, rest > 0.0 ? rest : 0.0);
	if (isfinite(r->step0_check))
		printf("step0_check: policy and reference differed by at most %.3g nat per token before step 1\n",
		       r->step0_check);
	if (s->held.corpus && r->held.tokens)
		printf("held out: loss %.4f", r->held.loss);
	if (s->held.corpus && r->held.pairs)
		printf(", reward accuracy %.4f, chosen likelier per token %.4f (%llu pairs)",
		       ratio((double)r->held.accurate, r->held.pairs), ratio((double)r->held.likelier, r->held.pairs),
		       (unsigned long long)r->held.pairs);
	if (s->held.corpus && r->held.tokens)
		printf("\n");
	if (s->held.corpus && r->held.pairs)
		print_watch(&r->held);
	if (meters)
		pf_cli_energy_text(o, meters);
	pf_cli_replay_text(o, s);
	if (o->out)
		printf("saved: %s\n", o->out);
}

/* ---- the verbs ---- */

static int schedule(const struct pf_options *o, uint64_t steps, struct pf_schedule *out, struct pf_error *error)
{
	const uint64_t warmup = o->source[PF_OPTION_warmup_steps] == PF_FROM_NOTHING
	                            ? (uint64_t)ceil(o->warmup_ratio * (double)steps) : (uint64_t)o->warmup_steps;
	*out = (struct pf_schedule){ .rate = o->lr, .final_ratio = 0.0, .warmup = warmup < steps ? warmup : steps,
	                             .steps = steps };
	return pf_schedule_find(o->schedule, &out->kind, error);
}

static int count_steps(const struct pf_setup *s, const struct pf_options *o, uint64_t *steps, struct pf_error *error)
{
	const struct pf_sampler_options options = { .batch = (uint32_t)o->batch,
		                                    .accumulate = (uint32_t)o->accumulate };
	struct pf_sampler sampler;
	int code = pf_sampler_open(&sampler, s->corpus, PF_SPLIT_TRAIN, &options, error);
	if (!code)
		*steps = o->source[PF_OPTION_steps] == PF_FROM_NOTHING ? pf_sampler_steps(&sampler, o->epochs)
		                                                        : (uint64_t)o->steps;
	return code;
}

static int open_all(struct pf_setup *s, const struct pf_options *o, struct pf_error *error)
{
	const int sft = strcmp(o->verb, "sft") == 0;
	int code = pf_loss_parse(sft ? o->sft_loss : o->loss, &s->loss, error);
	if (!code)
		code = pf_setup_trace(s, o, error);
	if (!code)
		code = pf_setup_devices(s, o, error);
	if (!code)
		code = pf_setup_check_precision(s, o, error);
	if (!code)
		code = pf_setup_model(s, o, sft, error);
	if (!code)
		code = pf_setup_reference(s, o, error);
	return code ? code : pf_setup_data(s, o, error);
}

/* auto: the form that was computed with */
static struct pf_model_save_options save_options(const struct pf_setup *s, const struct pf_options *o)
{
	const int bf16 =
		strcmp(o->save_dtype, "bf16") == 0 || (strcmp(o->save_dtype, "auto") == 0 && s->model->rounded);
	return (struct pf_model_save_options){ bf16 ? PF_BF16 : strcmp(o->save_dtype, "f16") == 0 ? PF_F16 : PF_F32,
	                                       o->shard_size };
}

/* A reference that is to move must be there, in full and its own */
static int check_sync(const struct pf_setup *s, const struct pf_options *o, struct pf_error *error)
{
	if (!o->sync_ref_model)
		return 0;
	if (!s->reference)
		return pf_fail(error, PF_E_ARGUMENT, "--sync-ref-model: this run has no reference that could follow");
	if (s->model->lora || s->reference->borrowed || !s->reference->param)
		return pf_fail(error, PF_E_ARGUMENT,
		               "--sync-ref-model: the reference of this run is frozen (an adapter's base, or bfloat16) "
		               "and cannot follow");
	return 0;
}

/* Of the longest chunk that a batch can be */
static void say_cost(const struct pf_setup *s, const struct pf_options *o)
{
	const int trained = !o->freeze_head && !s->model->lora;
	const double most = fmin(2.0 * (double)o->batch * s->max_length, PF_ROWS_MAX);
	const struct pf_cost_head head = { .tokens = (uint32_t)most,
		                           .vocab = s->model->config.vocab,
		                           .dim = s->model->config.dim,
		                           .backward = 1,
		                           .dweight = trained,
		                           .moves = trained && strcmp(o->head_optimizer, "device") != 0,
		                           .optimizer = trained && strcmp(o->head_optimizer, "device") == 0 };
	char text[512];
	pf_cli_cost_note(o, s->device[0], s->devices, o->head_precision, head, text, sizeof text);
	if (text[0])
		pf_cli_note(o, "chunks of up to %u tokens: %s", head.tokens, text);
}

static enum pf_head_optimizer head_optimizer(const struct pf_options *o)
{
	return strcmp(o->head_optimizer, "host") == 0     ? PF_HEAD_OPTIMIZER_HOST
	       : strcmp(o->head_optimizer, "device") == 0 ? PF_HEAD_OPTIMIZER_DEVICE
	                                                  : PF_HEAD_OPTIMIZER_AUTO;
}

/* All but schedule, facts and meters */
static struct pf_training training(struct pf_setup *s, const struct pf_options *o, uint64_t steps,
                                   struct pf_train_view *view)
{
	struct pf_training t = { .run = pf_setup_run(s, o),
		                 .corpus = s->corpus,
		                 .held = s->held,
		                 .seed = (uint64_t)o->seed,
		                 .steps = steps,
		                 .shuffle = o->shuffle,
		                 .adamw = { o->beta1, o->beta2, o->eps, o->weight_decay, o->max_grad_norm,
		                            (unsigned)o->threads },
		                 .head_optimizer = head_optimizer(o),
		                 .tokenizer = s->tokenizer,
		                 .out = o->out,
		                 .log = o->log,
		                 .save = save_options(s, o),
		                 .save_every = (uint64_t)o->save_every,
		                 .eval_every = (uint64_t)o->eval_every,
		                 .resume = o->resume,
		                 .exact = o->exact,
		                 .alarm = { o->max_kl, o->max_kl_action && strcmp(o->max_kl_action, "stop") == 0 },
		                 .synced = o->sync_ref_model ? s->reference : NULL,
		                 .mixup = o->ref_model_mixup_alpha,
		                 .sync_every = (uint64_t)o->ref_model_sync_steps,
		                 .report = pf_train_view_step,
		                 .evaluating = pf_train_view_evaluation,
		                 .note = pf_train_view_note,
		                 .context = view };
	t.run.renewal = &s->renewal;
	return t;
}

enum { SMALL_PARAMETERS = 10000000 };

/* What costs a whole run when it is noticed at its end */
static void say_doubts(const struct pf_setup *s, const struct pf_options *o)
{
	if (!o->out)
		pf_cli_note(o, "warning: without --out nothing of this run is saved%s", o->log ? " but its --log" : "");
	if (o->source[PF_OPTION_lr] == PF_FROM_DEFAULT && s->model->layout.parameters < SMALL_PARAMETERS)
		pf_cli_note(o, "warning: --lr is left at %g; models as small as this one (%.2g million parameters) "
		               "want about %s", o->lr, (double)s->model->layout.parameters * 1e-6,
		            strcmp(o->verb, "sft") == 0 ? "1e-3" : "1e-4");
}

/* Everything before the meters run; facts and view live as long as *t */
static int prepare(struct pf_setup *s, const struct pf_options *o, struct pf_train_view *view, struct facts *facts,
                   struct pf_training *t, struct pf_error *error)
{
	uint64_t steps = 0;
	int code = count_steps(s, o, &steps, error);
	*t = training(s, o, steps, view);
	if (!code)
		code = schedule(o, steps, &t->schedule, error);
	if (!code)
		code = check_sync(s, o, error);
	if (code)
		return code;
	say_doubts(s, o);
	gather_facts(s, o, steps, facts);
	t->fact = facts->row;
	t->facts = facts->count;
	if (t->run.logits && strcmp(o->head, "auto") == 0)
		pf_cli_note(o, "the image has no fused head: logits cross the link");
	else if (!t->run.logits)
		say_cost(s, o);
	return pf_setup_reference_pass(s, o, &t->run, steps, pf_train_view_note, view, error);
}

static int run(struct pf_setup *s, const struct pf_options *o, struct pf_error *error)
{
	struct pf_train_view view = { .options = o };
	struct facts facts = { .count = 0 };
	struct pf_training t;
	struct pf_training_result result;
	int code = prepare(s, o, &view, &facts, &t, error);
	if (code)
		return code;
	code = pf_cli_meters(o, t.run.stop, &t.meters, error);
	const double began = pf_seconds();
	if (!code)
		code = pf_train(&t, s->model, &result, error);
	if (!code)
		(strcmp(o->format, "json") == 0 ? print_json : print_text)(s, o, &result, t.meters,
		                                                           pf_seconds() - began);
	pf_meters_close(t.meters);
	return code;
}

static int train(const struct pf_options *o)
{
	struct pf_setup setup = { 0 };
	struct pf_error error = { 0 };
	if (o->resume && !o->out)
		return pf_cli_usage(o, "--resume needs --out, the folder of the run");
	int code = open_all(&setup, o, &error);
	if (!code)
		code = run(&setup, o, &error);
	pf_setup_close(&setup);
	const int traced = pf_cli_trace_close(o, &setup);
	return code ? pf_setup_exit(o, &error) : traced;
}

int pf_verb_sft(const struct pf_options *options)
{
	return train(options);
}

int pf_verb_train(const struct pf_options *options)
{
	return train(options);
}
