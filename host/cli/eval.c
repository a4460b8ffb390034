/* Verb eval: a loss and its metrics over a dataset, without training. */
#include <jansson.h>
#include <math.h>
#include <string.h>
#include "host/report/metrics.h"
#include "progress.h"
#include "setup.h"

/* A share with its 95 % interval (Wilson) */
static void put_share(json_t *json, const char *key, uint64_t hits, uint64_t count)
{
	double low, high;
	if (!count)
		return;
	pf_wilson(hits, count, &low, &high);
	json_object_set_new(json, key,
	                    json_pack("{s:f, s:f, s:f, s:I}", "value", (double)hits / (double)count, "low", low, "high",
	                              high, "count", (json_int_t)count));
}

static void put_mean(json_t *json, const char *key, double sum, uint64_t count)
{
	if (count && isfinite(sum))
		json_object_set_new(json, key, json_real(sum / (double)count));
}

static json_t *results(const struct pf_setup *s, const struct pf_options *o, const struct pf_tally *t)
{
	const double nll = t->tokens ? -(t->logp[0] + t->logp[1]) / (double)t->tokens : NAN;
	json_t *json = json_object();
	json_object_set_new(json, "loss_type", json_string(o->loss));
	json_object_set_new(json, "device", json_string(pf_device_facts(s->device[0])->name));
	put_mean(json, "loss", t->loss, 1);
	put_share(json, "rewards/accuracies", t->accurate, t->pairs);
	put_share(json, "likelier", t->likelier, t->pairs);
	put_mean(json, "rewards/chosen", t->reward[0], t->sequences[0]);
	put_mean(json, "rewards/rejected", t->reward[1], t->sequences[1]);
	put_mean(json, "rewards/margins", t->margin, t->pairs);
	put_mean(json, "logps/chosen", t->logp[0], t->sequences[0]);
	put_mean(json, "logps/rejected", t->logp[1], t->sequences[1]);
	put_mean(json, "mean_token_accuracy", (double)t->hits, t->tokens);
	put_mean(json, "perplexity", exp(nll), 1);
	put_mean(json, "kl", t->z0, 1);
	put_mean(json, "kl_reference", pf_tally_kl(t), 1);
	put_mean(json, "chosen_drift", pf_tally_chosen_drift(t), 1);
	put_mean(json, "length_bias", pf_tally_length_bias(t), 1);
	put_mean(json, "label_noise", pf_tally_label_noise(t), 1);
	if (t->origin)
		json_object_set_new(json, "reference_origin", json_integer((json_int_t)t->origin));
	json_object_set_new(json, "scored_tokens", json_integer((json_int_t)t->tokens));
	return json;
}

/* What the plain numbers are in; rewards are beta times a log-ratio */
static const char *unit(const char *key)
{
	static const char *const units[][2] = {
		{ "rewards/chosen", "beta x log-ratio, a sequence" },
		{ "rewards/rejected", "beta x log-ratio, a sequence" },
		{ "rewards/margins", "beta x log-ratio, a pair" },
		{ "logps/chosen", "nat a sequence" },
		{ "logps/rejected", "nat a sequence" },
		{ "mean_token_accuracy", "share of tokens" },
		{ "perplexity", "a token" },
		{ "kl", "nat a sequence" },
		{ "kl_reference", "nat a sequence, estimated" },
		{ "chosen_drift", "nat a token from the reference" },
		{ "length_bias", "correlation of margins with length differences" },
		{ "label_noise", "share of pairs labelled the wrong way round, estimated" },
	};
	for (size_t i = 0; i < sizeof units / sizeof *units; i++)
		if (strcmp(key, units[i][0]) == 0)
			return units[i][1];
	return NULL;
}

static void print_text(const json_t *json)
{
	const char *key;
	json_t *value;
	json_object_foreach((json_t *)json, key, value) {
		if (json_is_object(value))
			printf("%-22s %.4f  (95 %% interval %.4f to %.4f, %lld pairs)\n", key,
			       json_real_value(json_object_get(value, "value")),
			       json_real_value(json_object_get(value, "low")),
			       json_real_value(json_object_get(value, "high")),
			       (long long)json_integer_value(json_object_get(value, "count")));
		else if (json_is_string(value))
			printf("%-22s %s\n", key, json_string_value(value));
		else
			printf("%-22s %.6g%s%s\n", key, json_number_value(value), unit(key) ? "  " : "",
			       unit(key) ? unit(key) : "");
	}
}

static int open_all(struct pf_setup *s, const struct pf_options *o, struct pf_error *error)
{
	int code = pf_loss_parse(o->loss, &s->loss, error);
	if (!code)
		code = pf_setup_devices(s, o, error);
	if (!code)
		code = pf_setup_check_precision(s, o, error);
	if (!code)
		code = pf_setup_model(s, o, 0, error);
	if (!code)
		code = pf_setup_reference(s, o, error);
	return code ? code : pf_setup_data(s, o, error);
}

/* Every reward is then 0, which looks like a model that is never right */
static void say_reference(const struct pf_setup *s, const struct pf_options *o)
{
	if (pf_loss_needs_reference(&s->loss) && !o->reference && !o->adapter)
		pf_cli_note(o, "warning: without --reference the model is compared with itself: rewards and their "
		               "accuracy are 0; name the model that it was trained from");
}

int pf_verb_eval(const struct pf_options *o)
{
	struct pf_setup setup = { 0 };
	struct pf_error error = { 0 };
	struct pf_progress progress;
	struct pf_tally tally;
	int code = open_all(&setup, o, &error);
	if (!code) {
		say_reference(&setup, o);
		const struct pf_run run = pf_setup_run(&setup, o);
		code = pf_setup_reference_pass(&setup, o, &run, 0, pf_setup_note, (void *)o, &error);
		pf_progress_start(&progress, stderr, "eval", 0, 0);
		if (!code)
			code = pf_evaluate(&run, setup.model, &setup.held, pf_progress_part, &progress, &tally, &error);
	}
	if (!code) {
		json_t *json = results(&setup, o, &tally);
		if (strcmp(o->format, "json") == 0) {
			json_dumpf(json, stdout, JSON_COMPACT | JSON_REAL_PRECISION(9));
			putchar('\n');
		} else {
			print_text(json);
		}
		json_decref(json);
	}
	pf_setup_close(&setup);
	return code ? pf_setup_exit(o, &error) : PF_EXIT_OK;
}
