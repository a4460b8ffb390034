/* expr.h: loss formulas that users write, compiled to rows like those of losses.def.
 *
 * A formula is arithmetic (+ - * / ^, comparisons), numbers, names and functions. It is parsed into nodes, checked for
 * domains and for forms that overflow, differentiated (reverse mode, symbolically), and written as two programs in the
 * language of losses.def. Everything an error says names the column.
 *
 *   pairs     lw ll rw rl nw nl (log-prob sums of policy and reference, tokens), x = beta ((lw - rw) - (ll - rl)),
 *             margin (of the chosen item), score (chosen - rejected)
 *   binary    l r n, y (1 desirable, 0 not), x = beta (l - r), z0; score, margin: the item's
 *   lists     l r n, x = beta (l - r), score, with reductions gsum gmean gmax glse gvar gcount grank
 *   parameters beta, p0 ... p7; functions exp log log1p expm1 softplus logsigmoid sigmoid log1mexp k3 tanh sqrt abs
 *             max min pow where(c, a, b) blend(m, a, b) = (1 - m) a + m b, sg(a): a without its derivative
 * The names decide what data the loss wants. exp is clamped at e^80 with derivative 0 beyond, as everywhere.
 * pf_expr_compile is thread-safe: everything is in the caller's memory. */
#ifndef PF_TRAIN_EXPR_H
#define PF_TRAIN_EXPR_H
#include "prefpga/loss.h"

enum { PF_EXPR_BYTES = 1024, PF_EXPR_PROGRAM = 16384 };

struct pf_expr {
	struct pf_loss_row   row;      /* points into this struct: do not copy it */
	struct pf_loss_param param[PF_LOSS_PARAMS];
	char                 formula[PF_EXPR_BYTES], value[PF_EXPR_PROGRAM], grad[PF_EXPR_PROGRAM];
};

/* Compiles formula[length]. Errors: what is wrong, at which column, and for unstable forms the stable one */
int pf_expr_compile(const char *formula, size_t length, struct pf_expr *expr, struct pf_error *error);
/* The row of a formula, made once and kept for the life of the process, at most 64 of them. Thread-safe */
int pf_expr_row(const char *formula, size_t length, const struct pf_loss_row **row, struct pf_error *error);
#endif
