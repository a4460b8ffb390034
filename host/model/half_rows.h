/* half_rows.h: arrays of IEEE binary16 to float and back, in loops that compilers vectorise. Thread-safe. */
#ifndef PF_MODEL_HALF_ROWS_H
#define PF_MODEL_HALF_ROWS_H
#include <stddef.h>
#include <stdint.h>

void pf_halves_widen(const uint16_t *half, float *wide, size_t count);         /* exact */
void pf_halves_round(const float *wide, uint16_t *half, size_t count);         /* to nearest even; overflow: infinity */
#endif
