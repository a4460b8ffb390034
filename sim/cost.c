/* What one run of a kernel costs, from the tables. */
#include <math.h>
#include <string.h>
#include "prefpga/cycles.h"
#include "prefpga/internal/backend.h"
#include "prefpga/internal/cycles.def"
#include "prefpga/internal/operations.def"
#include "reports.h"

#define BEATS(elements, lanes) ceil((elements) / (double)(lanes))
#define LEAST(a, b) fmin(a, b)
#define BIT(mode, bit) ((uint32_t)(mode) & (bit) ? 1.0 : 0.0)

struct counts { double trips, entries, seen; };
struct loop {
	enum pf_kernel kernel;
	const char *file, *label;
	double ii, depth;
	struct counts (*count)(const uint32_t *value, double array);
};
struct work { enum pf_kernel kernel; const char *file, *label; double dsp, lut, onchip; };

/* Every loop becomes a function of its kernel's scalars, by name */
#define PF_SCALAR_IN(kernel, name)
#define PF_SCALAR_OUT(kernel, name)
#define PF_SCALAR_INOUT(kernel, name)
#define PF_SCALAR_VAL(kernel, name) const double name = value[PF_ARG_##kernel##_##name]; (void)name;
#define PF_SCALAR(kernel, name, dir, ctype, ports, bundle, bank, count) PF_SCALAR_##dir(kernel, name)
#define PF_LOOP_COUNT(kernel, file, label, ii, trips_of, entries_of, seen_of, depth) \
	static struct counts count_##kernel##_##label(const uint32_t *value, double array) \
	{ \
		(void)array; \
		PF_ARGS_##kernel(PF_SCALAR, PF_NOTHING) \
		return (struct counts){ trips_of, entries_of, seen_of }; \
	}
PF_LOOPS(PF_LOOP_COUNT)

#define PF_LOOP_ROW(kernel, file, label, ii, trips, entries, seen, depth) \
	{ PF_KERNEL_##kernel, #file, #label, ii, depth, count_##kernel##_##label },
static const struct loop loops[] = { PF_LOOPS(PF_LOOP_ROW) };
enum { LOOPS = sizeof loops / sizeof *loops };

#define PF_WORK_ROW(kernel, file, label, claimed, derived, why, depth, dsp, lut, onchip) \
	{ PF_KERNEL_##kernel, #file, #label, dsp, lut, onchip },
static const struct work works[] = { PF_OPERATIONS(PF_WORK_ROW) };
static const struct work works_half[] = { PF_OPERATIONS_HALF(PF_WORK_ROW) };   /* those that differ */
enum { WORKS = sizeof works / sizeof *works, WORKS_HALF = sizeof works_half / sizeof *works_half, ARRAY = 4 };

static const struct work *find_work(const struct work *list, int count, const struct loop *loop)
{
	for (int i = 0; i < count; i++)
		if (list[i].kernel == loop->kernel && strcmp(list[i].file, loop->file) == 0 &&
		    strcmp(list[i].label, loop->label) == 0)
			return &list[i];
	return NULL;
}

static void add_work(const struct loop *loop, uint32_t array, double trips, struct pf_run_cost *cost)
{
	const struct work *w = array < ARRAY ? find_work(works_half, WORKS_HALF, loop) : NULL;
	w = w ? w : find_work(works, WORKS, loop);
	if (!w)
		return;
	cost->dsp_operations += trips * w->dsp;
	cost->lut_operations += trips * w->lut;
	cost->onchip_bytes += trips * w->onchip;
}

/* First argument on the bundle of argument i */
static unsigned port_of(const struct pf_kernel_row *row, unsigned i)
{
	unsigned first = 0;
	while (strcmp(row->arg[first].bundle, row->arg[i].bundle) != 0)
		first++;
	return first;
}

/* Bytes of every argument by bank class, and of the busiest direction of a port: reads and writes of one do not wait
 * for each other */
static void add_bytes(int kernel, const uint32_t *value, struct pf_run_cost *cost)
{
	const struct pf_kernel_row *row = &pf_kernel_rows[kernel];
	double in[PF_ARGS_MAX] = { 0 }, out[PF_ARGS_MAX] = { 0 };
	for (unsigned i = 0; i < row->count; i++) {
		const struct pf_arg_row *arg = &row->arg[i];
		const unsigned port = port_of(row, i);
		if (arg->dir == PF_DIR_VAL)
			continue;
		const double bytes = (double)row->elements(i, value) * arg->size *
		                     (double)pf_kernel_passes((enum pf_kernel)kernel, i, value);
		in[port] += arg->dir == PF_DIR_OUT ? 0.0 : bytes;
		out[port] += arg->dir == PF_DIR_IN ? 0.0 : bytes;
		cost->bytes[arg->bank] += arg->dir == PF_DIR_INOUT ? 2.0 * bytes : bytes;
		cost->port_most = fmax(cost->port_most, fmax(in[port], out[port]));
	}
}

/* The slowest loop of that label, alone or behind those that the tool made one with it */
static const struct pf_loop_report *find_report(const struct pf_reports *reports, const struct loop *loop)
{
	const struct pf_kernel_report *r = reports ? pf_report_of(reports, loop->kernel) : NULL;
	const struct pf_loop_report *found = NULL;
	const size_t length = strlen(loop->label);
	for (unsigned i = 0; r && i < r->loops; i++) {
		const size_t own = strlen(r->loop[i].name);
		const char *tail = r->loop[i].name + (own < length ? 0 : own - length);
		if (strcmp(tail, loop->label) != 0 || (tail > r->loop[i].name && tail[-1] != '_'))
			continue;
		if (!found || r->loop[i].ii > found->ii)
			found = &r->loop[i];
	}
	return found;
}

static void add_cycles(const struct loop *loop, const struct counts *n, const struct pf_loop_report *report,
                       struct pf_run_cost *cost)
{
	if (!(n->entries > 0.0))
		return;
	const double trips = n->seen * n->trips / n->entries;
	const double ii = report ? report->ii : loop->ii, depth = report ? report->depth : loop->depth;
	const double cycles = trips * ii + n->seen * depth;
	cost->cycles += cycles;
	cost->cycles_reported += report ? cycles : 0.0;
	cost->cycles_doubted += report ? 0.0 : trips;
}

static int loops_cost(const struct pf_reports *reports, uint32_t array, int kernel, const uint32_t *value,
                      unsigned values, struct pf_run_cost *cost, struct pf_error *error)
{
	uint32_t all[PF_ARGS_MAX] = { 0 };
	unsigned scalars = 0, found = 0;
	*cost = (struct pf_run_cost){ 0 };
	array = array ? array : ARRAY;
	if (kernel < 0 || kernel >= PF_KERNEL_COUNT)
		return pf_fail(error, PF_E_ARGUMENT, "kernel number %d", kernel);
	if (array != ARRAY && 2 * array != ARRAY)
		return pf_fail(error, PF_E_RANGE, "an array of %u rows: 4 and 2 are possible", array);
	const struct pf_kernel_row *row = &pf_kernel_rows[kernel];
	if (reports && pf_report_of(reports, kernel)->cosim == PF_COSIM_FAIL)
		return pf_fail(error, PF_E_DATA, "cosim of kernel %s failed: what was synthesised is not this kernel",
		               row->name);
	for (unsigned i = 0; i < row->count; i++)
		if (row->arg[i].dir == PF_DIR_VAL && scalars++ < values)
			all[i] = value[scalars - 1];
	if (scalars != values)
		return pf_fail(error, PF_E_ARGUMENT, "kernel %s has %u scalars, not %u", row->name, scalars, values);
	for (unsigned i = 0; i < LOOPS; i++) {
		if ((int)loops[i].kernel != kernel)
			continue;
		const struct counts n = loops[i].count(all, array);
		add_cycles(&loops[i], &n, find_report(reports, &loops[i]), cost);
		add_work(&loops[i], array, n.trips, cost);
		found++;
	}
	if (!found)
		return pf_fail(error, PF_E_UNSUPPORTED, "kernel %s has no loops in cycles.def", row->name);
	add_bytes(kernel, all, cost);
	return 0;
}

/* ---- cosim ---- */

unsigned pf_report_scalars(int kernel)
{
	unsigned scalars = 0;
	for (unsigned i = 0; i < pf_kernel_rows[kernel].count; i++)
		scalars += pf_kernel_rows[kernel].arg[i].dir == PF_DIR_VAL;
	return scalars;
}

/* The model's cycles of cosim's runs: fewest, mean, most */
static int model_runs(const struct pf_reports *reports, uint32_t array, int kernel, double model[3])
{
	const struct pf_kernel_report *r = pf_report_of(reports, kernel);
	double sum = 0.0;
	for (unsigned i = 0; i < r->runs; i++) {
		struct pf_run_cost cost;
		if (loops_cost(reports, array, kernel, r->run[i], pf_report_scalars(kernel), &cost, NULL) != 0)
			return 0;
		model[0] = i ? fmin(model[0], cost.cycles) : cost.cycles;
		model[2] = i ? fmax(model[2], cost.cycles) : cost.cycles;
		sum += cost.cycles;
	}
	model[1] = r->runs ? sum / r->runs : 0.0;
	return r->runs > 0 && model[1] > 0.0;
}

int pf_reports_calibration(const struct pf_reports *reports, uint32_t array, int kernel, double *factor, double *start)
{
	const struct pf_kernel_report *r = reports ? pf_report_of(reports, kernel) : NULL;
	double model[3];
	*factor = 1.0;
	*start = 0.0;
	if (!r || r->cosim != PF_COSIM_PASS || !(r->latency_mean > 0.0) || kernel == PF_KERNEL_pref ||
	    !model_runs(reports, array, kernel, model))
		return 0;
	if (model[2] > 1.01 * model[0] && r->latency_most > r->latency_least)
		*factor = (r->latency_most - r->latency_least) / (model[2] - model[0]);
	*start = r->latency_mean - *factor * model[1];
	if (*start < 0.0) {                    /* no run begins before it is started */
		*factor = r->latency_mean / model[1];
		*start = 0.0;
	}
	return 1;
}

int pf_reports_cost(const struct pf_reports *reports, uint32_t array, int kernel, const uint32_t *value,
                    unsigned values, struct pf_run_cost *cost, struct pf_error *error)
{
	double factor, start;
	const int code = loops_cost(reports, array, kernel, value, values, cost, error);
	if (code || !pf_reports_calibration(reports, array, kernel, &factor, &start))
		return code;
	cost->cycles = factor * cost->cycles + start;
	cost->cycles_reported = factor * cost->cycles_reported + start;
	if (factor != 1.0) {                   /* cosim's runs say how all of them grow, whoever gave the intervals */
		cost->cycles_reported = cost->cycles;
		cost->cycles_doubted = 0.0;
	}
	return 0;
}

int pf_cycles_cost(int kernel, const uint32_t *value, unsigned values, struct pf_run_cost *cost,
                   struct pf_error *error)
{
	return pf_reports_cost(NULL, 0, kernel, value, values, cost, error);
}
