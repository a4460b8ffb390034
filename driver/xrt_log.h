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
#endif
