/* Streaming: three slots overlap copying in, runs and copying out; nothing is lost when the consumer stalls. Shown with
 * latches: the test holds one side and waits for events of the other, never for a clock. */
#include <errno.h>
#include <pthread.h>
#include <string.h>
#include "host/train/stream.h"
#include "tests/cmocka.h"
#include "tests/job.h"
#include "tests/wrap.h"

extern const struct pf_backend pf_backend_sim;

enum { SLOTS = 3, INS = 2 };           /* copies in of a batch */

struct feed {
	struct pf_device *device;
	struct pf_stream  stream;
	struct job        slot[SLOTS]; /* buffers and staging memory */
	double            value[SLOTS];
	uint64_t          consumed;
	pthread_mutex_t   lock;
	pthread_cond_t    moved;
	int               stall, stalled;
	int               fail_batch;  /* the consumer refuses it; -1: none */
};

static int consume(void *context, unsigned slot, uint64_t batch, struct pf_error *error)
{
	struct feed *feed = context;
	pthread_mutex_lock(&feed->lock);
	feed->stalled = feed->stall;
	pthread_cond_broadcast(&feed->moved);
	while (feed->stall)
		pthread_cond_wait(&feed->moved, &feed->lock);
	pthread_mutex_unlock(&feed->lock);
	if (feed->fail_batch == (int)batch)
		return pf_fail(error, -ENOSPC, "the consumer is full");
	assert_int_equal(batch, feed->consumed);
	assert_int_equal(slot, batch % SLOTS);
	assert_true(feed->value[slot] == (double)batch);
	for (int t = 0; t < JOB_ROWS; t++)
		assert_true(feed->slot[slot].result[t] == (float)-feed->value[slot]);
	feed->consumed++;
	return 0;
}

static void feed_open(struct feed *feed)
{
	memset(feed, 0, sizeof *feed);
	pthread_mutex_init(&feed->lock, NULL);
	pthread_cond_init(&feed->moved, NULL);
	feed->fail_batch = -1;
	wrap_reset(&pf_backend_sim);
	assert_int_equal(pf_device_open_backend(wrap_backend(), "*1", NULL, &feed->device, NULL), 0);
	for (int i = 0; i < SLOTS; i++)
		assert_int_equal(job_open(feed->device, &feed->slot[i], NULL), 0);
	assert_int_equal(pf_stream_open(&feed->stream, feed->device, SLOTS, consume, feed), 0);
}

static void feed_close(struct feed *feed)
{
	assert_int_equal(pf_device_close(feed->device), 0);
	pthread_cond_destroy(&feed->moved);
	pthread_mutex_destroy(&feed->lock);
}

static int feed_batch(struct feed *feed, double value, struct pf_error *error)
{
	unsigned i;
	struct pf_arg args[PF_ARG_coef_COUNT];
	int code = pf_stream_next(&feed->stream, &i, error);
	if (code)
		return code;
	struct job *job = &feed->slot[i];
	feed->value[i] = value;
	job->host_item = (struct pf_item_out){ .grad = value };
	job->host_span = (struct pf_span){ 0, JOB_ROWS, JOB_ROWS, 0 };
	job_args(job, args);
	pf_stream_in(&feed->stream, job->item, 0, &job->host_item, sizeof job->host_item);
	pf_stream_in(&feed->stream, job->span, 0, &job->host_span, sizeof job->host_span);
	pf_stream_run(&feed->stream, PF_KERNEL_coef, args, PF_ARG_coef_COUNT);
	pf_stream_out(&feed->stream, job->out, 0, job->result, sizeof job->result);
	return 0;
}

static void *feed_many(void *context)
{
	struct feed *feed = context;
	for (int i = 0; i < 20; i++)
		assert_int_equal(feed_batch(feed, i, NULL), 0);
	assert_int_equal(pf_stream_end(&feed->stream, NULL), 0);
	return NULL;
}

/* While the run of batch 1 is held: batch 2 gets copied in, batch 0 gets copied out */
static void copies_overlap_a_run(void **state)
{
	struct feed feed;
	(void)state;
	feed_open(&feed);
	wrap_pass(WRAP_RUN, 1);
	for (int i = 0; i < SLOTS; i++)
		assert_int_equal(feed_batch(&feed, i, NULL), 0);
	wrap_await_entered(WRAP_RUN, 2);
	wrap_await_left(WRAP_COPY_IN, 3 * INS);
	wrap_await_left(WRAP_COPY_OUT, 1);
	assert_int_equal(wrap_left(WRAP_RUN), 1);
	assert_int_equal(wrap_entered(WRAP_COPY_OUT), 1);
	wrap_pass(WRAP_RUN, WRAP_ALL);
	assert_int_equal(pf_stream_end(&feed.stream, NULL), 0);
	assert_int_equal(feed.consumed, 3);
	feed_close(&feed);
}

/* The other two held in turn: whatever stands still, the other two directions move as far as the ring has room */
static void runs_overlap_held_copies(void **state)
{
	struct feed feed;
	(void)state;
	feed_open(&feed);
	wrap_pass(WRAP_COPY_OUT, 0);
	for (int i = 0; i < SLOTS; i++)
		assert_int_equal(feed_batch(&feed, i, NULL), 0);
	wrap_await_left(WRAP_RUN, 3);
	wrap_pass(WRAP_COPY_OUT, WRAP_ALL);
	assert_int_equal(pf_stream_end(&feed.stream, NULL), 0);
	wrap_pass(WRAP_COPY_IN, 4 * INS);
	for (int i = 0; i < 2; i++)
		assert_int_equal(feed_batch(&feed, 3 + i, NULL), 0);
	wrap_await_entered(WRAP_COPY_IN, 4 * INS + 1);
	wrap_await_left(WRAP_COPY_OUT, 4);
	wrap_pass(WRAP_COPY_IN, WRAP_ALL);
	assert_int_equal(pf_stream_end(&feed.stream, NULL), 0);
	assert_int_equal(feed.consumed, 5);
	feed_close(&feed);
}

/* The consumer stalls on batch 0: three batches are on the device, the fourth is not begun; then all 20 arrive */
static void stalled_consumer_loses_nothing(void **state)
{
	struct feed feed;
	pthread_t producer;
	(void)state;
	feed_open(&feed);
	feed.stall = 1;
	assert_int_equal(pthread_create(&producer, NULL, feed_many, &feed), 0);
	pthread_mutex_lock(&feed.lock);
	while (!feed.stalled)
		pthread_cond_wait(&feed.moved, &feed.lock);
	pthread_mutex_unlock(&feed.lock);
	wrap_await_left(WRAP_COPY_OUT, SLOTS);
	assert_int_equal(wrap_entered(WRAP_COPY_IN), SLOTS * INS);
	pthread_mutex_lock(&feed.lock);
	feed.stall = 0;
	pthread_cond_broadcast(&feed.moved);
	pthread_mutex_unlock(&feed.lock);
	pthread_join(producer, NULL);
	assert_int_equal(feed.consumed, 20);
	assert_int_equal(wrap_left(WRAP_RUN), 20);
	feed_close(&feed);
}

/* ---- errors ---- */
static void device_errors_stop_the_stream(void **state)
{
	for (unsigned n = 0; n < 4 * 5; n++) {
		struct pf_error error = { 0 }, again = { 0 };
		struct feed feed;
		int code = 0;
		(void)state;
		feed_open(&feed);
		wrap_fail_at(n, -EIO);
		for (int i = 0; i < 5 && code == 0; i++)
			code = feed_batch(&feed, i, &error);
		int end = pf_stream_end(&feed.stream, &again);
		assert_int_equal(end, -EIO);
		assert_non_null(strstr(again.text, "injected"));
		if (code)
			assert_string_equal(error.text, again.text);
		assert_true(feed.consumed < 5);
		assert_int_equal(feed_batch(&feed, 9, &error), -EIO);
		feed_close(&feed);
	}
}

static void refusals_stop_the_stream(void **state)
{
	struct pf_error error = { 0 };
	struct feed feed;
	unsigned slot;
	(void)state;
	feed_open(&feed);
	assert_int_equal(feed_batch(&feed, 0, &error), 0);
	assert_int_equal(pf_stream_next(&feed.stream, &slot, &error), 0);
	assert_int_equal(pf_stream_in(&feed.stream, feed.slot[1].item, 0, &feed, 1 << 20), PF_E_RANGE);
	assert_int_equal(pf_stream_run(&feed.stream, PF_KERNEL_coef, NULL, 0), PF_E_RANGE);
	assert_int_equal(pf_stream_next(&feed.stream, &slot, &error), PF_E_RANGE);
	assert_non_null(strstr(error.text, "leaves the buffer"));
	feed_close(&feed);
	feed_open(&feed);
	assert_int_equal(pf_stream_in(&feed.stream, feed.slot[0].item, 0, &feed, 1), PF_E_ARGUMENT);
	feed_close(&feed);
	feed_open(&feed);
	assert_int_equal(pf_stream_next(&feed.stream, &slot, &error), 0);
	for (int i = 0; i < PF_STREAM_STEPS; i++)
		assert_int_equal(pf_stream_in(&feed.stream, feed.slot[0].item, 0, &feed, 1), 0);
	assert_int_equal(pf_stream_in(&feed.stream, feed.slot[0].item, 0, &feed, 1), PF_E_RANGE);
	assert_int_equal(pf_stream_end(&feed.stream, &error), PF_E_RANGE);
	feed_close(&feed);
	assert_int_equal(pf_stream_open(&feed.stream, feed.device, 0, NULL, NULL), PF_E_RANGE);
	assert_int_equal(pf_stream_open(&feed.stream, feed.device, PF_STREAM_SLOTS + 1, NULL, NULL), PF_E_RANGE);
}

static void consumer_errors_stop_the_stream(void **state)
{
	struct pf_error error = { 0 };
	struct feed feed;
	int code = 0, i;
	(void)state;
	feed_open(&feed);
	feed.fail_batch = 4;
	for (i = 0; i < 20 && code == 0; i++)
		code = feed_batch(&feed, i, &error);
	assert_int_equal(code, -ENOSPC);
	assert_int_equal(i, 4 + SLOTS + 1);
	assert_string_equal(error.text, "the consumer is full");
	assert_int_equal(feed.consumed, 4);
	feed_close(&feed);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(copies_overlap_a_run), cmocka_unit_test(runs_overlap_held_copies),
		cmocka_unit_test(stalled_consumer_loses_nothing), cmocka_unit_test(device_errors_stop_the_stream),
		cmocka_unit_test(refusals_stop_the_stream), cmocka_unit_test(consumer_errors_stop_the_stream),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
