#include "quality.h"
#include "vitis.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "prefpga/cycles.h"
#include "prefpga/internal/cards.def"
#include "prefpga/internal/vitis.def"

enum flow { FLOW_CLASSIC, FLOW_UNIFIED };
struct release { const char *name; enum flow flow; const char *output; int target_key; };
struct build { const char *card, *part; };
struct platform { const char *card, *name; unsigned array; };

static const struct release releases[] = {
#define RELEASE_ROW(name, flow, output, key) { #name, FLOW_##flow, output, key },
	PF_VITIS_RELEASES(RELEASE_ROW)
};
static const struct build builds[] = {
#define BUILD_ROW(card, part) { #card, part },
	PF_CARD_BUILDS(BUILD_ROW)
};
static const struct platform platforms[] = {
#define PLATFORM_ROW(name, title, platform, memory, banks, mib, sf, sl, wf, wl, mf, ml, array) \
	{ #name, platform, array },
	PF_CARDS(PLATFORM_ROW)
};
static const char *const targets[] = { "csim", "csynth", "cosim", "hw_emu", "hw" };
#define COUNT(list) (sizeof (list) / sizeof *(list))

static const struct release *find_release(const char *name)
{
	for (size_t i = 0; name && i < COUNT(releases); i++)
		if (strcmp(releases[i].name, name) == 0)
			return &releases[i];
	return NULL;
}

static const struct build *find_build(const char *card)
{
	for (size_t i = 0; card && i < COUNT(builds); i++)
		if (strcmp(builds[i].card, card) == 0)
			return &builds[i];
	return NULL;
}

static const char *find_platform(const char *card)
{
	for (size_t i = 0; i < COUNT(platforms); i++)
		if (strcmp(platforms[i].card, card) == 0)
			return platforms[i].name;
	return "";
}

unsigned pf_card_array(const char *card)
{
	for (size_t i = 0; card && i < COUNT(platforms); i++)
		if (strcmp(platforms[i].card, card) == 0)
			return platforms[i].array;
	return PF_ARRAY_WHOLE;
}

static unsigned clock_mhz(const char *card)
{
	return (unsigned)lrint(pf_card_figure(card, "clock_hz") / 1e6);
}

static int links(const char *target)
{
	return strncmp(target, "hw", 2) == 0;
}

int pf_vitis_check(const struct pf_vitis *v, struct pf_error *error)
{
	const struct build *build = find_build(v->card);
	int known = 0;
	if (!build)
		return pf_fail(error, PF_E_UNKNOWN, "there is no build for card %s: see PF_CARD_BUILDS in vitis.def",
		               v->card ? v->card : "(--card)");
	if (!find_release(v->release))
		return pf_fail(error, PF_E_UNKNOWN, "Vitis %s is not known here; 2022.2 to 2025.2 are",
		               v->release ? v->release : "(--vitis)");
	for (size_t i = 0; v->target && i < COUNT(targets); i++)
		known |= strcmp(targets[i], v->target) == 0;
	if (!known)
		return pf_fail(error, PF_E_UNKNOWN, "target %s: csim, csynth, cosim, hw_emu and hw are known",
		               v->target ? v->target : "(--target)");
	if (links(v->target) && strtod(v->release, NULL) > pf_card_figure(v->card, "last_vitis"))
		return pf_fail(error, PF_E_UNSUPPORTED,
			       "Vitis %s does not support the %s any more, the last that does is %.1f", v->release,
			       v->card, pf_card_figure(v->card, "last_vitis"));
	return 0;
}

/* ---- one kernel ---- */
static void write_flags(FILE *out, const struct pf_vitis *v, const struct pf_kernel_row *row)
{
	fprintf(out, "-I%s/include -DPF_STEP=1%s", v->source, row->lanes == 32 ? " -DPF_BF16" : "");
	if (pf_card_array(v->card) != PF_ARRAY_WHOLE)
		fprintf(out, " -DPF_ARRAY_ROWS=%u", pf_card_array(v->card));
}

static void write_config(FILE *out, const struct pf_vitis *v, const struct pf_kernel_row *row)
{
	const struct release *release = find_release(v->release);
	const struct build *build = find_build(v->card);
	fprintf(out, "# %s on %s for Vitis %s, made by prefpga-emit hls\npart=%s\n\n[hls]\n", row->name, v->card,
		v->release, build->part);
	if (release->target_key)
		fputs("flow_target=vitis\n", out);
	fprintf(out, "%s=xo\nclock=%uMHz\nsyn.top=pf_k_%s\nsyn.file=%s/hls/%s.c\nsyn.cflags=", release->output,
		clock_mhz(v->card), row->name, v->source, row->file);
	write_flags(out, v, row);
	fprintf(out, "\ntb.file=%s/tb_%s.c\ntb.cflags=", v->benches, row->name);
	write_flags(out, v, row);
	fputc('\n', out);
}

static void write_tcl(FILE *out, const struct pf_vitis *v, const struct pf_kernel_row *row)
{
	const struct build *build = find_build(v->card);
	fprintf(out,
		"# %s on %s for vitis_hls %s, made by prefpga-emit hls\nopen_project -reset %s\nset_top pf_k_%s\n"
		"add_files %s/hls/%s.c -cflags \"",
		row->name, v->card, v->release, row->name, row->name, v->source, row->file);
	write_flags(out, v, row);
	fprintf(out, "\"\nadd_files -tb %s/tb_%s.c -cflags \"", v->benches, row->name);
	write_flags(out, v, row);
	fprintf(out, "\"\nopen_solution -reset -flow_target vitis solution\nset_part %s\ncreate_clock -period %.3f\n",
	        build->part, 1e3 / clock_mhz(v->card));
	if (strcmp(v->target, "csim") == 0)
		fputs("csim_design\n", out);
	else
		fputs("csynth_design\n", out);
	if (strcmp(v->target, "cosim") == 0)
		fputs("cosim_design\n", out);
	fputs("exit\n", out);
}

int pf_vitis_kernel(FILE *out, const struct pf_vitis *v, int kernel)
{
	const struct pf_kernel_row *row = &pf_kernel_rows[kernel];
	if (find_release(v->release)->flow == FLOW_UNIFIED)
		write_config(out, v, row);
	else
		write_tcl(out, v, row);
	return ferror(out) ? PF_E_DATA : 0;
}

/* ---- commands ---- */
static void compile_unified(FILE *out, const struct pf_vitis *v, const char *kernel)
{
	if (strcmp(v->target, "csim") == 0) {
		fprintf(out, "vitis-run --mode hls --csim --config %s.cfg --work_dir %s\n", kernel, kernel);
		return;
	}
	fprintf(out, "v++ -c --mode hls --config %s.cfg --work_dir %s\n", kernel, kernel);
	if (strcmp(v->target, "cosim") == 0)
		fprintf(out, "vitis-run --mode hls --cosim --config %s.cfg --work_dir %s\n", kernel, kernel);
}

static void compile_classic(FILE *out, const struct pf_vitis *v, const struct pf_kernel_row *row)
{
	if (!links(v->target)) {
		fprintf(out, "vitis_hls -f %s.tcl\n", row->name);
		return;
	}
	fprintf(out, "v++ -c -t %s --platform %s -k pf_k_%s ", v->target, find_platform(v->card), row->name);
	write_flags(out, v, row);
	fprintf(out, " -o pf_k_%s.xo %s/hls/%s.c\n", row->name, v->source, row->file);
}

/* Where the compiler leaves its .xo has changed between releases, so they are looked for */
static void link_commands(FILE *out, const struct pf_vitis *v)
{
	fprintf(out, "v++ -l -t %s --platform %s --kernel_frequency %u --config link.cfg -o linked.xclbin "
	        "$(find . -name 'pf_k_*.xo')\n", v->target, find_platform(v->card), clock_mhz(v->card));
	if (strcmp(v->target, "hw_emu") == 0)
		fprintf(out, "emconfigutil --platform %s --nd 1\n", find_platform(v->card));
	const int first = !v->image || strcmp(v->image, pf_image_name(0, NULL)) == 0;
	fprintf(out, "%s image pack linked.xclbin --manifest %s/manifest.json --out prefpga%s%s.xclbin\n"
	        "%s image check prefpga%s%s.xclbin\n", v->program, v->benches, first ? "" : "-", first ? "" : v->image,
	        v->program, first ? "" : "-", first ? "" : v->image);
}

/* vitis.sh says it before it runs the commands, which take hours */
static void write_note(FILE *out, const struct pf_vitis *v, const struct pf_layout *layout)
{
	const char *resource;
	const double share = pf_quality_share(layout, v->card, &resource);
	if (pf_quality_verdict(share)[0])
		fprintf(out, "# note: estimated at %.1f %% of the %s's %s: %s; see budget-%s.md\n", 100.0 * share,
		        v->card, resource, pf_quality_verdict(share), v->card);
}

int pf_vitis_commands(FILE *out, const struct pf_vitis *v, const struct pf_layout *layout)
{
	fprintf(out,
		"#!/bin/sh\n# %s for %s with Vitis %s, made by prefpga-emit commands. No release has run this "
		"yet.\nset -eu\n",
		v->target, v->card, v->release);
	if (strcmp(v->target, "hw") == 0)
		write_note(out, v, layout);
	for (int k = 0; k < PF_KERNEL_COUNT; k++) {
		if (!layout->cus[k])
			continue;
		if (find_release(v->release)->flow == FLOW_UNIFIED)
			compile_unified(out, v, pf_kernel_rows[k].name);
		else
			compile_classic(out, v, &pf_kernel_rows[k]);
	}
	if (links(v->target))
		link_commands(out, v);
	return ferror(out) ? PF_E_DATA : 0;
}
