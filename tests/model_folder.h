/* model_folder.h: small models in folders, for tests of their files. A failure fails the test. */
#ifndef PF_TESTS_MODEL_FOLDER_H
#define PF_TESTS_MODEL_FOLDER_H
#include "host/model/model.h"

extern const struct pf_model_config small_shape, tied_shape;

/* Closed by the caller: pf_model_close */
struct pf_model *create_model(const struct pf_model_config *config, uint64_t seed);
struct pf_model *load_model(const char *folder);
void assert_same_model(const struct pf_model *a, const struct pf_model *b);

/* Path of a file: static storage, eight calls deep */
const char *in_folder(const char *folder, const char *file);
void write_text(const char *path, const char *text);
#endif
