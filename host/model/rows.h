/* rows.h: what the decoder computes beside matrix products, row by row.
 *
 * One source (rows_body.h), compiled for float at several instruction set levels and for double.
 * Sums use 16 fixed partial sums and nothing is contracted, so every level gives the same bits
 * (tests/model_rows.c); only the speed differs. Pure functions of their arguments: thread-safe. */
#ifndef PF_MODEL_ROWS_H
#define PF_MODEL_ROWS_H
#include <stddef.h>
#include <stdint.h>

#define REAL_BITS 32
#include "real.h"
#include "rows_table.h"
#undef REAL_BITS
#define REAL_BITS 64
#include "real.h"
#include "rows_table.h"
#undef REAL_BITS

/* The fastest table this processor can run */
const struct pf_rows *pf_rows_best(void);
/* Table i that this processor can run, plainest first; NULL past the last */
const struct pf_rows *pf_rows_level(unsigned i);
extern const struct pf_rows_f64 pf_rows_table_f64;
#endif
