/* The log of a run: what is taken ascends, and can be drawn. */
#define _GNU_SOURCE
#include "host/report/panels.h"
#include "host/report/run_log.h"
#include "tests/fuzz/fuzz_file.h"

static void draw(const struct pf_run_log *log, const char *const *key, unsigned keys)
{
	struct pf_panels panels = { .panels = keys, .runs = 1, .run = { log->seen[0] }, .across = "step" };
	FILE *out = fopen("/dev/null", "w");
	for (unsigned k = 0; k < keys; k++) {
		panels.title[k] = key[k];
		panels.series[k][0] = (struct pf_series){ log->step, log->value[k], log->steps };
	}
	if (!out)
		abort();
	pf_panels_svg(&panels, out);
	fclose(out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const char *const key[] = { "loss", "lr" };
	struct pf_run_log log;
	struct pf_error error = { 0 };
	char path[64];
	const int file = fuzz_file(data, size, path);
	const int code = pf_run_log_read(path, key, 2, &log, &error);
	if (code && !error.text[0])
		abort();
	for (size_t i = 1; !code && i < log.steps; i++)
		if (!(log.step[i] > log.step[i - 1]))
			abort();
	if (!code)
		draw(&log, key, 2);
	pf_run_log_close(&log);
	close(file);
	return 0;
}
