#define BODY_BITS 32
#define GEMM cblas_sgemm
#define ROWS_BEST pf_rows_best()
#include "logits_body.h"
