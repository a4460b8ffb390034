/* config.h: the bytes of a config file. */
#ifndef PF_CLI_CONFIG_H
#define PF_CLI_CONFIG_H
#include "prefpga/error.h"

/* Reads a text file of at most 1 MiB into malloc'd, 0-terminated memory that the caller frees. A file with NUL bytes
 * is an error */
int pf_options_file_read(const char *path, char **text, struct pf_error *error);
#endif
