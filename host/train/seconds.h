/* seconds.h: wall time for reports. Thread-safe. */
#ifndef PF_TRAIN_SECONDS_H
#define PF_TRAIN_SECONDS_H
#include <time.h>

/* Seconds of CLOCK_MONOTONIC */
static inline double pf_seconds(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}
/* Seconds since 1970 (CLOCK_REALTIME): for logs that others align with */
static inline double pf_seconds_unix(void)
{
	struct timespec t;
	clock_gettime(CLOCK_REALTIME, &t);
	return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}
#endif
