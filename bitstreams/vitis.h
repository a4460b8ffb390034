/* vitis.h: what Vitis is told, for every release of it that we know: configuration of HLS, Tcl scripts, commands.
 *
 * Nothing here runs a tool. Every option and key is one that the vendor's documents name; tests/vitis_commands.py holds
 * them against tests/vectors/vitis_options.csv, which cites the document of each. No release has seen them yet. */
#ifndef PF_BITSTREAMS_VITIS_H
#define PF_BITSTREAMS_VITIS_H
#include "describe.h"

struct pf_vitis {
	const char *card, *release;    /* "u55c", "2023.2" */
	const char *image;             /* "fused", ...; NULL: the first */
	const char *target;            /* "csim", "csynth", "cosim", "hw_emu", "hw" */
	const char *source;            /* the tree */
	const char *benches;           /* folder with tb_<kernel>.c */
	const char *program;           /* prefpga, for `image pack` */
};

/* Rows of 64 multiply-adds that the fused head's kernels have on a card (cards.def); PF_ARRAY_WHOLE for others */
enum { PF_ARRAY_WHOLE = 4 };
unsigned pf_card_array(const char *card);
/* 0 if card, release and target are known and go together; else an error that says what does */
int pf_vitis_check(const struct pf_vitis *vitis, struct pf_error *error);
/* hls_config.cfg (UNIFIED) or a Tcl script (CLASSIC) of one kernel */
int pf_vitis_kernel(FILE *out, const struct pf_vitis *vitis, int kernel);
/* A shell script of everything from sources to the target, for a work folder that has kernels' configuration files
 * <kernel>.cfg or <kernel>.tcl and link.cfg */
int pf_vitis_commands(FILE *out, const struct pf_vitis *vitis, const struct pf_layout *layout);
/* Ports of each memory against its limit, for every image of the card or (not NULL) for one layout, and what is known
 * of the card's resources; markdown */
int pf_vitis_budget(FILE *out, const struct pf_layout *layout, const char *card, struct pf_error *error);
#endif
