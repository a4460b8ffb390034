/* The room check: who may include whom (CONTRIBUTING.md, "Rooms"). Reads every #include of the tree and names file:line
 * of what a room must not see. Run from the top of the tree; with an argument: from there. First it checks itself. */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define INTERNAL "include/prefpga/internal/"
enum { PATH_BYTES = 512 };

/* May a file below `room` include what lies below `target`? Both are prefixes of paths from the top of the tree; a
 * target with < is a system's header, or one of ours as its users write it. The first rule that fits decides */
struct rule { const char *room, *target; int allowed; const char *why; };
static const struct rule rules[] = {
	{ "examples/check_demo_rule.", "examples/", 1, "" }, { "examples/make_demo_data.", "examples/", 1, "" },
	{ "examples/demo_rule.", "examples/", 1, "" },
	{ "examples/", "<prefpga/internal/", 0, "examples see what is installed" }, { "examples/", "<", 1, "" },
	{ "examples/", "", 0, "examples see <prefpga/...> only" },
	{ "", "<prefpga/", 0, "inside the tree: \"prefpga/...\"" },

	{ "hls/", "hls/", 1, "" }, { "hls/", INTERNAL "abi.h", 1, "" }, { "hls/", INTERNAL "kernels.h", 1, "" },
	{ "hls/", INTERNAL "kmath.h", 1, "" }, { "hls/", INTERNAL "kmath64.h", 1, "" }, { "hls/", INTERNAL "row_sum.h", 1, "" },
	{ "hls/", INTERNAL "row_finish.h", 1, "" }, { "hls/", INTERNAL "pref_group.h", 1, "" }, { "hls/", "<stdint.h>", 1, "" },
	{ "hls/", "", 0, "kernels see abi.h, kernels.h, kmath*.h, row_*.h, pref_group.h, stdint.h and hls/" },

	{ INTERNAL, "include/", 1, "" },
	{ "include/", INTERNAL, 0, "public headers are installed, internal ones are not" },
	{ "include/", "include/", 1, "" }, { "include/", "<", 1, "" },
	{ "include/", "", 0, "public and internal words include no room" },

	{ "driver/", "driver/", 1, "" }, { "driver/", "include/", 1, "" }, { "driver/", "<", 1, "" },
	{ "driver/", "sim/", 0, "backends register; see backend.h" },
	{ "driver/", "", 0, "drivers know no kernel source and nothing above them" },

	{ "sim/", "sim/", 1, "" }, { "sim/", "include/", 1, "" }, { "sim/", "<", 1, "" },
	{ "sim/", "", 0, "the simulator sees backend.h and kernels' objects" },

	{ "bitstreams/", "bitstreams/", 1, "" }, { "bitstreams/", "include/", 1, "" },
	{ "bitstreams/", "driver/xclbin.h", 1, "" }, { "bitstreams/", "<", 1, "" },
	{ "bitstreams/", "", 0, "images are made from the tables and driver/xclbin.h" },

	{ "host/", INTERNAL "backend.h", 0, "the host sees devices, not backends" },
	{ "host/", INTERNAL "registers.h", 0, "the host sees devices, not backends" },
	{ "host/", "host/", 1, "" }, { "host/", "include/", 1, "" }, { "host/", "<", 1, "" },
	{ "host/", "", 0, "the host sees public headers and shared words" },

	{ "tests/ref/", "tests/ref/", 1, "" }, { "tests/ref/", INTERNAL "abi.h", 1, "" }, { "tests/ref/", "<", 1, "" },
	{ "tests/ref/", "", 0, "the reference calls nothing of ours" },
};
static const char *const rooms[] = { "include", "hls", "driver", "sim", "bitstreams", "host", "tests", "examples" };
static const char *const walked[] = {
	"include", "hls", "driver", "sim", "bitstreams", "host", "tests/ref", "examples"
};
#define COUNT(list) (sizeof (list) / sizeof *(list))

/* Vendor headers: the one file each may appear in */
struct vendor { const char *header, *file; };
static const struct vendor vendors[] = {
	{ "xrt/xclbin.h", "driver/xclbin.c" }, { "xclbin.h", "driver/xclbin.c" }, { "xrt/", "driver/xrt_library.h" },
	{ "xrt.h", "driver/xrt_library.h" }, { "experimental/xrt", "driver/xrt_library.h" },
	{ "CL/", "driver/opencl_library.h" },
	{ "pci/", "driver/discover.c" },
};

static int faults, files;

static int starts(const char *text, const char *with)
{
	return strncmp(text, with, strlen(with)) == 0;
}

static int in_a_room(const char *name)
{
	for (size_t i = 0; i < COUNT(rooms); i++)
		if (starts(name, rooms[i]) && name[strlen(rooms[i])] == '/')
			return 1;
	return 0;
}

/* `name`, as it stands in `path` between quotes, from the top of the tree */
static void resolve(const char *path, const char *name, char target[2 * PATH_BYTES])
{
	char folder[PATH_BYTES];
	int up = 0;
	while (starts(name, "./") || starts(name, "../")) {
		up += name[1] == '.';
		name += name[1] == '.' ? 3 : 2;
	}
	snprintf(folder, sizeof folder, "%s", path);
	for (int i = 0; i <= up && *folder; i++) {
		char *slash = strrchr(folder, '/');
		*(slash ? slash : folder) = '\0';
	}
	if (starts(name, "prefpga/"))
		snprintf(target, 2 * PATH_BYTES, "include/%s", name);
	else if (up == 0 && in_a_room(name))
		snprintf(target, 2 * PATH_BYTES, "%s", name);
	else
		snprintf(target, 2 * PATH_BYTES, "%s%s%s", folder, *folder ? "/" : "", name);
}

/* NULL: allowed. `header` begins with its quote or < */
static const char *why_not(const char *path, const char *header)
{
	char target[2 * PATH_BYTES];
	for (size_t i = 0; i < COUNT(vendors); i++)
		if (starts(header + 1, vendors[i].header) && (header[0] == '<' || strchr(vendors[i].header, '/')))
			return strcmp(path, vendors[i].file) == 0 ? NULL : vendors[i].file;
	if (header[0] == '"')
		resolve(path, header + 1, target);
	else
		snprintf(target, sizeof target, "%s", header);
	for (size_t i = 0; i < COUNT(rules); i++)
		if (starts(path, rules[i].room) && starts(target, rules[i].target))
			return rules[i].allowed ? NULL : rules[i].why;
	return NULL;
}

/* The header with its quote or <, without the end */
static int included(const char *line, char header[256])
{
	char end;
	return sscanf(line, " # include %1[<\"]%253[^>\"\n]%c", header, header + 1, &end) == 3;
}

static void check_file(const char *path)
{
	char text[4096], header[256];
	FILE *file = fopen(path, "r");
	if (!file) {
		perror(path);
		faults++;
		return;
	}
	files++;
	for (int line = 1; fgets(text, sizeof text, file); line++) {
		const char *why = included(text, header) ? why_not(path, header) : NULL;
		if (why) {
			printf("%s:%d: includes %s: %s\n", path, line, header + 1, why);
			faults++;
		}
	}
	fclose(file);
}

static void check_tree(const char *path)
{
	DIR *dir = opendir(path);
	struct dirent *entry;
	if (!dir) {
		perror(path);
		faults++;
		return;
	}
	while ((entry = readdir(dir))) {
		char below[4096];
		struct stat st;
		if (entry->d_name[0] == '.')
			continue;
		snprintf(below, sizeof below, "%s/%s", path, entry->d_name);
		const char *dot = strrchr(below, '.');
		if (lstat(below, &st) == 0 && S_ISDIR(st.st_mode))
			check_tree(below);
		else if (dot && (strcmp(dot, ".c") == 0 || strcmp(dot, ".h") == 0 || strcmp(dot, ".def") == 0))
			check_file(below);
	}
	closedir(dir);
}

/* ---- the check itself ---- */
struct planted { const char *path, *header; int allowed; };
static const struct planted planted[] = {
	{ "hls/coef.c", "\"beat.h\"", 1 }, { "hls/coef.c", "\"prefpga/internal/kmath64.h\"", 1 },
	{ "hls/coef.c", "<math.h>", 0 }, { "hls/coef.c", "\"prefpga/internal/backend.h\"", 0 },
	{ "hls/coef.c", "\"driver/cpu/beat.h\"", 0 }, { "hls/coef.c", "\"../sim/row_kmath.h\"", 0 },
	{ "include/prefpga/loss.h", "\"device.h\"", 1 }, { "include/prefpga/loss.h", "\"internal/abi.h\"", 0 },
	{ "include/prefpga/internal/backend.h", "\"../device.h\"", 1 },
	{ "include/prefpga/internal/abi.h", "\"bitstreams/image.h\"", 0 },
	{ "driver/device.c", "\"sim/memory.h\"", 0 }, { "driver/cpu/rows.c", "\"../device.h\"", 1 },
	{ "driver/cpu/rows.c", "\"../../host/train/step.h\"", 0 }, { "driver/xrt.c", "\"tests/wrap.h\"", 0 },
	{ "sim/sim.c", "\"memory.h\"", 1 }, { "sim/sim.c", "\"prefpga/internal/cards.def\"", 1 },
	{ "sim/sim.c", "\"driver/xclbin.h\"", 0 }, { "sim/xrtmodel/cu.c", "\"../../driver/xclbin.h\"", 0 },
	{ "sim/sim.c", "\"hls/beat.h\"", 0 }, { "bitstreams/image.c", "\"driver/xclbin.h\"", 1 },
	{ "bitstreams/image.c", "\"driver/device.h\"", 0 }, { "bitstreams/image.c", "\"../sim/level.h\"", 0 },
	{ "bitstreams/image.c", "<jansson.h>", 1 }, { "host/train/step.c", "\"../model/model.h\"", 1 },
	{ "host/cli/main.c", "\"prefpga/internal/abi.h\"", 1 },
	{ "host/train/step.c", "\"prefpga/internal/backend.h\"", 0 },
	{ "host/train/step.c", "<prefpga/internal/backend.h>", 0 },
	{ "host/train/step.c", "\"../../driver/x.h\"", 0 }, { "host/train/backend.c", "\"backend.h\"", 1 },
	{ "tests/ref/ref.c", "\"tests/ref/ref.h\"", 1 }, { "tests/ref/ref.c", "\"prefpga/internal/abi.h\"", 1 },
	{ "tests/ref/ref.c", "\"prefpga/internal/kmath.h\"", 0 }, { "tests/ref/ref.c", "\"../kernels.h\"", 0 },
	{ "examples/score_logits.c", "<prefpga/prefpga.h>", 1 }, { "examples/score_logits.c", "<stdio.h>", 1 },
	{ "examples/score_logits.c", "\"prefpga/prefpga.h\"", 0 },
	{ "examples/score_logits.c", "\"demo_rule.h\"", 0 },
	{ "examples/score_logits.c", "<prefpga/internal/abi.h>", 0 },
	{ "examples/make_demo_data.c", "\"demo_rule.h\"", 1 },
	{ "examples/make_demo_data.c", "\"host/corpus/pack.h\"", 0 },
	{ "driver/xrt_library.h", "<xrt/xrt_device.h>", 1 },
	{ "driver/xclbin.c", "<xrt/xclbin.h>", 1 }, { "driver/xclbin.c", "\"xclbin.h\"", 1 },
	{ "driver/device.c", "<xclbin.h>", 0 }, { "driver/device.c", "<CL/cl.h>", 0 },
	{ "host/cli/devices.c", "\"pci/pci.h\"", 0 }, { "sim/sim.c", "\"xrtmodel/wire.h\"", 1 },
	{ "sim/xrtmodel/cu.c", "\"host/train/step.h\"", 0 },
};

/* Forms of the line; NULL: none */
struct form { const char *line, *header; };
static const struct form forms[] = {
	{ "#include \"sim/level.h\"\n", "\"sim/level.h" }, { "\t#  include\t<math.h> /* why */\n", "<math.h" },
	{ "#include<math.h>\r\n", "<math.h" }, { "/* #include <math.h> */\n", NULL }, { "#include WORDS\n", NULL },
};

static void check_self(void)
{
	char line[PATH_BYTES], header[256];
	for (size_t i = 0; i < COUNT(planted); i++) {
		snprintf(line, sizeof line, "#include %s\n", planted[i].header);
		if (included(line, header) && (why_not(planted[i].path, header) == NULL) == planted[i].allowed)
			continue;
		printf("self-test, to be %s in %s: %s", planted[i].allowed ? "allowed" : "forbidden",
		       planted[i].path, line);
		faults++;
	}
	for (size_t i = 0; i < COUNT(forms); i++) {
		int found = included(forms[i].line, header);
		if (forms[i].header ? found && strcmp(header, forms[i].header) == 0 : !found)
			continue;
		printf("self-test: %s", forms[i].line);
		faults++;
	}
}

int main(int argc, char **argv)
{
	if (argc > 1 && chdir(argv[1]) != 0)
		return perror(argv[1]), 1;
	check_self();
	for (size_t i = 0; i < COUNT(walked); i++)
		check_tree(walked[i]);
	printf("%d files, %d faults\n", files, faults);
	return faults != 0 || files < 20;
}
