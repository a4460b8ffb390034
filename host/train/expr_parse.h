/* expr_parse.h: text of a formula to nodes. Thread-safe. */
#ifndef PF_TRAIN_EXPR_PARSE_H
#define PF_TRAIN_EXPR_PARSE_H
#include "expr_node.h"

/* Names of formulas. I(name, lanes): lanes differ among the items of a group */
#define PF_EXPR_NAMES(I) \
	I(lw, 0) I(ll, 0) I(rw, 0) I(rl, 0) I(nw, 0) I(nl, 0) I(x, 0) I(l, 1) I(r, 1) I(n, 1) I(y, 1) I(z0, 0) \
	I(margin, 0) I(score, 0) I(beta, 0) I(p0, 0) I(p1, 0) I(p2, 0) I(p3, 0) I(p4, 0) I(p5, 0) I(p6, 0) I(p7, 0) \
	I(is_chosen, 1) I(is_rejected, 1) I(is_pair_sign, 1)
enum pf_expr_name {
#define PF_EXPR_ENUM(name, lanes) PF_NAME_##name,
	PF_EXPR_NAMES(PF_EXPR_ENUM)
#undef PF_EXPR_ENUM
	PF_EXPR_NAME_COUNT
};
enum { PF_EXPR_NAMES_KNOWN = PF_NAME_is_chosen };        /* those that a user may write come first */

/* The node of formula[length] in *root. per_item: x, margin and score are the items' own */
int pf_expr_parse(const char *formula, int per_item, struct pf_graph *graph, int *root, struct pf_error *error);
const char *pf_expr_name(int name);
#endif
