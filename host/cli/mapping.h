/* mapping.h: a YAML file that holds one flat mapping, as a list of keys and values in the file's order.
 *
 * A value is a scalar or a list of scalars. Anything nested deeper is noted as such and skipped: whether that is an
 * error depends on the key. Refused with their place: anchors and aliases (so nothing can grow), tags other than those
 * of YAML's own scalars, a second document, a key that is there twice, text beyond 1 MiB. Thread-safe. */
#ifndef PF_CLI_MAPPING_H
#define PF_CLI_MAPPING_H
#include <stddef.h>
#include "prefpga/error.h"

enum { PF_MAPPING_BYTES_MAX = 1 << 20, PF_MAPPING_ENTRIES_MAX = 1024, PF_MAPPING_DEPTH_MAX = 16 };

enum pf_mapping_kind {
	PF_MAPPING_NULL,                          /* nothing, ~ or null */
	PF_MAPPING_SCALAR,
	PF_MAPPING_LIST,                          /* of scalars; the value joins them with commas */
	PF_MAPPING_NESTED,                        /* a mapping, or a list that is not flat; no value */
};

struct pf_mapping_entry {
	enum pf_mapping_kind kind;
	unsigned line, column;                 /* of the key, from 1 */
	unsigned value_line, value_column;
	char    *key, *value;                  /* UTF-8, 0-terminated; value "" if there is none */
};

struct pf_mapping { struct pf_mapping_entry *entry; size_t count, room; };

/* Reads text[length]. Errors begin with path:line:column. Free in every case */
int pf_mapping_parse(const char *path, const char *text, size_t length, struct pf_mapping *map, struct pf_error *error);
void pf_mapping_free(struct pf_mapping *map);
#endif
