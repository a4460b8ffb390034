#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include "pool.h"

struct job {
	struct job    *next;
	pf_cpu_turn_fn turn;
	const void    *context;
	uint32_t       count, begun, ended;
};

struct pf_cpu_pool {
	pthread_mutex_t lock;          /* of everything below and of every job; not held during a turn */
	pthread_cond_t  work, done;    /* a job or the end; all turns of some job ended */
	struct job     *jobs;          /* those with turns left */
	int             quit;
	unsigned        helpers;
	pthread_t       helper[];
};

static void add_job(struct pf_cpu_pool *pool, struct job *job)
{
	struct job **at = &pool->jobs;
	while (*at)
		at = &(*at)->next;
	*at = job;
	pthread_cond_broadcast(&pool->work);
}

static void remove_job(struct pf_cpu_pool *pool, struct job *job)
{
	struct job **at = &pool->jobs;
	while (*at != job)
		at = &(*at)->next;
	*at = job->next;
}

/* With the lock held, which it gives back during the turn */
static void take_turn(struct pf_cpu_pool *pool, struct job *job)
{
	uint32_t turn = job->begun++;
	if (job->begun == job->count)
		remove_job(pool, job);
	pthread_mutex_unlock(&pool->lock);
	job->turn(job->context, turn);
	pthread_mutex_lock(&pool->lock);
	if (++job->ended == job->count)
		pthread_cond_broadcast(&pool->done);
}

static void *help(void *opaque)
{
	struct pf_cpu_pool *pool = opaque;
	pthread_mutex_lock(&pool->lock);
	while (!pool->quit)
		if (pool->jobs)
			take_turn(pool, pool->jobs);
		else
			pthread_cond_wait(&pool->work, &pool->lock);
	pthread_mutex_unlock(&pool->lock);
	return NULL;
}

void pf_cpu_pool_run(struct pf_cpu_pool *pool, uint32_t count, pf_cpu_turn_fn turn, const void *context)
{
	struct job job = { .turn = turn, .context = context, .count = count };
	if (count == 0)
		return;
	pthread_mutex_lock(&pool->lock);
	add_job(pool, &job);
	while (job.begun < count)
		take_turn(pool, &job);
	while (job.ended < count)
		pthread_cond_wait(&pool->done, &pool->lock);
	pthread_mutex_unlock(&pool->lock);
}

int pf_cpu_pool_open(unsigned threads, struct pf_cpu_pool **out)
{
	struct pf_cpu_pool *pool = calloc(1, sizeof *pool + threads * sizeof pool->helper[0]);
	if (!pool)
		return -ENOMEM;
	pthread_mutex_init(&pool->lock, NULL);
	pthread_cond_init(&pool->work, NULL);
	pthread_cond_init(&pool->done, NULL);
	while (pool->helpers + 1 < threads) {
		int code = pthread_create(&pool->helper[pool->helpers], NULL, help, pool);
		if (code) {
			pf_cpu_pool_close(pool);
			return -code;
		}
		pool->helpers++;
	}
	*out = pool;
	return 0;
}

void pf_cpu_pool_close(struct pf_cpu_pool *pool)
{
	if (!pool)
		return;
	pthread_mutex_lock(&pool->lock);
	pool->quit = 1;
	pthread_cond_broadcast(&pool->work);
	pthread_mutex_unlock(&pool->lock);
	for (unsigned i = 0; i < pool->helpers; i++)
		pthread_join(pool->helper[i], NULL);
	pthread_cond_destroy(&pool->work);
	pthread_cond_destroy(&pool->done);
	pthread_mutex_destroy(&pool->lock);
	free(pool);
}
