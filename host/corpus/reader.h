/* reader.h: lines of JSONL files by offset. Files are read with pread through one window, so memory does not grow with
 * them; .gz files are read through a plain copy made once (unpack.h).
 *
 * Several files count as one sequence of bytes: an offset names file and place. One thread per reader. */
#ifndef PF_CORPUS_READER_H
#define PF_CORPUS_READER_H
#include <stddef.h>
#include <stdint.h>
#include "prefpga/error.h"

#define PF_LINE_MAX (64u << 20)        /* bytes of one record: beyond it the file is hardly JSONL */

struct pf_reader;
struct pf_watch;

/* One line without its line feed; not 0-terminated. Valid until the reader's next call */
struct pf_line {
	const char *text;
	size_t      length;
	uint64_t    at;                /* its offset, for pf_reader_at */
	uint64_t    number;            /* 1, 2, ... in its file; 0 when read by offset */
};

/* Opens a comma separated list of files. `cache`: folder for plain copies, NULL when there can be no .gz. `watch`: may
 * stop the making of such copies (unpack.h), NULL when nothing does */
int  pf_reader_open(const char *paths, const char *cache, const struct pf_watch *watch, struct pf_reader **reader,
                    struct pf_error *error);
void pf_reader_close(struct pf_reader *reader);         /* NULL is allowed */
uint64_t pf_reader_bytes(const struct pf_reader *reader);
/* The next line in order of the files. Returns 1, 0 behind the last one, or an error */
int  pf_reader_next(struct pf_reader *reader, struct pf_line *line, struct pf_error *error);
/* The line that starts at offset `at` */
int  pf_reader_at(struct pf_reader *reader, uint64_t at, struct pf_line *line, struct pf_error *error);
/* "file:line" of a line, into out[size]. Counts lines from the start of the file if line->number is 0 */
void pf_reader_where(struct pf_reader *reader, const struct pf_line *line, char *out, size_t size);
#endif
