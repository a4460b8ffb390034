/* reports.h: what the files of reports share. */
#ifndef PF_SIM_REPORTS_H
#define PF_SIM_REPORTS_H
#include "prefpga/internal/backend.h"
#include "prefpga/reports.h"

struct pf_reports { struct pf_kernel_report kernel[PF_KERNEL_COUNT]; };

/* Kernel whose top, or a module of it, is called so; -1: none's */
int pf_report_kernel(const char *name, size_t length);
/* How many scalars a run of it has */
unsigned pf_report_scalars(int kernel);
#endif
