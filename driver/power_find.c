/* Which sensors a machine has: RAPL zones, and what drivers of cards show below their PCI functions. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>
#include "power.h"

enum { PATH_BYTES = 512, WORD_BYTES = 96 };
#define MICRO 1e-6
/* What the sources in power.h say of refreshes; a RAPL counter moves about every millisecond (Intel SDM, vol. 3B) */
#define XMC_REFRESH_S 1.0
#define HWMON_REFRESH_S 1.0
#define RAPL_REFRESH_S 1e-3
#define REPORT_REFRESH_S 2.0           /* the driver's second, and the pace of whoever writes the file */
#define AWS_REFRESH_S 60.0

struct found {
	const char *root;
	struct pf_sensor *at;
	size_t count, room;
	struct pf_error *refused;
	int code;
};

/* ---- small files ---- */

/* First line of folder/name, "" if there is none */
static void read_word(const char *folder, const char *name, char word[WORD_BYTES])
{
	char path[2 * PATH_BYTES];
	snprintf(path, sizeof path, "%s/%s", folder, name);
	if (pf_power_slurp(path, word, WORD_BYTES) != 0)
		word[0] = '\0';
	word[strcspn(word, "\n")] = '\0';
}

static double read_number(const char *folder, const char *name, double otherwise)
{
	char word[WORD_BYTES];
	double value;
	read_word(folder, name, word);
	return pf_power_number(word, &value) == 0 ? value : otherwise;
}

static int exists(const char *folder, const char *name)
{
	char path[2 * PATH_BYTES];
	snprintf(path, sizeof path, "%s/%s", folder, name);
	return access(path, F_OK) == 0;
}

/* ---- the list ---- */

static void refuse(struct found *f, const char *path, const char *text)
{
	if (f->refused && f->refused->text[0])
		pf_fail_in(f->refused, "%s: %s; also", path, text);
	else
		pf_fail(f->refused, PF_E_UNSUPPORTED, "%s: %s", path, text);
}

/* Adds a sensor if it can be read at all */
static void add(struct found *f, const struct pf_sensor *sensor)
{
	struct pf_error error = { 0 };
	double value;
	if (f->code || strlen(sensor->path) + 1 >= sizeof sensor->path)
		return;
	if (pf_sensor_read(sensor, &value, &error) != 0) {
		refuse(f, sensor->name, error.text);
		return;
	}
	if (sensor->scope == PF_POWER_BOARD && !(value > 0.0)) {       /* XRT's answer where a shell measures nothing */
		refuse(f, sensor->path, "shows 0 W, which no board takes: this card or its shell does not measure it");
		return;
	}
	if (f->count == f->room) {
		const size_t room = f->room ? 2 * f->room : 8;
		struct pf_sensor *at = realloc(f->at, room * sizeof *at);
		if (!at) {
			f->code = -ENOMEM;
			return;
		}
		f->at = at;
		f->room = room;
	}
	f->at[f->count++] = *sensor;
}

static int by_name(const struct dirent **a, const struct dirent **b)
{
	return strcmp((*a)->d_name, (*b)->d_name);
}

static int not_hidden(const struct dirent *entry)
{
	return entry->d_name[0] != '.';
}

/* Calls visit(found, folder/<entry>, entry) for every entry that begins with `prefix`, in the order of their names */
static void each(struct found *f, const char *folder, const char *prefix,
                 void (*visit)(struct found *f, const char *path, const char *name))
{
	struct dirent **list;
	char path[PATH_BYTES];
	const int count = scandir(folder, &list, not_hidden, by_name);
	for (int i = 0; i < count; i++) {
		const int length = snprintf(path, sizeof path, "%s/%s", folder, list[i]->d_name);
		if (strncmp(list[i]->d_name, prefix, strlen(prefix)) == 0 && length < (int)sizeof path)
			visit(f, path, list[i]->d_name);
		free(list[i]);
	}
	if (count >= 0)
		free(list);
}

/* ---- RAPL ---- */

static int rapl_scope(const char *name, enum pf_power_scope *scope)
{
	static const struct { const char *prefix; enum pf_power_scope scope; } scopes[] = {
		{ "package-", PF_POWER_PACKAGE }, { "dram", PF_POWER_DRAM }, { "psys", PF_POWER_PLATFORM },
	};
	for (size_t i = 0; i < sizeof scopes / sizeof *scopes; i++)
		if (strncmp(name, scopes[i].prefix, strlen(scopes[i].prefix)) == 0) {
			*scope = scopes[i].scope;
			return 1;
		}
	return 0;                              /* core and uncore are parts of the package */
}

/* intel-rapl:0 is a package, intel-rapl:0:1 beside it a part of it; AMD's processors use the same names */
static void visit_zone(struct found *f, const char *path, const char *entry)
{
	struct pf_sensor s = { .kind = PF_SENSOR_RAPL, .counts = 1, .refresh_s = RAPL_REFRESH_S, .unit = MICRO };
	char name[WORD_BYTES];
	read_word(path, "name", name);
	if (!rapl_scope(name, &s.scope))
		return;
	const char *package = strchr(entry, ':') + 1;
	if (s.scope == PF_POWER_DRAM)
		snprintf(s.name, sizeof s.name, "rapl %.40s of package %.*s", name, (int)strcspn(package, ":"),
		         package);
	else
		snprintf(s.name, sizeof s.name, "rapl %.80s", name);
	snprintf(s.path, sizeof s.path, "%.490s/energy_uj", path);
	s.range = MICRO * read_number(path, "max_energy_range_uj", 0.0);
	s.step = 0x1p-14;                      /* J: the usual energy unit (Intel SDM) */
	if (s.range > 0.0)
		add(f, &s);
	else
		refuse(f, s.path, "no max_energy_range_uj beside it, so its wrap-around is unknown");
}

/* ---- cards ---- */

/* <function>/xmc.u.N/xmc_power or xmc.m.N: the driver's cache, as old as cache_expire_secs at most */
static void visit_xmc(struct found *f, const char *path, const char *entry)
{
	struct pf_sensor s = { .kind = PF_SENSOR_XMC, .scope = PF_POWER_BOARD, .unit = MICRO };
	char function[PATH_BYTES];
	(void)entry;
	if (!exists(path, "xmc_power"))
		return;
	snprintf(function, sizeof function, "%s", path);
	*strrchr(function, '/') = '\0';
	s.refresh_s = read_number(path, "cache_expire_secs", XMC_REFRESH_S);
	s.refresh_s = s.refresh_s > 0.0 ? s.refresh_s : XMC_REFRESH_S;
	s.step = 1e-3;                         /* products of mV and mA, whole milliwatts at best */
	snprintf(s.name, sizeof s.name, "xmc %.80s", strrchr(function, '/') + 1);
	snprintf(s.path, sizeof s.path, "%.500s/xmc_power", path);
	add(f, &s);
}

/* The input whose label says that it is the whole board's; the only one if nothing is labelled. 0: none */
static int board_input(const char *folder)
{
	int inputs = 0, first = 0;
	for (int i = 1; i <= 8; i++) {
		char name[32], label[WORD_BYTES];
		snprintf(name, sizeof name, "power%d_input", i);
		if (!exists(folder, name))
			continue;
		inputs++;
		first = first ? first : i;
		snprintf(name, sizeof name, "power%d_label", i);
		read_word(folder, name, label);
		if (strcasecmp(label, "Total Power") == 0 || strcasecmp(label, "POWER") == 0 ||
		    strcasecmp(label, "Total_Power") == 0)
			return i;
	}
	return inputs == 1 ? first : 0;
}

/* powerN_unitm of hwmon_sdm: the value is in units of 10^unitm watts. Without it the kernel's rule holds: microwatts */
static double input_unit(const char *folder, int input)
{
	char name[32], word[WORD_BYTES], *end;
	snprintf(name, sizeof name, "power%d_unitm", input);
	read_word(folder, name, word);
	const long power = strtol(word, &end, 10);
	return end != word && *end == '\0' && power >= -9 && power <= 3 ? pow(10.0, (double)power) : MICRO;
}

/* <function>/hwmon/hwmonN of xclmgmt, xocl or ami */
static void visit_hwmon(struct found *f, const char *path, const char *entry)
{
	struct pf_sensor s = { .kind = PF_SENSOR_HWMON, .scope = PF_POWER_BOARD };
	char function[PATH_BYTES];
	const int input = board_input(path);
	(void)entry;
	if (!input && exists(path, "power1_average"))
		refuse(f, path, "only power1_average is there: XRT fills it from the register of the largest value, so "
		       "it is not used");
	if (!input)
		return;
	snprintf(function, sizeof function, "%s", path);
	*strrchr(function, '/') = '\0';
	*strrchr(function, '/') = '\0';
	s.refresh_s = read_number(path, "update_interval", 1e3 * HWMON_REFRESH_S) * 1e-3;
	s.refresh_s = s.refresh_s > 0.0 ? s.refresh_s : HWMON_REFRESH_S;
	s.unit = input_unit(path, input);
	s.step = s.unit > 1e-3 ? s.unit : 1e-3;
	snprintf(s.name, sizeof s.name, "hwmon %.80s", strrchr(function, '/') + 1);
	snprintf(s.path, sizeof s.path, "%.480s/power%d_input", path, input);
	add(f, &s);
}

/* 1: a function of the same card has its sensor already. Names end in the BDF; its last digit is the function */
static int has_card(const struct found *f, const char *bdf)
{
	const size_t slot = strcspn(bdf, ".");
	for (size_t i = 0; i < f->count; i++)
		if (strncmp(strchr(f->at[i].name, ' ') + 1, bdf, slot) == 0)
			return 1;
	return 0;
}

/* Xilinx's functions only: other devices have hwmon folders too. XMC's own file serves before its hwmon */
static void visit_function(struct found *f, const char *path, const char *entry)
{
	char folder[PATH_BYTES + 16], vendor[WORD_BYTES];
	const size_t before = f->count;
	read_word(path, "vendor", vendor);
	if (strcmp(vendor, "0x10ee") != 0 || has_card(f, entry))
		return;
	each(f, path, "xmc.", visit_xmc);
	snprintf(folder, sizeof folder, "%s/hwmon", path);
	if (f->count == before)
		each(f, folder, "hwmon", visit_hwmon);
}

/* ---- files that other programs write ---- */

static void add_file(struct found *f, enum pf_sensor_kind kind, const char *path)
{
	struct pf_sensor s = { .kind = kind, .unit = 1.0 };
	if (!path)
		return;
	s.scope = kind == PF_SENSOR_AWS ? PF_POWER_CHIP : PF_POWER_BOARD;
	s.refresh_s = kind == PF_SENSOR_AWS ? AWS_REFRESH_S : REPORT_REFRESH_S;
	s.step = kind == PF_SENSOR_AWS ? 1.0 : 1e-3;
	snprintf(s.name, sizeof s.name, "%s", kind == PF_SENSOR_AWS ? "aws" : "report");
	if (snprintf(s.path, sizeof s.path, "%s", path) >= (int)sizeof s.path)
		refuse(f, s.name, "the path of the file is too long");
	else
		add(f, &s);
}

int pf_sensors_find(const struct pf_sensor_options *options, struct pf_sensor **sensors, size_t *count,
                    struct pf_error *refused)
{
	static const struct pf_sensor_options nothing;
	const struct pf_sensor_options *o = options ? options : &nothing;
	struct found f = { .root = o->root ? o->root : "", .refused = refused };
	char path[PATH_BYTES];
	*sensors = NULL;
	*count = 0;
	if (refused)
		*refused = (struct pf_error){ 0 };
	if (snprintf(path, sizeof path, "%s/sys/bus/pci/devices", f.root) >= (int)sizeof path)
		return pf_fail(refused, PF_E_RANGE, "the path of the root folder is too long");
	each(&f, path, "", visit_function);
	snprintf(path, sizeof path, "%s/sys/class/powercap", f.root);
	each(&f, path, "intel-rapl:", visit_zone);
	add_file(&f, PF_SENSOR_REPORT, o->report);
	add_file(&f, PF_SENSOR_AWS, o->aws);
	if (f.code) {
		free(f.at);
		return pf_fail(refused, f.code, "no memory for sensors");
	}
	*sensors = f.at;
	*count = f.count;
	return 0;
}
