/* Formulas: which data, which derivative, which words */
#include "expr.h"
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "expr_parse.h"
#include "expr_range.h"
#include "prefpga/internal/abi.h"

enum { ROWS_MOST = 64 };

/* ---- what a name is ---- */

static struct pf_range range_of(int name)
{
	static const struct pf_range logp = { -INFINITY, 0, 1, 0 }, count = { 1, INFINITY, 0, 1 },
				     any = { -INFINITY, INFINITY, 1, 1 };
	switch (name) {
	case PF_NAME_lw:
	case PF_NAME_ll:
	case PF_NAME_rw:
	case PF_NAME_rl:
	case PF_NAME_l:
	case PF_NAME_r: return logp;
	case PF_NAME_nw:
	case PF_NAME_nl:
	case PF_NAME_n: return count;
	case PF_NAME_y: return (struct pf_range){ 0, 1, 0, 0 };
	case PF_NAME_z0: return (struct pf_range){ 0, INFINITY, 0, 1 };
	case PF_NAME_x:
	case PF_NAME_margin:
	case PF_NAME_score: return any;
	default: return (struct pf_range){ 0, INFINITY, 1, 1 };        /* parameters */
	}
}

/* In the language of programs; the second: where every item has its own */
static const char *const words[PF_EXPR_NAME_COUNT][2] = {
	[PF_NAME_lw] = { "l is chosen * gsum", "" },     [PF_NAME_ll] = { "l is rejected * gsum", "" },
	[PF_NAME_rw] = { "r is chosen * gsum", "" },     [PF_NAME_rl] = { "r is rejected * gsum", "" },
	[PF_NAME_nw] = { "n is chosen * gsum", "" },     [PF_NAME_nl] = { "n is rejected * gsum", "" },
	[PF_NAME_x] = { "u sign * gsum beta *", "u beta *" },
	[PF_NAME_l] = { "l", "l" },                      [PF_NAME_r] = { "r", "r" },
	[PF_NAME_n] = { "n", "n" },                      [PF_NAME_y] = { "is chosen", "is chosen" },
	[PF_NAME_z0] = { "z0", "z0" },                   [PF_NAME_margin] = { "margin is chosen * gsum", "margin" },
	[PF_NAME_score] = { "score sign * gsum", "score" },
	[PF_NAME_is_chosen] = { "is chosen", "is chosen" }, [PF_NAME_is_rejected] = { "is rejected", "is rejected" },
	[PF_NAME_is_pair_sign] = { "sign", "sign" },
};

/* ---- programs ---- */

/* Deepest first, so that the stack stays low; what is used again goes to a register while there is one */
struct writer {
	const struct pf_graph *graph;
	int   per_item, full;
	int   uses[PF_NODES_MAX], slot[PF_NODES_MAX], depth[PF_NODES_MAX];
	int   taken;                   /* bit i: register i is in use */
	char *text;
	size_t size, used;
};

static void say(struct writer *w, const char *word)
{
	const int n = snprintf(w->text + w->used, w->size - w->used, "%s%s", w->used ? " " : "", word);
	if (n < 0 || (size_t)n >= w->size - w->used)
		w->full = 1;
	else
		w->used += (size_t)n;
}

/* Stack that a node needs, and how often it is used from the root */
static void survey(struct writer *w, int n)
{
	const struct pf_node *node = &w->graph->node[n];
	int need = 1;
	if (w->uses[n]++ > 0)
		return;
	for (int i = 0; i < pf_node_operands(node->kind); i++)
		survey(w, node->operand[i]);
	if (node->kind == PF_NODE_NAME)
		need = 2;
	for (int i = 0; i < pf_node_operands(node->kind); i++) {
		const int own = w->depth[node->operand[i]];
		need = pf_node_operands(node->kind) == 2 ? (own == need && i ? need + 1 : own > need ? own : need)
		                                         : own + i > need ? own + i : need;
	}
	w->depth[n] = need;
}

static void write_node(struct writer *w, int n);

static void write_operands(struct writer *w, const struct pf_node *node)
{
	const int two = pf_node_operands(node->kind) == 2;
	const int swapped = two && w->depth[node->operand[1]] > w->depth[node->operand[0]];
	const int commutes = node->kind == PF_NODE_ADD || node->kind == PF_NODE_MUL || node->kind == PF_NODE_EQ;
	for (int i = 0; i < pf_node_operands(node->kind); i++)
		write_node(w, node->operand[swapped ? 1 - i : i]);
	if (swapped && !commutes)
		say(w, "swap");
}

static void write_leaf(struct writer *w, const struct pf_node *node)
{
	char number[40];
	if (node->kind == PF_NODE_NUMBER) {
		snprintf(number, sizeof number, "%.17g", node->number);
		say(w, number);
	} else if (words[node->name][w->per_item]) {
		say(w, words[node->name][w->per_item]);
	} else {
		say(w, pf_expr_name(node->name));
	}
}

static void keep(struct writer *w, int n)
{
	char store[16];
	int slot = 0;
	while (slot < (int)PF_REGISTERS && w->taken >> slot & 1)
		slot++;
	if (slot == (int)PF_REGISTERS)
		return;
	w->taken |= 1 << slot;
	w->slot[n] = slot + 1;
	snprintf(store, sizeof store, "=t%d t%d", slot, slot);
	say(w, store);
}

static void load(struct writer *w, int n)
{
	char name[16];
	snprintf(name, sizeof name, "t%d", w->slot[n] - 1);
	say(w, name);
	if (w->uses[n] <= 0) {
		w->taken &= ~(1 << (w->slot[n] - 1));
		w->slot[n] = 0;
	}
}

static void write_node(struct writer *w, int n)
{
	const struct pf_node *node = &w->graph->node[n];
	w->uses[n]--;
	if (w->full)
		return;
	if (w->slot[n]) {
		load(w, n);
		return;
	}
	if (node->kind == PF_NODE_NUMBER || node->kind == PF_NODE_NAME) {
		write_leaf(w, node);
	} else {
		write_operands(w, node);
		if (*pf_node_word(node->kind))
			say(w, pf_node_word(node->kind));
	}
	const int costs = pf_node_operands(node->kind) > 0 || (node->kind == PF_NODE_NAME && node->name <= PF_NAME_x);
	if (w->uses[n] > 0 && costs)
		keep(w, n);
}

static int write_program(const struct pf_graph *g, int root, int per_item, char *text, size_t size,
                         struct pf_error *error)
{
	struct writer *w = calloc(1, sizeof *w);
	if (!w)
		return pf_fail(error, PF_E_RANGE, "no memory for a formula");
	w->graph = g;
	w->per_item = per_item;
	w->text = text;
	w->size = size;
	survey(w, root);
	write_node(w, root);
	const int full = w->full;
	free(w);
	return full ? pf_fail(error, PF_E_RANGE, "expr: the program of this formula is too large") : 0;
}

/* ---- form ---- */

struct use { int name[PF_EXPR_NAME_COUNT], column[PF_EXPR_NAME_COUNT], reduces; };

static struct use uses_of(const struct pf_graph *g)
{
	struct use use = { .reduces = 0 };
	for (int i = 0; i < g->count; i++) {
		const struct pf_node *n = &g->node[i];
		if (n->kind == PF_NODE_NAME) {
			use.name[n->name] = 1;
			use.column[n->name] = n->from + 1;
		}
		use.reduces |= n->kind >= PF_NODE_GSUM && n->kind <= PF_NODE_GCOUNT;
	}
	return use;
}

/* A name of one form beside one of another */
static int mixed(const struct use *use, int from, int to, const char *other, struct pf_error *error)
{
	for (int i = from; i <= to; i++)
		if (use->name[i])
			return pf_fail(error, PF_E_ARGUMENT,
			               "expr, column %d: %s belongs to %s, other names here do not", use->column[i],
			               pf_expr_name(i), other);
	return 0;
}

static int find_form(const struct use *use, enum pf_loss_form *form, struct pf_error *error)
{
	int pairs = 0, singles = 0;
	for (int i = PF_NAME_lw; i <= PF_NAME_nl; i++)
		pairs |= use->name[i];
	for (int i = PF_NAME_l; i <= PF_NAME_z0; i++)
		singles |= use->name[i];
	*form = pairs ? PF_FORM_PAIR : use->reduces ? PF_FORM_LIST : singles ? PF_FORM_BINARY : PF_FORM_PAIR;
	if (pairs && use->reduces)
		return mixed(use, PF_NAME_lw, PF_NAME_nl, "pairs, reductions to lists", error);
	if (pairs && singles)
		return mixed(use, PF_NAME_l, PF_NAME_z0, "single samples", error);
	return use->reduces ? mixed(use, PF_NAME_y, PF_NAME_z0, "binary samples, reductions to lists", error) : 0;
}

/* ---- parameters ---- */

static void set_params(struct pf_expr *e, const struct use *use)
{
	const struct pf_loss_param beta = {
		"beta", "", 0.1, 0, INFINITY, 1, 1, "strength of the pull to the reference"
	};
	unsigned count = 0;
	if (use->name[PF_NAME_beta] || use->name[PF_NAME_x])
		e->param[count++] = beta;
	for (int i = PF_NAME_p0; i <= PF_NAME_p7; i++)
		if (use->name[i])
			e->param[count++] =
				(struct pf_loss_param){ pf_expr_name(i), "", 1, 0,
				                        INFINITY,        0,  1, "parameter of the formula" };
	e->row.params = count;
}

/* ---- gradient ---- */

/* What moves with the item's own sum: its names, and x with beta */
static int own_gradient(struct pf_graph *g, const int *adjoint, int name, int lanes, int sign)
{
	const int direct = pf_node_name(g, name, lanes), x = pf_node_name(g, PF_NAME_x, lanes);
	const int beta = pf_node_name(g, PF_NAME_beta, 0), zero = pf_node_number(g, 0);
	int sum = direct >= 0 && adjoint[direct] >= 0 ? adjoint[direct] : zero;
	if (x >= 0 && adjoint[x] >= 0)
		sum = pf_node_make(g, sign > 0 ? PF_NODE_ADD : PF_NODE_SUB, sum,
		                   pf_node_make(g, PF_NODE_MUL, adjoint[x], beta, -1), -1);
	return sum;
}

static int gradient_of(struct pf_graph *g, int root, enum pf_loss_form form)
{
	static _Thread_local int adjoint[PF_NODES_MAX];
	pf_node_adjoints(g, root, adjoint);
	if (form != PF_FORM_PAIR)
		return own_gradient(g, adjoint, PF_NAME_l, 1, 1);
	const int chosen = own_gradient(g, adjoint, PF_NAME_lw, 0, 1),
		  rejected = own_gradient(g, adjoint, PF_NAME_ll, 0, -1);
	if (pf_node_make(g, PF_NODE_NEG, chosen, -1, -1) == rejected)
		return pf_node_make(g, PF_NODE_MUL, chosen, pf_node_name(g, PF_NAME_is_pair_sign, 1), -1);
	return pf_node_make(g, PF_NODE_SELECT, pf_node_name(g, PF_NAME_is_chosen, 1), chosen,
	                    pf_node_make(g, PF_NODE_SELECT, pf_node_name(g, PF_NAME_is_rejected, 1), rejected,
	                                 pf_node_number(g, 0)));
}

/* Numbers are multiplied and added here, where that can leave the range of double */
static int check_numbers(const struct pf_graph *g, struct pf_error *error)
{
	for (int i = 0; i < g->count; i++)
		if (g->node[i].kind == PF_NODE_NUMBER && !isfinite(g->node[i].number))
			return pf_fail(error, PF_E_RANGE,
			               "expr: numbers of this formula, or of its derivative, give more than 1.8e308 "
			               "together; write smaller ones");
	return 0;
}

/* ---- all together ---- */

static int compile(struct pf_graph *g, struct pf_range *range, struct pf_expr *e, struct pf_error *error)
{
	enum pf_loss_form form;
	int root, code = pf_expr_parse(e->formula, 0, g, &root, error);
	struct use use = uses_of(g);
	if (!code)
		code = find_form(&use, &form, error);
	const int per_item = !code && form != PF_FORM_PAIR;
	if (!code && per_item)          /* now it is known whose x, margin and score are meant */
		code = pf_expr_parse(e->formula, 1, g, &root, error);
	if (code)
		return code;
	use = uses_of(g);
	pf_ranges_find(g, range_of, range);
	code = pf_ranges_check(g, range, e->formula, error);
	if (!code)
		set_params(e, &use);
	if (!code && form == PF_FORM_LIST && g->node[root].lanes)
		root = pf_node_make(g, PF_NODE_GSUM, root, -1, -1);
	if (!code)
		code = check_numbers(g, error);
	if (!code)
		code = write_program(g, root, per_item, e->value, sizeof e->value, error);
	const int gradient = code ? -1 : gradient_of(g, root, form);
	if (!code && (gradient < 0 || g->full))
		code = pf_fail(error, PF_E_RANGE, "expr: the derivative of this formula is too large");
	if (!code && g->node[gradient].kind == PF_NODE_NUMBER && g->node[gradient].number == 0)
		code = pf_fail(error, PF_E_ARGUMENT,
		               "expr: this formula does not change with the policy, so nothing could be learned: it "
		               "wants x, or lw or ll of pairs, or l of samples and lists");
	if (!code)
		code = check_numbers(g, error);
	if (!code)
		code = write_program(g, gradient, per_item, e->grad, sizeof e->grad, error);
	const int reference = use.name[PF_NAME_x] || use.name[PF_NAME_r] || use.name[PF_NAME_rw] ||
	                      use.name[PF_NAME_rl] || use.name[PF_NAME_z0];
	e->row.form = form;
	e->row.per_item = form == PF_FORM_BINARY;
	e->row.reference = reference ? PF_LOSS_REF : PF_LOSS_FREE;
	e->row.inputs = use.name[PF_NAME_z0] ? "z0:z0 score:score margin:margin"
	                : form == PF_FORM_PAIR ? "margin:margin/chosen sw:score/chosen sl:score/rejected"
	                : form == PF_FORM_LIST ? "margin:margin" : "score:score margin:margin";
	return code;
}

int pf_expr_compile(const char *formula, size_t length, struct pf_expr *e, struct pf_error *error)
{
	memset(e, 0, sizeof *e);
	if (length >= sizeof e->formula)
		return pf_fail(error, PF_E_RANGE, "expr: a formula has at most %d characters", PF_EXPR_BYTES - 1);
	memcpy(e->formula, formula, length);
	e->row = (struct pf_loss_row){ .name = "expr",
		                       .aliases = "",
		                       .title = e->formula,
		                       .source = "the user's formula",
		                       .param = e->param,
		                       .value = e->value,
		                       .grad = e->grad,
		                       .inputs = "" };
	struct pf_graph *graph = malloc(sizeof *graph);
	struct pf_range *range = malloc(PF_NODES_MAX * sizeof *range);
	int code = graph && range ? compile(graph, range, e, error)
	                          : pf_fail(error, PF_E_RANGE, "no memory for a formula");
	free(graph);
	free(range);
	return code;
}

/* ---- rows that stay ---- */

static pthread_mutex_t rows_lock = PTHREAD_MUTEX_INITIALIZER;
static struct pf_expr *rows[ROWS_MOST];

static int find_row(const char *formula, size_t length, int *count)
{
	for (*count = 0; *count < ROWS_MOST && rows[*count]; ++*count)
		if (strlen(rows[*count]->formula) == length && memcmp(rows[*count]->formula, formula, length) == 0)
			return *count;
	return -1;
}

int pf_expr_row(const char *formula, size_t length, const struct pf_loss_row **row, struct pf_error *error)
{
	int count, code = 0;
	pthread_mutex_lock(&rows_lock);
	int found = find_row(formula, length, &count);
	if (found < 0 && count == ROWS_MOST)
		code = pf_fail(error, PF_E_RANGE, "more than %d formulas in one process", ROWS_MOST);
	if (found < 0 && !code) {
		rows[count] = malloc(sizeof **rows);
		code = rows[count] ? pf_expr_compile(formula, length, rows[count], error)
		                   : pf_fail(error, PF_E_RANGE, "no memory for a formula");
		found = count;
		if (code) {
			free(rows[count]);
			rows[count] = NULL;
		}
	}
	*row = code ? NULL : &rows[found]->row;
	pthread_mutex_unlock(&rows_lock);
	return code;
}
