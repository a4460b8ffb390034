/* Nodes, made once each, and their adjoints */
#include "expr_node.h"
#include <math.h>
#include <string.h>

static const struct { int operands; const char *word; } kinds[] = {
#define PF_NODE_ROW(symbol, operands, word) { operands, word },
	PF_NODES(PF_NODE_ROW)
#undef PF_NODE_ROW
};

int pf_node_operands(enum pf_node_kind kind)
{
	return kinds[kind].operands;
}

const char *pf_node_word(enum pf_node_kind kind)
{
	return kinds[kind].word;
}

int pf_node_is(const struct pf_graph *g, int node, double number)
{
	return node >= 0 && g->node[node].kind == PF_NODE_NUMBER && g->node[node].number == number;
}

static int same(const struct pf_node *a, const struct pf_node *b)
{
	return a->kind == b->kind && a->name == b->name && memcmp(a->operand, b->operand, sizeof a->operand) == 0 &&
	       memcmp(&a->number, &b->number, sizeof a->number) == 0;
}

static int add(struct pf_graph *g, const struct pf_node *node)
{
	for (int i = 0; i < g->count; i++)
		if (same(&g->node[i], node))
			return i;
	if (g->count == PF_NODES_MAX) {
		g->full = 1;
		return -1;
	}
	g->node[g->count] = *node;
	return g->count++;
}

int pf_node_number(struct pf_graph *g, double number)
{
	const struct pf_node node = {
		.kind = PF_NODE_NUMBER, .operand = { -1, -1, -1 }, .number = number + 0.0, .name = -1
	};
	return add(g, &node);
}

int pf_node_name(struct pf_graph *g, int name, int lanes)
{
	const struct pf_node node = { .kind = PF_NODE_NAME, .operand = { -1, -1, -1 }, .name = name, .lanes = lanes };
	return add(g, &node);
}

/* What needs no new node; -1: nothing simpler */
static int simpler(struct pf_graph *g, enum pf_node_kind kind, int a, int b)
{
	const struct pf_node *x = &g->node[a], *y = b >= 0 ? &g->node[b] : x;
	const int numbers = x->kind == PF_NODE_NUMBER && y->kind == PF_NODE_NUMBER;
	switch (kind) {
	case PF_NODE_ADD:
		return numbers               ? pf_node_number(g, x->number + y->number)
		       : pf_node_is(g, a, 0) ? b
		       : pf_node_is(g, b, 0) ? a
		                             : -1;
	case PF_NODE_SUB:
		return numbers ? pf_node_number(g, x->number - y->number) : pf_node_is(g, b, 0) ? a :
		       pf_node_is(g, a, 0) ? pf_node_make(g, PF_NODE_NEG, b, -1, -1) : -1;
	case PF_NODE_MUL:
		if (numbers)
			return pf_node_number(g, x->number * y->number);
		if (pf_node_is(g, a, 0) || pf_node_is(g, b, 0))
			return pf_node_number(g, 0);
		return pf_node_is(g, a, 1) ? b : pf_node_is(g, b, 1) ? a :
		       pf_node_is(g, a, -1) ? pf_node_make(g, PF_NODE_NEG, b, -1, -1) :
		       pf_node_is(g, b, -1) ? pf_node_make(g, PF_NODE_NEG, a, -1, -1) : -1;
	case PF_NODE_DIV:
		return numbers && y->number != 0 ? pf_node_number(g, x->number / y->number)
		       : pf_node_is(g, b, 1)     ? a
		                                 : -1;
	case PF_NODE_NEG:
		return numbers ? pf_node_number(g, -x->number) : x->kind == PF_NODE_NEG ? x->operand[0] : -1;
	default: return -1;
	}
}

static int reduces(enum pf_node_kind kind)
{
	return kind >= PF_NODE_GSUM && kind <= PF_NODE_GVAR;
}

int pf_node_make(struct pf_graph *g, enum pf_node_kind kind, int a, int b, int c)
{
	const int operands = kinds[kind].operands;
	struct pf_node node = { .kind = kind,
		                .operand = { a, operands > 1 ? b : -1, operands > 2 ? c : -1 },
		                .name = -1 };
	if ((operands > 0 && a < 0) || (operands > 1 && b < 0) || (operands > 2 && c < 0))
		return -1;
	if (operands == 0)
		node.operand[0] = -1;
	const int found = operands > 0 ? simpler(g, kind, a, b) : -1;
	if (found >= 0)
		return found;
	for (int i = 0; i < operands; i++)
		node.lanes |= g->node[node.operand[i]].lanes;
	node.lanes = reduces(kind) ? 0 : kind == PF_NODE_GRANK ? 1 : node.lanes;
	return add(g, &node);
}

/* ---- derivatives ---- */

#define MAKE(kind, ...) MAKE_(kind, __VA_ARGS__, -1, -1)
#define MAKE_(kind, a, b, ...) pf_node_make(g, PF_NODE_##kind, a, b, -1)
#define NUMBER(value) pf_node_number(g, value)

/* Derivative of a node by its operand i, as far as lanes are concerned on their own */
static int partial(struct pf_graph *g, int n, int i)
{
	const struct pf_node node = g->node[n];
	const int a = node.operand[0], b = node.operand[1];
	switch (node.kind) {
	case PF_NODE_ADD: return NUMBER(1);
	case PF_NODE_SUB: return NUMBER(i ? -1 : 1);
	case PF_NODE_MUL: return i ? a : b;
	case PF_NODE_DIV: return i ? MAKE(NEG, MAKE(DIV, n, b)) : MAKE(DIV, NUMBER(1), b);
	case PF_NODE_MIN: return i ? MAKE(LT, b, a) : MAKE(LE, a, b);
	case PF_NODE_MAX: return i ? MAKE(LT, a, b) : MAKE(LE, b, a);
	case PF_NODE_NEG: return NUMBER(-1);
	case PF_NODE_ABS: return MAKE(SUB, MAKE(LT, NUMBER(0), a), MAKE(LT, a, NUMBER(0)));
	case PF_NODE_EXP: return n;
	case PF_NODE_LOG: return MAKE(DIV, NUMBER(1), a);
	case PF_NODE_LOG1P: return MAKE(DIV, NUMBER(1), MAKE(ADD, NUMBER(1), a));
	case PF_NODE_EXPM1: return MAKE(EXP, a);
	case PF_NODE_SIGMOID: return MAKE(MUL, n, MAKE(SIGMOID, MAKE(NEG, a)));
	case PF_NODE_SOFTPLUS: return MAKE(SIGMOID, a);
	case PF_NODE_LOG1MEXP: return MAKE(DIV, MAKE(EXP, a), MAKE(EXPM1, a));
	case PF_NODE_GSUM: return NUMBER(1);
	case PF_NODE_GMEAN: return MAKE(DIV, NUMBER(1), pf_node_make(g, PF_NODE_GCOUNT, -1, -1, -1));
	case PF_NODE_GMAX: return MAKE(EQ, MAKE(GRANK, a), NUMBER(0));
	case PF_NODE_GLSE: return MAKE(EXP, MAKE(SUB, a, n));
	case PF_NODE_GVAR:
		return MAKE(DIV, MAKE(MUL, NUMBER(2), MAKE(SUB, a, MAKE(GMEAN, a))),
		            MAKE(MAX, NUMBER(1), MAKE(SUB, pf_node_make(g, PF_NODE_GCOUNT, -1, -1, -1), NUMBER(1))));
	default: return NUMBER(0);      /* comparisons, ranks, what is held */
	}
}

/* adjoint of an operand: what node n hands down */
static int handed(struct pf_graph *g, int n, int i, int adjoint)
{
	const struct pf_node node = g->node[n];
	if (node.kind == PF_NODE_SELECT && i == 0)
		return NUMBER(0);
	if (node.kind == PF_NODE_SELECT)        /* not by a product: the branch not taken may be infinite */
		return i == 1 ? pf_node_make(g, PF_NODE_SELECT, node.operand[0], adjoint, NUMBER(0))
		              : pf_node_make(g, PF_NODE_SELECT, node.operand[0], NUMBER(0), adjoint);
	return MAKE(MUL, adjoint, partial(g, n, i));
}

void pf_node_adjoints(struct pf_graph *g, int root, int adjoint[PF_NODES_MAX])
{
	for (int n = 0; n < PF_NODES_MAX; n++)
		adjoint[n] = -1;
	adjoint[root] = NUMBER(1);
	for (int n = root; n >= 0; n--) {       /* operands come before what is made of them */
		const struct pf_node node = g->node[n];
		if (adjoint[n] < 0)
			continue;
		for (int i = 0; i < kinds[node.kind].operands; i++) {
			const int to = node.operand[i];
			int part = handed(g, n, i, adjoint[n]);
			if (part < 0 || pf_node_is(g, part, 0))
				continue;
			if (!g->node[to].lanes && (g->node[part].lanes || node.lanes))
				part = MAKE(GSUM, part);        /* one number for all members */
			else if (!g->node[to].lanes && reduces(node.kind))
				part = MAKE(MUL, part, pf_node_make(g, PF_NODE_GCOUNT, -1, -1, -1));
			adjoint[to] = adjoint[to] < 0 ? part : MAKE(ADD, adjoint[to], part);
		}
	}
}
