/* config.h: the shape of a model as Hugging Face's config.json says it. Thread-safe.
 *
 * Read: model_type llama, mistral, qwen2, qwen3, gemma2, gpt2 (config_family.h). What would change
 * the computation and is not built is an error that names the key, never ignored. */
#ifndef PF_MODEL_CONFIG_H
#define PF_MODEL_CONFIG_H
#include <stddef.h>
#include "prefpga/model.h"
#include "prefpga/view.h"

/* Checks every field against its bounds and against the others. `where` begins the message */
int pf_config_check(const struct pf_model_config *config, const char *where,
                    struct pf_error *error);
int pf_config_read(const char *path, struct pf_model_config *config, struct pf_error *error);
/* As pf_config_read, and hands over the text, freed with free(); NULL after an error */
int pf_config_load(const char *path, struct pf_model_config *config, char **text, struct pf_error *error);
/* As pf_config_read, from text[bytes]; `where` names it in messages */
int pf_config_parse(const char *text, size_t bytes, const char *where,
                    struct pf_model_config *config, struct pf_error *error);
/* Replaces the file whole or not at all. PF_E_UNSUPPORTED when the family's keys cannot say all features */
int pf_config_write(const struct pf_model_config *config, const char *path, struct pf_error *error);
/* As pf_config_write for weights of that type; `known` is the text this config was read from, all of whose keys are
 * kept, or NULL */
int pf_config_write_as(const struct pf_model_config *config, const char *known, enum pf_dtype type, const char *path,
                       struct pf_error *error);
/* 1 if models of both are of one family and compute the same function of equal weights: everything but vocabulary names
 * and longest sequence */
int pf_config_equal(const struct pf_model_config *a, const struct pf_model_config *b);
/* "vocabulary 259, width 128, 3 layers, ..." for messages and keys: of
 * models that are not plain Llamas every feature. Returns what snprintf would */
int pf_config_describe(const struct pf_model_config *config, char *out, size_t size);
#endif
