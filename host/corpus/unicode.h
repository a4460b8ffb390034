/* unicode.h: characters in UTF-8, their kinds, and the normal form NFC. Thread-safe.
 *
 * Tables: utf8proc's (Unicode 15). It is a hundredth of ICU's size and free of conditions; its own composition sorts
 * combining marks in quadratic time, so decomposition and order are done here, and its tables are used. */
#ifndef PF_CORPUS_UNICODE_H
#define PF_CORPUS_UNICODE_H
#include <stddef.h>
#include <stdint.h>
#include "buffer.h"

/* The character at text[left], left >= 1: its bytes, 1 to 4, and *code. What is not UTF-8 has code -1 and the bytes of
 * its longest beginning of a character (Unicode 15, 3.9, "maximal subpart") */
size_t pf_utf8_read(const char *text, size_t left, int32_t *code);
/* The character that ends at text[length], length >= 1, of valid UTF-8 */
int32_t pf_utf8_last(const char *text, size_t length);
/* Bytes of the longest beginning of text[length] that does not end within a character; what is not UTF-8 counts as
 * whole */
size_t pf_utf8_whole(const char *text, size_t length);
/* 1: all of it is UTF-8 */
int    pf_utf8_valid(const char *text, size_t length);
/* Appends the text with each maximal subpart of what is not UTF-8 replaced by U+FFFD, as Python's "replace". 0,
 * -ENOMEM */
int    pf_utf8_repair(const char *text, size_t length, struct pf_buffer *out);

/* White_Space, and what word boundaries count as part of a word (Unicode TS 18: \s and \w) */
int pf_is_space(int32_t code);
int pf_is_word(int32_t code);

/* Appends NFC of valid UTF-8. Time in proportion to the length. 0 or -ENOMEM.
 *
 * It is that of Unicode 9, as in the library that defines the tokens (tokenizers 0.23.3, found by trying every
 * character): marks that came later keep their place there and combine with nothing, so models have learned them so */
int pf_nfc(const char *text, size_t length, struct pf_buffer *out);
#endif
