#define BODY_BITS 32
#define GEMM cblas_sgemm
#include "logits_body.h"
