/* fake_xrt.h: what tests may ask of the stand-in for XRT (fake_xrt.c), by dlsym. */
#ifndef PF_TESTS_FAKE_XRT_H
#define PF_TESTS_FAKE_XRT_H
#include <stdint.h>

struct fake_card { const char *bdf; int open; uint64_t bytes_in, bytes_out, runs; };

/* Card i, NULL past the last */
struct fake_card *fake_xrt_card(unsigned i);
/* The next `times` calls of `call` fail, and XRT's log gets the text. "xrtRunState": runs end in `state` */
void fake_xrt_fail(const char *call, int times, const char *text, int state);
#endif
