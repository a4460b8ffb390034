/* The fused head's memory on the host: `prefpga head` on cpu, forward and with both gradients, in a process of its
 * own; its largest resident set beyond what it was given and what it was asked for. No logits [T, V] anywhere: at the
 * sizes of the long test they would be 8 GB. The way back forms them anew: kept ones (spill) are memory that the user
 * has said may be taken.
 *
 * usage: head_memory PROGRAM T V D [--csv]       --csv: a row of tests/bench/results/linear_memory.csv
 * Skipped (77) where memory or the disk are too small: pages that the machine takes back would not be counted. */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>
#include "host/corpus/npy.h"

#define MIB 1048576.0
enum { MOST_MIB = 64, THREADS = 2 };

struct sizes { const char *program; uint64_t tokens, vocab, dim; };

static const char *const files[] = { "h.npy", "w.npy", "y.npy", "p.npy", "dh.npy", "dw.npy" };
static char folder[512];

static _Noreturn void give_up(const char *what)
{
	fprintf(stderr, "head_memory: %s\n", what);
	exit(1);
}

/* No cmocka, nor what tests share with it: builds without tests have this program too, for its row */
static const char *path_of(const char *name)
{
	static char path[1024];
	snprintf(path, sizeof path, "%s/%s", folder, name);
	return path;
}

static void open_folder(const char *vocab)
{
	const char *root = getenv("PREFPGA_TEST_TMP");
	root = root ? root : getenv("TMPDIR");
	snprintf(folder, sizeof folder, "%s/head_memory_%.20s", root ? root : "/tmp", vocab);
	mkdir(folder, 0777);
}

static void remove_folder(void)
{
	for (size_t i = 0; i < sizeof files / sizeof *files; i++)
		unlink(path_of(files[i]));
	rmdir(folder);
}

static uint64_t weight_bytes(const struct sizes *s)
{
	return s->vocab * s->dim * sizeof(float);
}

static uint64_t hidden_bytes(const struct sizes *s)
{
	return s->tokens * s->dim * sizeof(float);
}

/* W, dW, their files in the cache of the system, and as much again for everyone else */
static void skip_if_short(const struct sizes *s)
{
	const uint64_t need = 4 * (weight_bytes(s) + hidden_bytes(s));
	unsigned long long kib = 0;
	struct statvfs disk;
	char line[128];
	FILE *file = fopen("/proc/meminfo", "r");
	while (file && !kib && fgets(line, sizeof line, file))
		sscanf(line, "MemAvailable: %llu kB", &kib);
	if (file)
		fclose(file);
	if (kib * 1024 < need) {
		printf("skipped: %.1f GB of memory are available, %.1f needed\n", (double)kib / 1e6,
		       (double)need / 1e9);
		exit(77);
	}
	if (statvfs(folder, &disk) != 0 || (uint64_t)disk.f_bavail * disk.f_frsize < need / 2) {
		printf("skipped: no room for %.1f GB of files in %s\n", (double)need / 2e9, folder);
		exit(77);
	}
}

static struct pf_npy_out *begin(const char *name, struct pf_npy_shape shape)
{
	struct pf_npy_out *out;
	struct pf_error error;
	if (pf_npy_create(path_of(name), &shape, &out, &error))
		give_up(error.text);
	return out;
}

static void add(struct pf_npy_out *out, const void *from, uint64_t count)
{
	struct pf_error error;
	if (pf_npy_append(out, from, count, &error))
		give_up(error.text);
}

static void end(struct pf_npy_out *out)
{
	struct pf_error error;
	if (pf_npy_commit(out, &error))
		give_up(error.text);
}

static void make_matrix(const char *name, uint64_t rows, uint64_t cols, float size)
{
	struct pf_npy_out *out = begin(name, (struct pf_npy_shape){ PF_F32, 2, { rows, cols } });
	float *row = malloc(cols * sizeof *row);
	uint64_t state = rows;
	if (!row)
		give_up("no memory for a row");
	for (uint64_t r = 0; r < rows; r++) {
		for (uint64_t c = 0; c < cols; c++) {
			state = state * 6364136223846793005u + 1442695040888963407u;
			row[c] = size * ((float)(state >> 40) * 0x1p-23f - 1);
		}
		add(out, row, cols);
	}
	free(row);
	end(out);
}

static void make_files(const struct sizes *s)
{
	struct pf_npy_out *out = begin("y.npy", (struct pf_npy_shape){ PF_I32, 1, { s->tokens } });
	make_matrix("h.npy", s->tokens, s->dim, 1);
	make_matrix("w.npy", s->vocab, s->dim, 0.1f);
	for (uint64_t t = 0; t < s->tokens; t++) {
		const int32_t target = (int32_t)(t * 7919 % s->vocab);
		add(out, &target, 1);
	}
	end(out);
}

/* Peak of a run beyond `arrays` bytes, in MiB */
static double beyond(const struct sizes *s, const char *outputs, uint64_t arrays, uint64_t least)
{
	char command[1024], text[4096];
	snprintf(command, sizeof command,
	         "cd '%s' && '%s' head --hidden h.npy --weight w.npy --targets y.npy --device cpu --threads %d "
	         "--format json %s",
	         folder, s->program, THREADS, outputs);
	FILE *pipe = popen(command, "r");
	if (!pipe)
		give_up("no shell");
	text[fread(text, 1, sizeof text - 1, pipe)] = 0;
	if (pclose(pipe) != 0)
		give_up("prefpga head failed");
	json_t *json = json_loads(text, 0, NULL);
	const double peak = json_number_value(json_object_get(json, "peak_host_bytes"));
	if (!json || json_integer_value(json_object_get(json, "tokens")) != (json_int_t)s->tokens)
		give_up("prefpga head printed something else");
	json_decref(json);
	if (!(peak >= (double)least))
		give_up("the peak is less than the program must have held: it is not measured here");
	return (peak - (double)arrays) / MIB;
}

int main(int argc, char **argv)
{
	if (argc < 5) {
		fprintf(stderr, "usage: head_memory PROGRAM T V D [--csv]\n");
		return 2;
	}
	const char *program = realpath(argv[1], NULL); /* it runs in another folder */
	if (!program)
		give_up("there is no such program");
	const struct sizes s = { program, strtoull(argv[2], NULL, 10), strtoull(argv[3], NULL, 10),
		                 strtoull(argv[4], NULL, 10) };
	const uint64_t in = weight_bytes(&s) + hidden_bytes(&s) + s.tokens * sizeof(int32_t);
	const uint64_t out = weight_bytes(&s) + hidden_bytes(&s);
	open_folder(argv[3]);
	atexit(remove_folder);
	skip_if_short(&s);
	make_files(&s);
	const double forward = beyond(&s, "--out p.npy", in + s.tokens * sizeof(float), (uint64_t)MIB);
	const double both = beyond(&s, "--way recompute --dhidden dh.npy --dweight dw.npy", in + out, weight_bytes(&s));
	if (argc > 5)
		printf("T,V,D,threads,forward_beyond_mib,backward_beyond_mib\n%s,%s,%s,%d,%.1f,%.1f\n", argv[2],
		       argv[3], argv[4], THREADS, forward, both);
	else
		printf("beyond inputs, outputs and weights: %.1f MiB forward, %.1f MiB with gradients\n", forward,
		       both);
	return forward <= MOST_MIB && both <= MOST_MIB ? 0 : 1;
}
