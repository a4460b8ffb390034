#define _GNU_SOURCE                            /* memfd_create */
#include "xrt_log.h"
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/types.h>
#include <unistd.h>

enum { TAIL_BYTES = 4096 };

static struct {
	pthread_mutex_t lock;
	int             file;
	off_t           read;          /* up to here; guarded by the lock */
	char            path[64];
} xrt_log = { .lock = PTHREAD_MUTEX_INITIALIZER, .file = -1 };

const char *pf_xrt_log_open(void)
{
	xrt_log.file = memfd_create("prefpga-xrt-log", MFD_CLOEXEC);
	snprintf(xrt_log.path, sizeof xrt_log.path, "/proc/self/fd/%d", xrt_log.file);
	return xrt_log.file < 0 ? NULL : xrt_log.path;
}

/* What is new, at most the last TAIL_BYTES - 1 of it */
static void take_tail(char tail[TAIL_BYTES])
{
	pthread_mutex_lock(&xrt_log.lock);
	off_t end = xrt_log.file < 0 ? 0 : lseek(xrt_log.file, 0, SEEK_END), from = xrt_log.read;
	if (end - from >= TAIL_BYTES)
		from = end - TAIL_BYTES + 1;
	ssize_t got = end > from ? pread(xrt_log.file, tail, (size_t)(end - from), from) : 0;
	xrt_log.read = end;
	pthread_mutex_unlock(&xrt_log.lock);
	tail[got > 0 ? got : 0] = '\0';
}

/* Lines: "[time] [tag] Tid: number,  ERROR: message" */
const char *pf_xrt_log_last(char *text, size_t size)
{
	char tail[TAIL_BYTES], *rest;
	text[0] = '\0';
	take_tail(tail);
	for (char *line = strtok_r(tail, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
		char *message = strstr(line, "] Tid: ");
		if (message && (message = strstr(message, ", ")))
			snprintf(text, size, ": XRT: %s", message + strspn(message, ", "));
	}
	return text;
}

#define RESETS "xrt-smi reset, else xbmgmt reset, else a cold boot"
static const struct {
	const char *said, *remedy;
} remedies[] = {
	{ "does not match shell on card", "; build the image for the shell that `prefpga doctor` shows" },
	{ "is in use, can't change", "; another program holds the card with another image: end it, or use its image" },
	{ "isn't signed properly", "; the card's driver takes signed images only: ask who runs this machine" },
	{ "Not enough host_mem", "; give XRT host memory: xrt-smi configure --host-mem" },
	{ "make sure host bank is enabled", "; give XRT host memory: xrt-smi configure --host-mem" },
	{ "reach out to mgmt", "; the management daemon (msd, mpd) does not answer: start it on the machine's host" },
	{ "was deadlocked", "; a compute unit hangs: " RESETS },
	{ "irewall", "; the card's AXI firewall tripped: " RESETS },
};

const char *pf_xrt_remedy(const char *said, const char *otherwise)
{
	for (size_t i = 0; i < sizeof remedies / sizeof *remedies; i++)
		if (strstr(said, remedies[i].said))
			return remedies[i].remedy;
	return otherwise;
}
