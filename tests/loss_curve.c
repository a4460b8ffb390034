/* loss_curve.c: points of `loss plot` against known values, slopes against differences of the curve, and drawings that
 * are whole. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "host/cli/loss_curve.h"
#include "tests/cmocka.h"

static struct pf_curves curves;

static void find(const char *name, double range)
{
	struct pf_device *device = NULL;
	struct pf_loss loss;
	struct pf_error error;
	if (pf_loss_parse(name, &loss, &error) || pf_device_open("cpu", NULL, &device, &error) ||
	    pf_curves_find(&loss, range, device, &curves, &error))
		fail_msg("%s: %s", name, error.text);
	pf_device_close(device);
	strcpy(curves.title, name);
}

static void known_points(void **state)
{
	static const struct { const char *name; double f, slope; } at_zero[] = {
		{ "sigmoid", 0.69314718055994531, -0.5 }, { "gpo_savage", 0.25, -0.25 }, { "gpo_squared", 1, -2 },
		{ "discopop", 0.84657359027997264, 0.78426409720027351 },       /* starts the wrong way: (1 - ln 2) / (4 tau) - 3/4 */
		{ "expr:x^3 + 2*x - 1", -1, 2 }, { "kto", 0.5, -0.25 }, { "reinforce", 0, -1 },
	};
	(void)state;
	for (size_t i = 0; i < sizeof at_zero / sizeof *at_zero; i++) {
		find(at_zero[i].name, 2);
		const double f = curves.f[0][PF_CURVE_POINTS / 2], slope = curves.slope[0][PF_CURVE_POINTS / 2];
		if ((strcmp(at_zero[i].name, "reinforce") != 0 && !(fabs(f - at_zero[i].f) <= 1e-7)) ||
		    !(fabs(slope - at_zero[i].slope) <= 1e-7))
			fail_msg("%s: f(0) = %.9g, f'(0) = %.9g", at_zero[i].name, f, slope);
	}
}

/* The median over the curve, so that kinks do not count */
static int by_size(const void *a, const void *b)
{
	const double x = *(const double *)a, y = *(const double *)b;
	return (x > y) - (x < y);
}

static void slopes_are_slopes(void **state)
{
	static const char *const names[] = { "sigmoid", "cdpo",   "robust", "hinge", "discopop", "exo_pair",
		                             "ipo",     "simpo",  "orpo",   "kto",   "bco",      "apo_zero",
		                             "tpo",     "pl_dpo", "lipo",   "gspo",  "sft",      "expr:tanh(x) + x^2" };
	(void)state;
	for (size_t n = 0; n < sizeof names / sizeof *names; n++) {
		double off[PF_CURVE_POINTS - 2];
		find(names[n], 1);
		for (int i = 1; i + 1 < PF_CURVE_POINTS; i++)
			off[i - 1] =
				fabs((curves.f[0][i + 1] - curves.f[0][i - 1]) / (curves.x[i + 1] - curves.x[i - 1]) -
			             curves.slope[0][i]) /
				(1e-3 + fabs(curves.slope[0][i]));
		qsort(off, PF_CURVE_POINTS - 2, sizeof *off, by_size);
		if (!(off[PF_CURVE_POINTS / 2] <= 1e-3))
			fail_msg("%s: slope and differences are %g apart", names[n], off[PF_CURVE_POINTS / 2]);
	}
}

static void drawings_are_whole(void **state)
{
	static const char *const names[] = { "sigmoid", "kto", "expr:{x^2}:weight=0.5+sft", "ppo", "gpo_exponential" };
	(void)state;
	for (size_t n = 0; n < sizeof names / sizeof *names; n++) {
		static char text[1 << 17];
		FILE *file = tmpfile();
		assert_non_null(file);
		find(names[n], 60);
		pf_curves_svg(&curves, file);
		pf_curves_text(&curves, file);
		rewind(file);
		text[fread(text, 1, sizeof text - 1, file)] = '\0';
		fclose(file);
		assert_int_equal(strncmp(text, "<svg ", 5), 0);
		assert_non_null(strstr(text, "</svg>\n"));
		assert_non_null(strstr(text, "<polyline"));
		assert_non_null(strstr(text, "its derivative"));
		assert_null(strstr(text, "nan"));
		assert_null(strstr(text, "inf"));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(known_points), cmocka_unit_test(slopes_are_slopes),
		cmocka_unit_test(drawings_are_whole) };
	return cmocka_run_group_tests(tests, NULL, NULL);
}
