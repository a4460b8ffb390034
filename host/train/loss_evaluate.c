/* Items in, losses and gradients out, through kernel pref of a device */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "loss_whole.h"
#include "prefpga/internal/kernels.h"

enum { PAR, PROG, ITEM, GROUP, OUT, BUFFERS };

/* What all launches of one evaluation share, and the staging memory of the largest of them */
struct session {
	struct pf_device   *device;
	struct pf_program  *program;
	double              par[PF_PAR_COUNT];
	struct pf_buf      *buf[BUFFERS];
	struct pf_item     *item;      /* [most] */
	uint32_t           *group;     /* [most + 1] */
	struct pf_item_out *out;       /* [most] */
};

/* ---- what can be wrong with a step ---- */

static int check_scalar(const char *name, double value, int used, int positive,
                        struct pf_error *error)
{
	if (used && !(isfinite(value) && (!positive || value > 0)))
		return pf_fail(error, PF_E_RANGE, "batch scalar %s = %g must be finite%s", name,
		               value, positive ? " and above 0" : "");
	return 0;
}

static int check_batch(const struct pf_program *program, const struct pf_loss_batch *batch,
                       struct pf_error *error)
{
	uint32_t used = program->scalars;
	int status = check_scalar("divisor", batch->divisor, 1, 1, error);

	if (!status)
		status = check_scalar("z0", batch->z0, used >> PF_PAR_Z0 & 1, 0, error);
	if (!status)
		status = check_scalar("delta", batch->delta, used >> PF_PAR_DELTA & 1, 0, error);
	if (!status)
		status = check_scalar("tokens", batch->tokens, used >> PF_PAR_TOKENS & 1, 1, error);
	if (!status)
		status = check_scalar("prompt_tokens", batch->prompt_tokens, used >> PF_PAR_PROMPT & 1, 0, error);
	return status;
}

/* A step without chosen items has no likelihood and nothing to divide */
static void allow_no_tokens(struct pf_loss_batch *batch, const struct pf_loss_item *items,
                            size_t count)
{
	for (size_t i = 0; i < count; i++)
		if (items[i].kind == PF_KIND_CHOSEN)
			return;
	batch->tokens = batch->tokens == 0 ? 1 : batch->tokens;
}

/* How many items of each kind a group of the form has; -1: any number */
struct members { int chosen, rejected, extra, prompt; };
static const struct members form_members[] = {
	[PF_FORM_TOKENS] = { -1, -1, -1, -1 }, [PF_FORM_PAIR] = { 1, 1, -1, -1 },
	[PF_FORM_TRIPLE] = { 1, 1, 1, -1 },    [PF_FORM_BINARY] = { -1, -1, 0, 0 },
	[PF_FORM_LIST] = { -1, -1, -1, 0 },    [PF_FORM_ROLLOUT] = { -1, 0, 0, 0 },
};

static int fits(int wanted, int found)
{
	return wanted < 0 || wanted == found;
}

static int check_members(enum pf_loss_form form, const struct pf_loss_item *item, uint32_t n,
                         size_t group, struct pf_error *error)
{
	const struct members *want = &form_members[form];
	struct members have = { 0, 0, 0, 0 };

	for (uint32_t i = 0; i < n; i++) {
		have.chosen += item[i].kind == PF_KIND_CHOSEN;
		have.rejected += item[i].kind == PF_KIND_REJECTED;
		have.extra += item[i].kind == PF_KIND_EXTRA;
		have.prompt += item[i].kind == PF_KIND_PROMPT;
	}
	if ((uint32_t)(have.chosen + have.rejected + have.extra + have.prompt) != n)
		return pf_fail(error, PF_E_DATA,
		               "group %zu: an item is neither chosen nor rejected nor extra nor a prompt",
		               group);
	if (!fits(want->chosen, have.chosen) || !fits(want->rejected, have.rejected) ||
	    !fits(want->extra, have.extra) || !fits(want->prompt, have.prompt))
		return pf_fail(
			error, PF_E_DATA,
			"group %zu has %d chosen, %d rejected and %d extra items and %d prompts, which is no %s",
			group, have.chosen, have.rejected, have.extra, have.prompt, pf_loss_form_name(form));
	return 0;
}

static int check_groups(const struct pf_loss *loss, const struct pf_loss_item *items, size_t count,
                        const uint32_t *groups, size_t group_count, struct pf_error *error)
{
	enum pf_loss_form form = pf_loss_form(loss);
	int status = 0;

	if (groups[0] != 0 || groups[group_count] != count)
		return pf_fail(error, PF_E_SHAPE,
		               "groups run from %u to %u instead of from 0 to %zu", groups[0],
		               groups[group_count], count);
	for (size_t g = 0; g < group_count && !status; g++) {
		if (groups[g + 1] <= groups[g] || groups[g + 1] > count)
			return pf_fail(error, PF_E_SHAPE, "group %zu is empty or runs backwards",
			               g);
		status = check_members(form, items + groups[g], groups[g + 1] - groups[g], g, error);
	}
	return status;
}

/* Lists take the square of their length */
static int check_lengths(const struct pf_program *program, const uint32_t *groups, size_t group_count,
                         struct pf_error *error)
{
	if (!(program->operations >> PF_OP_LOOP & 1))
		return 0;
	for (size_t g = 0; g < group_count; g++)
		if (groups[g + 1] - groups[g] > PF_ITEMS_MAX)
			return pf_fail(error, PF_E_RANGE, "group %zu: %u items are too many; a group has "
			               "at most %u", g, groups[g + 1] - groups[g], PF_ITEMS_MAX);
	return 0;
}

/* Items of a coupled loss are looked at together, and one without numbers would spoil all */
static int check_coupled(const struct pf_loss *loss, const struct pf_loss_item *items, size_t count,
                         struct pf_error *error)
{
	for (size_t i = 0; i < count; i++)
		if (items[i].status & PF_ROW_BAD || items[i].n == 0)
			return pf_fail(error, PF_E_NOT_FINITE, "item %zu has no log-prob, and loss %s "
			               "looks at all items of a step", i, loss->component[0].row->name);
	return 0;
}

/* ---- one launch ---- */

static int pack_item(const struct pf_loss_item *from, struct pf_item *to, size_t index,
                     struct pf_error *error)
{
	int64_t ratio;

	*to = (struct pf_item){ .n = from->n,
		                .kind = (uint32_t)from->kind,
		                .score = from->score,
		                .margin = from->margin,
		                .weight = from->weight,
		                .advantage = from->advantage,
		                .status = from->status };
	if (from->status & PF_ROW_BAD)
		return 0;              /* its sums mean nothing; the kernel marks the group */
	if (__builtin_sub_overflow(from->policy, from->reference, &ratio))
		return pf_fail(error, PF_E_RANGE,
		               "item %zu: the log-ratio %.10g - %.10g leaves the range of Q31.32, "
		               "+-2^31 nats",
		               index, ldexp((double)from->policy, -32),
		               ldexp((double)from->reference, -32));
	to->policy = from->policy;
	to->reference = from->reference;
	to->old = from->old;
	return 0;
}

static int copy_in(struct session *s, int which, const void *from, uint64_t bytes,
                   const struct pf_ticket *after, struct pf_ticket *ticket)
{
	return pf_copy_in(s->buf[which], 0, from, bytes, after, ticket);
}

static int submit(struct session *s, uint32_t items, uint32_t groups, struct pf_ticket *ticket)
{
	const struct pf_arg args[PF_ARG_pref_COUNT] = {
		[PF_ARG_pref_par] = { .buf = s->buf[PAR] },
		[PF_ARG_pref_prog] = { .buf = s->buf[PROG] },
		[PF_ARG_pref_item] = { .buf = s->buf[ITEM] },
		[PF_ARG_pref_group] = { .buf = s->buf[GROUP] },
		[PF_ARG_pref_out] = { .buf = s->buf[OUT] },
		[PF_ARG_pref_words] = { .val.u32 = s->program->words },
		[PF_ARG_pref_items] = { .val.u32 = items },
		[PF_ARG_pref_groups] = { .val.u32 = groups },
	};
	int status = copy_in(s, PAR, s->par, sizeof s->par, NULL, &ticket[0]);

	if (!status)
		status = copy_in(s, PROG, s->program->word, s->program->words * sizeof(uint32_t),
		                 &ticket[0], &ticket[1]);
	if (!status)
		status = copy_in(s, ITEM, s->item, items * sizeof *s->item, &ticket[1], &ticket[2]);
	if (!status)
		status = copy_in(s, GROUP, s->group, (groups + 1) * sizeof *s->group, &ticket[2],
		                 &ticket[3]);
	if (!status)
		status = pf_run(s->device, PF_KERNEL_pref, args, PF_ARG_pref_COUNT, &ticket[3],
		                &ticket[4]);
	if (!status)
		status = pf_copy_out(s->buf[OUT], 0, s->out, items * sizeof *s->out, &ticket[4],
		                     &ticket[5]);
	return status;
}

/* Every ticket is waited for, whatever failed: the staging memory stays ours until then */
static int launch(struct session *s, uint32_t items, uint32_t groups, struct pf_error *error)
{
	struct pf_ticket ticket[6];
	int status, first = 0;

	memset(ticket, 0, sizeof ticket);
	status = submit(s, items, groups, ticket);
	for (size_t i = 0; i < sizeof ticket / sizeof *ticket; i++) {
		int waited = pf_wait(&ticket[i], first ? NULL : error);
		first = first ? first : waited;
	}
	if (status && !first)
		return pf_fail(error, status, "kernel pref was not started: %s",
		               pf_error_text(status));
	return first;
}

/* On the device, or on the host what no launch holds */
static int evaluate_range(struct session *s, const struct pf_loss_item *items,
                          const uint32_t *groups, size_t first, size_t last,
                          struct pf_loss_result *result, struct pf_error *error)
{
	const uint32_t begin = groups[first], count = groups[last] - begin;
	const uint32_t group_count = (uint32_t)(last - first);
	const struct pf_whole whole = { s->program, s->par, s->item, s->group, count, group_count, s->out };
	int status = 0;

	for (uint32_t i = 0; i < count && !status; i++)
		status = pack_item(&items[begin + i], &s->item[i], begin + i, error);
	for (size_t g = first; g <= last; g++)
		s->group[g - first] = groups[g] - begin;
	if (!status)
		status = count > PF_ITEMS_MAX ? pf_loss_whole(&whole, error) : launch(s, count, group_count, error);
	for (uint32_t i = 0; i < count && !status; i++)
		result[begin + i] =
			(struct pf_loss_result){ s->out[i].loss, s->out[i].grad, s->out[i].status,
			                         s->out[i].group + (uint32_t)first };
	return status;
}

/* ---- sessions ---- */

static int session_open(struct session *s, uint32_t most, struct pf_error *error)
{
	const uint64_t launched = most < PF_ITEMS_MAX ? most : PF_ITEMS_MAX;
	const struct { unsigned arg; uint64_t bytes;
	} want[BUFFERS] = {
		[PAR] = { PF_ARG_pref_par, sizeof s->par },
		[PROG] = { PF_ARG_pref_prog, sizeof s->program->word },
		[ITEM] = { PF_ARG_pref_item, launched * sizeof *s->item },
		[GROUP] = { PF_ARG_pref_group, (launched + 1) * sizeof *s->group },
		[OUT] = { PF_ARG_pref_out, launched * sizeof *s->out },
	};
	int status = 0;

	s->item = calloc(most, sizeof *s->item);
	s->group = calloc((size_t)most + 1, sizeof *s->group);
	s->out = calloc(most, sizeof *s->out);
	if (!s->item || !s->group || !s->out)
		return pf_fail(error, -ENOMEM, "no memory for the %u preference items of a launch",
		               most);
	for (int i = 0; i < BUFFERS && !status; i++)
		status = pf_buf_alloc(s->device, PF_KERNEL_pref, want[i].arg, want[i].bytes,
		                      &s->buf[i], error);
	return status;
}

static void session_close(struct session *s)
{
	for (int i = 0; i < BUFFERS; i++)
		pf_buf_free(s->buf[i]);
	free(s->item);
	free(s->group);
	free(s->out);
}

/* Groups from `first` on that fit one launch; all of them if they belong together */
static size_t launch_end(const struct session *s, const uint32_t *groups, size_t group_count, size_t first)
{
	size_t last = pf_program_coupled(s->program) ? group_count : first + 1;

	while (last < group_count && groups[last + 1] - groups[first] <= PF_ITEMS_MAX)
		last++;
	return last;
}

static uint32_t most_items(const struct session *s, const uint32_t *groups, size_t group_count)
{
	uint32_t most = 0;

	for (size_t g = 0, end; g < group_count; g = end) {
		end = launch_end(s, groups, group_count, g);
		most = groups[end] - groups[g] > most ? groups[end] - groups[g] : most;
	}
	return most;
}

static int evaluate_all(struct session *s, const struct pf_loss_item *items, const uint32_t *groups,
                        size_t group_count, struct pf_loss_result *result, struct pf_error *error)
{
	int status = session_open(s, most_items(s, groups, group_count), error);

	for (size_t g = 0, end; g < group_count && !status; g = end) {
		end = launch_end(s, groups, group_count, g);
		status = evaluate_range(s, items, groups, g, end, result, error);
	}
	session_close(s);
	return status;
}

int pf_loss_evaluate(struct pf_device *device, const struct pf_loss *loss,
                     const struct pf_loss_batch *batch, const struct pf_loss_item *items,
                     size_t count, const uint32_t *groups, size_t group_count,
                     struct pf_loss_result *result, struct pf_error *error)
{
	struct pf_program program;
	struct session session = { .device = device, .program = &program };
	struct pf_loss_batch scalars = *batch;
	int status = 0;

	if (group_count > 0)
		status = check_groups(loss, items, count, groups, group_count, error);
	if (status || group_count == 0)
		return status;
	status = pf_program_build(&program, loss, error);
	if (!status)
		status = check_lengths(&program, groups, group_count, error);
	if (!status && pf_program_coupled(&program))
		status = check_coupled(loss, items, count, error);
	allow_no_tokens(&scalars, items, count);
	if (!status)
		status = check_batch(&program, &scalars, error);
	if (status)
		return status;
	pf_program_par(&program, loss, &scalars, session.par);
	return evaluate_all(&session, items, groups, group_count, result, error);
}

double pf_loss_total(const struct pf_loss *loss, const struct pf_loss_batch *batch,
                     const struct pf_loss_result *result, size_t count, size_t *invalid)
{
	int per_item = pf_loss_per_item(loss);
	double sum = 0;
	size_t bad = 0;

	for (size_t i = 0; i < count; i++) {
		if (!per_item && i > 0 && result[i].group == result[i - 1].group)
			continue;
		if (isfinite(result[i].loss))
			sum += result[i].loss;
		else
			bad++;
	}
	if (invalid)
		*invalid = bad;
	return sum / batch->divisor;
}
