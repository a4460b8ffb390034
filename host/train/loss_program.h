/* loss_program.h: from the rows of losses.def to the tables that kernel pref reads.
 *
 * The assembler takes the text of a program (losses.def has the language) to words, follows the
 * depth of the stack and places constants; the packer lays several programs, parameters and scalars
 * out as par[] and prog[].
 * Thread-safe: everything is in the caller's memory. */
#ifndef PF_TRAIN_LOSS_PROGRAM_H
#define PF_TRAIN_LOSS_PROGRAM_H
#include "prefpga/internal/abi.h"
#include "prefpga/loss.h"

/* Where several programs of one launch gather */
struct pf_program {
	uint32_t word[PF_PROG_MAX];
	uint32_t words;
	double   constant[PF_CONSTS];
	uint32_t constants;
	uint32_t scalars;              /* bit i: batch scalar i is used */
	uint64_t operations;           /* bit i: operation i is used */
	const double *param;           /* [row->params] while a component is assembled: values of those that are beyond what
	                                * par[] holds become constants; NULL: there are none */
};

/* Appends the program `text` of loss `row`; `sum` adds up the result over the group. Errors name the
 * row, the column in the text and the word */
int pf_program_assemble(struct pf_program *program, const struct pf_loss_row *row, const char *text,
                        int sum, struct pf_error *error);
/* Header and programs of every component */
int pf_program_build(struct pf_program *program, const struct pf_loss *loss, struct pf_error *error);
/* 1: some operation looks at all items of the launch */
int pf_program_coupled(const struct pf_program *program);
/* par[PF_PAR_COUNT] beside a built program */
void pf_program_par(const struct pf_program *program, const struct pf_loss *loss,
                    const struct pf_loss_batch *batch, double *par);
#endif
