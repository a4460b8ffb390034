#include "steps.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "unicode.h"

void pf_steps_free(struct pf_steps *steps)
{
	for (unsigned i = 0; i < steps->count; i++) {
		pf_pattern_close(steps->step[i].pattern);
		free(steps->step[i].text);
	}
	*steps = (struct pf_steps){ .count = 0 };
}

void pf_steps_run_free(struct pf_steps_run *run)
{
	pf_matcher_close(run->matcher);
	run->matcher = NULL;
	for (unsigned i = 0; i < PF_STEPS_MAX; i++)
		pf_buffer_free(&run->buffer[i]);
}

static int run_from(const struct pf_steps *steps, unsigned i, struct pf_steps_run *run, struct pf_piece piece);

/* ---- changes ---- */

static int replace(const struct pf_step *step, struct pf_steps_run *run, struct pf_piece piece, struct pf_buffer *out)
{
	struct pf_matches m = { .text = piece.text, .length = piece.length };
	size_t done = 0;
	int found, status = 0;

	while (!status && (found = pf_pattern_next(step->pattern, &run->matcher, &m)) != 0) {
		status = found < 0 ? found : pf_buffer_append(out, piece.text + done, m.begin - done);
		if (!status)
			status = pf_buffer_append(out, step->text, step->length);
		done = m.end;
	}
	return status ? status : pf_buffer_append(out, piece.text + done, piece.length - done);
}

static int begins_with(struct pf_piece piece, const struct pf_step *step)
{
	return piece.length >= step->length && memcmp(piece.text, step->text, step->length) == 0;
}

static int prepend(const struct pf_step *step, const struct pf_steps_run *run, struct pf_piece piece,
                   struct pf_buffer *out)
{
	int kept = piece.first ? run->continues : step->if_first;
	int status = 0;

	if (!kept && !(step->if_missing && begins_with(piece, step)))
		status = pf_buffer_append(out, step->text, step->length);
	return status ? status : pf_buffer_append(out, piece.text, piece.length);
}

static int change(const struct pf_steps *steps, unsigned i, struct pf_steps_run *run, struct pf_piece piece)
{
	const struct pf_step *step = &steps->step[i];
	struct pf_buffer *out = &run->buffer[i];
	int status;

	out->length = 0;
	if (step->kind == PF_STEP_NFC)
		status = pf_nfc(piece.text, piece.length, out);
	else if (step->kind == PF_STEP_REPLACE)
		status = replace(step, run, piece, out);
	else
		status = prepend(step, run, piece, out);
	return status ? status : run_from(steps, i + 1, run, (struct pf_piece){ out->text, out->length, piece.first });
}

/* ---- cuts ---- */

/* The piece that may still grow by what follows it */
struct cutting {
	const struct pf_steps *steps;
	unsigned               i;
	struct pf_steps_run   *run;
	struct pf_piece        whole;
	size_t                 begin, end;
	int                    open, matched;  /* is there one, and was its last part a match */
};

static int joins(enum pf_split_rule rule, const struct cutting *c, int is_match)
{
	switch (rule) {
	case PF_SPLIT_PREVIOUS:
		return is_match && !c->matched;
	case PF_SPLIT_NEXT:
		return !is_match && c->matched;
	case PF_SPLIT_CONTIGUOUS:
		return is_match == c->matched;
	default:
		return 0;
	}
}

static int hand_on(struct cutting *c)
{
	struct pf_piece piece = { c->whole.text + c->begin, c->end - c->begin, c->whole.first && c->begin == 0 };

	return c->open ? run_from(c->steps, c->i + 1, c->run, piece) : 0;
}

static int take_part(struct cutting *c, size_t begin, size_t end, int is_match)
{
	const struct pf_step *step = &c->steps->step[c->i];
	int status = 0;

	is_match ^= step->invert;
	if (c->open && joins(step->rule, c, is_match)) {
		c->end = end;
	} else {
		status = hand_on(c);
		c->begin = begin;
		c->end = end;
		c->open = !(is_match && step->rule == PF_SPLIT_REMOVED);
	}
	c->matched = is_match;
	return status;
}

static int split(const struct pf_steps *steps, unsigned i, struct pf_steps_run *run, struct pf_piece piece)
{
	struct cutting c = { .steps = steps, .i = i, .run = run, .whole = piece };
	struct pf_matches m = { .text = piece.text, .length = piece.length };
	size_t done = 0;
	int found, status = 0;

	while (!status && (found = pf_pattern_next(steps->step[i].pattern, &run->matcher, &m)) != 0) {
		if (found < 0)
			return found;
		if (m.begin != done)
			status = take_part(&c, done, m.begin, 0);
		if (!status)
			status = take_part(&c, m.begin, m.end, 1);
		done = m.end;
	}
	if (!status && done != piece.length)
		status = take_part(&c, done, piece.length, 0);
	return status ? status : hand_on(&c);
}

/* ---- all of them ---- */

static int run_from(const struct pf_steps *steps, unsigned i, struct pf_steps_run *run, struct pf_piece piece)
{
	if (!piece.length)
		return 0;
	if (i == steps->count)
		return run->take(run->context, piece);
	return steps->step[i].kind == PF_STEP_SPLIT ? split(steps, i, run, piece) : change(steps, i, run, piece);
}

int pf_steps_run(const struct pf_steps *steps, struct pf_steps_run *run, struct pf_piece piece)
{
	return run_from(steps, 0, run, piece);
}
