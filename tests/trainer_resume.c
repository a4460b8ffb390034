/* Training that ends early, on the simulated card: it goes on exactly after a stop and after being killed, says what
 * has changed, and mixes nothing up. */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include "tests/cmocka.h"
#include "tests/scratch.h"
#include "tests/world.h"

static void stopped_and_resumed_is_uninterrupted(void **state)
{
	struct pf_training_result result;
	struct pf_error error;
	struct world w;
	char whole[512], parts[512];
	(void)state;
	strcpy(whole, scratch_path("whole"));
	strcpy(parts, scratch_path("parts"));
	world_enter(&w, "kto", whole);
	world_train_well(&w, &result);
	world_leave(&w);
	world_enter(&w, "kto", parts);
	w.stop_after = 3;
	assert_int_equal(world_train(&w, &result, &error), PF_E_INTERRUPTED);
	assert_int_equal(result.steps, 3);
	world_leave(&w);
	world_enter(&w, "kto", parts);
	w.t.resume = w.t.exact = 1;
	world_train_well(&w, &result);
	assert_int_equal(result.first, 3);
	assert_int_equal(w.notes, 0);
	world_leave(&w);
	scratch_same(whole, parts, "model.safetensors");
	scratch_same(whole, parts, "checkpoint-000008/optimizer.safetensors");
}

static void a_moving_reference_is_resumed(void **state)
{
	struct pf_training_result result;
	struct pf_error error;
	struct world w;
	char whole[512], parts[512];
	(void)state;
	strcpy(whole, scratch_path("sync_whole"));
	strcpy(parts, scratch_path("sync_parts"));
	for (int run = 0; run < 3; run++) {
		world_enter(&w, "sigmoid", run ? parts : whole);
		world_sync(&w, 2, 0.6);
		w.t.run.cache = scratch_path("sync_cache");
		w.stop_after = run == 1 ? 3 : 0;
		w.t.resume = w.t.exact = run == 2;
		assert_int_equal(world_train(&w, &result, &error), run == 1 ? PF_E_INTERRUPTED : 0);
		world_leave(&w);
	}
	scratch_same(whole, parts, "model.safetensors");
	scratch_same(whole, parts, "checkpoint-000008/reference/model.safetensors");
	scratch_same(whole, parts, "checkpoint-000008/optimizer.safetensors");
}

static int lines(const char *folder)
{
	char path[1024];
	int count = 0, c;
	snprintf(path, sizeof path, "%s/metrics.jsonl", folder);
	FILE *file = fopen(path, "r");
	assert_non_null(file);
	while ((c = getc(file)) != EOF)
		count += c == '\n';
	fclose(file);
	return count;
}

/* Trains until it dies. A program of its own: threads do not cross a fork */
static int be_killed(const char *data, const char *out)
{
	struct pf_training_result result;
	struct pf_error error;
	struct world w;
	snprintf(world_pairs, sizeof world_pairs, "%s", data);
	if (pf_tokenizer_open("bytes", &world_tokenizer, &error) || pf_device_open("sim", NULL, &world_device, &error))
		return 1;
	world_enter(&w, "sigmoid", out);
	w.t.save_every = 2;
	w.die_after = 6;
	world_train(&w, &result, &error);
	return 2;
}

static void killed_and_resumed_is_uninterrupted(void **state)
{
	struct pf_training_result result;
	struct world w;
	char whole[512], parts[512];
	int status;
	(void)state;
	strcpy(whole, scratch_path("whole2"));
	strcpy(parts, scratch_path("killed"));
	world_enter(&w, "sigmoid", whole);
	world_train_well(&w, &result);
	world_leave(&w);
	pid_t child = fork();
	if (child == 0) {
		execl("/proc/self/exe", "test_trainer_resume", world_pairs, parts, (char *)NULL);
		_exit(1);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFEXITED(status) && WEXITSTATUS(status) == WORLD_KILLED);
	assert_true(lines(parts) >= 5);
	world_enter(&w, "sigmoid", parts);
	w.t.resume = 1;
	world_train_well(&w, &result);
	assert_int_equal(result.first, 4);
	world_leave(&w);
	assert_int_equal(lines(parts), WORLD_STEPS);
	scratch_same(whole, parts, "model.safetensors");
	scratch_same(whole, parts, "checkpoint-000008/optimizer.safetensors");
}

static void other_circumstances_are_reported(void **state)
{
	struct pf_training_result result;
	struct pf_error error;
	struct world w;
	char out[512];
	(void)state;
	strcpy(out, scratch_path("facts"));
	world_enter(&w, "sigmoid", out);
	w.stop_after = 2;
	assert_int_equal(world_train(&w, &result, &error), PF_E_INTERRUPTED);
	world_leave(&w);
	world_enter(&w, "sigmoid", out);
	strcpy(w.fact.value, "1");
	w.t.resume = w.t.exact = 1;
	assert_int_equal(world_train(&w, &result, &error), PF_E_MISMATCH);
	assert_non_null(strstr(error.text, "threads: \"2\" in the checkpoint, \"1\" now"));
	assert_int_equal(w.notes, 1);
	w.t.exact = 0;
	world_train_well(&w, &result);
	assert_int_equal(w.notes, 2);
	world_leave(&w);
	world_enter(&w, "sigmoid", scratch_path("nothing"));
	w.t.resume = 1;
	assert_int_equal(world_train(&w, &result, &error), PF_E_ABSENT);
	world_leave(&w);
}

static void folders_and_references_are_guarded(void **state)
{
	struct pf_training_result result;
	struct pf_error error;
	struct world w;
	char out[512];
	(void)state;
	strcpy(out, scratch_path("guarded"));
	world_enter(&w, "sigmoid", out);
	w.stop_after = 1;
	assert_int_equal(world_train(&w, &result, &error), PF_E_INTERRUPTED);
	assert_int_equal(world_train(&w, &result, &error), PF_E_ARGUMENT);   /* a new run would mix with the old one */
	assert_non_null(strstr(error.text, "--resume"));
	int folder = open(out, O_RDONLY | O_DIRECTORY);
	assert_int_equal(flock(folder, LOCK_EX | LOCK_NB), 0);
	w.t.resume = 1;
	assert_true(world_train(&w, &result, &error) < 0);
	assert_non_null(strstr(error.text, "another run"));
	close(folder);
	assert_int_equal(mkdir(scratch_path("guarded/checkpoint-009999"), 0777), 0);  /* no checkpoint: has no state */
	w.stop_after = 0;
	w.stop = 0;
	world_train_well(&w, &result);
	assert_int_equal(result.first, 1);
	w.t.resume = 0;
	w.t.out = NULL;
	w.reference->config.rope_theta *= 2.0;
	assert_int_equal(world_train(&w, &result, &error), PF_E_SHAPE);
	assert_non_null(strstr(error.text, "rope 20000"));
	world_leave(&w);
}

static int open_world(void **state)
{
	(void)state;
	world_open("trainer_resume");
	return 0;
}

int main(int argc, char **argv)
{
	if (argc == 3)
		return be_killed(argv[1], argv[2]);
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(stopped_and_resumed_is_uninterrupted),
		cmocka_unit_test(a_moving_reference_is_resumed),
		cmocka_unit_test(killed_and_resumed_is_uninterrupted),
		cmocka_unit_test(other_circumstances_are_reported),
		cmocka_unit_test(folders_and_references_are_guarded),
	};
	return cmocka_run_group_tests(tests, open_world, world_close);
}
