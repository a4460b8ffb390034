/* head_numbers.h: what tests of the fused head share: numbers that are the same in every run, devices, comparisons. */
#ifndef PF_TESTS_HEAD_NUMBERS_H
#define PF_TESTS_HEAD_NUMBERS_H
#include <math.h>
#include "tests/cmocka.h"
#include "prefpga/device.h"

static uint64_t draw_state = 9;

/* Uniform in [-size, size) */
static inline float draw(float size)
{
	draw_state = draw_state * 6364136223846793005u + 1442695040888963407u;
	return size * ((float)(draw_state >> 40) * 0x1p-23f - 1);
}

static inline struct pf_device *open_device_with(const char *spec, const struct pf_device_options *options)
{
	struct pf_device *device;
	struct pf_error error;
	if (pf_device_open(spec, options, &device, &error))
		fail_msg("%s", error.text);
	return device;
}

static inline struct pf_device *open_device(const char *spec)
{
	return open_device_with(spec, NULL);
}

static inline void agree(const char *what, const float *a, const float *b, size_t count, double bound)
{
	for (size_t i = 0; i < count; i++)
		if (!(fabs((double)a[i] - (double)b[i]) <= bound))
			fail_msg("%s[%zu]: %.9g and %.9g", what, i, (double)a[i], (double)b[i]);
}
#endif
