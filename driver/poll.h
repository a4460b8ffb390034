/* poll.h: waiting for a card whose runtime offers no wait that can be trusted.
 *
 * Spins briefly, as small runs take microseconds, then sleeps longer and longer, up to 1.3 ms. XRT's own waits either
 * poll without pause or ignore their limit. Thread-safe: no state. */
#ifndef PF_DRIVER_POLL_H
#define PF_DRIVER_POLL_H
#include <sched.h>
#include <time.h>

enum { PF_POLL_SPINS = 200, PF_POLL_NS = 20000, PF_POLL_ROUNDS = 16, PF_POLL_DOUBLINGS = 6 };

/* round: 0, 1, 2, ... of one wait */
static inline void pf_poll_pause(unsigned round)
{
	if (round < PF_POLL_SPINS) {
		sched_yield();
		return;
	}
	unsigned doublings = (round - PF_POLL_SPINS) / PF_POLL_ROUNDS;
	long ns = (long)PF_POLL_NS << (doublings < PF_POLL_DOUBLINGS ? doublings : PF_POLL_DOUBLINGS);
	nanosleep(&(struct timespec) { 0, ns }, NULL);
}
#endif
