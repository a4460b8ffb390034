#define BODY_BITS 64
#define GEMM cblas_dgemm
#include "logits_body.h"
