/* logits.h: the language-model head on the host, and products in general: C = alpha op(A) op(B) +
 * beta C.
 *
 * Row-major. Products are cut into tiles by their shape, each tile one BLAS call on one thread, so
 * results do not depend on the number of threads (parallel.h). Thread-safe. For float (pf_matmul,
 * ...) and double (pf_matmul_f64, ...). */
#ifndef PF_MODEL_LOGITS_H
#define PF_MODEL_LOGITS_H
#include <stddef.h>
#include <stdint.h>

#define REAL_BITS 32
#include "real.h"
#include "logits_calls.h"
#undef REAL_BITS
#define REAL_BITS 64
#include "real.h"
#include "logits_calls.h"
#undef REAL_BITS
#endif
