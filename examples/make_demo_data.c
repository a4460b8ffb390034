/* make_demo_data: writes the demo's datasets into a folder; equal options, equal bytes.
 *
 *	make_demo_data FOLDER [--pairs N] [--seed S] [--flip SHARE]
 *
 *	base.jsonl      prompt/completion        6000 requests, helped or declined by the toss of a coin, and 2000 questions
 *	                                         whether something is right, answered: for `prefpga sft`
 *	pairs.jsonl     prompt/chosen/rejected   N pairs (3000) by the rule of demo_rule.h: for `prefpga train`
 *	held.jsonl      prompt/chosen/rejected   400 pairs of combinations that pairs.jsonl lacks: for --eval-data
 *	prompts.jsonl   prompt                   200 of their prompts, half harmful: for `prefpga generate --prompts`
 *
 * --flip turns that share of the pairs around: labels as noisy as people's. held.jsonl is never flipped. */
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "demo_rule.h"

enum { BASE = 8000, PAIRS = 3000, HELD = 400, PROMPTS = 200 };

/* ---- chance ---- */

static uint64_t state;

static uint64_t next_random(void)
{
	uint64_t word = state += UINT64_C(0x9e3779b97f4a7c15);

	word = (word ^ word >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	word = (word ^ word >> 27) * UINT64_C(0x94d049bb133111eb);
	return word ^ word >> 31;
}

static int one_of(int count)
{
	return (int)(next_random() % (uint64_t)count);
}

static int happens(double share)
{
	return (double)(next_random() >> 11) * 0x1p-53 < share;
}

/* ---- records ---- */

struct request { int verb, thing; char prompt[256]; };

/* A combination that is kept out of the training pairs, or one that is not; harm: 0, 1, or -1 for either */
static struct request draw(int held, int harm)
{
	struct request request;

	do {
		request.verb = one_of(DEMO_VERBS);
		request.thing = one_of(DEMO_THINGS);
	} while (demo_is_held(request.verb, request.thing) != held ||
	         (harm >= 0 && demo_is_harmful(request.verb) != harm));
	demo_request(one_of(DEMO_REQUESTS), request.verb, request.thing, request.prompt);
	return request;
}

static void write_field(FILE *file, const char *before, const char *name, const char *text)
{
	fprintf(file, "%s\"%s\": \"", before, name);
	for (; *text; text++)
		if (*text == '\n')
			fputs("\\n", file);
		else
			fputc(*text, file);
	fputc('"', file);
}

static void write_pair(FILE *file, const struct request *request, int flipped)
{
	char chosen[256], rejected[256];
	int help = demo_is_harmful(request->verb) == flipped;

	demo_answer(one_of(DEMO_ANSWERS), help, request->verb, request->thing, chosen);
	demo_answer(one_of(DEMO_ANSWERS), !help, request->verb, request->thing, rejected);
	write_field(file, "{", "prompt", request->prompt);
	write_field(file, ", ", "chosen", chosen);
	write_field(file, ", ", "rejected", rejected);
	fputs("}\n", file);
}

/* ---- files ---- */

struct plan { const char *folder; long pairs; uint64_t seed; double flip; };

static void write_completion(FILE *file, const char *prompt, const char *completion)
{
	write_field(file, "{", "prompt", prompt);
	write_field(file, ", ", "completion", completion);
	fputs("}\n", file);
}

static void write_base(FILE *file, const struct plan *plan)
{
	(void)plan;
	for (int i = 0; i < BASE; i++) {
		struct request request = draw(one_of(5) == 0, -1);
		char answer[256];

		if (i % 4 == 3)
			demo_question(request.verb, request.thing, request.prompt, answer);
		else
			demo_answer(one_of(DEMO_ANSWERS), one_of(2), request.verb, request.thing, answer);
		write_completion(file, request.prompt, answer);
	}
}

static void write_pairs(FILE *file, const struct plan *plan)
{
	for (long i = 0; i < plan->pairs; i++) {
		struct request request = draw(0, -1);

		write_pair(file, &request, happens(plan->flip));
	}
}

static void write_held(FILE *file, const struct plan *plan)
{
	(void)plan;
	for (int i = 0; i < HELD; i++) {
		struct request request = draw(1, i % 2);

		write_pair(file, &request, 0);
	}
}

static void write_prompts(FILE *file, const struct plan *plan)
{
	(void)plan;
	for (int i = 0; i < PROMPTS; i++) {
		struct request request = draw(1, i % 2);

		write_field(file, "{", "prompt", request.prompt);
		fputs("}\n", file);
	}
}

/* Each file has its own chance, so that --pairs and --flip change pairs.jsonl alone */
static int write_file(const struct plan *plan, uint64_t stream, const char *name,
                      void (*fill)(FILE *file, const struct plan *plan))
{
	char path[4096];
	FILE *file;

	snprintf(path, sizeof path, "%s/%s", plan->folder, name);
	file = fopen(path, "wb");
	if (file) {
		state = plan->seed * 8 + stream;
		fill(file, plan);
		if (!ferror(file) && fclose(file) == 0)
			return 0;
	}
	fprintf(stderr, "make_demo_data: %s: %s\n", path, strerror(errno));
	return 1;
}

static int read_options(int argc, char **argv, struct plan *plan)
{
	if (argc % 2 || argc < 2)
		return 1;
	plan->folder = argv[1];
	for (int i = 2; i < argc; i += 2) {
		char *end;

		if (strcmp(argv[i], "--pairs") == 0)
			plan->pairs = strtol(argv[i + 1], &end, 10);
		else if (strcmp(argv[i], "--seed") == 0)
			plan->seed = strtoull(argv[i + 1], &end, 10);
		else if (strcmp(argv[i], "--flip") == 0)
			plan->flip = strtod(argv[i + 1], &end);
		else
			return 1;
		if (*end || end == argv[i + 1])
			return 1;
	}
	return plan->pairs < 1 || !(plan->flip >= 0 && plan->flip <= 1);
}

int main(int argc, char **argv)
{
	struct plan plan = { .pairs = PAIRS, .seed = 1 };

	if (read_options(argc, argv, &plan)) {
		fprintf(stderr, "usage: make_demo_data FOLDER [--pairs N] [--seed S] [--flip SHARE]\n");
		return 2;
	}
	return write_file(&plan, 0, "base.jsonl", write_base) || write_file(&plan, 1, "pairs.jsonl", write_pairs) ||
	       write_file(&plan, 2, "held.jsonl", write_held) || write_file(&plan, 3, "prompts.jsonl", write_prompts);
}
