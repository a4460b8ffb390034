/* compare.h: whether one run of the bench was slower than another, or only luckier.
 *
 * The rule. Each sample is divided by its yardstick, measured beside it, so that a machine that was busier, or is
 * another one, weighs less. Two rows differ if both hold:
 *   1. the rank sum of the samples (Mann and Whitney 1947) is so extreme that equal speeds would give it, or a more
 *      extreme one, with a probability of at most 0.01; the probability is exact (all divisions of the samples are
 *      counted, ties by midranks), two-sided, and multiplied by the number of rows that are compared and not yet
 *      decided (Holm 1979), so that the chance that any row is called different without being so stays below 0.01
 *   2. the medians differ by at least 5 %: smaller differences are real at times and not worth a stop
 * With five samples on each side the smallest probability is 2/252; fewer than five can show nothing alone.
 * Thread-safe. */
#ifndef PF_BENCH_COMPARE_H
#define PF_BENCH_COMPARE_H
#define PF_COMPARE_LEVEL  0.01
#define PF_COMPARE_CHANGE 0.05

/* Two-sided probability under equal distributions of a rank sum as extreme as that of a among a and b; 1 for none.
 * At most PF_BENCH_REPEATS_MOST each. NaN if out of memory */
double pf_compare_ranks(const double *a, unsigned as, const double *b, unsigned bs);
/* Sorts copies: share q of the sorted values lies below, linear between two (0.5: the median) */
double pf_compare_quantile(const double *value, unsigned count, double q);

struct pf_comparison {
	double change;      /* median after / median before - 1, of samples over yardsticks */
	double p, adjusted; /* of the rank test; after Holm */
	int verdict;        /* 1: slower, -1: faster, 0: no difference that counts */
};
/* change and p are given; fills the rest of all [count] */
void pf_compare_holm(struct pf_comparison *row, unsigned count);
#endif
