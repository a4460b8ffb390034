#include "tests/faults_world.h"
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "tests/cmocka.h"
#include "tests/scratch.h"
#include "tests/world.h"
#include "prefpga/internal/backend.h"

/* ---- time ---- */
static atomic_ullong virtual_ns;
static atomic_int held;
static _Atomic(struct pf_device *) watched;

static uint64_t now(void *context)
{
	(void)context;
	return atomic_fetch_add(&virtual_ns, atomic_load(&held) ? 1000000000u : 0);
}

static void on_hold(int holding)
{
	atomic_store(&held, holding);
}

/* Wakes the watchdog while something is held */
static void *tick(void *stop)
{
	while (!atomic_load((atomic_int *)stop)) {
		nanosleep(&(struct timespec) { 0, 1000000 }, NULL);
		if (atomic_load(&held) && atomic_load(&watched))
			pf_device_tick(atomic_load(&watched));
	}
	return NULL;
}

static void virtual_sleep(void *context, uint64_t ns)
{
	(void)context;
	atomic_fetch_add(&virtual_ns, ns);
}

static void on_opened(void *context, struct pf_device *device)
{
	(void)context;
	atomic_store(&watched, device);
	pf_device_clock(device, now, NULL);
}

/* ---- a small training ---- */
static const struct pf_tokenizer *tokenizer;
static struct pf_corpus *corpus;
static struct pf_loss loss;
static struct pf_model *reference;
static float *undisturbed[FAULTS_GROUPS];      /* weights */

static void on_note(void *context, const char *text)
{
	struct outcome *o = context;
	size_t used = strlen(o->notes);
	snprintf(o->notes + used, sizeof o->notes - used, "%s\n", text);
}

/* Copies that were done again are in the device's log only */
static void on_log(void *context, int level, const char *text)
{
	if (level == 1)
		on_note(context, text);
}

/* Steps that the log marks as within tolerance only */
static int marked_steps(const char *path)
{
	char line[4096];
	int count = 0;
	FILE *in = fopen(path, "r");
	while (in && fgets(line, sizeof line, in))
		count += strstr(line, "\"within_tolerance\": 1") || strstr(line, "\"within_tolerance\":1");
	if (in)
		fclose(in);
	return count;
}

static void on_step(void *context, const struct pf_step_report *report)
{
	struct outcome *o = context;
	o->beats = report->card_beats;
}

static int is_same(const struct pf_model *model, unsigned group)
{
	const size_t bytes = model->layout.size * sizeof *model->param;
	float **want = &undisturbed[group];
	if (!*want) {
		*want = malloc(bytes);
		assert_non_null(*want);
		memcpy(*want, model->param, bytes);
	}
	return memcmp(*want, model->param, bytes) == 0;
}

static void train(struct pf_device **device, const char *const *spec, unsigned devices, const struct faults_plan *plan,
                  struct outcome *o)
{
	struct pf_model *model = pf_model_reference(reference);
	struct pf_training_result result;
	o->renewal = (struct pf_renewal) { .device = device, .spec = spec, .devices = devices,
		.on_fault = plan->on_fault, .note = on_note, .opened = on_opened, .context = o,
		.recovery = { .sleep = virtual_sleep } };
	const struct pf_training t = { .run = { .device = device, .devices = devices, .max_length = 64,
			.batch = FAULTS_BATCH, .accumulate = 1, .threads = 1, .shards = plan->shards, .loss = &loss,
			.reference = reference, .renewal = &o->renewal },
		.corpus = corpus, .seed = 5, .steps = FAULTS_STEPS, .shuffle = 1,
		.adamw = { 0.9, 0.999, 1e-8, 0.0, 1.0, 1 },
		.schedule = { PF_SCHEDULE_LINEAR, 3e-3, 0.0, 1, FAULTS_STEPS }, .log = scratch_path("log.jsonl"),
		.out = plan->out, .resume = plan->resume, .save_every = plan->out ? 1 : 0,
		.report = on_step, .note = plan->out ? on_note : NULL, .context = o };
	if (!plan->resume)
		remove(t.log);
	o->code = pf_train(&t, model, &result, &o->error);
	o->marked = marked_steps(t.log);
	o->same = o->code == 0 && is_same(model, plan->group);
	pf_model_close(model);
}

void faults_open(const char *test, const char *tail)
{
	static const char *const word[] = { "red", "blue", "green", "wide" };
	const struct pf_corpus_options options = { .want = PF_RECORD_PAIRS, .cut = { 64, PF_KEEP_START } };
	struct pf_error error = { 0 };
	char text[4096] = "";
	size_t n = 0;
	scratch_open(test);
	for (int i = 0; i < 16; i++)
		n += (size_t)snprintf(text + n, sizeof text - n,
		                      "{\"prompt\": \"%s %s:\", \"chosen\": \" %s%s\", \"rejected\": \" %s\"}\n",
		                      word[i % 4], word[i / 4], word[i % 4], tail, word[(i + 3) % 4]);
	assert_true(n < sizeof text);
	if (pf_tokenizer_open("bytes", &tokenizer, &error) || pf_loss_parse("sigmoid:beta=0.1", &loss, &error)
	    || pf_corpus_open(scratch_text("pairs.jsonl", text), tokenizer, &options, &corpus, &error))
		fail_msg("%s", error.text);
	reference = world_model(1);
	pf_fault_on_hold(on_hold);
}

void faults_close(void)
{
	pf_corpus_close(corpus);
	pf_model_close(reference);
	for (unsigned i = 0; i < FAULTS_GROUPS; i++)
		free(undisturbed[i]);
}

void faults_run(const char *const spec[FAULTS_DEVICES], const struct faults_plan *plan, struct outcome *o)
{
	const struct pf_device_options options = { .log = on_log, .log_context = o };
	struct pf_device *device[FAULTS_DEVICES] = { NULL };
	unsigned devices = 0;
	atomic_int stop = 0;
	pthread_t thread;
	for (; devices < FAULTS_DEVICES && spec[devices] && o->code == 0; devices++) {
		o->code = pf_device_open(spec[devices], &options, &device[devices], &o->error);
		if (o->code == 0 && devices == 0)
			on_opened(NULL, device[devices]);
	}
	assert_int_equal(pthread_create(&thread, NULL, tick, &stop), 0);
	if (o->code == 0)
		train(device, spec, devices, plan, o);
	atomic_store(&stop, 1);
	pthread_join(thread, NULL);
	atomic_store(&watched, NULL);
	for (unsigned i = 0; i < devices; i++)
		if (device[i] && !pf_device_repeats(device, i))
			pf_device_close(device[i]);
}
