/* loss_row.h: what the parser of loss strings (loss_parse.c) asks of the rows and of components. Thread-safe. */
#ifndef PF_TRAIN_LOSS_ROW_H
#define PF_TRAIN_LOSS_ROW_H
#include "prefpga/loss.h"

enum { PF_LOSS_NAME_BYTES = 64 };
/* The row whose name, else whose other name, is nearest to this one; NULL: none is near */
const struct pf_loss_row *pf_loss_nearest(const char *name);
/* The form of items that serve both; 0: there is none */
int pf_loss_wider_form(enum pf_loss_form a, enum pf_loss_form b, enum pf_loss_form *form);
/* 1: its sums are those of LD-DPO */
int pf_loss_component_tail(const struct pf_loss_component *component);
#endif
