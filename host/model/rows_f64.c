#include "rows.h"
#define BODY_BITS 64
#define ROWS_TABLE pf_rows_table_f64
#define ROWS_LEVEL "plain"
#include "rows_body.h"
