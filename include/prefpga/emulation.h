/* emulation.h: XRT's software emulation without a vendor tool: the real XRT library, our kernels.
 *
 * A session is a private folder: links to the installed XRT (a cured copy where the distribution's
 * emulation library is defective), a device process in the place where XRT looks for Vitis' one, a
 * description of the emulated card, and room for what XRT writes. Installed files are never
 * touched. Sessions that died leave their folder behind; the next one removes it.
 * Threads: a session belongs to one. */
#ifndef PREFPGA_EMULATION_H
#define PREFPGA_EMULATION_H
#include "error.h"
#ifdef __cplusplus
extern "C" {
#endif

struct pf_emulation;

struct pf_emulation_options {
	const char *model;             /* the device process; NULL: beside the program or the library */
	const char *image;             /* what the emulated card is loaded with; NULL: likewise */
	const char *xrt;               /* folder with XRT's libraries; NULL: the usual places */
	unsigned    cards;             /* how many there are; 0: one */
};

/* PF_E_ABSENT: XRT, the device process or the image is missing; the text says how to get it */
PF_API int pf_emulation_open(const struct pf_emulation_options *options,
                             struct pf_emulation **emulation, struct pf_error *error);
/* Removes the folder. NULL is allowed */
PF_API void pf_emulation_close(struct pf_emulation *emulation);
PF_API const char *pf_emulation_folder(const struct pf_emulation *emulation);

/* How a command ended */
struct pf_emulation_end {
	int code;                      /* exit code; 128 + signal if it died from one */
	int timed_out;
	int card_died;                 /* the device process died; XRT then ends the command */
};
/* Runs argv[0] (looked up in PATH) inside the session, in a process group of its own that is
 * removed afterwards. SIGINT, SIGTERM and SIGHUP sent to this process go on to the group. After
 * limit_ms (0: none) the group is ended. Returns 0 and fills *end, or an error if it did not start */
PF_API int pf_emulation_run(const struct pf_emulation *emulation, char *const argv[],
                            unsigned limit_ms, struct pf_emulation_end *end,
                            struct pf_error *error);
#ifdef __cplusplus
}
#endif
#endif
