/* Intervals, domains, unstable forms */
#include "expr_range.h"
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static const struct pf_range everything = { -INFINITY, INFINITY, 1, 1 };

static struct pf_range monotone(struct pf_range a, double (*f)(double))
{
	return (struct pf_range){ f(a.low), f(a.high), a.low_open, a.high_open };
}

static double sigmoid(double x)
{
	return 1 / (1 + exp(-x));
}

static double softplus(double x)
{
	return x > 0 ? x + log1p(exp(-x)) : log1p(exp(x));
}

static double product(double a, double b)
{
	return a == 0 || b == 0 ? 0 : a * b;
}

static struct pf_range times(struct pf_range a, struct pf_range b)
{
	const double corner[] = { product(a.low, b.low), product(a.low, b.high), product(a.high, b.low),
		                  product(a.high, b.high) };
	struct pf_range r = { corner[0], corner[0], 1, 1 };
	for (int i = 1; i < 4; i++) {
		r.low = fmin(r.low, corner[i]);
		r.high = fmax(r.high, corner[i]);
	}
	/* 0 is left out only where neither factor reaches it */
	const int positive = (a.low > 0 || (a.low == 0 && a.low_open)) && (b.low > 0 || (b.low == 0 && b.low_open));
	r.low_open = r.low == 0 ? positive : isinf(r.low);
	r.high_open = isinf(r.high);
	return r;
}

static struct pf_range inverse(struct pf_range a)
{
	if (a.low > 0 || (a.low == 0 && a.low_open))
		return (struct pf_range){ 1 / a.high, a.low == 0 ? INFINITY : 1 / a.low, isinf(a.high), a.low == 0 };
	if (a.high < 0 || (a.high == 0 && a.high_open))
		return (struct pf_range){ a.high == 0 ? -INFINITY : 1 / a.high, 1 / a.low, a.high == 0, isinf(a.low) };
	return everything;
}

static struct pf_range join(struct pf_range a, struct pf_range b)
{
	return (struct pf_range){ fmin(a.low, b.low), fmax(a.high, b.high),
		                  a.low < b.low   ? a.low_open
		                  : b.low < a.low ? b.low_open
		                                  : a.low_open && b.low_open,
		                  a.high > b.high   ? a.high_open
		                  : b.high > a.high ? b.high_open
		                                    : a.high_open && b.high_open };
}

static struct pf_range smaller(struct pf_range a, struct pf_range b)
{
	return (struct pf_range){ fmin(a.low, b.low), fmin(a.high, b.high), a.low < b.low ? a.low_open : b.low_open,
		a.high < b.high ? a.high_open : b.high_open };
}

static struct pf_range negated(struct pf_range a)
{
	return (struct pf_range){ -a.high, -a.low, a.high_open, a.low_open };
}

static struct pf_range sum(struct pf_range a, struct pf_range b)
{
	return (struct pf_range){ a.low + b.low, a.high + b.high, a.low_open || b.low_open,
		                  a.high_open || b.high_open };
}

static struct pf_range of(const struct pf_node *n, const struct pf_range *range, struct pf_range (*name_range)(int))
{
	const struct pf_range a = n->operand[0] >= 0 ? range[n->operand[0]] : everything;
	const struct pf_range b = n->operand[1] >= 0 ? range[n->operand[1]] : everything;
	switch (n->kind) {
	case PF_NODE_NUMBER: return (struct pf_range){ n->number, n->number, 0, 0 };
	case PF_NODE_NAME: return name_range(n->name);
	case PF_NODE_ADD: return sum(a, b);
	case PF_NODE_SUB: return sum(a, negated(b));
	case PF_NODE_MUL:
		if (n->operand[0] == n->operand[1])
			return (struct pf_range){ 0, INFINITY, a.low > 0 || (a.low == 0 && a.low_open), 1 };
		return times(a, b);
	case PF_NODE_DIV: return times(a, inverse(b));
	case PF_NODE_MIN: return smaller(a, b);
	case PF_NODE_MAX: return negated(smaller(negated(a), negated(b)));
	case PF_NODE_LT:
	case PF_NODE_LE:
	case PF_NODE_EQ: return (struct pf_range){ 0, 1, 0, 0 };
	case PF_NODE_SELECT: return join(b, range[n->operand[2]]);
	case PF_NODE_NEG: return negated(a);
	case PF_NODE_ABS:
		return a.low >= 0 ? a : a.high <= 0 ? negated(a) : (struct pf_range){ 0, fmax(-a.low, a.high), 0, 1 };
	case PF_NODE_EXP: return (struct pf_range){ exp(a.low), exp(a.high), isinf(a.low) || a.low_open, a.high_open };
	case PF_NODE_LOG: return monotone(a, log);
	case PF_NODE_LOG1P: return monotone(a, log1p);
	case PF_NODE_EXPM1: return monotone(a, expm1);
	case PF_NODE_SIGMOID: return (struct pf_range){ sigmoid(a.low), sigmoid(a.high), 1, 1 };
	case PF_NODE_SOFTPLUS: return (struct pf_range){ softplus(a.low), softplus(a.high), 1, 1 };
	case PF_NODE_LOG1MEXP: return (struct pf_range){ -INFINITY, 0, 1, 1 };
	case PF_NODE_GMEAN:
	case PF_NODE_GMAX:
	case PF_NODE_HELD: return a;
	case PF_NODE_GSUM: return times(a, (struct pf_range){ 1, INFINITY, 0, 1 });
	case PF_NODE_GVAR:
	case PF_NODE_GRANK: return (struct pf_range){ 0, INFINITY, 0, 1 };
	case PF_NODE_GCOUNT: return (struct pf_range){ 1, INFINITY, 0, 1 };
	default: return everything;
	}
}

void pf_ranges_find(const struct pf_graph *g, struct pf_range (*name_range)(int), struct pf_range *range)
{
	for (int i = 0; i < g->count; i++) {
		range[i] = of(&g->node[i], range, name_range);
		if (isnan(range[i].low) || isnan(range[i].high))
			range[i] = everything;
	}
}

/* ---- what is wrong ---- */

struct check {
	const struct pf_graph *graph;
	const struct pf_range *range;
	const char *formula;
	struct pf_error *error;
};

/* Source of a node, for messages */
struct source { char text[96]; };

static struct source source(const struct check *c, int n)
{
	const struct pf_node *node = &c->graph->node[n];
	struct source s;
	const int length = node->to - node->from;
	snprintf(s.text, sizeof s.text, "%.*s", length < 80 ? length : 80, c->formula + node->from);
	return s;
}

PF_PRINTF(3, 4) static int complain(const struct check *c, int n, const char *format, ...)
{
	char text[400];
	va_list arguments;
	va_start(arguments, format);
	vsnprintf(text, sizeof text, format, arguments);
	va_end(arguments);
	return pf_fail(c->error, PF_E_ARGUMENT, "expr, column %d: %s", c->graph->node[n].from + 1, text);
}

static const struct pf_node *at(const struct check *c, int n)
{
	return &c->graph->node[n];
}

/* What an exponential is of: behind the clamp */
static int exponent(const struct check *c, int n)
{
	const int a = at(c, n)->operand[0];
	const int clamped = at(c, a)->kind == PF_NODE_MIN && pf_node_is(c->graph, at(c, a)->operand[1], 80);
	return clamped ? at(c, a)->operand[0] : a;
}

/* The exponential that a power became has an exponent which nobody wrote: it grows as a power, and is no exponential */
static int is(const struct check *c, int n, enum pf_node_kind kind)
{
	return n >= 0 && at(c, n)->kind == kind && (kind != PF_NODE_EXP || at(c, exponent(c, n))->to > 0);
}

#define SOURCE(n) source(c, n).text

static int check_log(const struct check *c, int n)
{
	const int a = at(c, n)->operand[0], x = at(c, a)->operand[0], y = at(c, a)->operand[1];
	const int sum = is(c, a, PF_NODE_ADD), difference = is(c, a, PF_NODE_SUB);
	if (is(c, a, PF_NODE_SIGMOID))
		return complain(c, n, "the logarithm of a sigmoid overflows; write logsigmoid(%s)", SOURCE(x));
	if (is(c, a, PF_NODE_EXP))
		return complain(c, n, "the logarithm of an exponential is its exponent; write %s",
		                SOURCE(exponent(c, a)));
	if ((sum || difference) && is(c, x, PF_NODE_EXP) && is(c, y, PF_NODE_EXP) && sum)
		return complain(c, n, "exponentials overflow; write (%s) + softplus((%s) - (%s))",
		                SOURCE(exponent(c, x)), SOURCE(exponent(c, y)), SOURCE(exponent(c, x)));
	if (difference && is(c, x, PF_NODE_EXP) && is(c, y, PF_NODE_EXP))
		return complain(c, n,
		                "the logarithm of a difference loses its digits; write (%s) + log1mexp((%s) - (%s))",
		                SOURCE(exponent(c, x)), SOURCE(exponent(c, y)), SOURCE(exponent(c, x)));
	if (difference && pf_node_is(c->graph, x, 1) && is(c, y, PF_NODE_EXP))
		return complain(c, n, "the logarithm of a difference loses its digits; write log1mexp(%s)",
		                SOURCE(exponent(c, y)));
	if (difference && pf_node_is(c->graph, x, 1) && is(c, y, PF_NODE_SIGMOID))
		return complain(c, n, "the logarithm of a difference loses its digits; write logsigmoid(-(%s))",
		                SOURCE(at(c, y)->operand[0]));
	if (is(c, a, PF_NODE_NEG) && is(c, x, PF_NODE_EXPM1))
		return complain(c, n, "write log1mexp(%s)", SOURCE(at(c, x)->operand[0]));
	if (sum && (pf_node_is(c->graph, x, 1) || pf_node_is(c->graph, y, 1))) {
		const int other = pf_node_is(c->graph, x, 1) ? y : x;
		return is(c, other, PF_NODE_EXP)
		               ? complain(c, n, "log(1 + exp(...)) overflows; write softplus(%s)",
		                          SOURCE(exponent(c, other)))
		               : complain(c, n, "log(1 + ...) loses digits near 0; write log1p(%s)", SOURCE(other));
	}
	const struct pf_range r = c->range[a];
	if (r.low < 0 || (r.low == 0 && !r.low_open))
		return complain(c, n, "the logarithm of %s, which can be %s; bound it, as in log(max(%s, 1e-6))",
		                SOURCE(a), r.low < 0 ? "negative" : "0", SOURCE(a));
	return 0;
}

static int check_domain(const struct check *c, int n)
{
	const int a = at(c, n)->operand[0], b = at(c, n)->operand[1];
	const struct pf_range x = a >= 0 ? c->range[a] : everything, y = b >= 0 ? c->range[b] : everything;
	if (is(c, n, PF_NODE_LOG1P) && (x.low < -1 || (x.low == -1 && !x.low_open)))
		return complain(c, n, "log1p of %s, which can reach -1; bound it with max", SOURCE(a));
	if (is(c, n, PF_NODE_LOG1MEXP) && (x.high > 0 || (x.high == 0 && !x.high_open)))
		return complain(c, n, "log1mexp of %s, which can reach 0; bound it, as in log1mexp(min(%s, -1e-6))",
		                SOURCE(a), SOURCE(a));
	if (is(c, n, PF_NODE_DIV) && !(y.low > 0 || (y.low == 0 && y.low_open)) &&
	    !(y.high < 0 || (y.high == 0 && y.high_open)))
		return complain(c, n, "a division by %s, which can be 0", SOURCE(b));
	return 0;
}

static int is_one_plus_exp(const struct check *c, int n)
{
	return is(c, n, PF_NODE_ADD) &&
	       ((pf_node_is(c->graph, at(c, n)->operand[0], 1) && is(c, at(c, n)->operand[1], PF_NODE_EXP)) ||
	        (pf_node_is(c->graph, at(c, n)->operand[1], 1) && is(c, at(c, n)->operand[0], PF_NODE_EXP)));
}

static int exp_operand(const struct check *c, int n)
{
	const int i = is(c, at(c, n)->operand[0], PF_NODE_EXP) ? 0 : 1;
	return exponent(c, at(c, n)->operand[i]);
}

/* The node itself, or a factor of it, of that kind; -1: there is none */
static int factor(const struct check *c, int n, enum pf_node_kind kind)
{
	if (is(c, n, kind))
		return n;
	if (is(c, n, PF_NODE_NEG) || is(c, n, PF_NODE_DIV))
		return factor(c, at(c, n)->operand[0], kind);
	if (!is(c, n, PF_NODE_MUL))
		return -1;
	const int first = factor(c, at(c, n)->operand[0], kind);
	return first >= 0 ? first : factor(c, at(c, n)->operand[1], kind);
}

static int check_product(const struct check *c, int n)
{
	for (int i = 0; i < 2; i++) {
		const int e = factor(c, at(c, n)->operand[i], PF_NODE_EXP), rest = at(c, n)->operand[!i];
		if (e < 0 || !(c->range[exponent(c, e)].high > 80))
			continue;
		const int other = factor(c, rest, PF_NODE_EXP), sigmoid = factor(c, rest, PF_NODE_SIGMOID);
		if (other >= 0)
			return complain(c, n,
			                "a product of exponentials can be infinity times 0; write exp((%s) + (%s))",
			                SOURCE(exponent(c, e)), SOURCE(exponent(c, other)));
		if (sigmoid >= 0)
			return complain(c, n,
			                "exp(%s) times a sigmoid can be infinity times 0; write exp((%s) - "
			                "softplus(-(%s))), or blend(m, a, b)",
			                SOURCE(exponent(c, e)), SOURCE(exponent(c, e)),
			                SOURCE(at(c, sigmoid)->operand[0]));
	}
	return 0;
}

static int check_difference(const struct check *c, int n)
{
	const int a = at(c, n)->operand[0], b = at(c, n)->operand[1];
	if (is(c, a, PF_NODE_EXP) && pf_node_is(c->graph, b, 1))
		return complain(c, n, "exp(...) - 1 loses digits near 0; write expm1(%s)", SOURCE(exponent(c, a)));
	if (pf_node_is(c->graph, a, 1) && is(c, b, PF_NODE_EXP))
		return complain(c, n, "1 - exp(...) loses digits near 0; write -expm1(%s)", SOURCE(exponent(c, b)));
	if (pf_node_is(c->graph, a, 1) && is(c, b, PF_NODE_SIGMOID))
		return complain(c, n, "1 - sigmoid(...) loses its digits; write sigmoid(-(%s))",
		                SOURCE(at(c, b)->operand[0]));
	if (is(c, a, PF_NODE_EXP) && is(c, b, PF_NODE_EXP))
		return complain(c, n,
		                "a difference of exponentials can be infinity minus infinity; write exp(%s) * "
		                "expm1((%s) - (%s))",
		                SOURCE(exponent(c, b)), SOURCE(exponent(c, a)), SOURCE(exponent(c, b)));
	return 0;
}

static int check_quotient(const struct check *c, int n)
{
	const int a = at(c, n)->operand[0], b = at(c, n)->operand[1];
	if (is_one_plus_exp(c, b) && is(c, a, PF_NODE_EXP) && exponent(c, a) == exp_operand(c, b))
		return complain(c, n, "infinity over infinity where the exponent is large; write sigmoid(%s)",
		                SOURCE(exponent(c, a)));
	if (is_one_plus_exp(c, b))
		return complain(c, n, "1 + exp(...) overflows; write %s * sigmoid(-(%s))", SOURCE(a),
		                SOURCE(exp_operand(c, b)));
	return 0;
}

int pf_ranges_check(const struct pf_graph *g, const struct pf_range *range, const char *formula, struct pf_error *error)
{
	const struct check check = { g, range, formula, error }, *const c = &check;
	int code = 0;
	for (int n = 0; n < g->count && !code; n++)       /* the outer form first: log(1 - exp(a)) is one thing */
		if (g->node[n].to > 0 && is(c, n, PF_NODE_LOG))
			code = check_log(c, n);
	for (int n = 0; n < g->count && !code; n++)
		if (g->node[n].to > 0)
			code = is(c, n, PF_NODE_MUL)   ? check_product(c, n)
			       : is(c, n, PF_NODE_SUB) ? check_difference(c, n)
			       : is(c, n, PF_NODE_DIV) ? check_quotient(c, n)
			                               : 0;
	for (int n = 0; n < g->count && !code; n++)
		if (g->node[n].to > 0)
			code = check_domain(c, n);
	return code;
}
