#include <pthread.h>
#include <string.h>
#include "tests/wrap.h"

static struct {
	const struct pf_backend *inner;
	struct pf_backend outer;
	unsigned entered[WRAP_CALLS], left[WRAP_CALLS], pass[WRAP_CALLS];
	unsigned counted, fail_at;
	int fail_code, failed, abort_code, aborted;
	uint64_t lacks;
} w;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t moved = PTHREAD_COND_INITIALIZER;

/* 0: go on; otherwise the call returns that */
static int gate(enum wrap_call call, struct pf_error *error)
{
	pthread_mutex_lock(&lock);
	unsigned number = w.entered[call]++;
	int code = call != WRAP_ABORT && w.counted++ == w.fail_at ? w.fail_code : 0;
	w.failed |= code != 0;
	pthread_cond_broadcast(&moved);
	while (number >= w.pass[call] && !(call == WRAP_RUN && w.aborted))
		pthread_cond_wait(&moved, &lock);
	if (call == WRAP_RUN && w.aborted)
		code = w.abort_code;
	pthread_mutex_unlock(&lock);
	return code ? pf_fail(error, code, "injected") : 0;
}

static int leave(enum wrap_call call, int code)
{
	pthread_mutex_lock(&lock);
	w.left[call]++;
	pthread_cond_broadcast(&moved);
	pthread_mutex_unlock(&lock);
	return code;
}

static int wrap_open(const struct pf_backend_open *open, void **card, struct pf_device_facts *facts, uint32_t *cus,
                     struct pf_error *error)
{
	int code = gate(WRAP_OPEN, error);
	if (!code)
		code = w.inner->open(open, card, facts, cus, error);
	for (int k = 0; !code && k < PF_KERNEL_COUNT; k++)
		if (w.lacks >> k & 1)
			cus[k] = 0;
	return code;
}

void wrap_lack(uint64_t kernels)
{
	w.lacks = kernels;
}

static int wrap_alloc(void *card, enum pf_kernel kernel, unsigned arg, uint64_t bytes, struct pf_memory **memory,
                      struct pf_error *error)
{
	int code = gate(WRAP_ALLOC, error);
	return code ? code : w.inner->alloc(card, kernel, arg, bytes, memory, error);
}

static int wrap_copy(void *card, enum pf_direction direction, struct pf_memory *memory, uint64_t offset, void *host,
                     uint64_t bytes, struct pf_error *error)
{
	enum wrap_call call = direction == PF_TO_DEVICE ? WRAP_COPY_IN : WRAP_COPY_OUT;
	int code = gate(call, error);
	return leave(call, code ? code : w.inner->copy(card, direction, memory, offset, host, bytes, error));
}

static int wrap_run(void *card, unsigned cu, const struct pf_launch *launch, struct pf_error *error)
{
	int code = gate(WRAP_RUN, error);
	return leave(WRAP_RUN, code ? code : w.inner->run(card, cu, launch, error));
}

static int wrap_abort(void *card, enum pf_kernel kernel, unsigned cu)
{
	(void)card, (void)kernel, (void)cu;
	gate(WRAP_ABORT, NULL);
	pthread_mutex_lock(&lock);
	w.aborted = 1;
	pthread_cond_broadcast(&moved);
	pthread_mutex_unlock(&lock);
	return 0;
}

void wrap_reset(const struct pf_backend *inner)
{
	memset(&w, 0, sizeof w);
	w.inner = inner;
	w.outer = *inner;
	w.outer.open = wrap_open;
	w.outer.alloc = wrap_alloc;
	w.outer.copy = wrap_copy;
	w.outer.run = wrap_run;
	w.outer.abort = NULL;
	w.fail_at = WRAP_ALL;
	for (unsigned i = 0; i < WRAP_CALLS; i++)
		w.pass[i] = WRAP_ALL;
}

const struct pf_backend *wrap_backend(void)
{
	return &w.outer;
}

void wrap_abort_with(int code)
{
	w.abort_code = code;
	w.outer.abort = wrap_abort;
}

void wrap_pass(enum wrap_call call, unsigned count)
{
	pthread_mutex_lock(&lock);
	w.pass[call] = count;
	pthread_cond_broadcast(&moved);
	pthread_mutex_unlock(&lock);
}

static void await(const unsigned *counter, unsigned count)
{
	pthread_mutex_lock(&lock);
	while (*counter < count)
		pthread_cond_wait(&moved, &lock);
	pthread_mutex_unlock(&lock);
}

void wrap_await_entered(enum wrap_call call, unsigned count)
{
	await(&w.entered[call], count);
}

void wrap_await_left(enum wrap_call call, unsigned count)
{
	await(&w.left[call], count);
}

static unsigned peek(const unsigned *counter)
{
	pthread_mutex_lock(&lock);
	unsigned value = *counter;
	pthread_mutex_unlock(&lock);
	return value;
}

unsigned wrap_entered(enum wrap_call call)
{
	return peek(&w.entered[call]);
}

unsigned wrap_left(enum wrap_call call)
{
	return peek(&w.left[call]);
}

void wrap_fail_at(unsigned n, int code)
{
	pthread_mutex_lock(&lock);
	w.fail_at = n;
	w.fail_code = code;
	w.counted = 0;
	w.failed = 0;
	pthread_mutex_unlock(&lock);
}

unsigned wrap_counted(void)
{
	return peek(&w.counted);
}

int wrap_failed(void)
{
	pthread_mutex_lock(&lock);
	int failed = w.failed;
	pthread_mutex_unlock(&lock);
	return failed;
}
