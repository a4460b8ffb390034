/* text.h: small text files as one string. Thread-safe. */
#ifndef PF_MODEL_TEXT_H
#define PF_MODEL_TEXT_H
#include "prefpga/error.h"

/* The whole file, ended by a zero; freed with free(), NULL after an error. What is not a regular file, such as a FIFO,
 * is refused, not waited for; so are files beyond 256 MiB */
int pf_text_read(const char *path, char **text, struct pf_error *error);
/* Replaces the file whole or not at all; the text gets a newline */
int pf_text_write(const char *path, const char *text, struct pf_error *error);
#endif
