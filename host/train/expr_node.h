/* expr_node.h: inner words of expr.h: the nodes of a formula and its derivatives, each distinct one once.
 * One thread per graph. */
#ifndef PF_TRAIN_EXPR_NODE_H
#define PF_TRAIN_EXPR_NODE_H
#include "prefpga/error.h"

/* N(symbol, operands, name in the language of programs; "" is not one word there) */
#define PF_NODES(N) \
	N(NUMBER, 0, "") N(NAME, 0, "") \
	N(ADD, 2, "+") N(SUB, 2, "-") N(MUL, 2, "*") N(DIV, 2, "/") N(MIN, 2, "min") N(MAX, 2, "max") \
	N(LT, 2, "<") N(LE, 2, "<=") N(EQ, 2, "==") N(SELECT, 3, "select") N(NEG, 1, "neg") N(ABS, 1, "abs") \
	N(EXP, 1, "exp") N(LOG, 1, "log") N(LOG1P, 1, "log1p") N(EXPM1, 1, "expm1") N(SIGMOID, 1, "sigmoid") \
	N(SOFTPLUS, 1, "softplus") N(LOG1MEXP, 1, "log1mexp") N(GSUM, 1, "gsum") N(GMEAN, 1, "gmean") N(GMAX, 1, "gmax") \
	N(GLSE, 1, "glse") N(GVAR, 1, "gvar") N(GRANK, 1, "grank") N(GCOUNT, 0, "gcount") N(HELD, 1, "")
enum pf_node_kind {
#define PF_NODE_ENUM(symbol, operands, word) PF_NODE_##symbol,
	PF_NODES(PF_NODE_ENUM)
#undef PF_NODE_ENUM
	PF_NODE_KINDS
};

enum { PF_NODES_MAX = 2048 };
struct pf_node {
	enum pf_node_kind kind;
	int    operand[3];
	double number;
	int    name;                   /* of names: which */
	int    from, to;               /* its place in the formula, bytes [from, to); 0, 0: made by differentiation */
	int    lanes;                  /* 1: differs among the items of a group */
};
struct pf_graph { struct pf_node node[PF_NODES_MAX]; int count, full; };

int pf_node_operands(enum pf_node_kind kind);
const char *pf_node_word(enum pf_node_kind kind);
/* The node for these operands, simplified, found again if it is there. -1 in, or no room (graph->full): -1 out */
int pf_node_make(struct pf_graph *graph, enum pf_node_kind kind, int a, int b, int c);
int pf_node_number(struct pf_graph *graph, double number);
int pf_node_name(struct pf_graph *graph, int name, int lanes);
int pf_node_is(const struct pf_graph *graph, int node, double number);
/* adjoint[of each node]: derivative of `root` by it, -1: none. Group-wide nodes have group-wide adjoints */
void pf_node_adjoints(struct pf_graph *graph, int root, int adjoint[PF_NODES_MAX]);
#endif
