/* Recursive descent over a formula; every error has its column */
#include "expr_parse.h"
#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "prefpga/internal/nearest.h"

enum { DEPTH_MOST = 60, WORD_BYTES = 32, SHOWN_BYTES = 48 };

struct parser {
	const char      *formula, *at;
	struct pf_graph *graph;
	int              per_item, depth;
	struct pf_error *error;
};

static const struct { const char *name; int lanes; } names[] = {
#define PF_EXPR_ROW(name, lanes) { #name, lanes },
	PF_EXPR_NAMES(PF_EXPR_ROW)
#undef PF_EXPR_ROW
};

const char *pf_expr_name(int name)
{
	return names[name].name;
}

#define FAIL(p, where, ...) \
	(pf_fail((p)->error, PF_E_ARGUMENT, __VA_ARGS__), \
	 pf_fail_in((p)->error, "expr, column %d", (int)((where) - (p)->formula) + 1), -1)

static void skip(struct parser *p)
{
	while (isspace((unsigned char)*p->at))
		p->at++;
}

static int take(struct parser *p, const char *token)
{
	skip(p);
	if (strncmp(p->at, token, strlen(token)) != 0)
		return 0;
	p->at += strlen(token);
	return 1;
}

/* Marks where a node stands, unless it was met before */
static int place(struct parser *p, const char *from, int node)
{
	if (node >= 0 && p->graph->node[node].to == 0) {
		const char *to = p->at;
		while (to > from && isspace((unsigned char)to[-1]))
			to--;
		p->graph->node[node].from = (int)(from - p->formula);
		p->graph->node[node].to = (int)(to - p->formula);
	}
	return node;
}

static int make(struct parser *p, enum pf_node_kind kind, int a, int b, int c)
{
	int node = pf_node_make(p->graph, kind, a, b, c);
	if (node < 0 && p->graph->full)
		return FAIL(p, p->at, "the formula is too large");
	return node;
}

static int number(struct parser *p, double value)
{
	return pf_node_number(p->graph, value);
}

/* ---- functions ---- */

/* e^a, held at e^80 with derivative 0 beyond */
static int exponential(struct parser *p, int a)
{
	return make(p, PF_NODE_EXP, make(p, PF_NODE_MIN, a, number(p, 80), -1), -1, -1);
}

static int negative(struct parser *p, int a)
{
	return make(p, PF_NODE_NEG, a, -1, -1);
}

/* m b; an exponential times a sigmoid as one exponential */
static int weighted(struct parser *p, int m, int b)
{
	const struct pf_graph *g = p->graph;
	if (m < 0 || b < 0 || g->node[m].kind != PF_NODE_SIGMOID || g->node[b].kind != PF_NODE_EXP)
		return make(p, PF_NODE_MUL, m, b, -1);
	const struct pf_node *inside = &g->node[g->node[b].operand[0]];
	const int clamped = inside->kind == PF_NODE_MIN && pf_node_is(g, inside->operand[1], 80);
	const int e = clamped ? inside->operand[0] : g->node[b].operand[0], t = g->node[m].operand[0];
	return exponential(p, make(p, PF_NODE_SUB, e, make(p, PF_NODE_SOFTPLUS, negative(p, t), -1, -1), -1));
}

static int blend(struct parser *p, int m, int a, int b)
{
	if (m < 0)
		return -1;
	const int sigmoid = p->graph->node[m].kind == PF_NODE_SIGMOID;
	const int rest = sigmoid ? make(p, PF_NODE_SIGMOID, negative(p, p->graph->node[m].operand[0]), -1, -1)
	                         : make(p, PF_NODE_SUB, number(p, 1), m, -1);
	return make(p, PF_NODE_ADD, weighted(p, rest, a), weighted(p, m, b), -1);
}

/* sign(a) (1 - e) / (1 + e), e = exp(-2 |a|) */
static int hyperbolic_tangent(struct parser *p, int a)
{
	const int e = make(p, PF_NODE_EXPM1, make(p, PF_NODE_MUL, number(p, -2), make(p, PF_NODE_ABS, a, -1, -1), -1),
	                   -1, -1);
	const int t = make(p, PF_NODE_DIV, negative(p, e), make(p, PF_NODE_ADD, number(p, 2), e, -1), -1);
	return make(p, PF_NODE_SELECT, make(p, PF_NODE_LT, a, number(p, 0), -1), negative(p, t), t);
}

static int k3(struct parser *p, int a)
{
	const int d = make(p, PF_NODE_MIN, a, number(p, 80), -1);
	return make(p, PF_NODE_SUB, make(p, PF_NODE_EXPM1, d, -1, -1), d, -1);
}

static int whole_power(struct parser *p, int a, int n)
{
	int power = a;
	for (int i = 1; i < abs(n); i++)
		power = make(p, PF_NODE_MUL, power, a, -1);
	return n == 0 ? number(p, 1) : n < 0 ? make(p, PF_NODE_DIV, number(p, 1), power, -1) : power;
}

static int power(struct parser *p, int a, int b)
{
	if (a < 0 || b < 0)
		return -1;
	const struct pf_node *n = &p->graph->node[b];
	if (n->kind == PF_NODE_NUMBER && n->number == rint(n->number) && fabs(n->number) <= 8)
		return whole_power(p, a, (int)n->number);
	const struct pf_node *base = &p->graph->node[a];
	const int one = base->kind == PF_NODE_ADD ? pf_node_is(p->graph, base->operand[0], 1)
	                                          ? base->operand[1] : pf_node_is(p->graph, base->operand[1], 1)
	                                          ? base->operand[0] : -1 : -1;
	const int logarithm = make(p, one >= 0 ? PF_NODE_LOG1P : PF_NODE_LOG, one >= 0 ? one : a, -1, -1);
	if (logarithm >= 0 && p->graph->node[logarithm].to == 0) { /* its domain is checked where the base stands */
		p->graph->node[logarithm].from = p->graph->node[a].from;
		p->graph->node[logarithm].to = p->graph->node[a].to;
	}
	return exponential(p, make(p, PF_NODE_MUL, b, logarithm, -1));
}

enum function { F_NODE, F_EXP, F_LOGSIGMOID, F_K3, F_TANH, F_SQRT, F_POW, F_BLEND, F_WHERE, F_COUNT, F_HOLD };
static const struct { const char *name; int arguments; enum function what; enum pf_node_kind kind; } functions[] = {
	{ "exp", 1, F_EXP, 0 }, { "log", 1, F_NODE, PF_NODE_LOG }, { "log1p", 1, F_NODE, PF_NODE_LOG1P },
	{ "expm1", 1, F_NODE, PF_NODE_EXPM1 }, { "softplus", 1, F_NODE, PF_NODE_SOFTPLUS },
	{ "logsigmoid", 1, F_LOGSIGMOID, 0 }, { "sigmoid", 1, F_NODE, PF_NODE_SIGMOID },
	{ "log1mexp", 1, F_NODE, PF_NODE_LOG1MEXP }, { "k3", 1, F_K3, 0 }, { "tanh", 1, F_TANH, 0 },
	{ "sqrt", 1, F_SQRT, 0 },
	{ "abs", 1, F_NODE, PF_NODE_ABS }, { "max", 2, F_NODE, PF_NODE_MAX }, { "min", 2, F_NODE, PF_NODE_MIN },
	{ "pow", 2, F_POW, 0 }, { "blend", 3, F_BLEND, 0 }, { "where", 3, F_WHERE, PF_NODE_SELECT },
	{ "gsum", 1, F_NODE, PF_NODE_GSUM }, { "gmean", 1, F_NODE, PF_NODE_GMEAN }, { "gmax", 1, F_NODE, PF_NODE_GMAX },
	{ "glse", 1, F_NODE, PF_NODE_GLSE }, { "gvar", 1, F_NODE, PF_NODE_GVAR }, { "grank", 1, F_NODE, PF_NODE_GRANK },
	{ "gcount", 0, F_NODE, PF_NODE_GCOUNT }, { "sg", 1, F_HOLD, PF_NODE_HELD },
};
enum { FUNCTIONS = sizeof functions / sizeof *functions };

static int apply(struct parser *p, int f, const int *a)
{
	switch (functions[f].what) {
	case F_EXP:        return exponential(p, a[0]);
	case F_LOGSIGMOID: return negative(p, make(p, PF_NODE_SOFTPLUS, negative(p, a[0]), -1, -1));
	case F_K3:         return k3(p, a[0]);
	case F_TANH:       return hyperbolic_tangent(p, a[0]);
	case F_SQRT:       return power(p, a[0], number(p, 0.5));
	case F_POW:        return power(p, a[0], a[1]);
	case F_BLEND:      return blend(p, a[0], a[1], a[2]);
	default:           return make(p, functions[f].kind, a[0], a[1], a[2]);
	}
}

static int expression(struct parser *p);

static int call(struct parser *p, int f, const char *from)
{
	int argument[3] = { -1, -1, -1 };
	if (functions[f].arguments > 0 && !take(p, "("))
		return FAIL(p, p->at, "\"(\" is missing behind %s", functions[f].name);
	for (int i = 0; i < functions[f].arguments; i++) {
		if (i && !take(p, ","))
			return FAIL(p, p->at, "%s has %d arguments", functions[f].name, functions[f].arguments);
		argument[i] = expression(p);
		if (argument[i] < 0)
			return -1;
	}
	if (functions[f].arguments > 0 && !take(p, ")"))
		return FAIL(p, p->at, *p->at == ',' ? "%s has %d argument%s" : "\")\" is missing: %s has %d argument%s",
		            functions[f].name, functions[f].arguments, functions[f].arguments > 1 ? "s" : "");
	return place(p, from, apply(p, f, argument));
}

/* ---- names and numbers ---- */

static int unknown(struct parser *p, const char *from, const char *word)
{
	const char *nearest = NULL;
	for (int i = 0; i < PF_EXPR_NAMES_KNOWN; i++)
		pf_name_nearest(word, names[i].name, &nearest);
	for (int i = 0; i < FUNCTIONS; i++)
		pf_name_nearest(word, functions[i].name, &nearest);
	if (nearest)
		return FAIL(p, from, "unknown name \"%s\"; did you mean %s?", word, nearest);
	return FAIL(
		p, from,
		"unknown name \"%s\"; there are x, l, r, lw, ll, rw, rl, nw, nl, n, y, z0, margin, score, beta, p0 to "
		"p7",
		word);
}

static int name(struct parser *p)
{
	const char *from = p->at;
	char word[WORD_BYTES];
	size_t length = 0;
	while (isalnum((unsigned char)p->at[length]) || p->at[length] == '_')
		length++;
	if (length >= sizeof word)
		return FAIL(p, from, "\"%.20s...\" is too long for a name", from);
	memcpy(word, from, length);
	word[length] = '\0';
	p->at += length;
	for (int i = 0; i < FUNCTIONS; i++)
		if (strcmp(functions[i].name, word) == 0)
			return call(p, i, from);
	for (int i = 0; i < PF_EXPR_NAMES_KNOWN; i++)
		if (strcmp(names[i].name, word) == 0) {
			const int own = i == PF_NAME_x || i == PF_NAME_margin || i == PF_NAME_score;
			return place(p, from, pf_node_name(p->graph, i, own ? p->per_item : names[i].lanes));
		}
	return unknown(p, from, word);
}

static int literal(struct parser *p)
{
	const char *from = p->at;
	char *end;
	const double value = strtod(from, &end);
	if (!isfinite(value) || end == from)
		return FAIL(p, from, "not a finite number");
	p->at = end;
	if (isalpha((unsigned char)*end) || *end == '_' || *end == '(')
		return FAIL(p, end, "an operator is missing, such as *");
	return place(p, from, number(p, value));
}

/* A character, or the number of a byte that is none of ASCII's */
static const char *shown(char c, char text[SHOWN_BYTES])
{
	const int printable = (unsigned char)c > 32 && (unsigned char)c < 127;
	snprintf(text, SHOWN_BYTES, printable ? "\"%c\"" : "byte 0x%02x (formulas are ASCII)", (unsigned char)c);
	return text;
}

static int primary(struct parser *p)
{
	char character[SHOWN_BYTES];
	skip(p);
	const char *from = p->at;
	if (isdigit((unsigned char)*from) || (*from == '.' && isdigit((unsigned char)from[1])))
		return literal(p);
	if (isalpha((unsigned char)*from))
		return name(p);
	if (!take(p, "("))
		return *from ? FAIL(p, from, "%s where a number, a name or ( belongs", shown(*from, character))
		             : FAIL(p, from, "the formula ends where a number, a name or ( belongs");
	const int inside = expression(p);
	if (inside >= 0 && !take(p, ")"))
		return FAIL(p, p->at, "\")\" is missing");
	return inside;
}

/* ---- operators, by what binds: ^, unary -, * /, + -, comparisons ---- */

static int unary(struct parser *p);

static int powers(struct parser *p)
{
	skip(p);
	const char *from = p->at;
	const int base = primary(p);
	if (base < 0 || !take(p, "^"))
		return base;
	const int exponent = unary(p);
	return exponent < 0 ? -1 : place(p, from, power(p, base, exponent));
}

static int unary(struct parser *p)
{
	skip(p);
	const char *from = p->at;
	if (++p->depth > DEPTH_MOST)
		return FAIL(p, from, "nested too deep");
	int result;
	if (take(p, "-")) {
		result = unary(p);
		result = result < 0 ? -1 : place(p, from, negative(p, result));
	} else {
		take(p, "+");
		result = powers(p);
	}
	p->depth--;
	return result;
}

static int products(struct parser *p)
{
	skip(p);
	const char *from = p->at;
	int a = unary(p);
	for (;;) {
		const int times = take(p, "*"), over = !times && take(p, "/");
		if (a < 0 || !(times || over))
			return a;
		const int b = unary(p);
		a = b < 0 ? -1 : place(p, from, make(p, times ? PF_NODE_MUL : PF_NODE_DIV, a, b, -1));
	}
}

static int sums(struct parser *p)
{
	skip(p);
	const char *from = p->at;
	int a = products(p);
	for (;;) {
		const int plus = take(p, "+"), minus = !plus && take(p, "-");
		if (a < 0 || !(plus || minus))
			return a;
		const int b = products(p);
		a = b < 0 ? -1 : place(p, from, make(p, plus ? PF_NODE_ADD : PF_NODE_SUB, a, b, -1));
	}
}

static int expression(struct parser *p)
{
	static const struct { const char *token; enum pf_node_kind kind; int swapped; } comparisons[] = {
		{ "<=", PF_NODE_LE, 0 }, { ">=", PF_NODE_LE, 1 }, { "==", PF_NODE_EQ, 0 }, { "<", PF_NODE_LT, 0 },
		{ ">", PF_NODE_LT, 1 },
	};
	skip(p);
	const char *from = p->at;
	if (++p->depth > DEPTH_MOST)
		return FAIL(p, from, "nested too deep");
	int a = sums(p);
	for (size_t i = 0; a >= 0 && i < sizeof comparisons / sizeof *comparisons; i++)
		if (take(p, comparisons[i].token)) {
			const int b = sums(p);
			a = b < 0 ? -1 : place(p, from, comparisons[i].swapped ? make(p, comparisons[i].kind, b, a, -1)
			                                                      : make(p, comparisons[i].kind, a, b, -1));
			break;
		}
	p->depth--;
	return a;
}

int pf_expr_parse(const char *formula, int per_item, struct pf_graph *graph, int *root, struct pf_error *error)
{
	struct parser p = { .formula = formula, .at = formula, .graph = graph, .per_item = per_item, .error = error };
	char character[SHOWN_BYTES];
	memset(graph, 0, sizeof *graph);
	*root = expression(&p);
	skip(&p);
	if (*root >= 0 && *p.at)
		*root = FAIL(&p, p.at, "%s is not understood here", shown(*p.at, character));
	if (*root < 0 && graph->full)
		return pf_fail(error, PF_E_RANGE, "the formula is too large");
	return *root < 0 ? PF_E_ARGUMENT : 0;
}
