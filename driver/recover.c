#include "prefpga/recover.h"
#include <errno.h>
#include <string.h>
#include <time.h>
#include "prefpga/internal/backend.h"

#define PF_SECOND_NS 1000000000u
enum { WAITS = 5 };                    /* of 1, 2, 4, 8, 16 s */

const char *pf_reset_name(enum pf_reset level)
{
	static const char *const names[] = { "none", "user", "management" };
	return (unsigned)level < sizeof names / sizeof *names ? names[level] : NULL;
}

int pf_device_lost(int code)
{
	return code == PF_E_DEVICE || code == PF_E_TIMEOUT || code == PF_E_DEPENDENCY || code == PF_E_CLOSED;
}

/* ---- the check: kernel seq_sum, which every image has, over one sequence whose sum is known ---- */
enum { CHECK_ROWS = 64 };
struct check {
	struct pf_buf *row, *span, *out;
	struct pf_ticket ticket[4];
	struct pf_row    rows[CHECK_ROWS];
	int64_t          sum;
};

static int check_alloc(struct pf_device *device, struct check *c, struct pf_error *error)
{
	int code = pf_buf_alloc(device, PF_CHECK_KERNEL, PF_ARG_seq_sum_row, sizeof c->rows, &c->row, error);
	if (code == 0)
		code = pf_buf_alloc(device, PF_CHECK_KERNEL, PF_ARG_seq_sum_span, sizeof(struct pf_span), &c->span,
		                    error);
	if (code == 0)
		code = pf_buf_alloc(device, PF_CHECK_KERNEL, PF_ARG_seq_sum_out, sizeof(struct pf_seq), &c->out,
		                    error);
	for (int64_t i = 0; i < CHECK_ROWS; i++)
		c->sum += c->rows[i].logp_q32 = -(INT64_C(1) << 32) * (i + 1) - i * i;
	return code;
}

static int check_run(struct pf_device *device, struct check *c, struct pf_seq *result, struct pf_error *error)
{
	const struct pf_span span = { 0, CHECK_ROWS, CHECK_ROWS, 0 };
	struct pf_arg arg[PF_ARG_seq_sum_COUNT] = { { .buf = c->row }, { .buf = c->span }, { .buf = c->out } };
	int code = 0;
	arg[PF_ARG_seq_sum_rows].val.u32 = CHECK_ROWS;
	arg[PF_ARG_seq_sum_seqs].val.u32 = 1;
	pf_copy_in(c->row, 0, c->rows, sizeof c->rows, NULL, &c->ticket[0]);
	pf_copy_in(c->span, 0, &span, sizeof span, &c->ticket[0], &c->ticket[1]);
	pf_run(device, PF_CHECK_KERNEL, arg, PF_ARG_seq_sum_COUNT, &c->ticket[1], &c->ticket[2]);
	pf_copy_out(c->out, 0, result, sizeof *result, &c->ticket[2], &c->ticket[3]);
	for (unsigned i = 0; i < 4; i++) {
		int one = pf_wait(&c->ticket[i], code ? NULL : error);
		code = code ? code : one;
	}
	return code;
}

int pf_device_check(struct pf_device *device, struct pf_error *error)
{
	struct check c = { 0 };
	struct pf_seq result = { 0 };
	if (pf_device_cus(device, PF_CHECK_KERNEL) == 0)
		return 0;                      /* an image without that kernel: nothing to compare */
	int code = check_alloc(device, &c, error);
	if (code == 0)
		code = check_run(device, &c, &result, error);
	if (code == 0 && (result.logp != c.sum || result.n != CHECK_ROWS || result.status != 0))
		code = pf_fail(error, PF_E_DEVICE, "%s: kernel seq_sum computes %lld where %lld is right",
		               pf_device_facts(device)->name, (long long)result.logp, (long long)c.sum);
	pf_buf_free(c.row);
	pf_buf_free(c.span);
	pf_buf_free(c.out);
	return code;
}

/* ---- the ladder ---- */
static void wait_ns(struct pf_recovery *recovery, uint64_t ns)
{
	struct timespec time = { (time_t)(ns / PF_SECOND_NS), (long)(ns % PF_SECOND_NS) };
	recovery->waited_ns += ns;
	if (recovery->sleep)
		recovery->sleep(recovery->context, ns);
	else
		while (nanosleep(&time, &time) != 0 && errno == EINTR)
			;
}

/* Worth waiting for: somebody else has the card, or it is on its way back */
static int passes(int code)
{
	return code == -EBUSY || code == -EAGAIN || code == PF_E_DEVICE;
}

/* Opens, patiently, and checks; a device that fails the check is closed again */
static int open_checked(const char *spec, const struct pf_device_options *options, struct pf_recovery *recovery,
                        struct pf_device **device, struct pf_error *error)
{
	int code;
	for (unsigned i = 0;; i++) {
		recovery->opens++;
		code = pf_device_open(spec, options, device, error);
		if (i == WAITS || !passes(code))
			break;
		wait_ns(recovery, (uint64_t)PF_SECOND_NS << i);
	}
	if (code == 0 && (code = pf_device_check(*device, error)) != 0) {
		pf_device_close(*device);
		*device = NULL;
	}
	return code;
}

int pf_device_reset(const char *spec, enum pf_reset level, struct pf_error *error)
{
	const struct pf_backend *backend;
	const char *where;
	int code = pf_backend_find(spec, &backend, &where, error);
	if (code)
		return code;
	if (!backend->reset)
		return pf_fail(error, PF_E_UNSUPPORTED, "%s: a device of backend %s has no reset", spec, backend->name);
	return backend->reset(where, level, error);
}

int pf_device_recover(const char *spec, const struct pf_device_options *options, struct pf_recovery *recovery,
                      struct pf_device **device, struct pf_error *error)
{
	struct pf_error why = { 0 };
	recovery->opens = 0;
	recovery->waited_ns = 0;
	recovery->reset = PF_RESET_NONE;
	*device = NULL;
	int code = open_checked(spec, options, recovery, device, error);
	for (int level = PF_RESET_USER; pf_device_lost(code) && level <= (int)recovery->most; level++) {
		if (pf_device_reset(spec, (enum pf_reset)level, &why) != 0)
			continue;
		recovery->reset = (enum pf_reset)level;
		code = open_checked(spec, options, recovery, device, error);
	}
	if (pf_device_lost(code) && why.text[0])
		return pf_fail(error, code, "%s; a cold boot of the machine is left to try", why.text);
	return code;
}
