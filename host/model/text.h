/* text.h: small text files as one string. Thread-safe. */
#ifndef PF_MODEL_TEXT_H
#define PF_MODEL_TEXT_H
#include "prefpga/error.h"

/* The whole file, ended by a zero; freed with free(), NULL after an error. Files beyond 256 MiB are refused */
int pf_text_read(const char *path, char **text, struct pf_error *error);
#endif
