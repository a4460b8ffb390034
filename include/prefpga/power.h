/* power.h: sensors of electric power, and the energy between two moments.
 *
 * A sensor either shows power (a card's board, refreshed about once a second) or counts energy (a processor's RAPL).
 * What was read becomes a ledger of samples; energy over a span of time is an integral over it, with an interval that
 * follows from how often the sensor refreshes and how coarse its steps are. A span too short for the sensor is refused,
 * not estimated. Everything is read below a root folder, so that a recorded machine can be looked at on another.
 *
 * What is measured depends on the sensor and every figure carries it (enum pf_power_scope): a board's input, the rail
 * of the chip's core, a processor's package, its memory, the wall. They do not add up and must not be compared as if
 * they were one.
 *
 * Threads: finding and reading are thread-safe; a ledger is too, and has a thread of its own while it is sampling.
 * Sources: XRT core/pcie/driver/linux/xocl/subdev/{xmc,hwmon_sdm}.c and core/common/sensor.cpp; AVED
 * sw/AMI/driver/ami_hwmon.c; aws-fpga hdk/docs/afi_power.md; Linux Documentation/power/powercap/powercap.rst and
 * Documentation/hwmon/sysfs-interface.rst. */
#ifndef PREFPGA_POWER_H
#define PREFPGA_POWER_H
#include <stddef.h>
#include <stdint.h>
#include "error.h"
#ifdef __cplusplus
extern "C" {
#endif

enum pf_power_scope {
	PF_POWER_BOARD,                /* the card's input: 12 V and 3.3 V, slot and cable */
	PF_POWER_CHIP,                 /* the rail of the FPGA's core (VCCINT) only */
	PF_POWER_PACKAGE,              /* a processor's package */
	PF_POWER_DRAM,                 /* the memory behind a processor */
	PF_POWER_PLATFORM,             /* what the firmware calls the whole platform (RAPL psys) */
	PF_POWER_WALL                  /* a meter outside the machine */
};
/* "board", "chip", ...; NULL beyond */
PF_API const char *pf_power_scope_name(enum pf_power_scope scope);

enum pf_sensor_kind {
	PF_SENSOR_XMC,                 /* XRT's xmc_power: microwatts; the driver caches them cache_expire_secs */
	PF_SENSOR_HWMON,               /* powerN_input: microwatts, or with powerN_unitm in units of 10^unitm watts */
	PF_SENSOR_RAPL,                /* energy_uj: microjoules, wraps at max_energy_range_uj */
	PF_SENSOR_REPORT,              /* a file that `xrt-smi examine -r electrical -f JSON -o FILE` keeps writing */
	PF_SENSOR_AWS                  /* a file with what `fpga-describe-local-image -S 0 -M` printed */
};

struct pf_sensor {
	enum pf_sensor_kind kind;
	enum pf_power_scope scope;
	int      counts;               /* 1: counts energy; 0: shows power */
	char     name[96];             /* "xmc 0000:3b:00.1", "rapl package-0" */
	char     path[512];            /* the file that is read */
	double   refresh_s;            /* a value is at most so old when it is read */
	double   step;                 /* smallest step of a value: W, or J of a counter */
	double   range;                /* J at which a counter starts again at 0; 0 for power */
	double   unit;                 /* W or J of 1 in the file */
};

struct pf_sensor_options {
	const char *root;              /* folder in place of /; NULL: the machine's own */
	const char *report;            /* file of xrt-smi or xbutil, may be NULL */
	const char *aws;               /* file of fpga-describe-local-image, may be NULL */
};

/* Finds what can be read. *sensors: malloc, the caller frees. None: 0 and *count == 0. options may be NULL. *refused
 * (may be NULL): sensors that exist but cannot be used; its text says which and why (no permission: with the remedy;
 * only an average that the driver takes from another register) */
PF_API int pf_sensors_find(const struct pf_sensor_options *options, struct pf_sensor **sensors, size_t *count,
                           struct pf_error *refused);
/* Watts, or joules of a counter. Errors name the file and the remedy */
PF_API int pf_sensor_read(const struct pf_sensor *sensor, double *value, struct pf_error *error);

struct pf_ledger;

struct pf_ledger_options {
	const struct pf_sensor *sensor;        /* [sensors], copied */
	size_t   sensors;
	double   period_s;             /* between two samples of a sensor; 0: a fourth of its refresh, at least 10 ms */
};

/* An empty ledger. Close it */
PF_API int pf_ledger_open(const struct pf_ledger_options *options, struct pf_ledger **ledger, struct pf_error *error);
PF_API void pf_ledger_close(struct pf_ledger *ledger);                  /* NULL is allowed; stops sampling */
/* A thread of the ledger reads the sensors from now on, with times of CLOCK_MONOTONIC */
PF_API int pf_ledger_start(struct pf_ledger *ledger, struct pf_error *error);
/* Adds a sample by hand: what a file or a test knows. Times ascend per sensor; PF_E_DATA otherwise or if the value is
 * negative or not finite */
PF_API int pf_ledger_add(struct pf_ledger *ledger, size_t sensor, double seconds, double value, struct pf_error *error);
/* Samples before this time are dropped but for the last one: what will not be asked for again */
PF_API void pf_ledger_forget(struct pf_ledger *ledger, double before_s);
/* CLOCK_MONOTONIC in seconds: the clock of pf_ledger_start */
PF_API double pf_ledger_now(void);

/* A span that a sensor can see has so many of its refreshes */
#define PF_ENERGY_REFRESHES 10
/* Energy of [from, to). joule lies in [low, high] if the sensor keeps its promises (refresh, step); the sensor's own
 * calibration error is not in it, since nobody publishes it */
struct pf_energy {
	double   joule, low, high;
	double   watt_least, watt_most;        /* shown in the span */
	uint64_t samples;              /* taken within it */
};
/* PF_E_RANGE: the span is shorter than PF_ENERGY_REFRESHES, or than twice the longest hole in its samples, so the
 * sensor cannot see it: a longer one may do. -EAGAIN: the samples do not reach far enough beyond its end yet (a refresh
 * and a period). PF_E_DATA: no samples of its beginning, or the sensor cannot be read any more (the text says why) */
PF_API int pf_ledger_energy(struct pf_ledger *ledger, size_t sensor, double from_s, double to_s,
                            struct pf_energy *energy, struct pf_error *error);
/* The shortest span that pf_ledger_energy takes */
PF_API double pf_ledger_shortest(const struct pf_ledger *ledger, size_t sensor);
#ifdef __cplusplus
}
#endif
#endif
