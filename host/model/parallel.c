#define _GNU_SOURCE /* sched_getaffinity */
#include "parallel.h"
#include <cblas.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include "prefpga/internal/blas_threads.h"

enum { WORKERS_MOST = 255, SPINS = 2000 };

struct job {
	pf_piece_fn piece;
	void *context;
	size_t count;
	unsigned workers; /* beside the caller */
};

/* Workers enter a job only while it is open, and the caller waits only for those that entered: a
 * worker that is not scheduled in time delays nobody */
static struct pool {
	pthread_mutex_t busy; /* held by the caller of the job at work */
	pthread_mutex_t lock; /* of everything below */
	pthread_cond_t wake, left;
	pthread_t thread[WORKERS_MOST];
	unsigned threads;
	struct job job;
	int open, quit;
	unsigned inside;
	atomic_uint generation; /* counts jobs; also read without the lock */
	atomic_size_t next;     /* piece */
} pool = {
	.busy = PTHREAD_MUTEX_INITIALIZER,
	.lock = PTHREAD_MUTEX_INITIALIZER,
	.wake = PTHREAD_COND_INITIALIZER,
	.left = PTHREAD_COND_INITIALIZER,
};

static _Thread_local int within; /* this thread is in a piece */

static void run_pieces(const struct job *job, unsigned worker)
{
	const int outer = within;
	within = 1;
	for (size_t i;
	     (i = atomic_fetch_add_explicit(&pool.next, 1, memory_order_relaxed)) < job->count;)
		job->piece(job->context, i, worker);
	within = outer;
}

static void run_alone(size_t count, pf_piece_fn piece, void *context)
{
	for (size_t i = 0; i < count; i++)
		piece(context, i, 0);
}

/* Waits a little for the next job without the lock, then sleeps. Called and left with the lock */
static void await_job(unsigned seen)
{
	pthread_mutex_unlock(&pool.lock);
	for (int i = 0;
	     i < SPINS && atomic_load_explicit(&pool.generation, memory_order_relaxed) == seen; i++)
		pf_spin_pause();
	pthread_mutex_lock(&pool.lock);
	while (!pool.quit && atomic_load_explicit(&pool.generation, memory_order_relaxed) == seen)
		pthread_cond_wait(&pool.wake, &pool.lock);
}

static void *work(void *index)
{
	const unsigned worker = (unsigned)(uintptr_t)index;
	unsigned seen = 0;
	pf_blas_thread_alone();
	pthread_mutex_lock(&pool.lock);
	for (await_job(seen); !pool.quit; await_job(seen)) {
		seen = atomic_load_explicit(&pool.generation, memory_order_relaxed);
		if (!pool.open || worker > pool.job.workers)
			continue;
		const struct job job = pool.job;
		pool.inside++;
		pthread_mutex_unlock(&pool.lock);
		run_pieces(&job, worker);
		pthread_mutex_lock(&pool.lock);
		if (--pool.inside == 0)
			pthread_cond_signal(&pool.left);
	}
	pthread_mutex_unlock(&pool.lock);
	return NULL;
}

/* As many workers as there are, or can be made */
static unsigned start_workers(unsigned wanted)
{
	if (wanted > WORKERS_MOST)
		wanted = WORKERS_MOST;
	while (pool.threads < wanted) {
		void *worker = (void *)(uintptr_t)(pool.threads + 1);
		if (pthread_create(&pool.thread[pool.threads], NULL, work, worker) != 0)
			break;
		pool.threads++;
	}
	return pool.threads < wanted ? pool.threads : wanted;
}

static void run_together(unsigned threads, size_t count, pf_piece_fn piece, void *context)
{
	struct job job = { piece, context, count, start_workers(threads - 1) };
	pthread_mutex_lock(&pool.lock);
	pool.job = job;
	pool.open = 1;
	atomic_store_explicit(&pool.next, 0, memory_order_relaxed);
	atomic_fetch_add_explicit(&pool.generation, 1, memory_order_relaxed);
	pthread_cond_broadcast(&pool.wake);
	pthread_mutex_unlock(&pool.lock);
	run_pieces(&job, 0);
	pthread_mutex_lock(&pool.lock);
	pool.open = 0;
	while (pool.inside > 0)
		pthread_cond_wait(&pool.left, &pool.lock);
	pthread_mutex_unlock(&pool.lock);
}

void pf_parallel(unsigned threads, size_t count, pf_piece_fn piece, void *context)
{
	const unsigned wanted = count < threads ? (unsigned)count : threads;
	struct pf_blas_hold hold;
	if (count == 0)
		return;
	pf_blas_hold(&hold);
	if (wanted < 2 || within || pthread_mutex_trylock(&pool.busy) != 0) {
		run_alone(count, piece, context);
	} else {
		run_together(wanted, count, piece, context);
		pthread_mutex_unlock(&pool.busy);
	}
	pf_blas_release(&hold);
}

unsigned pf_threads(unsigned threads)
{
	cpu_set_t set;
	if (threads > 0)
		return threads;
	return sched_getaffinity(0, sizeof set, &set) == 0 ? (unsigned)CPU_COUNT(&set) : 1;
}

/* A forked child has this thread only; what the others held is gone with them */
static void forget_workers(void)
{
	pool.threads = pool.inside = 0;
	pool.open = 0;
	pthread_mutex_init(&pool.busy, NULL);
	pthread_mutex_init(&pool.lock, NULL);
	pthread_cond_init(&pool.wake, NULL);
	pthread_cond_init(&pool.left, NULL);
}

__attribute__((constructor)) static void watch_forks(void)
{
	pthread_atfork(NULL, NULL, forget_workers);
}

__attribute__((destructor)) static void end_workers(void)
{
	pthread_mutex_lock(&pool.lock);
	pool.quit = 1;
	pthread_cond_broadcast(&pool.wake);
	pthread_mutex_unlock(&pool.lock);
	while (pool.threads > 0)
		pthread_join(pool.thread[--pool.threads], NULL);
}
