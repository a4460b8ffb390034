#define BODY_BITS 64
#define GEMM cblas_dgemm
#define ROWS_BEST (&pf_rows_table_f64)
#include "logits_body.h"
