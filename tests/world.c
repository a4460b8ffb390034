#include "tests/world.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "tests/cmocka.h"
#include "tests/scratch.h"

const struct pf_tokenizer *world_tokenizer;
struct pf_device *world_device;
char world_pairs[512], world_rollouts[512];

/* Pairs whose chosen side ends politely */
static void write_pairs(void)
{
	static const char *const word[] = { "red", "blue", "green", "wide", "small", "old", "new", "fast" };
	static char text[1 << 14];
	size_t n = 0;
	for (int i = 0; i < 24; i++)
		n += (size_t)snprintf(text + n, sizeof text - n,
		                      "{\"prompt\": \"%s %s:\", \"chosen\": \" a %s thing, please\", "
		                      "\"rejected\": \" %s\"}\n",
		                      word[i % 8], word[i / 8], word[i % 8], word[(i + 3) % 8]);
	strcpy(world_pairs, scratch_text("pairs.jsonl", text));
}

/* Prompts with completions of rewards 1 and 0, and what a model that knows nothing gives their tokens */
static void write_rollouts(void)
{
	static char text[1 << 16];
	size_t n = 0;
	for (int i = 0; i < 12; i++) {
		n += (size_t)snprintf(text + n, sizeof text - n,
		                      "{\"prompt\": \"p%d\", \"completions\": [\" yes\", \" nope\", \" yes\"], "
		                      "\"rewards\": [1, 0, 1], \"old_logps\": [",
		                      i);
		for (int k = 0; k < 3; k++) {
			for (int t = 0; t < (k == 1 ? 6 : 5); t++)
				n += (size_t)snprintf(text + n, sizeof text - n, "%s%g",
				                      t   ? ", "
				                      : k ? ", ["
				                          : "[",
				                      -5.4 - 0.1 * ((i + t) % 5));
			n += (size_t)snprintf(text + n, sizeof text - n, "]");
		}
		n += (size_t)snprintf(text + n, sizeof text - n, "]}\n");
	}
	strcpy(world_rollouts, scratch_text("rollouts.jsonl", text));
}

void world_open(const char *test)
{
	struct pf_error error;
	scratch_open(test);
	write_pairs();
	write_rollouts();
	if (pf_tokenizer_open("bytes", &world_tokenizer, &error) ||
	    pf_device_open("sim", NULL, &world_device, &error))
		fail_msg("%s", error.text);
}

int world_close(void **state)
{
	(void)state;
	return pf_device_close(world_device);
}

struct pf_model *world_model(unsigned layers)
{
	const struct pf_model_config shape = { .vocab = PF_BYTES_VOCAB,
		                               .dim = 16,
		                               .layers = layers,
		                               .heads = 2,
		                               .kv_heads = 1,
		                               .head_dim = 8,
		                               .ffn = 24,
		                               .max_positions = 64,
		                               .rope_theta = 1e4,
		                               .norm_eps = 1e-5,
		                               .tied = 1,
		                               .bos = PF_BYTES_BOS,
		                               .eos = PF_BYTES_EOS };
	struct pf_model *model;
	struct pf_error error;
	if (pf_model_create(&shape, 3, &model, &error))
		fail_msg("%s", error.text);
	return model;
}

/* ---- a training ---- */

static void on_report(void *context, const struct pf_step_report *r)
{
	struct world *w = context;
	if (r->step == 1)
		w->first_loss = r->tally->loss;
	w->last_loss = r->tally->loss;
	w->stop = w->stop_after == r->step;
	if (w->die_after == r->step)
		_exit(WORLD_KILLED);
}

static void on_note(void *context, const char *text)
{
	struct world *w = context;
	w->notes += strstr(text, "in the checkpoint") != NULL;
	w->precision_notes += strstr(text, "their heads are computed in bf16 and mxint8") != NULL;
}

static enum pf_record_form wanted(const struct pf_loss *loss)
{
	const enum pf_loss_form form = pf_loss_form(loss);
	return form == PF_FORM_TOKENS ? PF_RECORD_SFT : form == PF_FORM_BINARY ? PF_RECORD_BINARY :
	       form == PF_FORM_ROLLOUT ? PF_RECORD_GROUPS : PF_RECORD_PAIRS;
}

void world_enter(struct world *w, const char *loss, const char *out)
{
	world_enter_cut(w, loss, out, (struct pf_cut){ .max_length = 64 });
}

void world_enter_cut(struct world *w, const char *loss, const char *out, struct pf_cut cut)
{
	struct pf_error error;
	memset(w, 0, sizeof *w);
	if (pf_loss_parse(loss, &w->loss, &error))
		fail_msg("%s", error.text);
	const struct pf_corpus_options options = { .want = wanted(&w->loss), .cut = cut };
	const char *path = options.want == PF_RECORD_GROUPS ? world_rollouts : world_pairs;
	if (pf_corpus_open(path, world_tokenizer, &options, &w->corpus, &error))
		fail_msg("%s", error.text);
	w->model = world_model(2);
	w->reference = pf_model_reference(w->model);
	w->fact = (struct pf_fact){ "threads", "2", 0 };
	w->t = (struct pf_training){ .run = { .device = &world_device, .devices = 1, .max_length = 64,
			.batch = WORLD_BATCH, .accumulate = 1, .threads = 2, .loss = &w->loss,
			.reference = w->reference, .stop = &w->stop },
		.corpus = w->corpus, .seed = 5, .steps = WORLD_STEPS, .shuffle = 1,
		.adamw = { 0.9, 0.999, 1e-8, 0.0, 1.0, 2 },
		.schedule = { PF_SCHEDULE_LINEAR, 3e-3, 0.0, 1, WORLD_STEPS }, .out = out, .fact = &w->fact, .facts = 1,
		.report = on_report, .note = on_note, .context = w };
}

void world_leave(struct world *w)
{
	pf_corpus_close(w->corpus);
	pf_model_close(w->model);
	pf_model_close(w->reference);
}

int world_train(struct world *w, struct pf_training_result *result, struct pf_error *error)
{
	return pf_train(&w->t, w->model, result, error);
}

void world_train_well(struct world *w, struct pf_training_result *result)
{
	struct pf_error error;
	if (world_train(w, result, &error))
		fail_msg("%s", error.text);
}

void world_sync(struct world *w, uint64_t steps, double mixup)
{
	w->t.synced = w->reference;
	w->t.sync_every = steps;
	w->t.mixup = mixup;
}
