/* The pool: every piece once, no worker twice at a time, calls from several threads and from inside
 * pieces. */
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include "cmocka.h"
#include "host/model/parallel.h"

enum { PIECES = 500, THREADS = 4, ROUNDS = 300 };

struct count {
	atomic_int done[PIECES];
	atomic_int inside[THREADS];
	atomic_int clashes, outside;
};

static void note(void *context, size_t index, unsigned worker)
{
	struct count *c = context;
	if (worker >= THREADS) {
		atomic_fetch_add(&c->outside, 1);
		return;
	}
	if (atomic_fetch_add(&c->inside[worker], 1) != 0)
		atomic_fetch_add(&c->clashes, 1);
	atomic_fetch_add(&c->done[index], 1);
	atomic_fetch_sub(&c->inside[worker], 1);
}

static int complete(struct count *c, size_t pieces)
{
	for (size_t i = 0; i < PIECES; i++)
		if (atomic_load(&c->done[i]) != (i < pieces))
			return 0;
	return atomic_load(&c->clashes) == 0 && atomic_load(&c->outside) == 0;
}

static int run_once(unsigned threads, size_t pieces)
{
	struct count *c = calloc(1, sizeof *c);
	pf_parallel(threads, pieces, note, c);
	int good = complete(c, pieces);
	free(c);
	return good;
}

static void test_every_piece(void **state)
{
	(void)state;
	for (int round = 0; round < ROUNDS; round++)
		for (unsigned threads = 1; threads <= THREADS; threads++)
			assert_true(run_once(threads, (size_t)(round * 7 % (PIECES + 1))));
}

static void *caller(void *context)
{
	int *good = context;
	*good = 1;
	for (int round = 0; round < ROUNDS; round++)
		*good &= run_once(1 + (unsigned)round % THREADS, (size_t)round);
	return NULL;
}

static void test_callers(void **state)
{
	pthread_t thread[3];
	int good[3];
	(void)state;
	for (int i = 0; i < 3; i++)
		assert_int_equal(pthread_create(&thread[i], NULL, caller, &good[i]), 0);
	for (int i = 0; i < 3; i++)
		pthread_join(thread[i], NULL);
	assert_true(good[0] && good[1] && good[2]);
}

static void nest(void *context, size_t index, unsigned worker)
{
	(void)index;
	(void)worker;
	if (!run_once(THREADS, 20))
		atomic_fetch_add((atomic_int *)context, 1);
}

static void test_nested(void **state)
{
	atomic_int bad = 0;
	(void)state;
	pf_parallel(THREADS, 50, nest, &bad);
	assert_int_equal(atomic_load(&bad), 0);
}

/* ThreadSanitizer allows no threads after a fork */
#if defined(__SANITIZE_THREAD__)
#define FORKS 0
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define FORKS 0
#endif
#endif
#ifndef FORKS
#define FORKS 1
#endif

static void test_fork(void **state)
{
	int status;
	(void)state;
	if (!FORKS)
		skip();
	assert_true(run_once(THREADS, PIECES));
	pid_t child = fork();
	if (child == 0)
		_exit(!(run_once(THREADS, PIECES) && run_once(THREADS, 3)));
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static void test_facts(void **state)
{
	struct pf_blas_facts facts;
	(void)state;
	pf_blas_facts(&facts);
	assert_true(strlen(facts.core) > 0 && strlen(facts.version) > 0);
	assert_true(pf_threads(0) >= 1);
	assert_int_equal(pf_threads(3), 3);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_piece), cmocka_unit_test(test_callers),
		cmocka_unit_test(test_nested),      cmocka_unit_test(test_fork),
		cmocka_unit_test(test_facts),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
