/* Reports below a folder, and the cost of a run by them. */
#include "reports.h"
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { LEVELS = 12, PATH = 4096, LARGEST = 64 << 20 };

struct pf_reports *pf_reports_new(void)
{
	return calloc(1, sizeof(struct pf_reports));
}

void pf_reports_close(struct pf_reports *reports)
{
	free(reports);
}

const struct pf_kernel_report *pf_report_of(const struct pf_reports *reports, int kernel)
{
	return &reports->kernel[kernel];
}

static int read_file(const char *path, char **text, size_t *bytes, struct pf_error *error)
{
	struct stat about;
	FILE *file = fopen(path, "rb");
	*text = NULL;
	if (!file)
		return pf_fail(error, -errno, "%s: %s", path, strerror(errno));
	const int code = fstat(fileno(file), &about) != 0 ? errno : about.st_size > LARGEST ? EFBIG : 0;
	*bytes = code ? 0 : (size_t)about.st_size;
	*text = code ? NULL : malloc(*bytes + 1);
	const int whole = *text && fread(*text, 1, *bytes, file) == *bytes;
	fclose(file);
	if (whole)
		return 0;
	free(*text);
	*text = NULL;
	return pf_fail(error, code ? -code : -EIO, "%s: %s", path, code ? strerror(code) : "cannot be read whole");
}

static int ends(const char *name, const char *with)
{
	const size_t n = strlen(name), w = strlen(with);
	return n >= w && strcmp(name + n - w, with) == 0;
}

/* A file of the folder, if it is a report; counts those that are */
static int take(struct pf_reports *reports, const char *path, const char *name, unsigned *found, struct pf_error *error)
{
	const int kernel = pf_report_kernel(name, strlen(name));
	const int csynth = strcmp(name, "csynth.xml") == 0 || (kernel >= 0 && ends(name, "_csynth.xml"));
	const int cosim = kernel >= 0 && ends(name, "_cosim.rpt"), runs = kernel >= 0 && ends(name, "_runs.txt");
	char *text;
	size_t bytes = 0;
	if (!csynth && !cosim && !runs)
		return 0;
	int code = read_file(path, &text, &bytes, error);
	if (!code)
		code = csynth  ? pf_report_csynth(reports, path, text, bytes, error)
		       : cosim ? pf_report_cosim(reports, path, kernel, text, bytes, error)
		               : pf_report_runs(reports, path, kernel, text, bytes, error);
	free(text);
	*found += (unsigned)!runs;             /* without a report they say nothing */
	return code;
}

static int walk(struct pf_reports *reports, const char *folder, int level, unsigned *found, struct pf_error *error)
{
	DIR *open = opendir(folder);
	struct dirent *entry;
	int code = 0;
	if (!open)
		return pf_fail(error, -errno, "%s: %s", folder, strerror(errno));
	while (!code && (entry = readdir(open))) {
		char path[PATH];
		struct stat about;
		if (entry->d_name[0] == '.' ||
		    snprintf(path, sizeof path, "%s/%s", folder, entry->d_name) >= (int)sizeof path ||
		    lstat(path, &about) != 0)
			continue;
		if (S_ISDIR(about.st_mode) && level < LEVELS)
			code = walk(reports, path, level + 1, found, error);
		else if (S_ISREG(about.st_mode))
			code = take(reports, path, entry->d_name, found, error);
	}
	closedir(open);
	return code;
}

int pf_reports_open(const char *folder, struct pf_reports **reports, struct pf_error *error)
{
	unsigned found = 0;
	*reports = pf_reports_new();
	int code = *reports ? walk(*reports, folder, 0, &found, error) : pf_fail(error, -ENOMEM, "no memory");
	if (!code && !found)
		code = pf_fail(error, PF_E_UNKNOWN, "%s: no csynth.xml and no pf_k_<kernel>_cosim.rpt in it or below; "
		               "csynth_<card> and cosim_<card> make them", folder);
	if (code) {
		pf_reports_close(*reports);
		*reports = NULL;
	}
	return code;
}

void pf_reports_clock(const struct pf_reports *reports, struct pf_cycles_card *card)
{
	double slowest = 0.0;
	for (int k = 0; reports && k < PF_KERNEL_COUNT; k++) {
		const struct pf_kernel_report *r = &reports->kernel[k];
		const double needs = r->estimated_ns + r->uncertainty_ns;
		const double ns = needs > r->target_ns * 1.001 ? needs : r->target_ns;         /* both are rounded */
		slowest = r->synthesised && ns > slowest ? ns : slowest;
	}
	if (slowest > 0.0)
		card->clock_hz = 1e9 / slowest;
}
