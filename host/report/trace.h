/* trace.h: a timeline of host, copies, kernels and power, in the JSON form that Chrome's tracing and Perfetto read.
 *
 * Tracks are grouped: the host's phases, each device (a track per direction and per compute unit), power. Times are
 * wall clock, measured. What a model says of the same work goes into groups of its own, whose names say `modelled`; the
 * two never share a track. Format: "Trace Event Format" of the Chromium project: complete events (X), counters (C),
 * names (M), otherData.
 *
 * Any thread may add events; a NULL trace takes them and forgets them. The file is complete after pf_trace_close. */
#ifndef PF_REPORT_TRACE_H
#define PF_REPORT_TRACE_H
#include <stddef.h>
#include <stdint.h>
#include "prefpga/device.h"
#include "prefpga/energy.h"

struct pf_trace;

/* Starts the file anew. keep: operations are kept for pf_trace_operations, 200 bytes each */
int  pf_trace_open(const char *path, int keep, struct pf_trace **trace, struct pf_error *error);
/* Ends the file; devices that report to the trace are closed before. Fails if it could not be written whole */
int  pf_trace_close(struct pf_trace *trace, struct pf_error *error);
/* A phase of the host, from and to as of CLOCK_MONOTONIC in seconds */
void pf_trace_phase(struct pf_trace *trace, const char *name, double from, double to);
/* What a device did: give it to pf_device_options.operation with the trace as its context */
void pf_trace_operation(void *trace, const struct pf_operation *operation);
/* What a sensor showed, W */
void pf_trace_power(struct pf_trace *trace, const char *sensor, double time, double watt);
/* A counter of any group, in seconds since the trace was opened */
void pf_trace_counter(struct pf_trace *trace, const char *group, const char *name, const char *unit, double time,
                      double value);
/* A figure of the whole trace, for the file's otherData: key and unit in one word, "modelled_joule" */
void pf_trace_figure(struct pf_trace *trace, const char *key, struct pf_interval value);
/* An event of any group and track, in seconds since the trace was opened */
void pf_trace_event(struct pf_trace *trace, const char *group, const char *track, const char *name, double from,
                    double to);
/* The operations kept so far, in the order of their ends; they live as long as the trace gets no more. `device` is the
 * trace's copy of the name, which lives as long as the trace: one per opening of a device, but where one took another's
 * place in memory and has its name. -ENOMEM: there was no memory for all of them, or they were more than
 * PF_TRACE_KEPT */
#define PF_TRACE_KEPT 4000000u
int  pf_trace_operations(const struct pf_trace *trace, const struct pf_operation **operations, size_t *count);
#endif
