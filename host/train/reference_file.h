/* reference_file.h: log-probs of the reference in files for other tools, and from them.
 *
 * JSON lines (.jsonl, .jsonl.gz), an object a sample, in any order; further fields are passed over:
 *
 *	{"sample": 0, "ref_chosen_logps": -12.5, "ref_rejected_logps": -14, "key": "0f3c..."}       pairs, as TRL names
 *them
 *	{"sample": 0, "reference_logps": -12.5}                                                     a labelled or single
 *one
 *	{"sample": 0, "reference_logps": [-12.5, -9.25, -20]}                                       a ranking, as in the
 *data
 *
 * Without "sample", lines count from 0. "split": "held" is a sample that --holdout keeps; left out, it is one of
 *training. Or a safetensors file (.safetensors) with tensors F64 or F32 of the same names: [samples], for rankings
 *[samples, most completions] with NaN where there is none; those of the held split are called "held.ref_chosen_logps"
 *and so on, the keys are metadata "key" and "held.key".
 *
 * Numbers are sums over a completion's tokens, its end included, in nats; as float64 they are exact. Samples are
 *numbered as in corpus.h: usable ones of a split, in the order of the files. The key is that of the cache
 *(reference.h): equal keys, equal numbers. Not thread-safe for one table. */
#ifndef PF_TRAIN_REFERENCE_FILE_H
#define PF_TRAIN_REFERENCE_FILE_H
#include <stddef.h>
#include <stdint.h>
#include "../corpus/corpus.h"

/* The numbers of one split in memory */
struct pf_reference_table {
	uint64_t samples, key;
	uint64_t origin; /* 0: computed under the key; else they were imported, and no file says the key of them */
	unsigned sides;                /* of a sample; a ranking's samples may have fewer */
	int      pairs;                /* sides are called chosen and rejected */
	int64_t *sum;                  /* [samples, sides], Q31.32; PF_REFERENCE_NONE: not there */
};
#define PF_REFERENCE_NONE INT64_MIN

/* samples, key, origin, sides and pairs are set; all entries become NONE. Free it in every case */
int  pf_reference_table_init(struct pf_reference_table *table, struct pf_error *error);
void pf_reference_table_free(struct pf_reference_table *table);
/* Puts a number in its place. PF_E_DATA, with everything but the file's name: NaN, a positive or a huge number, a
 * sample that there is not or that was there */
int  pf_reference_table_put(struct pf_reference_table *table, uint64_t sample, unsigned side, double nats,
                            struct pf_error *error);

/* Writes table[PF_SPLITS] (the second may have no samples) in the form that the path's end names */
int pf_reference_file_write(const char *path, const struct pf_reference_table *table, struct pf_error *error);
/* Reads into empty tables. foreign: keys are not looked at. Errors name file and line, or file and tensor */
int pf_reference_file_read(const char *path, struct pf_reference_table *table, int foreign, struct pf_error *error);

/* ---- the two forms ---- */
/* One line, without its end. next[PF_SPLITS]: the sample that a line without number is; start with zeros. Errors lack
 * file and line */
int pf_reference_line(const char *text, size_t length, struct pf_reference_table *table, uint64_t *next, int foreign,
                      struct pf_error *error);
struct pf_safetensors;
int pf_reference_tensors(const struct pf_safetensors *file, struct pf_reference_table *table, int foreign,
                         struct pf_error *error);
/* The numbers that a record of the data itself carries, for completion `which` of it: *nats and 1, or 0 */
int pf_reference_of_record(const struct pf_record *record, unsigned which, double *nats);
#endif
