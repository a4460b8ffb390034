/* Devices by name: "name[:where]" against the table of backends that the build put in. */
#include <stdio.h>
#include <string.h>
#include "prefpga/internal/backend.h"
#include "prefpga/internal/nearest.h"

#define PF_BACKEND(name) extern const struct pf_backend pf_backend_##name;
#include "backends.def"
#undef PF_BACKEND
#define PF_BACKEND(name) &pf_backend_##name,
static const struct pf_backend *const backends[] = {
#include "backends.def"
};
#undef PF_BACKEND
enum { BACKENDS = sizeof backends / sizeof *backends };

const char *pf_backend_name(unsigned i)
{
	return i < BACKENDS ? backends[i]->name : NULL;
}

static const struct pf_backend *pf_backend_named(const char *name, size_t length)
{
	for (unsigned i = 0; i < BACKENDS; i++)
		if (strlen(backends[i]->name) == length && strncmp(backends[i]->name, name, length) == 0)
			return backends[i];
	return NULL;
}

static int pf_backend_unknown(const char *spec, int length, struct pf_error *error)
{
	char name[64], known[256] = "auto", meant[96] = "";
	const char *best = NULL;
	size_t used = strlen(known);
	snprintf(name, sizeof name, "%.*s", length, spec);
	pf_name_nearest(name, "auto", &best);
	for (unsigned i = 0; i < BACKENDS && used < sizeof known; i++) {
		used += (size_t)snprintf(known + used, sizeof known - used, ", %s", backends[i]->name);
		pf_name_nearest(name, backends[i]->name, &best);
	}
	if (best)
		snprintf(meant, sizeof meant, "; did you mean \"%s\"?", best);
	return pf_fail(error, PF_E_UNKNOWN, "there is no device \"%s\"; this build knows %s%s", name, known, meant);
}

/* The first of these that is built in and opens */
static const char *const automatic[] = { "xrt", "cpu" };

static int pf_device_open_auto(const struct pf_device_options *options, struct pf_device **device,
                               struct pf_error *error)
{
	char why[sizeof error->text] = "no backend of this build can";
	size_t used = 0;
	for (size_t i = 0; i < sizeof automatic / sizeof *automatic; i++) {
		const struct pf_backend *backend = pf_backend_named(automatic[i], strlen(automatic[i]));
		struct pf_error one = { 0 };
		if (!backend)
			continue;
		if (pf_device_open_backend(backend, "", options, device, &one) == 0)
			return 0;
		if (used < sizeof why)
			used += (size_t)snprintf(why + used, sizeof why - used, "%s%s", used ? "; " : "", one.text);
	}
	return pf_fail(error, PF_E_ABSENT, "auto: %s", why);
}

int pf_backend_find(const char *spec, const struct pf_backend **backend, const char **where, struct pf_error *error)
{
	size_t length = strcspn(spec, ":");
	*backend = pf_backend_named(spec, length);
	*where = spec[length] ? spec + length + 1 : "";
	return *backend ? 0 : pf_backend_unknown(spec, (int)length, error);
}

int pf_device_open(const char *spec, const struct pf_device_options *options, struct pf_device **device,
                   struct pf_error *error)
{
	const struct pf_backend *backend;
	const char *where;
	*device = NULL;
	if (spec && strchr(spec, ','))
		return pf_fail(error, PF_E_ARGUMENT, "\"%s\" names several devices; one is wanted here", spec);
	if (spec && strcmp(spec, "auto") == 0)
		return pf_device_open_auto(options, device, error);
	int code = pf_backend_find(spec ? spec : "", &backend, &where, error);
	return code ? code : pf_device_open_backend(backend, where, options, device, error);
}
