/* worst.h: a NaN is not forgotten, wherever it comes and however partial results are merged. */
#include "tests/cmocka.h"
#include "tests/worst.h"

static double worst_in(const double *error, int count)
{
	double worst = 0;
	for (int i = 0; i < count; i++)
		worst = worst_of(worst, error[i]);
	return worst;
}

static void the_largest_stays(void **state)
{
	(void)state;
	assert_true(worst_in((double[]){ 0.25, 3, 1 }, 3) == 3);
	assert_true(worst_in((double[]){ 1, INFINITY, 2 }, 3) == INFINITY);
	assert_true(worst_in(NULL, 0) == 0);
}

static void a_nan_stays(void **state)
{
	(void)state;
	for (int at = 0; at < 3; at++) {
		double error[3] = { 1, 2, 3 };
		error[at] = NAN;
		assert_true(worst_in(error, 3) == INFINITY);
		error[at] = -NAN;
		assert_true(worst_in(error, 3) == INFINITY);
	}
	assert_true(worst_of(NAN, 1) == INFINITY);
}

/* As the exhaustive test of kmath does it */
static void a_nan_stays_in_a_reduction(void **state)
{
	double worst = 0;
	(void)state;
#pragma omp parallel for reduction(max : worst)
	for (int i = 0; i < 64; i++)
		worst = worst_of(worst, i == 5 ? NAN : i);
	assert_true(worst == INFINITY);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_largest_stays), cmocka_unit_test(a_nan_stays),
		cmocka_unit_test(a_nan_stays_in_a_reduction),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
