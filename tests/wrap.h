/* wrap.h: a backend around another one, for tests of the device core: every call passes a gate, where the test can hold
 * it, watch it come and go, or make it fail. No clocks: tests wait for events. One wrapped device at a time. */
#ifndef PF_TESTS_WRAP_H
#define PF_TESTS_WRAP_H
#include "prefpga/internal/backend.h"

enum wrap_call { WRAP_OPEN, WRAP_ALLOC, WRAP_COPY_IN, WRAP_COPY_OUT, WRAP_RUN, WRAP_ABORT, WRAP_CALLS };
#define WRAP_ALL (~0u)

/* Starts anew: around `inner`, all gates open, nothing fails, no abort */
void wrap_reset(const struct pf_backend *inner);
/* The backend to open. With abort, a held run returns `code` when it is aborted */
const struct pf_backend *wrap_backend(void);
void wrap_abort_with(int code);
/* What is opened from now on has no unit of these kernels (pf_kernel_set) */
void wrap_lack(uint64_t kernels);
/* Lets the first `count` calls through (WRAP_ALL: every one); later ones are held */
void wrap_pass(enum wrap_call call, unsigned count);
/* Waits until `count` calls have come to the gate, or have returned from the inner backend */
void wrap_await_entered(enum wrap_call call, unsigned count);
void wrap_await_left(enum wrap_call call, unsigned count);
unsigned wrap_entered(enum wrap_call call);
unsigned wrap_left(enum wrap_call call);
/* Call number n (from 0, over open, alloc, copies and runs) fails with `code` instead of reaching the inner backend */
void wrap_fail_at(unsigned n, int code);
/* Calls counted by wrap_fail_at so far; whether the one that was to fail came */
unsigned wrap_counted(void);
int wrap_failed(void);
#endif
