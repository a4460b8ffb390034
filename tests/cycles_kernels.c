/* What one run of a kernel costs, worked out by hand: trips of its loops, their intervals and depths, bytes. */
#include <math.h>
#include <string.h>
#include "prefpga/reports.h"
#include "prefpga/internal/kernels.h"
#include "tests/cmocka.h"

static void near(double value, double wanted)
{
	if (!(fabs(value - wanted) <= 1e-9 * fabs(wanted)))
		fail_msg("%.12g, by hand %.12g", value, wanted);
}

/* logprob by hand: 100 rows of 1000 logits are 63 beats each, gone through without a gap in 2 blocks of 64 rows, whose
 * targets are read and whose records take 16 cycles a row */
static void the_cost_of_logprob(void **state)
{
	const uint32_t value[] = { 100, 1000, 63, 0 };
	struct pf_run_cost cost;
	(void)state;
	assert_int_equal(pf_cycles_cost(PF_KERNEL_logprob, value, 4, &cost, NULL), 0);
	near(cost.cycles, 100 * 63 + 2 * 178 + 2 * (64 + 66) + 2 * (64 + 5) + 100 * 16 + 2 * 406);
	near(cost.bytes[0], 100 * 63 * 64);
	near(cost.bytes[2], 100 * (4 + 64));
	near(cost.port_most, 100 * 63 * 64);
	assert_int_equal(pf_cycles_cost(PF_KERNEL_logprob, value, 3, &cost, NULL), PF_E_ARGUMENT);
	assert_int_equal(pf_cycles_cost(-1, value, 4, &cost, NULL), PF_E_ARGUMENT);
}

/* The fused head, one block and one tile of two pieces: what works beside the multiplication is waited for once. One
 * piece more is 64 x 64 x 64 products and sums: 3 and 2 DSPs each (and a few operations of reading and adding) */
static void the_cost_of_a_tile(void **state)
{
	uint32_t value[7] = { 64, 8, 64, 0 };
	struct pf_run_cost two, three;
	(void)state;
	assert_int_equal(pf_cycles_cost(PF_KERNEL_linear_logprob, value, 7, &two, NULL), 0);
	near(two.cycles, (64 * 8 * 4 + 66) + (64 + 70) + 2 * (1024 + 13) + (64 + 9) + (64 + 69) + (64 + 66) +
	                 (256 * 4 + 247) + (64 * 16 + 406));
	value[1] = 12;
	assert_int_equal(pf_cycles_cost(PF_KERNEL_linear_logprob, value, 7, &three, NULL), 0);
	near(three.cycles - two.cycles, 64 * 4 * 4 + 1024 + 13);
	const double more = (three.dsp_operations - two.dsp_operations) / (64.0 * 64.0 * 64.0 * 5.0);
	assert_true(more >= 1.0 && more <= 1.05);
	assert_true(three.lut_operations > two.lut_operations && three.onchip_bytes > two.onchip_bytes);
}

/* Ten tiles: each is scanned while the next is formed, so the shorter of the two costs nothing but once. 64 numbers
 * take 1,244 cycles, less than the scan's 1,404, 128 take 2,281 */
static void the_scan_goes_by(void **state)
{
	const double scan = (64 + 69) + (256 * 4 + 247), once = (64 + 66) + (64 * 16 + 406);
	const double narrow = (64 + 70) + (1024 + 13) + (64 + 9), wide = narrow + 1024 + 13;
	uint32_t value[7] = { 64, 4, 640, 0 };
	struct pf_run_cost cost;
	(void)state;
	assert_int_equal(pf_cycles_cost(PF_KERNEL_linear_logprob, value, 7, &cost, NULL), 0);
	near(cost.cycles, once + (64 * 4 * 4 + 66) + narrow + 10 * scan);
	value[1] = 8;
	assert_int_equal(pf_cycles_cost(PF_KERNEL_linear_logprob, value, 7, &cost, NULL), 0);
	near(cost.cycles, once + (64 * 8 * 4 + 66) + 10 * wide + scan);
	value[0] = 70;                                 /* a second block, of 6 tokens: what they do not fill is cleared */
	assert_int_equal(pf_cycles_cost(PF_KERNEL_linear_logprob, value, 7, &cost, NULL), 0);
	near(cost.cycles, 2 * (64 + 66) + 70 * 16 + 2 * 406 + (70 * 8 * 4 + 2 * 66) + (128 + 1) +
	                  2 * (10 * wide + scan));
}

/* Half the array: the products take twice the cycles, and as many operations */
static void the_cost_of_half_an_array(void **state)
{
	const uint32_t value[7] = { 64, 8, 64, 0 };
	struct pf_run_cost whole, half;
	(void)state;
	assert_int_equal(pf_reports_cost(NULL, 4, PF_KERNEL_linear_logprob, value, 7, &whole, NULL), 0);
	assert_int_equal(pf_reports_cost(NULL, 2, PF_KERNEL_linear_logprob, value, 7, &half, NULL), 0);
	near(half.cycles - whole.cycles, 2 * 1024);
	near(half.dsp_operations, whole.dsp_operations);
	near(half.bytes[1], whole.bytes[1]);
	assert_int_equal(pf_reports_cost(NULL, 3, PF_KERNEL_linear_logprob, value, 7, &half, NULL), PF_E_RANGE);
}

/* A port reads and writes at once; what it reads for several arguments adds up. By hand: 64 rows of 4 beats are 16 KiB,
 * 16 rows of W on each of four ports 4 KiB, one tile of raw logits 16 KiB */
static void the_cost_of_shared_ports(void **state)
{
	const uint32_t grad[] = { 100, 1000, 63 };
	uint32_t linear[10] = { 64, 4, 64, PF_LINEAR_DWEIGHT };
	struct pf_run_cost cost;
	(void)state;
	assert_int_equal(pf_cycles_cost(PF_KERNEL_logit_grad, grad, 3, &cost, NULL), 0);
	near(cost.bytes[0], 2 * 100 * 63 * 64);
	near(cost.port_most, 100 * 63 * 64);
	assert_int_equal(pf_cycles_cost(PF_KERNEL_linear_grad, linear, 10, &cost, NULL), 0);
	near(cost.bytes[1], 4 * 3 * 4096);
	near(cost.port_most, 16384);
	linear[3] |= PF_LINEAR_RAW;
	assert_int_equal(pf_cycles_cost(PF_KERNEL_linear_grad, linear, 10, &cost, NULL), 0);
	near(cost.port_most, 2 * 16384);
	linear[1] = 1;
	linear[2] = 640;                       /* 160 rows a port, 10 tiles */
	linear[3] = PF_LINEAR_DWEIGHT;
	assert_int_equal(pf_cycles_cost(PF_KERNEL_linear_grad, linear, 10, &cost, NULL), 0);
	near(cost.port_most, 2 * 160 * 64);
}

/* MXINT8, 128 tokens, 320 words (80 rows a port, 5 tiles), 64 numbers: a row is a beat of elements, one of exponents.
 * A block of 64 tokens: states begun, elements and exponents read at 32 cycles a beat, a block of 32 fetched, records
 * finished; of the tiles the first is waited for: 16 rows a port of 2 beats, two blocks multiplied with 64 rows; the
 * scan beside the next tile takes longer */
static void the_cost_of_mxint8(void **state)
{
	const double block = (64 + 66) + 64 * (32 + 70) + 64 * (32 + 71) + (32 + 2) + (64 * 16 + 406);
	const double tile = (16 * 2 + 68) + (2 * 64 + 30), scan = (64 + 69) + (256 * 4 + 247);
	uint32_t value[7] = { 128, 1, 320, 0 };
	struct pf_run_cost cost, wide;
	(void)state;
	assert_int_equal(pf_cycles_cost(PF_KERNEL_linear_logprob_mxint8, value, 7, &cost, NULL), 0);
	near(cost.cycles, 2 * (block + tile + 5 * scan));
	near(cost.bytes[0], 128 * 128);
	near(cost.bytes[1], 2 * 320 * 128);            /* W once a block of tokens */
	near(cost.bytes[2], 128 * (4 + 64));
	near(cost.port_most, 2 * 80 * 128);
	value[1] = 2;                                  /* twice the products, a beat more a row */
	assert_int_equal(pf_cycles_cost(PF_KERNEL_linear_logprob_mxint8, value, 7, &wide, NULL), 0);
	near(wide.cycles - cost.cycles, 2 * (64 * 32 + 16 + 128));
	near(wide.bytes[1], 2 * 320 * 192);
	/* 64 x 64 x 64 products of int8 more a tile, a DSP each, and 64 x 64 x 2 fp32 products and sums */
	const double more = (wide.dsp_operations - cost.dsp_operations) / (10.0 * 64 * 64 * (64 + 2 * 5));
	assert_true(more >= 1.0 && more <= 1.01);
}

/* bf16 halves the beats of everything that is read, and nothing of what is multiplied: 64 numbers are 2 beats */
static void the_cost_of_bf16(void **state)
{
	const uint32_t narrow[7] = { 64, 2, 64, 0 }, wide[7] = { 64, 4, 64, 0 };
	struct pf_run_cost bf16, fp32;
	(void)state;
	assert_int_equal(pf_cycles_cost(PF_KERNEL_linear_logprob_bf16, narrow, 7, &bf16, NULL), 0);
	assert_int_equal(pf_cycles_cost(PF_KERNEL_linear_logprob, wide, 7, &fp32, NULL), 0);
	near(fp32.cycles - bf16.cycles, 32);    /* a beat of hidden has twice the values for the same memories */
	near(2 * bf16.bytes[0], fp32.bytes[0]);
	near(2 * bf16.bytes[1], fp32.bytes[1]);
	near(bf16.bytes[2], fp32.bytes[2]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_cost_of_logprob), cmocka_unit_test(the_cost_of_a_tile),
		cmocka_unit_test(the_scan_goes_by), cmocka_unit_test(the_cost_of_half_an_array),
		cmocka_unit_test(the_cost_of_shared_ports), cmocka_unit_test(the_cost_of_mxint8),
		cmocka_unit_test(the_cost_of_bf16),
	};
	return cmocka_run_group_tests_name("cycles_kernels", tests, NULL, NULL);
}
