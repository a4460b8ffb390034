/* `prefpga doctor` on recorded machines. `doctor PROGRAM FOLDER`: each file of the folder is a machine,
 *
 *	# what it is
 *	== expect SLOT CARD [VERDICT HEALTH TEXT]      one a card, in order; TEXT stands in what is said or advised
 *	== lspci                                       what lspci -x printed, up to the next ==
 *	== file PATH                                   a file below /, likewise
 *	== bytes PATH xx xx ...                        a file of these bytes
 *	== link PATH TARGET                            a symbolic link
 *
 * It is laid out in a scratch folder and looked at through the library and through the program. */
#include <dirent.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include "prefpga/discover.h"
#include "prefpga/internal/cards.def"
#include "prefpga/internal/verdicts.def"
#include "tests/cmocka.h"
#include "tests/scratch.h"

enum { EXPECTED = 8 };
struct expected { char slot[16], card[16], verdict[24], health[16], text[128]; int known; };
struct record { struct expected card[EXPECTED]; size_t cards; int dump, sysfs; };

static const char *program, *folder;
static char root[512], dump_path[512];
static unsigned seen_verdicts;

static void make_folders(const char *path)
{
	char part[4096];
	snprintf(part, sizeof part, "%s", path);
	for (char *at = strchr(part + 1, '/'); at; at = strchr(at + 1, '/')) {
		*at = '\0';
		mkdir(part, 0755);
		*at = '/';
	}
}

static FILE *create(const char *below)
{
	char path[4096];
	snprintf(path, sizeof path, "%s/%s", root, below);
	make_folders(path);
	return fopen(path, "wb");              /* NULL where a name is too long for the file system: fine */
}

static void write_bytes(char *rest)
{
	char *name = strtok(rest, " ");
	FILE *out = create(name);
	assert_non_null(out);
	for (char *byte; (byte = strtok(NULL, " "));)
		fputc((int)strtol(byte, NULL, 16), out);
	fclose(out);
}

static void make_link(const char *rest)
{
	char name[1024], target[1024], path[2048];
	assert_int_equal(sscanf(rest, "%1023s %1023s", name, target), 2);
	snprintf(path, sizeof path, "%s/%s", root, name);
	make_folders(path);
	assert_int_equal(symlink(target, path), 0);
}

static void expect(struct record *r, const char *rest)
{
	struct expected *e = &r->card[r->cards++];
	assert_true(r->cards <= EXPECTED);
	int fields = sscanf(rest, "%15s %15s %23s %15s %127[^\n]", e->slot, e->card, e->verdict, e->health, e->text);
	assert_true(fields == 2 || fields == 5);
	e->known = fields == 5;
}

/* One "== WORD REST" line; the file that following lines go to */
static FILE *section(struct record *r, char *line)
{
	char *word = line + 3, *rest = strchr(word, ' ');
	if (rest)
		*rest++ = '\0';
	r->sysfs |= strcmp(word, "expect") != 0 && strcmp(word, "lspci") != 0;
	if (strcmp(word, "expect") == 0)
		expect(r, rest);
	else if (strcmp(word, "link") == 0)
		make_link(rest);
	else if (strcmp(word, "bytes") == 0)
		write_bytes(rest);
	else if (strcmp(word, "lspci") == 0)
		return r->dump = 1, fopen(dump_path, "wb");
	else if (strcmp(word, "file") == 0)
		return create(rest);
	else
		fail_msg("section %s", word);
	return NULL;
}

static void lay_out(const char *name, struct record *r)
{
	char path[1024];
	char *line = NULL;
	size_t size = 0;
	FILE *out = NULL;
	scratch_open("doctor");
	snprintf(root, sizeof root, "%s", scratch_path("root"));
	snprintf(dump_path, sizeof dump_path, "%s", scratch_path("lspci"));
	mkdir(root, 0755);
	snprintf(path, sizeof path, "%s/sys/bus/pci/devices/x", root);
	make_folders(path);
	snprintf(path, sizeof path, "%s/%s", folder, name);
	FILE *in = fopen(path, "r");
	assert_non_null(in);
	memset(r, 0, sizeof *r);
	while (getline(&line, &size, in) > 0) {
		if (strncmp(line, "== ", 3) == 0) {
			line[strcspn(line, "\n")] = '\0';
			if (out)
				fclose(out);
			out = section(r, line);
		} else if (out)
			fputs(line, out);
	}
	if (out)
		fclose(out);
	fclose(in);
	free(line);
	assert_true(r->cards > 0);
}

/* ---- what must be said ---- */
static void same_card(const char *name, const struct expected *e, const char *slot, const char *card,
                      const char *verdict, const char *health, const char *text, const char *remedy)
{
	if (strcmp(e->slot, slot) != 0 || strcmp(e->card, card) != 0
	    || (e->known && (strcmp(e->verdict, verdict) != 0 || strcmp(e->health, health) != 0
	                     || (!strstr(text, e->text) && !strstr(remedy, e->text)))))
		fail_msg("%s: %s %s: %s (%s): %s; do: %s", name, slot, card, verdict, health, text, remedy);
}

static void count_verdict(const char *verdict)
{
	unsigned bit = 0;
#define VERDICT_BIT(name, health, text, remedy) \
	if (strcmp(verdict, #name) == 0) \
		seen_verdicts |= 1u << bit; \
	bit++;
	PF_VERDICTS(VERDICT_BIT)
}

static void through_the_library(const char *name, const struct record *r)
{
	static const char *const health[] = { "ok", "warning", "error" };
	const struct pf_discover_options options = { r->dump ? dump_path : NULL, r->sysfs ? root : NULL };
	struct pf_machine_report m;
	struct pf_error error = { 0 };
	if (pf_examine(&options, &m, &error) != 0)
		fail_msg("%s: %s", name, error.text);
	if (m.cards != r->cards)
		fail_msg("%s: %zu cards", name, m.cards);
	for (size_t i = 0; i < m.cards; i++) {
		same_card(name, &r->card[i], m.card[i].slot, m.card[i].card, m.card[i].verdict,
		          health[m.card[i].health], m.card[i].text, m.card[i].remedy);
		assert_true(m.card[i].health == PF_HEALTH_OK || m.card[i].remedy[0]);
		count_verdict(m.card[i].verdict);
	}
	pf_machine_free(&m);
}

static void through_the_program(const char *name, const struct record *r, const char *verb)
{
	char command[4096];
	int errors = 0;
	snprintf(command, sizeof command, "'%s' %s --format json %s%s%s %s%s%s", program, verb,
	         r->dump ? "--pci-dump '" : "", r->dump ? dump_path : "", r->dump ? "'" : "",
	         r->sysfs ? "--sysfs-root '" : "", r->sysfs ? root : "", r->sysfs ? "'" : "");
	FILE *in = popen(command, "r");
	assert_non_null(in);
	json_error_t why;
	json_t *all = json_loadf(in, 0, &why), *card;
	int status = pclose(in);
	if (!all)
		fail_msg("%s: %s: %s", name, verb, why.text);
	size_t i;
	json_array_foreach(json_object_get(all, "cards"), i, card) {
		const char *slot, *which, *verdict, *health, *text, *remedy;
		if (strcmp(verb, "devices") == 0)
			continue;
		assert_int_equal(json_unpack(card, "{s:s, s:s, s:s, s:s, s:s, s:s}", "slot", &slot, "card", &which,
		                             "verdict", &verdict, "health", &health, "text", &text, "remedy", &remedy),
		                 0);
		same_card(name, &r->card[i], slot, which, verdict, health, text, remedy);
		errors |= strcmp(health, "error") == 0;
	}
	assert_true(i >= r->cards);
	assert_true(WIFEXITED(status) && WEXITSTATUS(status) == errors);
	json_decref(all);
}

static void every_record(void **state)
{
	struct dirent *entry;
	struct record r;
	unsigned records = 0;
	(void)state;
	DIR *dir = opendir(folder);
	assert_non_null(dir);
	while ((entry = readdir(dir))) {
		if (entry->d_name[0] == '.')
			continue;
		lay_out(entry->d_name, &r);
		through_the_library(entry->d_name, &r);
		through_the_program(entry->d_name, &r, "doctor");
		through_the_program(entry->d_name, &r, "devices");
		records++;
	}
	closedir(dir);
	print_message("%u machines\n", records);
	assert_true(records > 10);
}

/* Each verdict is the verdict of some record */
static void every_verdict_was_given(void **state)
{
	unsigned bit = 0;
	(void)state;
#define VERDICT_SEEN(name, health, text, remedy) \
	if (!(seen_verdicts >> bit++ & 1)) \
		fail_msg("no record has verdict %s", #name);
	PF_VERDICTS(VERDICT_SEEN)
}

/* ---- every row of the id table, alone on a machine ---- */
static void one_id(const char *card, unsigned vendor, unsigned device, const char *role)
{
	char path[1024], text[64];
	struct pf_machine_report m;
	struct pf_error error = { 0 };
	scratch_open("doctor");
	snprintf(root, sizeof root, "%s", scratch_path("root"));
	snprintf(path, sizeof path, "%s/sys/bus/pci/devices/0000:42:00.0/x", root);
	make_folders(path);
	snprintf(text, sizeof text, "0x%04x\n", vendor);
	scratch_text("root/sys/bus/pci/devices/0000:42:00.0/vendor", text);
	snprintf(text, sizeof text, "0x%04x\n", device);
	scratch_text("root/sys/bus/pci/devices/0000:42:00.0/device", text);
	scratch_text("root/sys/bus/pci/devices/0000:42:00.0/resource", "0x0 0x0 0x0\n");
	const struct pf_discover_options options = { NULL, root };
	if (pf_examine(&options, &m, &error) != 0)
		fail_msg("%s", error.text);
	assert_int_equal(m.cards, 1);
	assert_string_equal(m.card[0].card, card);
	assert_string_equal(m.function[0].role, role);
	const char *wanted = strcmp(role, "golden") == 0 ? "golden" : strcmp(role, "mgmt") == 0 ? "mgmt_only"
	                   : vendor == 0x1d0f ? "foreign_stack" : "driverless";
	if (strcmp(m.card[0].verdict, wanted) != 0)
		fail_msg("%s %04x: %s", card, device, m.card[0].verdict);
	pf_machine_free(&m);
}

static void every_id(void **state)
{
	(void)state;
#define ONE_ID(card, vendor, device, role) one_id(#card, vendor, device, #role);
	PF_CARD_IDS(ONE_ID)
}

int main(int argc, char **argv)
{
	struct pf_machine_report m;
	struct pf_error error = { 0 };
	if (argc < 3)
		return 2;
	if (pf_examine(NULL, &m, &error) == PF_E_UNSUPPORTED) {
		printf("skipped: %s\n", error.text);
		return 77;
	}
	pf_machine_free(&m);
	program = argv[1];
	folder = argv[2];
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_record), cmocka_unit_test(every_verdict_was_given), cmocka_unit_test(every_id),
	};
	return cmocka_run_group_tests_name("doctor", tests, NULL, NULL);
}
