#include "schedule.h"
#include <math.h>
#include <string.h>

static const char *const names[] = {
	[PF_SCHEDULE_CONSTANT] = "constant",
	[PF_SCHEDULE_LINEAR] = "linear",
	[PF_SCHEDULE_COSINE] = "cosine",
};
enum { KINDS = sizeof names / sizeof *names };

int pf_schedule_find(const char *name, enum pf_schedule_kind *kind, struct pf_error *error)
{
	for (unsigned i = 0; i < KINDS; i++)
		if (strcmp(name, names[i]) == 0) {
			*kind = (enum pf_schedule_kind)i;
			return 0;
		}
	return pf_fail(error, PF_E_UNKNOWN,
	               "schedule %.50s is not known; use constant, linear or cosine", name);
}

const char *pf_schedule_name(enum pf_schedule_kind kind)
{
	return names[kind];
}

/* 1 at the peak, 0 at the end */
static double shape(enum pf_schedule_kind kind, double way)
{
	const double pi = 3.14159265358979323846;
	switch (kind) {
	case PF_SCHEDULE_LINEAR:
		return 1.0 - way;
	case PF_SCHEDULE_COSINE:
		return 0.5 * (1.0 + cos(pi * way));
	default:
		return 1.0;
	}
}

double pf_schedule_rate(const struct pf_schedule *s, uint64_t step)
{
	if (step < s->warmup)
		return s->rate * (double)(step + 1) / (double)(s->warmup + 1);
	const uint64_t after = step - s->warmup,
	               all = s->steps > s->warmup ? s->steps - s->warmup : 1;
	const double way = after < all ? (double)after / (double)all : 1.0;
	return s->rate * (s->final_ratio + (1.0 - s->final_ratio) * shape(s->kind, way));
}
