#include "renew.h"
#include <stdio.h>
#include <string.h>

int pf_on_fault_find(const char *name)
{
	static const char *const names[] = { "stop", "retry", "reset", "cpu" };
	for (int i = 0; i < (int)(sizeof names / sizeof *names); i++)
		if (strcmp(names[i], name) == 0)
			return i;
	return -1;
}

int pf_device_repeats(struct pf_device *const *device, unsigned i)
{
	unsigned k = 0;
	while (k < i && device[k] != device[i])
		k++;
	return k < i;
}

static void say(const struct pf_renewal *r, const char *text)
{
	if (r->note)
		r->note(r->context, text);
}

/* Another working device of the run, or NULL */
static struct pf_device *colleague(const struct pf_renewal *r, unsigned i)
{
	for (unsigned k = 0; k < r->devices; k++)
		if (k != i && r->device[k] && pf_device_check(r->device[k], NULL) == 0)
			return r->device[k];
	return NULL;
}

static int on_host(struct pf_renewal *r, unsigned i, struct pf_error *error)
{
	char text[sizeof error->text + 64];
	int code = r->on_fault == PF_FAULT_CPU ? pf_device_open("cpu", r->options, &r->device[i], NULL) : PF_E_ABSENT;
	if (code)
		return error->code;
	snprintf(text, sizeof text, "%s; going on on the host, within its tolerance", error->text);
	say(r, text);
	return 0;
}

static int give_up(const struct pf_renewal *r, const struct pf_error *cause, struct pf_error *error)
{
	return pf_fail(error, cause->code, "%s: again after %u renewals without getting on", cause->text, r->futile);
}

static int recover(struct pf_renewal *r, unsigned i, const struct pf_error *cause, struct pf_error *error)
{
	if (r->futile >= PF_RENEWALS_FUTILE)
		return give_up(r, cause, error);
	r->recovery.most = r->on_fault >= PF_FAULT_RESET ? PF_RESET_MGMT : PF_RESET_NONE;
	return pf_device_recover(r->spec[i], r->options, &r->recovery, &r->device[i], error);
}

static int replace(struct pf_renewal *r, unsigned i, const struct pf_error *cause, struct pf_error *error)
{
	char text[sizeof error->text + 128];
	int code = recover(r, i, cause, error);
	if (code == 0) {
		snprintf(text, sizeof text, "%s works again after %u openings, %.0f s of waiting, reset: %s",
		         r->spec[i], r->recovery.opens, (double)r->recovery.waited_ns * 1e-9,
		         pf_reset_name(r->recovery.reset));
		say(r, text);
	} else if ((r->device[i] = colleague(r, i))) {
		snprintf(text, sizeof text, "%s; %s takes over its work", error->text,
		         pf_device_facts(r->device[i])->name);
		say(r, text);
		return 0;
	} else if (on_host(r, i, error) != 0)
		return error->code;
	if (r->opened)
		r->opened(r->context, r->device[i]);
	return 0;
}

/* Closes device i and clears all entries that are it */
static void drop(struct pf_renewal *r, unsigned i)
{
	struct pf_device *gone = r->device[i];
	for (unsigned k = 0; k < r->devices; k++)
		if (r->device[k] == gone)
			r->device[k] = NULL;
	pf_device_close(gone);
}

/* What the first failed device says, else what the run saw of it */
static void tell(const struct pf_renewal *r, const struct pf_error *why, struct pf_error *cause)
{
	*cause = *why;
	for (unsigned i = 0; i < r->devices; i++)
		if (r->device[i] && pf_device_failure(r->device[i], cause) != 0)
			return;
}

int pf_renew(struct pf_renewal *r, const struct pf_error *why, struct pf_error *error)
{
	struct pf_error cause;
	int code = 0, dropped = 0;
	tell(r, why, &cause);
	if (r->on_fault == PF_FAULT_STOP)
		return pf_fail(error, why->code, "%s", cause.text);
	say(r, cause.text);
	for (unsigned i = 0; i < r->devices; i++)
		if (r->device[i] && pf_device_check(r->device[i], NULL) != 0)
			drop(r, i), dropped = 1;
	if (!dropped && r->futile >= PF_RENEWALS_FUTILE)
		return give_up(r, &cause, error);
	for (unsigned i = 0; i < r->devices && code == 0; i++)
		if (!r->device[i])
			code = replace(r, i, &cause, error);
	r->renewals += code == 0;
	r->futile += code == 0;
	return code;
}
