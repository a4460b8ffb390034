/* make_bench KERNEL FILE RUNS: writes a test bench for csim and cosim, plain C and complete in itself: the smallest
 * cases of the conformance suite for that kernel, what they read as words, and what the simulator writes. The bench
 * compares bits; with an argument it expects one wrong bit, and must fail. RUNS gets the scalars of its runs, for the
 * model of time (prefpga/reports.h). */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "tests/cmocka.h"
#include "tests/conformance.h"

enum { CASES = 6, BYTES_MAX = 1 << 16 };

static uint64_t case_bytes(const struct conf_case *c)
{
	uint64_t bytes = 0;
	for (unsigned i = 0; i < PF_ARGS_MAX; i++)
		bytes += c->bytes[i];
	return bytes;
}

static int writes(const struct pf_arg_row *arg)
{
	return arg->dir == PF_DIR_OUT || arg->dir == PF_DIR_INOUT;
}

/* Small, and with something to compare */
static int usable(const struct conf_case *c, int kernel)
{
	const struct pf_kernel_row *row = &pf_kernel_rows[c->kernel];
	uint64_t written = 0;
	for (unsigned i = 0; i < row->count; i++)
		written += writes(&row->arg[i]) ? c->bytes[i] : 0;
	return (int)c->kernel == kernel && !c->in_place && written && case_bytes(c) <= BYTES_MAX;
}

/* Cases spread over the suite, so that they are of different sorts */
static unsigned choose(const struct conf_case *all, unsigned count, int kernel, const struct conf_case *chosen[CASES])
{
	unsigned fit = 0, taken = 0, seen = 0;
	for (unsigned i = 0; i < count; i++)
		fit += (unsigned)usable(&all[i], kernel);
	for (unsigned i = 0; i < count && taken < CASES; i++)
		if (usable(&all[i], kernel) && seen++ >= taken * fit / CASES)
			chosen[taken++] = &all[i];
	return taken;
}

static void must(int code, const struct pf_error *error)
{
	if (code) {
		fprintf(stderr, "make_bench: %s\n", error->text);
		exit(1);
	}
}

/* The outputs of a case on the simulated card */
static void simulate(struct pf_device *device, const struct conf_case *c, unsigned char *output[PF_ARGS_MAX])
{
	const struct pf_kernel_row *row = &pf_kernel_rows[c->kernel];
	struct pf_arg arg[PF_ARGS_MAX] = { { 0 } };
	struct pf_error error = { 0 };
	struct pf_ticket ticket = { 0 };
	for (unsigned i = 0; i < row->count; i++) {
		arg[i].val.u32 = c->value[i];
		if (row->arg[i].dir == PF_DIR_VAL)
			continue;
		must(pf_buf_alloc(device, (int)c->kernel, i, c->bytes[i] + 1, &arg[i].buf, &error), &error);
		if (c->input[i]) {
			pf_copy_in(arg[i].buf, 0, c->input[i], c->bytes[i], NULL, &ticket);
			must(pf_wait(&ticket, &error), &error);
		}
	}
	pf_run(device, (int)c->kernel, arg, row->count, NULL, &ticket);
	must(pf_wait(&ticket, &error), &error);
	for (unsigned i = 0; i < row->count; i++) {
		output[i] = writes(&row->arg[i]) && c->bytes[i] ? calloc(1, c->bytes[i] + 4) : NULL;
		if (output[i]) {
			pf_copy_out(arg[i].buf, 0, output[i], c->bytes[i], NULL, &ticket);
			must(pf_wait(&ticket, &error), &error);
		}
		pf_buf_free(arg[i].buf);
	}
}

static void write_words(FILE *out, const char *kind, unsigned number, unsigned arg, const unsigned char *data,
                        uint64_t bytes)
{
	fprintf(out, "static const uint32_t %s%u_%u[] = {", kind, number, arg);
	for (uint64_t at = 0; at < bytes || at == 0; at += 4) {
		uint32_t word = 0;
		memcpy(&word, data + at, bytes - at < 4 ? bytes - at : 4);
		fprintf(out, "%s0x%08xu,", at % 32 ? " " : "\n\t", (unsigned)word);
	}
	fputs("\n};\n", out);
}

static void write_call(FILE *out, const struct conf_case *c, unsigned number)
{
	const struct pf_kernel_row *row = &pf_kernel_rows[c->kernel];
	fputs("#ifdef __BAMBU_SIM__\n", out);
	for (unsigned i = 0; i < row->count; i++)
		if (row->arg[i].dir != PF_DIR_VAL)
			fprintf(out, "\tm_param_alloc(%u, sizeof memory%u_%u);\n", i, number, i);
	fprintf(out, "#endif\n\tPF_KERNEL_NAME(%s)(", row->name);
	for (unsigned i = 0; i < row->count; i++) {
		const struct pf_arg_row *arg = &row->arg[i];
		if (arg->dir == PF_DIR_VAL)
			fprintf(out, arg->is_float ? "%sas_float(0x%xu)" : "%s0x%xu", i ? ", " : "",
			        (unsigned)c->value[i]);
		else
			fprintf(out, "%s(%s%s *)memory%u_%u", i ? ", " : "", arg->dir == PF_DIR_IN ? "const " : "",
			        arg->ctype, number, i);
	}
	fputs(");\n", out);
}

static void write_case(FILE *out, struct pf_device *device, const struct conf_case *c, unsigned number)
{
	const struct pf_kernel_row *row = &pf_kernel_rows[c->kernel];
	unsigned char *output[PF_ARGS_MAX] = { NULL };
	simulate(device, c, output);
	fprintf(out, "\n/* %s */\n", c->name);
	for (unsigned i = 0; i < row->count; i++) {
		if (row->arg[i].dir == PF_DIR_VAL)
			continue;
		fprintf(out, "static _Alignas(64) uint32_t memory%u_%u[%llu];\n", number, i,
		        (unsigned long long)(c->bytes[i] / 64 + 1) * 16);
		if (c->input[i])
			write_words(out, "in", number, i, c->input[i], c->bytes[i]);
		if (output[i])
			write_words(out, "out", number, i, output[i], c->bytes[i]);
	}
	fprintf(out, "static int case%u(uint32_t spoil)\n{\n\tint bad = 0;\n", number);
	for (unsigned i = 0; i < row->count; i++)
		if (c->input[i])
			fprintf(out, "\tput(memory%u_%u, in%u_%u, %llu);\n", number, i, number, i,
			        (unsigned long long)(c->bytes[i] + 3) / 4);
	write_call(out, c, number);
	for (unsigned i = 0; i < row->count; i++)
		if (output[i])
			fprintf(out, "\tbad |= differ(memory%u_%u, out%u_%u, %llu, spoil);\n", number, i, number, i,
			        (unsigned long long)c->bytes[i] / 4);
	fputs("\treturn bad;\n}\n", out);
	for (unsigned i = 0; i < PF_ARGS_MAX; i++)
		free(output[i]);
}

static void write_head(FILE *out, const char *kernel)
{
	fprintf(out, "/* Test bench of kernel %s, made by make_bench: vectors of the conformance suite */\n"
	        "#include <stdint.h>\n#include <stdio.h>\n#ifdef __BAMBU_SIM__\n#include <mdpi/mdpi_user.h>\n#endif\n"
	        "#include \"prefpga/internal/kernels.h\"\nPF_KERNELS(PF_PROTOTYPE)\n\n"
	        "static inline float as_float(uint32_t bits)\n{\n\tunion { uint32_t u; float f; } v;\n\tv.u = bits;\n"
	        "\treturn v.f;\n}\n\n"
	        "static void put(uint32_t *to, const uint32_t *from, unsigned long words)\n{\n"
	        "\tfor (unsigned long i = 0; i < words; i++)\n\t\tto[i] = from[i];\n}\n\n"
	        "static int differ(const uint32_t *got, const uint32_t *want, unsigned long words, uint32_t spoil)\n{\n"
	        "\tfor (unsigned long i = 0; i < words; i++)\n"
	        "\t\tif (got[i] != (want[i] ^ (i == words / 2 ? spoil : 0))) {\n"
	        "\t\t\tprintf(\"word %%lu: %%08x, expected %%08x\\n\", i, (unsigned)got[i], (unsigned)want[i]);\n"
	        "\t\t\treturn 1;\n\t\t}\n\treturn 0;\n}\n", kernel);
}

static void write_run(FILE *runs, const struct conf_case *c)
{
	const struct pf_kernel_row *row = &pf_kernel_rows[c->kernel];
	for (unsigned i = 0; i < row->count; i++)
		if (row->arg[i].dir == PF_DIR_VAL)
			fprintf(runs, "%u ", (unsigned)c->value[i]);
	fprintf(runs, "# %s\n", c->name);
}

int main(int argc, char **argv)
{
	const struct conf_case *chosen[CASES];
	struct pf_device *device;
	struct pf_error error = { 0 };
	unsigned count;
	int kernel = argc > 3 ? pf_kernel_find(argv[1]) : -1;
	FILE *out = kernel >= 0 ? fopen(argv[2], "w") : NULL, *runs = out ? fopen(argv[3], "w") : NULL;
	if (!out || !runs)
		return 2;
	struct conf_case *all = conf_cases(20240607, &count);
	must(pf_device_open("sim:u55c*1", NULL, &device, &error), &error);
	unsigned cases = choose(all, count, kernel, chosen);
	write_head(out, argv[1]);
	for (unsigned i = 0; i < cases; i++) {
		write_case(out, device, chosen[i], i);
		write_run(runs, chosen[i]);
	}
	fputs("\nint main(int argc, char **argv)\n{\n\tconst uint32_t spoil = argc > 1;\n\tint bad = "
	      "0;\n\t(void)argv;\n",
	      out);
	for (unsigned i = 0; i < cases; i++)
		fprintf(out, "\tbad |= case%u(spoil);\n", i);
	fprintf(out, "\tprintf(\"%s: %u cases, %%s\\n\", bad ? \"WRONG\" : \"all bits right\");\n\treturn bad;\n}\n",
	        argv[1], cases);
	pf_device_close(device);
	conf_free(all, count);
	const int failed = fclose(runs) != 0;
	return fclose(out) != 0 || failed || cases == 0;
}
