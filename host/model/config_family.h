/* config_family.h: what the families of models say in config.json, each with its own keys and defaults. Inner words of
 * config.c and config_write.c. Thread-safe.
 *
 * A family is a row of the table in config_family.c: its start values are what Hugging Face's configuration class takes
 * for a key that the file leaves out. Reading turns keys into features (prefpga/model.h); what would change the
 * computation and is not built is an error that names the key, never ignored. */
#ifndef PF_MODEL_CONFIG_FAMILY_H
#define PF_MODEL_CONFIG_FAMILY_H
#include <jansson.h>
#include <stddef.h>
#include "prefpga/model.h"

/* A whole-number field; one that is not required is derived when missing */
struct pf_config_whole {
	const char *key, *gpt2; /* gpt2: that family's name of it, NULL: the same */
	size_t place;
	uint32_t low, high;
	int required;
};
enum { PF_CONFIG_WHOLES = 8 };
extern const struct pf_config_whole pf_config_wholes[PF_CONFIG_WHOLES];

/* "llama", ... as in model_type; "LlamaForCausalLM" */
const char *pf_config_family_name(enum pf_family family);
const char *pf_config_architecture(enum pf_family family);
/* From model_type: the family and what it takes for missing keys */
int pf_config_family(const json_t *root, const char *where, struct pf_model_config *config, struct pf_error *error);
/* Everything but whole numbers and token ids; those must be there already */
int pf_config_features(const json_t *root, const char *where, struct pf_model_config *config, struct pf_error *error);
#endif
