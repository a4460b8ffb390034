/* energy.h: the electric energy that a schedule of copies and kernel runs would take on a card: a model, not a
 * measurement.
 *
 * Energy is activity times energies per unit of activity, plus the card's power at rest for as long as the schedule
 * takes (cycles.h):
 *
 *	kernel   operations of DSP slices and LUTs, bytes to and from on-chip memories, bytes of the banks' traffic
 *	link     bytes over PCIe, and what the banks take to deliver or store them
 *	rest     board power at rest x seconds x cards
 *
 * Nobody publishes these figures for our kernels, so each comes from energy.def as an interval with its source and
 * grade. Every result is an interval too: all figures at their low ends and the fastest schedule against all at their
 * high ends and the slowest. It is wide, and honest about that; nothing here may be printed without the word
 * `modelled`. The host's energy is not in it, nor the loss of a power supply.
 *
 * Thread-safe: nothing here has state. Source of the method: activity x unit energy as in M. Horowitz, "Computing's
 * energy problem", ISSCC 2014; sources of the figures: energy.def. */
#ifndef PREFPGA_ENERGY_H
#define PREFPGA_ENERGY_H
#include <stddef.h>
#include <stdint.h>
#include "cycles.h"
#include "error.h"
#ifdef __cplusplus
extern "C" {
#endif

/* An interval with the value in between; the unit is said where it is used */
struct pf_interval { double value, low, high; };

/* Joules per unit of each kind of activity */
enum pf_energy_unit {
	PF_ENERGY_DSP,                 /* one DSP slice busy for one cycle */
	PF_ENERGY_LUT,                 /* one LUT of an operator busy for one cycle, with its part of wires and clock */
	PF_ENERGY_ONCHIP,              /* a byte read from or written to BRAM or URAM */
	PF_ENERGY_HBM,                 /* a byte between chip and HBM */
	PF_ENERGY_DDR,                 /* a byte between chip and DDR4 */
	PF_ENERGY_LINK,                /* a byte over PCIe */
	PF_ENERGY_UNITS
};

/* A figure of energy.def. card: "any" for energies per unit (J), else watts of that card at rest */
struct pf_energy_fact {
	const char *card, *name, *text, *source;
	struct pf_interval is;
	enum pf_fact_grade grade;
};
/* Fact i, NULL past the last */
PF_API const struct pf_energy_fact *pf_energy_fact(unsigned i);

/* What the model needs of a card; pf_energy_card fills it, a caller may change it */
struct pf_energy_card {
	struct pf_interval unit[PF_ENERGY_UNITS];      /* J */
	struct pf_interval rest_w;                     /* of the whole board */
	enum pf_energy_unit bank[PF_CYCLES_CLASSES];   /* PF_ENERGY_HBM or PF_ENERGY_DDR behind each bank class */
};
/* "u55c", ... PF_E_UNKNOWN lists the cards */
PF_API int pf_energy_card(const char *name, struct pf_energy_card *card, struct pf_error *error);

enum { PF_ENERGY_KERNELS = 16 };       /* room for every kernel of the table, by its number */

/* Joules, modelled. kernel + link + rest = total, in every field; operations + onchip + banks = the sum over kernel */
struct pf_energy_modelled {
	struct pf_interval kernel[PF_ENERGY_KERNELS];  /* by enum pf_kernel as int, without the board at rest */
	struct pf_interval link, rest, total;
	struct pf_interval operations, onchip, banks;  /* the same as kernel[], by kind of activity */
	struct pf_interval seconds;                    /* s, not J: how long it takes */
};

/* Of job[jobs] that take `seconds` on `devices` cards. PF_E_RANGE: a job, an interval or a figure that is out of range
 * (an interval is low <= value <= high, none negative) */
PF_API int pf_energy_of(const struct pf_energy_card *card, uint32_t devices, const struct pf_job *job, size_t jobs,
                        struct pf_interval seconds, struct pf_energy_modelled *energy, struct pf_error *error);

/* The same on a card of the tables: seconds from pf_cycles_play, their interval from pf_cycles_range. figures: as
 * there */
PF_API int pf_energy_play(const char *card, const struct pf_cycles_card *figures, uint32_t devices, uint32_t cus,
                          const struct pf_job *job, size_t jobs, struct pf_energy_modelled *energy,
                          struct pf_error *error);
#ifdef __cplusplus
}
#endif
#endif
