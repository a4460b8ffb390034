#include "setup.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "host/model/config.h"
#include "prefpga/reports.h"
#include "progress.h"

/* ---- devices ---- */

static void print_log(void *context, int level, const char *text)
{
	(void)context;
	fprintf(stderr, "prefpga: %s%s\n", level == 0 ? "error: " : level == 1 ? "warning: " : "", text);
}

int pf_setup_trace(struct pf_setup *s, const struct pf_options *o, struct pf_error *error)
{
	struct pf_reports *reports = NULL;
	const int code = o->reports ? pf_reports_open(o->reports, &reports, error) : 0;        /* now, not after hours */
	pf_reports_close(reports);
	return !code && o->trace ? pf_trace_open(o->trace, 1, &s->trace, error) : code;
}

void pf_setup_note(void *options, const char *text)
{
	pf_cli_note(options, "%s", text);
}

int pf_setup_devices(struct pf_setup *s, const struct pf_options *o, struct pf_error *error)
{
	s->device_options = (struct pf_device_options){ .watchdog_ms = pf_option_milliseconds(o->timeout),
		.threads = (uint32_t)o->threads, .image = o->image, .log = print_log,
		.kernels = pf_setup_kernels(o) | pf_setup_reference_kernels(o),
		.operation = s->trace ? pf_trace_operation : NULL, .operation_context = s->trace };
	s->specs = strdup(o->device);
	char *rest = s->specs;
	int code = s->specs ? 0 : pf_fail(error, -ENOMEM, "no memory for --device");
	for (char *spec; !code && (spec = strsep(&rest, ","));) {
		if (s->devices == PF_SETUP_DEVICES)
			code = pf_fail(error, PF_E_RANGE, "--device names more than %d devices", PF_SETUP_DEVICES);
		else
			code = pf_device_open(spec, &s->device_options, &s->device[s->devices], error);
		if (!code)
			s->spec[s->devices++] = spec;
	}
	s->renewal = (struct pf_renewal){ .device = s->device,
		                          .spec = s->spec,
		                          .devices = s->devices,
		                          .options = &s->device_options,
		                          .on_fault = o->on_fault ? (enum pf_on_fault)pf_on_fault_find(o->on_fault)
		                                                  : PF_FAULT_STOP,
		                          .note = pf_setup_note,
		                          .context = (void *)o };
	return code;
}

/* ---- model ---- */

static struct pf_model_config fresh_shape(const struct pf_setup *s, const struct pf_options *o)
{
	return (struct pf_model_config){ .vocab = (uint32_t)s->tokenizer->vocab, .dim = (uint32_t)o->dim,
		.layers = (uint32_t)o->layers, .heads = (uint32_t)o->heads, .kv_heads = (uint32_t)o->kv_heads,
		.head_dim = (uint32_t)(o->dim / o->heads), .ffn = (uint32_t)o->ffn,
		.max_positions = (uint32_t)o->max_length, .rope_theta = 10000.0, .norm_eps = 1e-5, .tied = o->tied,
		.bos = s->tokenizer->bos, .eos = s->tokenizer->eos };
}

static int check_vocabulary(const struct pf_setup *s, const struct pf_model_config *shape, const char *folder,
                            struct pf_error *error)
{
	const int32_t vocab = (int32_t)shape->vocab;
	if (!s->tokenizer->state)
		return vocab == s->tokenizer->vocab
		               ? 0
		               : pf_fail(error, PF_E_UNSUPPORTED,
		                         "%s: a vocabulary of %d, but no tokenizer.json, without which it is bytes "
		                         "(%d); put the model's tokenizer.json there",
		                         folder, (int)vocab, (int)s->tokenizer->vocab);
	/* rows beyond the tokenizer's are padding, which many models have */
	return vocab >= s->tokenizer->vocab
	               ? 0
	               : pf_fail(error, PF_E_MISMATCH,
	                         "%s: a vocabulary of %d, but tokenizer.json has ids up to %d; it is another model's",
	                         folder, (int)vocab, (int)s->tokenizer->vocab - 1);
}

static int check_length(struct pf_setup *s, const struct pf_options *o, struct pf_error *error)
{
	const uint32_t most = pf_model_shape(s->model)->max_positions;
	if (s->max_length <= most)
		return 0;
	if (o->source[PF_OPTION_max_length] == PF_FROM_FLAG || o->source[PF_OPTION_max_length] == PF_FROM_FILE)
		return pf_fail(error, PF_E_RANGE,
		               "--max-length %u: %s takes sequences of at most %u tokens; leave --max-length out to "
		               "take that many, or make a model for longer ones with sft --max-length",
		               s->max_length, o->model, most);
	s->max_length = most;
	return 0;
}

int pf_setup_tokenizer(struct pf_setup *s, const struct pf_options *o, struct pf_error *error)
{
	const int given =
		o->source[PF_OPTION_tokenizer] == PF_FROM_FLAG || o->source[PF_OPTION_tokenizer] == PF_FROM_FILE;
	if (o->model && given)
		return pf_fail(error, PF_E_ARGUMENT,
		               "--tokenizer %s: the model %s brings its own; leave one of them out", o->tokenizer,
		               o->model);
	return o->model ? pf_tokenizer_open_model(o->model, &s->tokenizer, error)
	                : pf_tokenizer_open(o->tokenizer ? o->tokenizer : "bytes", &s->tokenizer, error);
}

int pf_setup_tokenizer_alone(struct pf_setup *s, const struct pf_options *o, struct pf_error *error)
{
	char path[4096];
	struct pf_model_config shape;
	int code = pf_setup_tokenizer(s, o, error);
	if (code || !o->model || s->tokenizer->state)
		return code;
	if (snprintf(path, sizeof path, "%s/config.json", o->model) >= (int)sizeof path)
		return pf_fail(error, -ENAMETOOLONG, "%.200s...: path too long", o->model);
	code = pf_config_read(path, &shape, error);
	return code ? code : check_vocabulary(s, &shape, o->model, error);
}

static int in_bf16(const struct pf_options *o)
{
	return o->weights && strcmp(o->weights, "bf16") == 0;
}

/* Only what is trained needs masters in float32; an adapter's base is not */
static int load_model(const struct pf_options *o, struct pf_model **model, struct pf_error *error)
{
	const int trains = strcmp(o->verb, "sft") == 0 || strcmp(o->verb, "train") == 0;
	const int frozen = !trains || o->lora > 0 || o->adapter;
	return in_bf16(o) && frozen ? pf_model_load_half(o->model, model, error)
	                            : pf_model_load(o->model, model, error);
}

/* What is trained of it, and in which form it is computed with */
static int prepare_model(struct pf_model *model, const struct pf_options *o, struct pf_error *error)
{
	const struct pf_lora_options lora = { (uint32_t)o->lora, o->lora_alpha, o->lora_targets, 0 };
	model->rounded = in_bf16(o) && model->param;
	if (o->freeze_head)
		pf_layout_freeze_head(&model->layout);
	if (o->adapter && o->lora > 0)
		return pf_fail(error, PF_E_ARGUMENT, "--adapter has a rank of its own: leave --lora out");
	if (o->adapter)
		return pf_model_adapt_from(model, o->adapter, error);
	return o->lora > 0 ? pf_model_adapt(model, &lora, (uint64_t)o->seed, error) : 0;
}

int pf_setup_model(struct pf_setup *s, const struct pf_options *o, int fresh, struct pf_error *error)
{
	int code = s->tokenizer ? 0 : pf_setup_tokenizer(s, o, error);
	if (code)
		return code;
	s->max_length = (uint32_t)o->max_length;
	if (o->model) {
		code = load_model(o, &s->model, error);
		if (!code)
			code = check_vocabulary(s, pf_model_shape(s->model), o->model, error);
		if (!code)
			code = check_length(s, o, error);
		return code ? code : prepare_model(s->model, o, error);
	}
	if (!fresh)
		return pf_fail(error, PF_E_ARGUMENT,
		               "--model is missing: the folder of a checkpoint; `prefpga sft` makes one");
	if (o->dim % o->heads != 0)
		return pf_fail(error, PF_E_RANGE, "--dim %lld is not a multiple of --heads %lld", (long long)o->dim,
		               (long long)o->heads);
	const struct pf_model_config shape = fresh_shape(s, o);
	code = pf_model_create(&shape, (uint64_t)o->seed, &s->model, error);
	return code ? code : prepare_model(s->model, o, error);
}

int pf_setup_reference(struct pf_setup *s, const struct pf_options *o, struct pf_error *error)
{
	if (!pf_loss_needs_reference(&s->loss) || (o->reference && strcmp(o->reference, "none") == 0))
		return 0;
	s->uniform = o->reference && strcmp(o->reference, "uniform") == 0;
	if (s->uniform)
		return 0;
	if (o->reference)
		return in_bf16(o) ? pf_model_load_half(o->reference, &s->reference, error)
		                  : pf_model_load(o->reference, &s->reference, error);
	s->reference = pf_model_reference(s->model);
	return s->reference ? 0 : pf_fail(error, -ENOMEM, "no memory for the reference policy");
}

/* ---- data ---- */

enum { SHOWN_MIB = 32 };               /* smaller files are read before a bar can be seen */

/* A list of two is a pair, so losses over lists take both as they come */
static enum pf_record_form wanted_form(const struct pf_loss *loss)
{
	static const enum pf_record_form wanted[] = {
		[PF_FORM_TOKENS] = PF_RECORD_SFT,    [PF_FORM_PAIR] = PF_RECORD_PAIRS,
		[PF_FORM_BINARY] = PF_RECORD_BINARY, [PF_FORM_TRIPLE] = PF_RECORD_PAIRS,
		[PF_FORM_LIST] = PF_RECORD_AUTO,     [PF_FORM_ROLLOUT] = PF_RECORD_GROUPS
	};
	return wanted[pf_loss_form(loss)];
}

static int show_reading(void *context, uint64_t done, uint64_t total)
{
	struct pf_progress *progress = context;
	progress->total = total >> 20;
	if (progress->total > SHOWN_MIB)
		pf_progress_show(progress, done >> 20, "");
	return *pf_setup_stop();
}

struct pf_corpus_options pf_setup_reading(const struct pf_setup *s, const struct pf_options *o,
                                          enum pf_record_form want)
{
	return (struct pf_corpus_options){ .form = (enum pf_record_form)pf_record_form_find(o->form), .want = want,
		.drop = strcmp(o->bad_rows, "drop") == 0, .marker = o->role_marker,
		.chat = (enum pf_chat)pf_chat_find(o->chat_template),
		.cut = { s->max_length, strcmp(o->truncation, "keep_end") == 0 ? PF_KEEP_END : PF_KEEP_START,
		         (uint32_t)o->max_prompt_length, (uint32_t)o->max_completion_length },
		.seed = (uint64_t)o->seed, .cache = o->cache };
}

static int open_corpus(const struct pf_setup *s, const struct pf_options *o, const char *paths, double holdout,
                       struct pf_corpus **corpus, struct pf_error *error)
{
	struct pf_progress progress;
	struct pf_corpus_options options = pf_setup_reading(s, o, wanted_form(&s->loss));
	char text[2048];
	options.holdout = holdout;
	options.progress = show_reading;
	options.context = &progress;
	pf_progress_start(&progress, stderr, "read MiB", 0, 0);
	int code = pf_corpus_open(paths, s->tokenizer, &options, corpus, error);
	if (progress.total > SHOWN_MIB)
		pf_progress_finish(&progress, progress.total, "");
	if (code)
		return code;
	const enum pf_record_form found = pf_corpus_form(*corpus);
	if (options.want == PF_RECORD_AUTO && found != PF_RECORD_PAIRS && found != PF_RECORD_RANKINGS &&
	    found != PF_RECORD_GROUPS)
		return pf_fail(error, PF_E_DATA, "%s: %s records; loss %s needs rankings or pairs", paths,
		               pf_record_form_name(found), s->loss.component[0].row->name);
	pf_corpus_describe(*corpus, text, sizeof text);
	pf_cli_note(o, "%s", text);
	const struct pf_corpus_counts *counts = pf_corpus_counts(*corpus);
	if (counts->faults[PF_FAULT_TRUNCATED] * 5 > counts->records)
		pf_cli_note(o,
		            "warning: %.0f %% of the records are too long and are left out; raise --max-length, or "
		            "keep their ends "
		            "with --truncation keep_end",
		            100.0 * (double)counts->faults[PF_FAULT_TRUNCATED] / (double)counts->records);
	return 0;
}

int pf_setup_data(struct pf_setup *s, const struct pf_options *o, struct pf_error *error)
{
	const int evaluates = strcmp(o->verb, "eval") == 0;
	if (!o->data)
		return pf_fail(error, PF_E_ARGUMENT, "--data is missing: a JSONL file of examples");
	int code = open_corpus(s, o, o->data, o->holdout, &s->corpus, error);
	if (!code && !evaluates && o->eval_data)
		code = open_corpus(s, o, o->eval_data, 0.0, &s->eval_corpus, error);
	if (code)
		return code;
	if (s->eval_corpus)
		s->held = (struct pf_held){ s->eval_corpus, PF_SPLIT_TRAIN };
	else if (o->holdout > 0.0)
		s->held = (struct pf_held){ s->corpus, PF_SPLIT_HELD };
	else if (evaluates)
		s->held = (struct pf_held){ s->corpus, PF_SPLIT_TRAIN };
	if (s->held.corpus && pf_corpus_count(s->held.corpus, s->held.split) == 0)
		return pf_fail(error, PF_E_DATA, "nothing to evaluate on: raise --holdout, or give --eval-data");
	return 0;
}

static enum pf_advantages find_advantages(const char *name)
{
	static const char *const names[] = { [PF_ADVANTAGES_GROUP] = "group", [PF_ADVANTAGES_BATCH] = "batch",
		[PF_ADVANTAGES_NONE] = "none", [PF_ADVANTAGES_OTHERS] = "leave_one_out",
		[PF_ADVANTAGES_STEP] = "step" };
	for (size_t i = 0; name && i < sizeof names / sizeof *names; i++)
		if (strcmp(names[i], name) == 0)
			return (enum pf_advantages)i;
	return PF_ADVANTAGES_GROUP;
}

struct pf_run pf_setup_run(const struct pf_setup *s, const struct pf_options *o)
{
	return (struct pf_run){ .device = s->device, .devices = s->devices, .memory_bytes = o->card_memory,
		.max_length = s->max_length, .batch = (uint32_t)o->batch, .accumulate = (uint32_t)o->accumulate,
		.threads = (unsigned)o->threads, .logits = strcmp(pf_setup_head(s, o), "logits") == 0,
		.way = pf_setup_way(o), .precision = pf_setup_precision(o),
		.reference_precision = pf_setup_reference_precision(o),
		.filter = (float)o->filter, .shards = (unsigned)o->shards,
		.loss = &s->loss, .advantages = find_advantages(o->advantages),
		.micro = o->coupled && strcmp(o->coupled, "micro") == 0,
		.reference = s->reference, .uniform = s->uniform, .cache = o->cache,
		.trace = s->trace, .stop = pf_setup_stop() };
}

void pf_setup_close(struct pf_setup *s)
{
	pf_corpus_close(s->corpus);
	pf_corpus_close(s->eval_corpus);
	pf_model_close(s->reference); /* which may be the model without its adapter */
	pf_model_close(s->model);
	pf_tokenizer_close(s->tokenizer);
	for (unsigned i = 0; i < s->devices; i++)
		if (!pf_device_repeats(s->device, i))  /* one may have taken over for another */
			pf_device_close(s->device[i]);
	free(s->specs);
}

/* ---- stopping ---- */

static volatile sig_atomic_t stop_flag;

static void on_signal(int number)
{
	stop_flag = 1;
	signal(number, SIG_DFL);
}

const volatile sig_atomic_t *pf_setup_stop(void)
{
	static int installed;
	if (!installed) {
		struct sigaction action = { .sa_handler = on_signal };
		sigemptyset(&action.sa_mask);
		struct sigaction hangup;
		sigaction(SIGINT, &action, NULL);
		sigaction(SIGTERM, &action, NULL);
		if (sigaction(SIGHUP, NULL, &hangup) == 0 && hangup.sa_handler != SIG_IGN)     /* nohup stays so */
			sigaction(SIGHUP, &action, NULL);
		installed = 1;
	}
	return &stop_flag;
}

int pf_setup_exit(const struct pf_options *options, const struct pf_error *error)
{
	int code = pf_cli_fail(options, error);
	return error->code == PF_E_INTERRUPTED ? 130 : code;
}
