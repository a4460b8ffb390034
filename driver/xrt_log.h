/* xrt_log.h: what XRT says, caught in a file without a name so that errors can quote it.
 *
 * XRT's C API reports failures by -1 or NULL and writes the reason to its log: one per process,
 * chosen before its first message. Thread-safe; messages of several threads may be mixed up. */
#ifndef PF_DRIVER_XRT_LOG_H
#define PF_DRIVER_XRT_LOG_H
#include <stddef.h>

/* Makes the file; the path to give to XRT, or NULL. Call once */
const char *pf_xrt_log_open(void);
/* The last message since the last call as ": XRT: <message>", or "" */
const char *pf_xrt_log_last(char *text, size_t size);
/* What to do about what XRT said, as "; <remedy>"; `otherwise` if it said nothing we know. The texts are those of XRT's
 * shim (core/pcie/linux/shim.cpp) */
const char *pf_xrt_remedy(const char *said, const char *otherwise);
#endif
