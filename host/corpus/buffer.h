/* buffer.h: bytes that grow. Zero-initialise; free with pf_buffer_free. One thread per buffer. */
#ifndef PF_CORPUS_BUFFER_H
#define PF_CORPUS_BUFFER_H
#include <stddef.h>

struct pf_buffer { char *text; size_t length, room; };

/* Makes room for `more` bytes behind the present ones. 0 or -ENOMEM */
int  pf_buffer_reserve(struct pf_buffer *buffer, size_t more);
/* Appends; 0 or -ENOMEM. bytes[length] must not lie in the buffer */
int  pf_buffer_append(struct pf_buffer *buffer, const char *bytes, size_t length);
void pf_buffer_free(struct pf_buffer *buffer);
#endif
