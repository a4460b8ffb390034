/* Assembler of the programs in losses.def */
#include "loss_program.h"
#include <ctype.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "loss_modifier.h"
#include "prefpga/internal/nearest.h"

enum { WORD_BYTES = 64 };

struct operation { const char *mnemonic; unsigned takes, leaves; int immediate; };
static const struct operation operations[PF_OP_COUNT] = {
#define PF_OPERATION(symbol, mnemonic, takes, leaves, imm, text) { mnemonic, takes, leaves, imm },
	PF_OPS(PF_OPERATION)
#undef PF_OPERATION
};
_Static_assert(PF_OP_COUNT <= 64, "pf_program.operations");
_Static_assert(PF_OP_BGET == PF_OP_BSUM + 3, "pf_program_coupled");
_Static_assert((int)PF_LOSS_PARAMS >= (int)PF_PARAMS, "loss.h");
_Static_assert((int)PF_LOSS_COMPONENTS == (int)PF_COMPONENTS, "loss.h");
_Static_assert((int)PF_KIND_CHOSEN == PF_ITEM_CHOSEN && (int)PF_KIND_REJECTED == PF_ITEM_REJECTED &&
               (int)PF_KIND_EXTRA == PF_ITEM_EXTRA && (int)PF_KIND_PROMPT == PF_ITEM_PROMPT,
               "public numbers of kinds");
_Static_assert((int)PF_LOSS_Z0 == (int)PF_PAR_Z0 && (int)PF_LOSS_DELTA == (int)PF_PAR_DELTA &&
               (int)PF_LOSS_TOKENS == (int)PF_PAR_TOKENS && (int)PF_LOSS_PROMPT_TOKENS == (int)PF_PAR_PROMPT, "loss.h");

static const struct { const char *name; uint32_t index; } scalars[] = {
	{ "divisor", PF_PAR_DIVISOR },
	{ "z0", PF_PAR_Z0 },
	{ "delta", PF_PAR_DELTA },
	{ "tokens", PF_PAR_TOKENS },
	{ "prompt_tokens", PF_PAR_PROMPT },
};
static const struct { const char *name; uint32_t mask; } kinds[] = {
	{ "chosen", PF_ITEM_CHOSEN }, { "rejected", PF_ITEM_REJECTED }, { "extra", PF_ITEM_EXTRA },
};
enum { SCALARS = sizeof scalars / sizeof *scalars, KINDS = sizeof kinds / sizeof *kinds };

struct assembler {
	struct pf_program        *program;
	const struct pf_loss_row *row;
	const char               *text, *at;           /* at: behind the current word */
	const char               *word_at;
	char                      word[WORD_BYTES];
	unsigned                  depth;
	char                      registers[PF_REGISTERS][WORD_BYTES];
	unsigned                  register_count;
	int                       loop;                /* 1: a loop is open */
	unsigned                  loop_depth;
	struct pf_error          *error;
};

#define FAIL(a, code, ...) fail_at(a, pf_fail((a)->error, code, __VA_ARGS__))

static int fail_at(struct assembler *a, int code)
{
	pf_fail_in(a->error, "program of loss %s, column %d", a->row->name,
	           (int)(a->word_at - a->text) + 1);
	return code;
}

/* 1: a word was read; 0: the end; negative: an error */
static int next_word(struct assembler *a)
{
	size_t length = strcspn(a->at += strspn(a->at, " "), " ");

	a->word_at = a->at;
	if (length >= WORD_BYTES)
		return FAIL(a, PF_E_FORMAT, "\"%.32s...\" is too long for a word", a->at);
	memcpy(a->word, a->at, length);
	a->word[length] = '\0';
	a->at += length;
	return length > 0;
}

/* ---- words out ---- */

static int emit(struct assembler *a, uint32_t op, uint32_t operand)
{
	struct pf_program *p = a->program;

	if (a->depth < operations[op].takes)
		return FAIL(a, PF_E_FORMAT, "\"%s\" needs %u values, the stack holds %u", a->word,
		            operations[op].takes, a->depth);
	a->depth += operations[op].leaves - operations[op].takes;
	if (a->depth > PF_STACK_MAX)
		return FAIL(a, PF_E_FORMAT, "more than %u values on the stack", PF_STACK_MAX);
	if (p->words >= PF_PROG_MAX)
		return FAIL(a, PF_E_RANGE, "more than %u words", PF_PROG_MAX);
	p->word[p->words++] = PF_WORD(op, operand);
	p->operations |= (uint64_t)1 << op;
	return 0;
}

static int emit_constant(struct assembler *a, double value)
{
	struct pf_program *p = a->program;
	uint32_t i = 0;

	while (i < p->constants && memcmp(&p->constant[i], &value, sizeof value) != 0)
		i++;
	if (i == PF_CONSTS)
		return FAIL(a, PF_E_RANGE, "more than %u different constants in one launch",
		            PF_CONSTS);
	p->constant[i] = value;
	p->constants += i == p->constants;
	return emit(a, PF_OP_CONST, i);
}

/* ---- what a word can be ---- */

static int find_operation(const char *word)
{
	for (int op = PF_OP_END + 1; op < PF_OP_LOOP; op++)
		if (!operations[op].immediate && strcmp(operations[op].mnemonic, word) == 0)
			return op;
	return -1;
}

static int find_register(const struct assembler *a, const char *word)
{
	for (unsigned i = 0; i < a->register_count; i++)
		if (strcmp(a->registers[i], word) == 0)
			return (int)i;
	return -1;
}

static int find_param(const struct assembler *a, const char *word)
{
	for (unsigned i = 0; i < a->row->params; i++)
		if (strcmp(a->row->param[i].name, word) == 0)
			return (int)i;
	return -1;
}

static int find_scalar(const char *word)
{
	for (int i = 0; i < SCALARS; i++)
		if (strcmp(scalars[i].name, word) == 0)
			return i;
	return -1;
}

static int unknown(struct assembler *a)
{
	const char *nearest = NULL;

	for (int op = PF_OP_END + 1; op < PF_OP_LOOP; op++)
		if (!operations[op].immediate)
			pf_name_nearest(a->word, operations[op].mnemonic, &nearest);
	for (unsigned i = 0; i < a->row->params; i++)
		pf_name_nearest(a->word, a->row->param[i].name, &nearest);
	for (unsigned i = 0; i < a->register_count; i++)
		pf_name_nearest(a->word, a->registers[i], &nearest);
	if (nearest)
		return FAIL(a, PF_E_UNKNOWN, "unknown word \"%s\"; did you mean \"%s\"?", a->word,
		            nearest);
	return FAIL(a, PF_E_UNKNOWN,
	            "unknown word \"%s\": no operation, register, parameter or batch scalar",
	            a->word);
}

/* ---- one word ---- */

static int is_number(const char *word)
{
	word += *word == '-' || *word == '+';
	word += *word == '.';
	return isdigit((unsigned char)*word);
}

static int number(struct assembler *a)
{
	char *end;
	double value = strtod(a->word, &end);

	if (*end || !isfinite(value))
		return FAIL(a, PF_E_FORMAT, "\"%s\" is not a finite number", a->word);
	return emit_constant(a, value);
}

static int store(struct assembler *a)
{
	const char *name = a->word + 1;
	int reg = find_register(a, name);

	if (reg < 0 &&
	    (!isalpha((unsigned char)*name) || strcmp(name, "is") == 0 ||
	     find_operation(name) >= 0 || find_param(a, name) >= 0 || find_scalar(name) >= 0))
		return FAIL(a, PF_E_FORMAT,
		            "\"%s\" cannot name a register: it is no word or has a meaning already",
		            name);
	if (reg < 0 && a->register_count == PF_REGISTERS)
		return FAIL(a, PF_E_RANGE, "more than %u registers", PF_REGISTERS);
	if (reg < 0) {
		reg = (int)a->register_count++;
		memcpy(a->registers[reg], name, strlen(name) + 1);
	}
	return emit(a, PF_OP_STORE, (uint32_t)reg);
}

static int kind_mask(const char *word, uint32_t *mask)
{
	size_t length;

	for (*mask = 0;; word += length + 1) {
		int kind = 0;
		length = strcspn(word, "|");
		while (kind < KINDS && (strlen(kinds[kind].name) != length ||
		                        strncmp(kinds[kind].name, word, length) != 0))
			kind++;
		if (kind == KINDS)
			return 0;
		*mask |= kinds[kind].mask;
		if (!word[length])
			return 1;
	}
}

static int is_kind(struct assembler *a)
{
	uint32_t mask;
	int status = next_word(a);

	if (status < 0)
		return status;
	if (!kind_mask(a->word, &mask))
		return FAIL(a, PF_E_UNKNOWN,
		            "\"%s\" follows `is`, where chosen, rejected, extra or a set like "
		            "chosen|rejected belongs",
		            a->word);
	return emit(a, PF_OP_IS, mask);
}

static int loop_open(struct assembler *a)
{
	if (a->loop)
		return FAIL(a, PF_E_FORMAT, "loops do not nest");
	a->loop = 1;
	a->loop_depth = a->depth;
	return emit(a, PF_OP_LOOP, 0);
}

static int loop_close(struct assembler *a)
{
	if (!a->loop)
		return FAIL(a, PF_E_FORMAT, "\"]\" without \"[\"");
	if (a->depth != a->loop_depth)
		return FAIL(a, PF_E_FORMAT,
		            "the loop leaves the stack with %u values instead of %u", a->depth,
		            a->loop_depth);
	a->loop = 0;
	return emit(a, PF_OP_NEXT, 0);
}

static int parameter(struct assembler *a, unsigned index)
{
	if (index < PF_PARAMS)
		return emit(a, PF_OP_PAR, index);
	if (!a->program->param)
		return FAIL(a, PF_E_RANGE, "more than %u parameters", PF_PARAMS);
	return emit_constant(a, a->program->param[index]);
}

static int named(struct assembler *a)
{
	int index;

	if ((index = find_operation(a->word)) >= 0)
		return emit(a, (uint32_t)index, 0);
	if ((index = find_register(a, a->word)) >= 0)
		return emit(a, PF_OP_LOAD, (uint32_t)index);
	if ((index = find_param(a, a->word)) >= 0)
		return parameter(a, (unsigned)index);
	if ((index = find_scalar(a->word)) < 0)
		return unknown(a);
	a->program->scalars |= 1u << scalars[index].index;
	return emit(a, PF_OP_SCALAR, scalars[index].index);
}

static int take_word(struct assembler *a)
{
	if (is_number(a->word))
		return number(a);
	if (a->word[0] == '=' && a->word[1] && a->word[1] != '=')
		return store(a);
	if (strcmp(a->word, "is") == 0)
		return is_kind(a);
	if (strcmp(a->word, "[") == 0)
		return loop_open(a);
	if (strcmp(a->word, "]") == 0)
		return loop_close(a);
	return named(a);
}

static int finish(struct assembler *a, int sum)
{
	int status;

	if (a->loop)
		return FAIL(a, PF_E_FORMAT, "\"[\" without \"]\"");
	if (a->depth != 1)
		return FAIL(a, PF_E_FORMAT,
		            "the program ends with %u values on the stack instead of one",
		            a->depth);
	status = sum ? emit(a, PF_OP_GSUM, 0) : 0;
	if (!status && a->program->words >= PF_PROG_MAX)
		return FAIL(a, PF_E_RANGE, "more than %u words", PF_PROG_MAX);
	if (!status)
		a->program->word[a->program->words++] = PF_WORD(PF_OP_END, 0);
	return status;
}

int pf_program_assemble(struct pf_program *program, const struct pf_loss_row *row, const char *text,
                        int sum, struct pf_error *error)
{
	struct assembler a = { .program = program,
		               .row = row,
		               .text = text,
		               .at = text,
		               .word_at = text,
		               .error = error };
	int status;

	while ((status = next_word(&a)) > 0)
		if ((status = take_word(&a)) < 0)
			break;
	return status < 0 ? status : finish(&a, sum);
}

/* ---- a whole launch ---- */

static int assemble(struct pf_program *p, const struct pf_loss_component *c, int gradient, int sum,
                    struct pf_error *error)
{
	char text[PF_LOSS_TEXT];
	int status;

	p->param = c->param;
	status = c->modified ? pf_loss_modified(c, gradient, text, error) : 0;
	if (!status)
		status = pf_program_assemble(p, c->row, c->modified ? text : gradient ? c->row->grad : c->row->value,
		                             sum, error);
	p->param = NULL;
	return status;
}

int pf_program_build(struct pf_program *p, const struct pf_loss *loss, struct pf_error *error)
{
	int per_item = pf_loss_per_item(loss), status = 0;

	memset(p, 0, sizeof *p);
	p->words = PF_PROG_CODE;
	p->word[0] = loss->components;
	for (unsigned c = 0; c < loss->components && !status; c++) {
		const struct pf_loss_row *row = loss->component[c].row;
		uint32_t *head = p->word + PF_PROG_COMPONENT + 4 * c;
		head[0] = p->words;
		head[2] = (uint32_t)per_item;
		status = assemble(p, &loss->component[c], 0, row->per_item && !per_item, error);
		head[1] = p->words;
		if (!status)
			status = assemble(p, &loss->component[c], 1, 0, error);
	}
	return status;
}

int pf_loss_uses(const struct pf_loss *loss, enum pf_loss_scalar scalar)
{
	struct pf_program program;

	return pf_program_build(&program, loss, NULL) == 0 && program.scalars >> scalar & 1;
}

int pf_loss_prompts(const struct pf_loss *loss)
{
	return pf_loss_uses(loss, PF_LOSS_PROMPT_TOKENS);
}

int pf_program_coupled(const struct pf_program *program)
{
	const uint64_t all = (uint64_t)15 << PF_OP_BSUM;       /* bsum, brank, bput, bget */

	return (program->operations & all) != 0;
}

int pf_loss_coupled(const struct pf_loss *loss)
{
	struct pf_program program;

	return pf_program_build(&program, loss, NULL) == 0 && pf_program_coupled(&program);
}

void pf_program_par(const struct pf_program *program, const struct pf_loss *loss,
                    const struct pf_loss_batch *batch, double *par)
{
	memset(par, 0, PF_PAR_COUNT * sizeof *par);
	par[PF_PAR_DIVISOR] = batch->divisor;
	par[PF_PAR_Z0] = batch->z0;
	par[PF_PAR_DELTA] = batch->delta;
	par[PF_PAR_TOKENS] = batch->tokens;
	par[PF_PAR_PROMPT] = batch->prompt_tokens;
	for (unsigned c = 0; c < loss->components; c++) {
		double *component = par + PF_PAR_COMPONENT + PF_PAR_STRIDE * c;
		component[0] = loss->component[c].weight;
		memcpy(component + 1, loss->component[c].param, PF_PARAMS * sizeof *component);
	}
	memcpy(par + PF_PAR_CONST, program->constant, sizeof program->constant);
}
