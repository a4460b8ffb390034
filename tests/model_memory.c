/* A checkpoint is never twice in memory: loading takes at most a tenth more than its file has bytes, whole or in
 * shards, and saving takes nothing. With arguments DIR [half]: loads that one and prints size, peak and seconds. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include "cmocka.h"
#include "host/model/model.h"
#include "model_shape.h"
#include "scratch.h"

static const struct pf_model_config config = { MODEL_SHAPE(16000, 768, 4, 12, 4, 64, 2048, 512, 1e4, 1e-5, 0, -1, -1) };

static uint64_t peak_bytes(void)
{
	struct rusage usage;
	getrusage(RUSAGE_SELF, &usage);
	return (uint64_t)usage.ru_maxrss << 10;
}

/* In a process of its own, whose peak begins small; -1: it failed. half: weights are held as bfloat16 */
static int64_t load_peak(const char *folder, const char *again, int half)
{
	int64_t grown = -1;
	int pipes[2];
	if (pipe(pipes) != 0)
		return -1;
	const pid_t child = fork();
	if (child == 0) {
		struct pf_model *model;
		const struct pf_model_save_options options = { PF_BF16, 0 };
		const uint64_t before = peak_bytes();
		int code = half ? pf_model_load_half(folder, &model, NULL) : pf_model_load(folder, &model, NULL);
		code = code || !again ? code : pf_model_save_as(model, &options, again, NULL);
		grown = code ? -1 : (int64_t)(peak_bytes() - before);
		_exit(write(pipes[1], &grown, sizeof grown) != sizeof grown);
	}
	close(pipes[1]);
	if (read(pipes[0], &grown, sizeof grown) != sizeof grown)
		grown = -1;
	close(pipes[0]);
	waitpid(child, NULL, 0);
	return grown;
}

static void check_peak(const char *folder, const char *again, uint64_t bytes)
{
	const int64_t peak = load_peak(folder, again, again == NULL);
	print_message("%llu MiB of weights, peak %lld MiB\n", (unsigned long long)bytes >> 20, (long long)peak >> 20);
	assert_true(peak > 0 && (uint64_t)peak <= bytes + bytes / 10);
}

static void test_peak(void **state)
{
	static const uint64_t shards[] = { 0, 40 << 20 };
	struct pf_model *model;
	(void)state;
	for (size_t i = 0; i < 2; i++) {
		const struct pf_model_save_options options = { PF_F32, shards[i] };
		assert_int_equal(pf_model_create(&config, 1, &model, NULL), 0);
		const uint64_t bytes = model->layout.parameters * sizeof(float);
		assert_int_equal(pf_model_save_as(model, &options, scratch_path("model"), NULL), 0);
		pf_model_close(model);
		check_peak(scratch_path("model"), scratch_path("again"), bytes);
		check_peak(scratch_path("again"), NULL, bytes / 2); /* saved as BF16 */
	}
}

static int load_one(const char *folder, int half)
{
	struct timespec begin, end;
	struct pf_model *model;
	struct pf_error error = { 0 };
	clock_gettime(CLOCK_MONOTONIC, &begin);
	if ((half ? pf_model_load_half : pf_model_load)(folder, &model, &error) != 0) {
		fprintf(stderr, "%s\n", error.text);
		return 1;
	}
	clock_gettime(CLOCK_MONOTONIC, &end);
	const double seconds = (double)(end.tv_sec - begin.tv_sec) + 1e-9 * (double)(end.tv_nsec - begin.tv_nsec);
	printf("%llu parameters, peak %llu MiB, %.1f s\n", (unsigned long long)pf_model_parameters(model),
	       (unsigned long long)peak_bytes() >> 20, seconds);
	pf_model_close(model);
	return 0;
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_peak) };
	if (argc > 1)
		return load_one(argv[1], argc > 2);
	scratch_open("model_memory");
	return cmocka_run_group_tests(tests, NULL, NULL);
}
