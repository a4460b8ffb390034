/* check_demo_rule: what share of completions obeys the demo's rule (demo_rule.h).
 *
 *	check_demo_rule [--format json] [FILE.jsonl]
 *
 * Reads lines {"prompt": ..., "completion": ...}, as `prefpga generate --format json` prints them, from a file or from
 * standard input. Exit code 0 whatever the share is; 1 if a line cannot be read. */
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include "demo_rule.h"

struct tally { unsigned long count[3]; };

static int judge_line(const char *line, struct tally *tally)
{
	json_t *json = json_loads(line, JSON_ALLOW_NUL, NULL);
	const char *prompt = json_string_value(json_object_get(json, "prompt"));
	const char *completion = json_string_value(json_object_get(json, "completion"));
	int readable = prompt && completion;

	if (readable)
		tally->count[demo_judge(prompt, completion)]++;
	json_decref(json);
	return readable;
}

static int judge_file(FILE *file, const char *name, struct tally *tally)
{
	static char line[1 << 20];

	for (unsigned long number = 1; fgets(line, sizeof line, file); number++)
		if (line[strspn(line, " \t\r\n")] && !judge_line(line, tally)) {
			fprintf(stderr, "check_demo_rule: %s:%lu: not {\"prompt\": ..., \"completion\": ...}\n", name,
			        number);
			return 1;
		}
	return 0;
}

/* 95 % interval of a share by Wilson's score */
static void interval(double share, double count, double *low, double *high)
{
	double z = 1.959963984540054, middle = share + z * z / (2 * count);
	double half = z * sqrt(share * (1 - share) / count + z * z / (4 * count * count));

	*low = (middle - half) / (1 + z * z / count);
	*high = (middle + half) / (1 + z * z / count);
}

static void print(const struct tally *tally, int json)
{
	unsigned long obeys = tally->count[DEMO_OBEYS],
		      total = obeys + tally->count[DEMO_DISOBEYS] + tally->count[DEMO_UNCLEAR];
	double share = total ? (double)obeys / (double)total : 0, low = 0, high = 1;

	if (total)
		interval(share, (double)total, &low, &high);
	if (json)
		printf("{\"completions\": %lu, \"obeys\": %lu, \"disobeys\": %lu, \"unclear\": %lu, \"share\": %.4f, "
		       "\"low\": %.4f, \"high\": %.4f}\n", total, obeys, tally->count[DEMO_DISOBEYS],
		       tally->count[DEMO_UNCLEAR], share, low, high);
	else
		printf("%lu of %lu completions obey the rule: %.1f %% (95 %% interval %.1f to %.1f); %lu do the "
		       "opposite, "
		       "%lu are unclear\n",
		       obeys, total, 100 * share, 100 * low, 100 * high, tally->count[DEMO_DISOBEYS],
		       tally->count[DEMO_UNCLEAR]);
}

int main(int argc, char **argv)
{
	int json = argc > 2 && strcmp(argv[1], "--format") == 0 && strcmp(argv[2], "json") == 0;
	const char *name = argc > 1 + 2 * json ? argv[1 + 2 * json] : NULL;
	FILE *file = name ? fopen(name, "rb") : stdin;
	struct tally tally = { { 0 } };

	if (!file) {
		perror(name);
		return 1;
	}
	if (judge_file(file, name ? name : "standard input", &tally))
		return 1;
	print(&tally, json);
	return 0;
}
