/* tokenizer_state.h: inside of a tokenizer read from tokenizer.json. tokenizer_json.c, tokenizer_vocabulary.c and
 * tokenizer_steps.c fill it, tokenizer_folder.c adds what the files beside it say, tokenizer_text.c uses it. */
#ifndef PF_CORPUS_TOKENIZER_STATE_H
#define PF_CORPUS_TOKENIZER_STATE_H
#include <errno.h>
#include <jansson.h>
#include "added.h"
#include "bpe.h"
#include "steps.h"
#include "tokenizer.h"

/* What a token looks like in a text: shown_text[at, at + length) */
struct pf_shown { uint32_t at, length; uint8_t known, special; };

struct pf_tokenizer_state {
	struct pf_tokenizer face;      /* what others see; its `state` is this */
	char               *folder;
	struct pf_buffer file[PF_TOKENIZER_FILES]; /* what the folder held when it was opened; no text: no such file */
	struct pf_bpe       bpe;
	struct pf_added     raw, normal;       /* found before and after the changes */
	struct pf_steps     changes, cuts;
	struct pf_shown    *shown;     /* [face.vocab] */
	struct pf_buffer    shown_text;
	int                 strips;    /* decoding takes away the space that encoding put in front */
	int32_t             opens, closes;     /* tokens that its template puts around a sequence; -1: none */
};

/* A tokenizer.json being read */
struct pf_tokenizer_reading {
	const json_t              *root;
	struct pf_tokenizer_state *state;
	int                        marks_spaces, marks_bytes;   /* its decoder: U+2581 is a space, <0x41> a byte */
	struct pf_error           *error;
};

/* Reads text[length] as tokenizer.json. Errors lack the name of the file */
int  pf_tokenizer_parse(const char *text, size_t length, struct pf_tokenizer_state **state, struct pf_error *error);
void pf_tokenizer_state_free(struct pf_tokenizer_state *state);         /* NULL is allowed */
/* The id of a token by its text, -1: there is none. tokenizer_json.c */
int32_t pf_tokenizer_find(const struct pf_tokenizer_state *state, const char *text);
/* Changes text[length] as for encoding, into out. 0 or an error of pf_steps_run. tokenizer_text.c */
int pf_tokenizer_change(const struct pf_tokenizer_state *state, const char *text, size_t length, struct pf_buffer *out);

/* Field "model.vocab". Whether an id can be one. What the decoder makes of a text is shown of a token.
 * tokenizer_vocabulary.c */
int  pf_tokenizer_read_vocabulary(struct pf_tokenizer_reading *reading, const json_t *vocabulary);
int  pf_tokenizer_check_id(struct pf_tokenizer_reading *reading, const char *text, const json_t *id);
int  pf_tokenizer_show(struct pf_tokenizer_reading *reading, const char *text, int32_t id);

/* Fields "normalizer" and "pre_tokenizer"; "decoder"; "post_processor". tokenizer_steps.c */
int  pf_tokenizer_read_steps(struct pf_tokenizer_reading *reading);
int  pf_tokenizer_read_decoder(struct pf_tokenizer_reading *reading);
int  pf_tokenizer_read_template(struct pf_tokenizer_reading *reading);

static inline int pf_tokenizer_no_memory(struct pf_tokenizer_reading *reading)
{
	return pf_fail(reading->error, -ENOMEM, "out of memory");
}

/* A member of an object that is not null, or NULL */
static inline json_t *pf_json_member(const json_t *object, const char *name)
{
	json_t *value = json_object_get(object, name);

	return json_is_null(value) ? NULL : value;
}

/* A member that is true; `otherwise` if it is missing */
static inline int pf_json_flag(const json_t *object, const char *name, int otherwise)
{
	const json_t *value = pf_json_member(object, name);

	return value ? json_is_true(value) : otherwise;
}
#endif
