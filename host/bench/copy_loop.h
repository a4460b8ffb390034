/* copy_loop.h: the plain loop that speed is compared with. In its own file, compiled so that it stays a loop. */
#ifndef PF_BENCH_COPY_LOOP_H
#define PF_BENCH_COPY_LOOP_H
#include <stddef.h>

void copy_loop(float *to, const float *from, size_t count);
#endif
