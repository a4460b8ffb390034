/* The head's optimizer on the device, as a user runs it: the same weights and moments as with the host's, bit for bit
 * where nothing is clipped; less over the link; saved, resumed, and lost with the device in so many words. argv[1]: the
 * program. */
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "tests/cmocka.h"
#include "tests/program.h"
#include "tests/scratch.h"

enum { STEPS = 6, VOCAB = 259, PITCH = 32 };   /* 20 numbers a row are 32 on the device */

static char data[512];

static void write_data(void)
{
	char text[8192] = "";
	for (int i = 0; i < 40; i++)
		sprintf(text + strlen(text), "{\"prompt\": \"%c%d is \", \"completion\": \"%s number %d.\"}\n",
		        'a' + i % 26, i, i % 3 ? "a good" : "no", i * i);
	strcpy(data, scratch_text("data.jsonl", text));
}

/* Runs sft into folder `out`; what it says on both outputs stays in program_output */
static int sft(const char *out, const char *more)
{
	char arguments[2048];
	snprintf(arguments, sizeof arguments,
	         "sft --data %s --tied=0 --dim 20 --layers 1 --heads 2 --kv-heads 1 --ffn 24 --max-length 32 "
	         "--batch 4 --lr 1e-2 --schedule constant --weight-decay 0.1 --cache %s --threads 2 --format json "
	         "--out %s %s 2>&1", data, scratch_path("cache"), scratch_path(out), more);
	return program_run(arguments);
}

static void sft_well(const char *out, const char *more)
{
	if (sft(out, more) != 0)
		fail_msg("%s", program_output);
}

/* A number of the last step in the log of a run */
static double logged(const char *out, const char *key)
{
	char path[1024], line[8192];
	double value = NAN;
	snprintf(path, sizeof path, "%s/metrics.jsonl", scratch_path(out));
	FILE *file = fopen(path, "r");
	assert_non_null(file);
	while (fgets(line, sizeof line, file)) {
		json_t *json = json_loads(line, 0, NULL);
		const json_t *own = json_object_get(json, key);
		value = json_is_number(own) ? json_number_value(own) : value;
		json_decref(json);
	}
	fclose(file);
	return value;
}

#define DEVICE "--device sim:u55c*1 --head-optimizer device --on-fault stop "
#define HOST "--device sim:u55c*1 --head-optimizer host "

static void the_same_weights_on_device_and_host(void **state)
{
	const double moves = 2.0 * VOCAB * PITCH * 4 - 32;     /* W in, dW out, against four sums of squares */
	(void)state;
	sft_well("host", HOST "--steps 6 --max-grad-norm 0");
	sft_well("device", DEVICE "--steps 6 --max-grad-norm 0");
	assert_non_null(strstr(program_output, "stay on the device"));
	scratch_same(scratch_path("host"), scratch_path("device"), "model.safetensors");
	scratch_same(scratch_path("host"), scratch_path("device"), "checkpoint-000006/optimizer.safetensors");
	assert_true(logged("device", "card_bytes") <= logged("host", "card_bytes") - moves);
	sft_well("auto", "--device sim:u55c*1 --on-fault stop --steps 6 --max-grad-norm 0");
	scratch_same(scratch_path("host"), scratch_path("auto"), "model.safetensors");
	assert_non_null(strstr(program_output, "stay on the device"));
}

/* The norm is that of body and head together; its last bits may differ, the logged digits do not */
static void the_norm_clips_both(void **state)
{
	(void)state;
	sft_well("host-clipped", HOST "--steps 6 --max-grad-norm 0.1");
	sft_well("device-clipped", DEVICE "--steps 6 --max-grad-norm 0.1");
	const double host = logged("host-clipped", "grad_norm"), device = logged("device-clipped", "grad_norm");
	assert_true(host > 0.1 && fabs(host - device) <= 1e-4 * host);
	const double a = logged("host-clipped", "loss"), b = logged("device-clipped", "loss");
	assert_true(a > 0 && fabs(a - b) <= 1e-4 * a);
}

static void stopped_and_resumed_is_uninterrupted(void **state)
{
	(void)state;
	sft_well("parts", DEVICE "--steps 3 --max-grad-norm 0");
	sft_well("parts", DEVICE "--steps 6 --max-grad-norm 0 --resume");
	scratch_same(scratch_path("host"), scratch_path("parts"), "model.safetensors");
	scratch_same(scratch_path("host"), scratch_path("parts"), "checkpoint-000006/optimizer.safetensors");
}

/* Before the first update nothing is lost, later the run says where it can go on from */
static void a_lost_device_is_not_papered_over(void **state)
{
	(void)state;
	if (sft("lost", "--device fault:firewall@20/sim:u55c*1 --head-optimizer device --steps 6 --max-grad-norm 0 "
	        "--save-every 2") == 0)
		fail_msg("the device was not lost: %s", program_output);
	assert_non_null(strstr(program_output, "beyond the last checkpoint: --resume goes on from there"));
	sft_well("lost", DEVICE "--steps 6 --max-grad-norm 0 --save-every 2 --resume");
	scratch_same(scratch_path("host"), scratch_path("lost"), "model.safetensors");
	sft_well("early", "--device fault:firewall@3/sim:u55c*1 --head-optimizer device --on-fault reset --steps 6 "
	                  "--max-grad-norm 0");
	scratch_same(scratch_path("host"), scratch_path("early"), "model.safetensors");
}

static void where_it_cannot_be_is_said(void **state)
{
	static const struct { const char *options, *says; } cases[] = {
		{ "--steps 1 --head-optimizer device --device sim --tied=1", "not tied to the embedding" },
		{ "--steps 1 --head-optimizer device --device sim --freeze-head", "that is trained" },
		{ "--steps 1 --head-optimizer device --device cpu", "works in the host's memory" },
		{ "--steps 1 --head-optimizer device --device sim --shards 2", "several devices or --shards" },
		{ "--steps 1 --head-optimizer device --device sim --head logits", "logits that cross the link" },
	};
	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		char out[32];
		snprintf(out, sizeof out, "refused-%zu", i);
		if (sft(out, cases[i].options) == 0 || !strstr(program_output, cases[i].says))
			fail_msg("%s: %s", cases[i].options, program_output);
	}
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_same_weights_on_device_and_host),
		cmocka_unit_test(the_norm_clips_both),
		cmocka_unit_test(stopped_and_resumed_is_uninterrupted),
		cmocka_unit_test(a_lost_device_is_not_papered_over),
		cmocka_unit_test(where_it_cannot_be_is_said),
	};
	if (argc < 2)
		return 2;
	program_path = argv[1];
	scratch_open("head_optimizer");
	write_data();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
