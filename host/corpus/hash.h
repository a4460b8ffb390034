/* hash.h: 64-bit content hash for keys of caches and for the order of records. Not cryptographic. Thread-safe.
 * The values are stored in files: they must never change. */
#ifndef PF_CORPUS_HASH_H
#define PF_CORPUS_HASH_H
#include <stddef.h>
#include <stdint.h>

#define PF_HASH_START UINT64_C(0x243f6a8885a308d3)

/* One word into another, every bit of which depends on every bit of it; a bijection */
uint64_t pf_hash_mix(uint64_t word);
/* Hash after `length` more bytes; the length counts, so "ab","c" and "a","bc" differ */
uint64_t pf_hash_bytes(uint64_t hash, const void *bytes, size_t length);
uint64_t pf_hash_word(uint64_t hash, uint64_t word);
#endif
