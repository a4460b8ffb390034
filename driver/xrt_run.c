/* Runs of backend xrt: arguments by index, start, and a wait that the watchdog can end. */
#include <stdio.h>
#include <string.h>
#include "poll.h"
#include "xrt_card.h"

/* The part of a buffer that an argument gets; *part: a sub-buffer to free, if one was needed */
static xrtBufferHandle argument(const struct pf_launch *launch, unsigned i, xrtBufferHandle *part)
{
	xrtBufferHandle whole = launch->memory[i]->buffer;
	if (!launch->offset[i] || !launch->bytes[i])
		return whole;
	return *part = pf_xrt.xrtBOSubAlloc(whole, launch->bytes[i], launch->offset[i]);
}

static int set_scalar(xrtRunHandle run, const struct pf_launch *launch, unsigned i)
{
	float value;
	memcpy(&value, &launch->value[i], sizeof value);
	if (pf_kernel_rows[launch->kernel].arg[i].is_float)
		return pf_xrt.xrtRunSetArg(run, (int)i, (double)value);   /* as C promotes it */
	return pf_xrt.xrtRunSetArg(run, (int)i, launch->value[i]);
}

static int set_args(xrtRunHandle run, const struct pf_launch *launch, xrtBufferHandle *part)
{
	for (unsigned i = 0; i < launch->count; i++) {
		xrtBufferHandle buffer = NULL;
		if (!launch->memory[i]) {
			if (set_scalar(run, launch, i) != 0)
				return -1;
			continue;
		}
		buffer = argument(launch, i, &part[i]);
		if (!buffer || pf_xrt.xrtRunSetArg(run, (int)i, buffer) != 0)
			return -1;
	}
	return 0;
}

static int finish(struct pf_xrt_cu *cu, struct pf_error *error)
{
	enum ert_cmd_state state;
	for (unsigned round = 0;; round++) {
		state = pf_xrt.xrtRunState(cu->run);
		if (state == ERT_CMD_STATE_COMPLETED)
			return 0;
		if (state > ERT_CMD_STATE_COMPLETED && state != ERT_CMD_STATE_SUBMITTED)
			break;
		if (atomic_load(&cu->abort)) {
			cu->lost = 1;
			return pf_fail(error, PF_E_TIMEOUT, "run given up; its unit goes on");
		}
		pf_poll_pause(round);
	}
	char what[96];
	snprintf(what, sizeof what, "run ended in state %d (5 error, 6 abort, 8 timeout, "
	         "9 no response)", (int)state);
	return pf_xrt_fail(error, PF_E_DEVICE, what, PF_XRT_RESET);
}

int pf_xrt_run(void *opaque, unsigned number, const struct pf_launch *launch,
                   struct pf_error *error)
{
	struct pf_xrt_card *card = opaque;
	struct pf_xrt_cu *cu = &card->cu[launch->kernel][number];
	xrtBufferHandle part[PF_ARGS_MAX] = { NULL };
	int status = 0;
	if (cu->lost)
		return pf_fail(error, PF_E_DEVICE, "compute unit %u of %s hangs since a run was given "
		               "up" PF_XRT_RESET, number, pf_kernel_rows[launch->kernel].name);
	atomic_store(&cu->abort, 0);
	if (!cu->run)
		cu->run = pf_xrt.xrtRunOpen(cu->kernel);
	if (!cu->run || set_args(cu->run, launch, part) != 0)
		status = pf_xrt_fail(error, PF_E_DEVICE, "arguments refused", "");
	else if (pf_xrt.xrtRunStart(cu->run) != 0)
		status = pf_xrt_fail(error, PF_E_DEVICE, "run refused", PF_XRT_RESET);
	else
		status = finish(cu, error);
	for (unsigned i = 0; i < launch->count; i++)
		if (part[i] && !cu->lost)
			pf_xrt.xrtBOFree(part[i]);
	return status;
}

/* The unit goes on, since no API stops it; only the wait ends */
int pf_xrt_abort(void *opaque, enum pf_kernel kernel, unsigned number)
{
	struct pf_xrt_card *card = opaque;
	atomic_store(&card->cu[kernel][number].abort, 1);
	return 0;
}

void pf_xrt_cu_close(struct pf_xrt_cu *cu)
{
	if (cu->run)
		pf_xrt.xrtRunClose(cu->run);
	if (cu->kernel)
		pf_xrt.xrtKernelClose(cu->kernel);
}
