/* text.h: a run of text that somebody else owns. */
#ifndef PF_CORPUS_TEXT_H
#define PF_CORPUS_TEXT_H
#include <stddef.h>

struct pf_text { const char *text; size_t length; };    /* UTF-8, not 0-terminated */
#endif
