/* cycles.h: what a schedule of copies and kernel runs would take on a card: a model, not a measurement.
 *
 * A schedule is a list of jobs with dependencies, as they would be submitted to devices. A discrete-event simulation
 * plays it on the queues that a device has (one per direction of copying, one per kernel with its compute units, one
 * for the host) and on the memory banks behind them. Overlap, queueing and contention come out of it; nothing is
 * assumed about them.
 *
 *	copy   setup + bytes / rate of the link; at the same time it writes or reads the bank class
 *	run    launch + cycles / clock, but no faster than its bytes pass through its ports, nor than one bank feeds
 *	       one port. cycles: trips of the kernel's pipelined loops times II, plus their depths (cycles.def). launch:
 *	       from submitting to the first cycle; runs that wait in the queue follow each other after `issue` already
 *	host   a time that the caller knows, measured or assumed
 *
 * Jobs that share the banks of a class slow each other down in proportion, so that a class never delivers more than its
 * banks can. Figures of a card come from card_facts.def, each with its source and grade: measured by others, quoted by
 * the vendor, or assumed. What the model says is therefore uncalibrated until a report of the synthesis or a
 * measurement replaces the figures, and pf_cycles_doubts says how much the result would move.
 *
 * Thread-safe: nothing here has state. */
#ifndef PREFPGA_CYCLES_H
#define PREFPGA_CYCLES_H
#include <stddef.h>
#include <stdint.h>
#include "error.h"
#ifdef __cplusplus
extern "C" {
#endif

/* ---- figures of a card ---- */

enum pf_fact_grade { PF_FACT_MEASURED, PF_FACT_QUOTED, PF_FACT_ASSUMED };

/* A figure, its unit in the name; `text`: what it is, `source`: who says so */
struct pf_card_fact {
	const char *card, *name, *text, *source;
	double value;
	enum pf_fact_grade grade;
};
/* Fact i over all cards, NULL past the last */
PF_API const struct pf_card_fact *pf_card_fact(unsigned i);
/* The value of a card's figure, by their names; NAN where nobody says */
PF_API double pf_card_figure(const char *card, const char *figure);
PF_API const char *pf_fact_grade_name(enum pf_fact_grade grade);

/* What one unit of a kernel takes, with the card's array, of resource number 0, 1, ... (*name, may be NULL: "dsp",
 * "lut", "ff", "bram18", "uram"); NAN past the last */
PF_API double pf_card_takes(const char *card, unsigned kernel, unsigned resource, const char **name);
/* Share of a card that units[kernels] of each kernel (by number) take together, of the resource that they take most of,
 * as operations.def estimates them: operators, memories and ports, the shell not counted. *resource, may be NULL: its
 * name. NAN where nobody says what the card has */
PF_API double pf_card_share(const char *card, const uint32_t *units, unsigned kernels, const char **resource);

enum { PF_CYCLES_CLASSES = 3 };        /* bank classes STREAM, WEIGHT, SMALL */

/* What the simulation needs of a card; pf_cycles_card fills it from the facts, a caller may change it */
struct pf_cycles_card {
	double clock_hz;               /* of the kernels */
	double port_bytes;             /* of one m_axi port and cycle */
	double bank_rate;              /* bytes/s that one bank sustains, and so the most of one port */
	double class_rate[PF_CYCLES_CLASSES];  /* bytes/s of all banks of a class together */
	double link_in, link_out;      /* bytes/s of long copies to and from the card */
	double copy_setup_s;           /* of one copy */
	double launch_s, issue_s;      /* of one run: to an idle unit, behind another run */
	double port_latency_s;         /* from a burst's address to its last beat */
	double memory_bytes;
	uint32_t array;                /* rows of 64 multiply-adds of the fused head (cards.def): 4, 2; 0: 4 */
};
/* "u55c", ... PF_E_UNKNOWN lists the cards */
PF_API int pf_cycles_card(const char *name, struct pf_cycles_card *card, struct pf_error *error);

/* Bytes/s of one port that keeps `outstanding` bursts of `beats` beats under way: what its width and clock, the latency
 * and one bank allow */
PF_API double pf_cycles_port_rate(const struct pf_cycles_card *card, double beats, double outstanding);

/* ---- cost of one run ---- */

enum { PF_CYCLES_VALUES = 16 };

struct pf_run_cost {
	double cycles;                 /* of the pipelined loops, one after the other */
	double bytes[PF_CYCLES_CLASSES];       /* read and written in each bank class, by the kernel's table */
	double port_most;              /* bytes through the busiest port in its busier direction */
	double dsp_operations, lut_operations;         /* busy DSP slices and LUTs, summed over cycles (energy.h) */
	double onchip_bytes;           /* to and from on-chip memories */
	double cycles_reported;        /* of `cycles` those that reports gave, or their interval and depth */
	double cycles_doubted;         /* more if every other loop's interval were one cycle longer */
};
/* kernel: enum pf_kernel as int, with an array of 4 rows where it has one; value: its scalars in the order of the
 * arguments, as submitted. PF_E_UNSUPPORTED for a kernel without rows in cycles.def */
PF_API int pf_cycles_cost(int kernel, const uint32_t *value, unsigned values, struct pf_run_cost *cost,
                          struct pf_error *error);

/* ---- schedules ---- */

enum pf_job_kind { PF_JOB_IN, PF_JOB_OUT, PF_JOB_RUN, PF_JOB_HOST };
enum { PF_JOB_AFTER = 3 };
#define PF_JOB_NONE UINT32_MAX

struct pf_job {
	enum pf_job_kind kind;
	uint32_t device;               /* which card, from 0; not for HOST */
	uint32_t after[PF_JOB_AFTER];  /* earlier jobs that must be done, or PF_JOB_NONE */
	int      kernel;               /* RUN */
	struct pf_run_cost cost;       /* RUN */
	double   bytes;                /* IN, OUT */
	unsigned bank;                 /* IN, OUT: bank class */
	double   seconds;              /* HOST */
};
struct pf_job_times { double ready, start, end; };     /* s: dependencies done, taken up, done */

struct pf_cycles_result {
	double   seconds;              /* until the last job is done */
	double   busy_in, busy_out, busy_runs, busy_host;      /* s in which some job of the kind was under way */
	double   bytes_in, bytes_out, bytes_banks;             /* moved in all */
	double   class_share[PF_CYCLES_CLASSES];               /* of what the class could have moved in `seconds` */
};

/* Plays job[jobs] on `devices` equal cards with cus compute units of every kernel each. times[jobs] may be NULL.
 * Errors: a dependency that is not earlier, a device, bank class or figure out of range */
PF_API int pf_cycles_play(const struct pf_cycles_card *card, uint32_t devices, uint32_t cus, const struct pf_job *job,
                          size_t jobs, struct pf_job_times *times, struct pf_cycles_result *result,
                          struct pf_error *error);

/* How doubtful the result is: the relative change of `seconds` when one figure changes by its doubt. The figures are
 * those of struct pf_cycles_card by name; doubts follow the grade: 0.1 measured, 0.2 quoted, 0.5 assumed. Two more are
 * of the kernels where no report replaces what is derived: "cycles", 0.1 more or fewer, and "interval", one cycle
 * longer for every loop (its doubt is 0, for it is no share). figures: what is played, such as a clock that a report
 * gave; NULL: those of the card */
struct pf_cycles_doubt { const char *figure; double doubt, low, high; };
PF_API int pf_cycles_doubts(const char *card, const struct pf_cycles_card *figures, uint32_t devices, uint32_t cus,
                            const struct pf_job *job, size_t jobs, struct pf_cycles_doubt *doubt, unsigned room,
                            unsigned *count, struct pf_error *error);
/* Seconds with every figure and "cycles" at the good end of their doubts at once, and with all at the bad end */
PF_API int pf_cycles_range(const char *card, const struct pf_cycles_card *figures, uint32_t devices, uint32_t cus,
                           const struct pf_job *job, size_t jobs, double *least, double *most, struct pf_error *error);
#ifdef __cplusplus
}
#endif
#endif
