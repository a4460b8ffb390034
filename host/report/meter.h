/* meter.h: the log of a meter outside the machine, as CSV.
 *
 * Lines of `time,watts` or `time,watts,marker`; a first line of names, blank lines and lines that begin with # are
 * passed over; names that say something else than seconds and watts, such as power_mW, are refused. time is in seconds,
 * of any clock, ascending: UNIX time, or counted from when the meter was switched on.
 * A marker `start` says that training began at that line, `end` that it was over; they align a meter of another clock.
 * From the first line marked `idle` to the last one the machine did nothing. Other markers are ignored, a second
 * `start` or `end` is an error. */
#ifndef PF_REPORT_METER_H
#define PF_REPORT_METER_H
#include <stddef.h>
#include "prefpga/error.h"

struct pf_reading { double time, watt; };

struct pf_meter {
	struct pf_reading *at;         /* [count] */
	size_t count;
	double start, end;             /* times of the markers, NaN where there is none */
	double idle, idle_end;         /* of the first and the last line marked idle; NaN */
	double spacing;                /* the longest time between two readings */
};

/* Errors name the line. Frees with pf_meter_free after success */
int  pf_meter_read(const char *path, struct pf_meter *meter, struct pf_error *error);
void pf_meter_free(struct pf_meter *meter);
#endif
