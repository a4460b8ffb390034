/* Reports of Vitis HLS: whatever a file holds, figures stay finite and loops have names. */
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include "prefpga/internal/kernels.h"
#include "prefpga/reports.h"

static void look(double value)
{
	if (!(value >= 0.0) || !isfinite(value))
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const uint32_t value[] = { 100, 1000, 63, 0 };
	struct pf_reports *r = pf_reports_new();
	struct pf_run_cost cost;
	struct pf_error error = { 0 };
	if (!r)
		abort();
	if (pf_report_csynth(r, "x.xml", (const char *)data, size, &error) != 0 && !error.text[0])
		abort();
	pf_report_cosim(r, "x.rpt", PF_KERNEL_pref, (const char *)data, size, NULL);
	pf_report_cosim(r, "x.rpt", PF_KERNEL_logprob, (const char *)data, size, NULL);
	if (pf_report_runs(r, "x.txt", PF_KERNEL_logprob, (const char *)data, size, &error) != 0 && !error.text[0])
		abort();
	for (int k = 0; k < PF_KERNEL_COUNT; k++) {
		const struct pf_kernel_report *one = pf_report_of(r, k);
		look(one->target_ns);
		look(one->estimated_ns);
		look(one->latency_most);
		for (unsigned i = 0; i < one->loops; i++) {
			look(one->loop[i].ii);
			look(one->loop[i].depth);
			if (!memchr(one->loop[i].name, '\0', PF_REPORT_NAME))
				abort();
		}
	}
	if (pf_reports_cost(r, 0, PF_KERNEL_logprob, value, 4, &cost, NULL) == 0)
		look(cost.cycles);
	pf_reports_close(r);
	return 0;
}
