/* Whatever fails, fails cleanly: every call of the backend in turn, every allocation, mapping and thread in turn.
 * Linked with --wrap for malloc, calloc, mmap64 (as mmap is called with 64-bit offsets), mprotect, pthread_create. */
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include "tests/cmocka.h"
#include "tests/job.h"
#include "tests/wrap.h"

extern const struct pf_backend pf_backend_sim;

/* ---- the resource that runs out ---- */
enum { NEVER = 1 << 30 };
static atomic_int countdown = NEVER;

static int runs_out(void)
{
	return atomic_fetch_sub(&countdown, 1) == 0;
}

void *__real_malloc(size_t bytes);
void *__real_calloc(size_t count, size_t bytes);
void *__real_mmap64(void *at, size_t bytes, int prot, int flags, int fd, off_t offset);
int   __real_mprotect(void *at, size_t bytes, int prot);
int   __real_pthread_create(pthread_t *thread, const pthread_attr_t *attr, void *(*body)(void *), void *argument);
void *__wrap_malloc(size_t bytes);
void *__wrap_calloc(size_t count, size_t bytes);
void *__wrap_mmap64(void *at, size_t bytes, int prot, int flags, int fd, off_t offset);
int   __wrap_mprotect(void *at, size_t bytes, int prot);
int   __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attr, void *(*body)(void *), void *argument);

void *__wrap_malloc(size_t bytes)
{
	return runs_out() ? NULL : __real_malloc(bytes);
}

void *__wrap_calloc(size_t count, size_t bytes)
{
	return runs_out() ? NULL : __real_calloc(count, bytes);
}

void *__wrap_mmap64(void *at, size_t bytes, int prot, int flags, int fd, off_t offset)
{
	if (!(flags & MAP_FIXED) && runs_out()) {
		errno = ENOMEM;
		return MAP_FAILED;
	}
	return __real_mmap64(at, bytes, prot, flags, fd, offset);
}

int __wrap_mprotect(void *at, size_t bytes, int prot)
{
	if (runs_out()) {
		errno = ENOMEM;
		return -1;
	}
	return __real_mprotect(at, bytes, prot);
}

int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attr, void *(*body)(void *), void *argument)
{
	return runs_out() ? EAGAIN : __real_pthread_create(thread, attr, body, argument);
}

/* ---- the whole life of a device; the first error ---- */
static int life(const struct pf_backend *backend, struct pf_error *error)
{
	struct pf_device *device;
	static struct job job;
	int code = pf_device_open_backend(backend, "u50*2", NULL, &device, error);
	if (code) {
		assert_null(device);
		return code;
	}
	code = job_open(device, &job, error);
	if (code == 0) {
		job_submit(&job, 0.5);
		code = job_wait(&job, 0.5, error);
		job_close(&job);
	}
	assert_int_equal(pf_device_close(device), 0);
	return code;
}

static void every_backend_call(void **state)
{
	unsigned n;
	(void)state;
	for (n = 0;; n++) {
		struct pf_error error = { 0 };
		wrap_reset(&pf_backend_sim);
		wrap_fail_at(n, -EIO);
		int code = life(wrap_backend(), &error);
		if (!wrap_failed()) {
			assert_int_equal(code, 0);
			break;
		}
		assert_int_equal(code, -EIO);
		assert_int_equal(error.code, -EIO);
		assert_non_null(strstr(error.text, "injected"));
	}
	assert_int_equal(n, 1 + 3 + 2 + 1 + 1);        /* open, allocations, copies in, run, copy out */
}

static void every_resource(void **state)
{
	unsigned n;
	(void)state;
	for (n = 0; n < 1000; n++) {
		struct pf_error error = { 0 };
		atomic_store(&countdown, (int)n);
		int code = life(&pf_backend_sim, &error);
		int came = atomic_exchange(&countdown, NEVER) < 0;
		if (!came) {
			assert_int_equal(code, 0);
			break;
		}
		if (code != -ENOMEM && code != -EAGAIN)
			fail_msg("resource %u: %d %s", n, code, error.text);
		assert_int_equal(error.code, code);
		assert_true(strlen(error.text) > 10);
	}
	assert_in_range(n, 30, 999);
}

/* No backend opens: the reasons are listed */
static void automatic_says_why(void **state)
{
	struct pf_device *device;
	struct pf_error error = { 0 };
	(void)state;
	atomic_store(&countdown, 0);
	int code = pf_device_open("auto", NULL, &device, &error);
	atomic_store(&countdown, NEVER);
	if (code) {                    /* 0: there is another one, which opened */
		assert_int_equal(code, PF_E_ABSENT);
		assert_non_null(strstr(error.text, "cpu: "));
		assert_non_null(strstr(error.text, pf_error_text(-ENOMEM)));
	}
	pf_device_close(device);
}

static int silent_copy(void *card, enum pf_direction direction, struct pf_memory *memory, uint64_t offset, void *host,
                       uint64_t bytes, struct pf_error *error)
{
	(void)card, (void)direction, (void)memory, (void)offset, (void)host, (void)bytes, (void)error;
	return -EIO;
}

/* A backend that fails without saying why, or with a code that is no error code */
static void speechless_backend(void **state)
{
	struct pf_backend silent = pf_backend_sim;
	struct pf_error error = { 0 };
	(void)state;
	silent.copy = silent_copy;
	assert_int_equal(life(&silent, &error), -EIO);
	assert_non_null(strstr(error.text, pf_error_text(-EIO)));
	wrap_reset(&pf_backend_sim);
	wrap_fail_at(6, PF_PENDING);
	assert_int_equal(life(wrap_backend(), &error), PF_E_DEVICE);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_backend_call), cmocka_unit_test(every_resource),
		cmocka_unit_test(automatic_says_why), cmocka_unit_test(speechless_backend),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
