/* cpu_run.h: one kernel, one call, on any device: host arrays in, host arrays out. Failures fail the cmocka test. */
#ifndef PF_TESTS_CPU_RUN_H
#define PF_TESTS_CPU_RUN_H
#include "prefpga/device.h"
#include "prefpga/internal/abi.h"

/* [rows, vocab] logits or gradients of either type; rows `stride` beats apart */
struct run_shape { uint32_t rows, vocab, stride; int bf16; };

uint32_t run_lanes(const struct run_shape *s);                  /* of a beat */
size_t   run_bytes(const struct run_shape *s);                  /* of the array */
/* Smallest stride that holds a row */
struct run_shape run_shape_of(uint32_t rows, uint32_t vocab, int bf16);
/* Opens a device; NULL if it is absent from this machine */
struct pf_device *run_open(const char *spec, uint32_t threads);

void run_logprob(struct pf_device *device, const struct run_shape *s, const void *z, const int32_t *target,
                 uint32_t flags, struct pf_row *out);
void run_logit_grad(struct pf_device *device, const struct run_shape *s, const void *z, const int32_t *target,
                    const float *coef, const struct pf_row *row, void *dz, int in_place);
void run_seq_sum(struct pf_device *device, const struct pf_row *row, uint32_t rows, const struct pf_span *span,
                 uint32_t seqs, struct pf_seq *out);
void run_coef(struct pf_device *device, const struct pf_item_out *item, const struct pf_span *span, uint32_t seqs,
              uint32_t rows, float tail, float *out);
void run_pref(struct pf_device *device, const double *par, const uint32_t *prog, uint32_t words,
              const struct pf_item *item, uint32_t items, const uint32_t *group, uint32_t groups,
              struct pf_item_out *out);
#endif
