/* Compiled once per instruction set level, with PF_LEVEL set to its name; see CMakeLists.txt */
#include "rows.h"
#define BODY_BITS 32
#define NAME_OF(level) pf_rows_table_##level
#define NAME(level) NAME_OF(level)
#define TEXT_OF(level) #level
#define TEXT(level) TEXT_OF(level)
#define ROWS_TABLE NAME(PF_LEVEL)
#define ROWS_LEVEL TEXT(PF_LEVEL)
extern const struct pf_rows ROWS_TABLE;
#include "rows_body.h"
