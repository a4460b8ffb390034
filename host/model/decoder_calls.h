/* decoder_calls.h: the functions of decoder.h for one element type; included by decoder.h, hence
 * without a guard. */

struct PF_T(decoder);
struct PF_T(cache);

/* `layout` must outlive the decoder and be that of `config` */
int PF_T(decoder_open)(const struct pf_model_config *config, const struct pf_layout *layout,
                       const struct pf_decoder_options *options, struct PF_T(decoder) **decoder,
                       struct pf_error *error);
/* Bytes of the workspace that open would allocate */
int PF_T(decoder_plan)(const struct pf_model_config *config, const struct pf_layout *layout,
                       const struct pf_decoder_options *options, uint64_t *bytes, struct pf_error *error);
void PF_T(decoder_close)(struct PF_T(decoder) *decoder); /* NULL is allowed */
/* Memory of the workspace. Pages are only taken as far as batches use them */
uint64_t PF_T(decoder_bytes)(const struct PF_T(decoder) *decoder);

/* Where a model's weights are. Not as a plain flat array: a layer at a time is brought to a window of its own, with
 * what an adapter adds to its matrices; the same products then see it. Everything pointed to stays the caller's */
struct PF_T(weights) {
	const REAL *param;     /* flat array of the layout, or NULL: */
	const uint16_t *half;  /* the same as bfloat16 */
	int rounded;           /* 1: param is computed with as if it were bfloat16, rounded to nearest even */
	const struct pf_lora *lora; /* NULL: none */
	const REAL *adapter;   /* its flat array */
};

/* Computes the hidden states of ids[offsets[seqs]]; offsets[0] = 0, ascending; empty sequences are
 * allowed. param is the flat array of the layout and must stay unchanged until backward */
int PF_T(decoder_forward)(struct PF_T(decoder) *decoder, const REAL *param, const int32_t *ids,
                          const uint32_t *offsets, uint32_t seqs, struct pf_error *error);
int PF_T(decoder_forward_with)(struct PF_T(decoder) *decoder, const struct PF_T(weights) *weights, const int32_t *ids,
                               const uint32_t *offsets, uint32_t seqs, struct pf_error *error);
/* [N, D] after the final norm, of the last forward or extend; valid until the next */
const REAL *PF_T(decoder_hidden)(const struct PF_T(decoder) *decoder);
/* Adds the gradient of the last forward to grad (the flat array; with an adapter, the adapter's, and nothing else has a
 * gradient), given dhidden[N, D]. Once per forward */
int PF_T(decoder_backward)(struct PF_T(decoder) *decoder, const REAL *dhidden, REAL *grad,
                           struct pf_error *error);

/* Keys and values of `slots` sequences of up to `positions` tokens, all empty */
int PF_T(cache_open)(const struct pf_model_config *config, uint32_t slots, uint32_t positions,
                     struct PF_T(cache) **cache, struct pf_error *error);
void PF_T(cache_close)(struct PF_T(cache) *cache); /* NULL is allowed */
uint32_t PF_T(cache_length)(const struct PF_T(cache) *cache, uint32_t slot);
void PF_T(cache_clear)(struct PF_T(cache) *cache, uint32_t slot);
/* As forward, but sequence i continues what slot[i] holds, and is appended to it; the slots are
 * distinct */
int PF_T(decoder_extend)(struct PF_T(decoder) *decoder, const REAL *param,
                         struct PF_T(cache) *cache, const uint32_t *slot, const int32_t *ids,
                         const uint32_t *offsets, uint32_t seqs, struct pf_error *error);
int PF_T(decoder_extend_with)(struct PF_T(decoder) *decoder, const struct PF_T(weights) *weights,
                              struct PF_T(cache) *cache, const uint32_t *slot, const int32_t *ids,
                              const uint32_t *offsets, uint32_t seqs, struct pf_error *error);
