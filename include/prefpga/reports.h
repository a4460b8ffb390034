/* reports.h: what Vitis HLS reported of the kernels, for the model of time: csynth.xml (intervals, depths, clock,
 * logic), <top>_cosim.rpt (passed or not, cycles of its runs) and <top>_runs.txt (which runs these were), wherever they
 * lie below a folder, such as the work folder of csynth_<card> or cosim_<card>.
 *
 * A loop of the sources is known by its label: `steps`, or behind the labels of loops that the tool made one with it,
 * `rows_steps`. Of several loops with a label the slowest counts.
 *
 * What cosim counted calibrates a kernel as a whole: with the cycles m of the model for the runs of the bench, by
 * csynth's figures where there are any, a run takes factor m + start, so that the mean of the runs is what cosim says,
 * and the spread between the fewest and the most cycles too where the runs differ. start is what no loop accounts for:
 * the run's control, the first bursts. Not for pref, whose cycles depend on its program.
 *
 * Runs are lines of the kernel's scalars as integers (floats by their bits), in the order of its arguments; # begins a
 * remark.
 *
 * Threads: a pf_reports is read by any number of threads. Formats: UG1399, "Synthesis Summary" and "C/RTL
 * Co-Simulation Report"; names of elements as public repositories show them (pc2/hpcc_fpga_eval_21 and others). No
 * report of these kernels has been seen yet. */
#ifndef PREFPGA_REPORTS_H
#define PREFPGA_REPORTS_H
#include <stdint.h>
#include "cycles.h"
#include "error.h"
#ifdef __cplusplus
extern "C" {
#endif

enum { PF_REPORT_LOOPS = 64, PF_REPORT_NAME = 64, PF_REPORT_RUNS = 16 };

struct pf_loop_report {
	char   name[PF_REPORT_NAME];
	double ii, depth;              /* cycles; of a pipelined loop */
};
enum pf_cosim { PF_COSIM_NONE, PF_COSIM_PASS, PF_COSIM_FAIL };

struct pf_kernel_report {
	int      synthesised;          /* 0: no csynth.xml of it, what follows is 0 */
	double   target_ns, estimated_ns, uncertainty_ns;      /* of the clock */
	double   dsp, lut, ff, bram18, uram;
	struct pf_loop_report loop[PF_REPORT_LOOPS];
	unsigned loops;
	enum pf_cosim cosim;
	double   latency_least, latency_mean, latency_most;    /* cycles of the runs of cosim; 0: not said */
	uint32_t run[PF_REPORT_RUNS][PF_CYCLES_VALUES];        /* [runs] the scalars of these runs */
	unsigned runs;
};

struct pf_reports;

/* Reads every csynth.xml, pf_k_*_csynth.xml, pf_k_*_cosim.rpt and pf_k_*_runs.txt below `folder`. PF_E_DATA names file
 * and line of what is not as expected; PF_E_UNKNOWN: there is none. The caller closes *reports */
PF_API int pf_reports_open(const char *folder, struct pf_reports **reports, struct pf_error *error);
PF_API void pf_reports_close(struct pf_reports *reports);                       /* NULL is allowed */
/* Report of a kernel (enum pf_kernel as int), never NULL for one */
PF_API const struct pf_kernel_report *pf_report_of(const struct pf_reports *reports, int kernel);

/* pf_cycles_cost with the intervals and depths that were reported, and as cosim calibrates it, for an array of so many
 * rows (struct pf_cycles_card); reports NULL, array 0: the same as pf_cycles_cost.
 * PF_E_DATA: cosim of this kernel failed, so its figures mean nothing */
PF_API int pf_reports_cost(const struct pf_reports *reports, uint32_t array, int kernel, const uint32_t *value,
                           unsigned values, struct pf_run_cost *cost, struct pf_error *error);
/* 1: cosim calibrates the kernel, by these figures; 0: no runs of it, or no latencies */
PF_API int pf_reports_calibration(const struct pf_reports *reports, uint32_t array, int kernel, double *factor,
                                  double *start);
/* The clock that all kernels reach by their synthesis: 1 / target where the estimate and its uncertainty keep it, else
 * what they add up to. Leaves the card alone if none is synthesised, or reports is NULL */
PF_API void pf_reports_clock(const struct pf_reports *reports, struct pf_cycles_card *card);

/* Takes what one file says, for tests and fuzzers. top: the kernel that a cosim report is of, from its file's name; the
 * name of the file is for messages */
PF_API int pf_report_csynth(struct pf_reports *reports, const char *name, const char *text, size_t bytes,
                            struct pf_error *error);
PF_API int pf_report_cosim(struct pf_reports *reports, const char *name, int kernel, const char *text, size_t bytes,
                           struct pf_error *error);
PF_API int pf_report_runs(struct pf_reports *reports, const char *name, int kernel, const char *text, size_t bytes,
                          struct pf_error *error);
PF_API struct pf_reports *pf_reports_new(void);                                 /* empty; NULL: no memory */
#ifdef __cplusplus
}
#endif
#endif
