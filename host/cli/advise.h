/* advise.h: what verb advise has played, and how it is shown. */
#ifndef PF_CLI_ADVISE_H
#define PF_CLI_ADVISE_H
#include "cli.h"
#include "host/bench/table.h"
#include "host/report/offload.h"

enum { PF_ADVISE_CARDS = 8, PF_ADVISE_ROWS = 256 };

/* This host: measured now, or told */
struct pf_advise_host {
	char name[160];
	double flops, copy;    /* operations/s of products; bytes/s of a copy loop, NaN: not measured */
	int told;              /* 1: --host-gflops */
	double free_part;      /* of its processors, while it was measured */
	double joule_per_flop; /* NaN: refused says why */
	const char *scope;
	char refused[1024];
};

/* One point: a card and a shape. code: why there is no answer, with text */
struct pf_advise_row {
	const char *card;
	uint32_t cards;
	struct pf_offload_shape shape;
	struct pf_offload answer;
	struct pf_error error;
};

struct pf_advise {
	const struct pf_options *options;
	enum pf_offload_head head;
	struct pf_offload_shape shape;         /* with the precision of `head` */
	enum pf_precision precision, reference_precision;
	struct pf_advise_host host;
	struct pf_reports *reports; /* --reports, or NULL */
	char *cards; /* --card, cut into card[] */
	const char *card[PF_ADVISE_CARDS];
	unsigned card_count;
	struct pf_advise_row *row; /* [rows] */
	unsigned rows;
};

/* Where it is played: units 0 is what the card has room for */
struct pf_offload_place pf_advise_place(const struct pf_advise *advise, const char *card, uint32_t cards,
                                        uint32_t units);
/* `shape` in the precision that a head is asked about in */
struct pf_offload_shape pf_advise_shape(const struct pf_advise *advise, const struct pf_offload_shape *shape,
                                        enum pf_offload_head head);
/* "offload", "open", ... */
const char *pf_advise_verdict_name(enum pf_offload_verdict verdict);
/* What an answer's figures are: modelled, and how much of the cycles reports calibrate. Returns text */
const char *pf_advise_kind(const struct pf_offload *answer, char text[64]);
/* Steps of the head alone that a window must have for the card's sensor to see their energy */
double pf_advise_window(const struct pf_advise_row *row);
/* Asks for one point; with an answer or an error there is a row more. NULL: there are PF_ADVISE_ROWS already */
const struct pf_advise_row *pf_advise_ask(struct pf_advise *advise, const char *card, uint32_t cards, uint32_t units,
                                          const struct pf_offload_shape *shape);
/* The answer for each card, and what would change it */
void pf_advise_show(const struct pf_advise *advise);
void pf_advise_print_json(const struct pf_advise *advise);
/* Whether a quoted figure is of such a head (forward only, or with gradients), and what the head would take at its
 * rate */
int pf_advise_anchor_fits(const struct pf_advise *advise, const struct pf_gpu_anchor *anchor);
double pf_advise_anchor_seconds(const struct pf_gpu_anchor *anchor, const struct pf_offload_shape *shape);
/* All rows; at NULL, or the name of what was grown */
int pf_advise_save(const struct pf_advise *advise, struct pf_error *error);
/* One sentence: do not offload, offload, or why neither can be said */
void pf_advise_verdict(const struct pf_advise *advise, const struct pf_advise_row *row, char *text, size_t room);
/* --sweep, its chart and its summary */
int pf_advise_sweep(struct pf_advise *advise, struct pf_error *error);
#endif
