/* emulation.h: the inside of prefpga/emulation.h. */
#ifndef PF_XRTMODEL_EMULATION_H
#define PF_XRTMODEL_EMULATION_H
#include "prefpga/emulation.h"

enum { PF_SESSION_PATH = 4096 };

struct pf_emulation {
	char folder[64];               /* /tmp/prefpga-<uid>/s<pid>-XXXXXX, short: sockets lie in it */
	int  lock;                     /* held as long as the session lives */
};

/* ---- session.c: folders below /tmp/prefpga-<uid>, each with a locked file ---- */
int  pf_session_open(struct pf_emulation *emulation, struct pf_error *error);
void pf_session_close(struct pf_emulation *emulation);
/* Removes what sessions left behind that are no longer alive; how many */
int  pf_session_sweep(const char *root);

/* ---- tree.c: what XRT finds in the folder ---- */
int  pf_tree_make(const char *folder, const struct pf_emulation_options *options,
                  struct pf_error *error);
#endif
