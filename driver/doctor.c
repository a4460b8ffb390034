/* One verdict per card, from what discovery has found of its functions. No libpci here. */
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "card_sysfs.h"
#include "prefpga/internal/card_facts.def"
#include "prefpga/internal/cards.def"
#include "prefpga/internal/verdicts.def"

enum { PATH_BYTES = 4096, HOT_CELSIUS = 90, DETAIL_BYTES = 128 };

/* What conditions look at */
struct subject {
	const struct pf_machine_report *machine;
	const struct pf_card_report    *report;
	const struct pf_card_function  *function;      /* report->functions of them */
	const struct pf_card_function  *user, *mgmt;   /* NULL: none */
	int                             sysfs;         /* there is a /sys to look into */
	char                            detail[DETAIL_BYTES];
};

static void detail(struct subject *s, const char *text)
{
	snprintf(s->detail, sizeof s->detail, "%s", text);
}

/* ---- conditions ---- */
static int holds_off_bus(struct subject *s)
{
	for (size_t i = 0; i < s->report->functions; i++)
		if (s->function[i].alive == 0)
			return 1;
	return 0;
}

static int holds_golden(struct subject *s)
{
	for (size_t i = 0; i < s->report->functions; i++)
		if (strcmp(s->function[i].role, "golden") == 0) {
			detail(s, s->function[i].bdf);
			return 1;
		}
	return 0;
}

static int holds_dropped(struct subject *s)
{
	static const struct { const char *card; unsigned major, minor; } last[] = {
#define LAST_ROW(card, major, minor) { #card, major, minor },
		PF_CARD_LAST_XRT(LAST_ROW)
	};
	const char *version = s->machine->driver[0] ? s->machine->driver : s->machine->xrt;
	unsigned major, minor;
	if (sscanf(version, "%u.%u", &major, &minor) != 2)
		return 0;
	for (size_t i = 0; i < sizeof last / sizeof *last; i++)
		if (strcmp(last[i].card, s->report->card) == 0
		    && (major > last[i].major || (major == last[i].major && minor > last[i].minor))) {
			snprintf(s->detail, sizeof s->detail, "%u.%u, the last that does is %u.%u", major, minor,
			         last[i].major, last[i].minor);
			return 1;
		}
	return 0;
}

static int is_aws(const struct subject *s)
{
	return s->function[0].vendor == 0x1d0f;
}

static int holds_mgmt_only(struct subject *s)
{
	return !s->user;
}

static int holds_driverless(struct subject *s)
{
	return s->sysfs && !s->user->driver[0] && !is_aws(s);
}

/* Two stacks may hold a V80: XRT's driver, or AMI's and SLASH's own */
static int own_stack(const char *driver)
{
	return strcmp(driver, "ami") == 0 || strncmp(driver, "slash", 5) == 0;
}

static int holds_foreign(struct subject *s)
{
	const char *driver = s->user->driver;
	if (!driver[0] || strcmp(driver, "xocl") == 0 || own_stack(driver) || is_aws(s))
		return 0;
	detail(s, driver);
	return 1;
}

static int holds_forbidden(struct subject *s)
{
	detail(s, s->user->bdf);
	return s->user->accessible == 0;
}

static int holds_firewall(struct subject *s)
{
	int level = s->user->firewall > 0 || !s->mgmt ? s->user->firewall : s->mgmt->firewall;
	snprintf(s->detail, sizeof s->detail, "%d", level);
	return level > 0;
}

static int holds_hot(struct subject *s)
{
	int celsius = s->user->celsius > 0 || !s->mgmt ? s->user->celsius : s->mgmt->celsius;
	snprintf(s->detail, sizeof s->detail, "%d", celsius);
	return celsius >= HOT_CELSIUS;
}

static int holds_shellless(struct subject *s)
{
	return s->sysfs && strcmp(s->user->driver, "xocl") == 0 && !s->user->shell[0];
}

static int holds_xrtless(struct subject *s)
{
	return s->sysfs && strcmp(s->user->driver, "xocl") == 0 && !s->machine->xrt[0];
}

static int holds_foreign_stack(struct subject *s)
{
	const char *driver = s->user->driver;
	if (!is_aws(s) && !own_stack(driver))
		return 0;
	snprintf(s->detail, sizeof s->detail, "%.40s%.40s", is_aws(s) ? "an instance of AWS" : "its driver is ",
	         is_aws(s) ? "" : driver);
	return 1;
}

static int holds_imageless(struct subject *s)
{
#define HAS_IMAGE(name, ...) \
	if (strcmp(s->report->card, #name) == 0) \
		return 0;
	PF_CARDS(HAS_IMAGE)
	return 1;
}

static int holds_unseen(struct subject *s)
{
	return !s->sysfs;
}

static int holds_degraded(struct subject *s)
{
	detail(s, s->report->degraded);
	return s->report->degraded[0] != '\0';
}

static int holds_ready(struct subject *s)
{
	(void)s;
	return 1;
}

static const struct verdict {
	const char    *name;
	enum pf_health health;
	const char    *text, *remedy;
	int          (*holds)(struct subject *s);
} verdicts[] = {
#define VERDICT_ROW(name, health, text, remedy) { #name, PF_HEALTH_##health, text, remedy, holds_##name },
	PF_VERDICTS(VERDICT_ROW)
};

/* `format` with its %s, if it has one, replaced */
static void fill(char *text, size_t size, const char *format, const char *with)
{
	const char *mark = strstr(format, "%s");
	if (mark)
		snprintf(text, size, "%.*s%s%s", (int)(mark - format), format, with, mark + 2);
	else
		snprintf(text, size, "%s", format);
}

/* ---- a card ---- */
static double giga_transfers(const char *speed)
{
	return strtod(speed, NULL);
}

static unsigned power_cap(const char *card)
{
	static const struct { const char *card, *figure; double value; } facts[] = {
#define FACT_ROW(card, figure, value, ...) { #card, #figure, value },
		PF_CARD_FACTS(FACT_ROW)
	};
	for (size_t i = 0; i < sizeof facts / sizeof *facts; i++)
		if (strcmp(facts[i].card, card) == 0 && strcmp(facts[i].figure, "power_cap_w") == 0)
			return (unsigned)facts[i].value;
	return 0;
}

static void judge_link(const struct pf_card_function *f, struct pf_card_report *report)
{
	int slow = giga_transfers(f->link_speed) < giga_transfers(f->link_speed_max);
	if (f->link_width && (f->link_width < f->link_width_max || slow))
		snprintf(report->degraded, sizeof report->degraded, "x%u at %s of x%u at %s", f->link_width,
			 f->link_speed, f->link_width_max, f->link_speed_max);
}

static void judge(const struct pf_machine_report *machine, int sysfs, struct pf_card_report *report)
{
	struct subject s = { .machine = machine, .report = report, .sysfs = sysfs,
	                     .function = &machine->function[report->first] };
	for (size_t i = 0; i < report->functions; i++) {
		if (strcmp(s.function[i].role, "user") == 0 && !s.user)
			s.user = &s.function[i];
		if (strcmp(s.function[i].role, "mgmt") == 0)
			s.mgmt = &s.function[i];
	}
	report->power_cap_w = power_cap(report->card);
	judge_link(s.user ? s.user : s.function, report);
	for (size_t i = 0; i < sizeof verdicts / sizeof *verdicts; i++) {
		s.detail[0] = '\0';
		if (!verdicts[i].holds(&s))
			continue;
		report->verdict = verdicts[i].name;
		report->health = verdicts[i].health;
		fill(report->text, sizeof report->text, verdicts[i].text, s.detail);
		fill(report->remedy, sizeof report->remedy, verdicts[i].remedy, s.detail);
		return;
	}
}

/* Functions of one slot and card are a card; they stand side by side */
static void gather(struct pf_machine_report *machine)
{
	for (size_t i = 0; i < machine->functions; i++) {
		const struct pf_card_function *f = &machine->function[i];
		struct pf_card_report *last = machine->cards ? &machine->card[machine->cards - 1] : NULL;
		size_t slot = strcspn(f->bdf, ".");
		if (last && strncmp(last->slot, f->bdf, slot) == 0 && !last->slot[slot] &&
		    strcmp(last->card, f->card) == 0) {
			last->functions++;
			continue;
		}
		struct pf_card_report *made = &machine->card[machine->cards++];
		made->first = i;
		made->functions = 1;
		made->card = f->card;
		snprintf(made->slot, sizeof made->slot, "%.*s", (int)slot, f->bdf);
	}
}

/* ---- XRT ---- */
/* "libxrt_coreutil.so.2.13.0" */
static void library_version(const char *folder, char version[32])
{
	struct dirent *entry;
	unsigned major, minor;
	DIR *dir = opendir(folder);
	while (dir && (entry = readdir(dir)))
		if (sscanf(entry->d_name, "libxrt_coreutil.so.%u.%u", &major, &minor) == 2)
			snprintf(version, 32, "%u.%u", major, minor);
	if (dir)
		closedir(dir);
}

static void find_xrt(const char *root, struct pf_machine_report *machine)
{
	static const char *const folders[] = { "/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib64",
	                                       "/usr/lib", "/opt/xilinx/xrt/lib" };
	char path[PATH_BYTES];
	for (size_t i = 0; i < sizeof folders / sizeof *folders; i++) {
		snprintf(path, sizeof path, "%s%s", root, folders[i]);
		library_version(path, machine->xrt);
	}
	snprintf(path, sizeof path, "%s/sys/module/xocl/version", root);
	pf_card_sysfs_line(path, machine->driver, sizeof machine->driver);
	machine->driver[strcspn(machine->driver, ",")] = '\0';
}

int pf_examine(const struct pf_discover_options *options, struct pf_machine_report *machine, struct pf_error *error)
{
	int sysfs = !options || options->sysfs_root || !options->pci_dump;
	memset(machine, 0, sizeof *machine);
	int code = pf_discover(options, &machine->function, &machine->functions, error);
	if (code)
		return code;
	if (sysfs)
		find_xrt(options && options->sysfs_root ? options->sysfs_root : "", machine);
	machine->card = calloc(machine->functions + 1, sizeof *machine->card);
	if (!machine->card) {
		pf_machine_free(machine);
		return pf_fail(error, -ENOMEM, "out of memory");
	}
	gather(machine);
	for (size_t i = 0; i < machine->cards; i++)
		judge(machine, sysfs, &machine->card[i]);
	return 0;
}

void pf_machine_free(struct pf_machine_report *machine)
{
	free(machine->function);
	free(machine->card);
	memset(machine, 0, sizeof *machine);
}
