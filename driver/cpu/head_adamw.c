/* head_adamw and head_norm on the host: the operations of kernels.def, beats in turns of the pool. */
#include "cpu.h"
#include "pool.h"

enum { CHUNK = 1 << 14, SUMS = 16, LANES = 16 };       /* elements of a turn, a multiple of 16 */

static uint64_t port_elements(const struct pf_cpu_adamw *a, unsigned port)
{
	return PF_PORT_ROWS(a->vocab, port) * a->depth;
}

static uint32_t port_turns(const struct pf_cpu_adamw *a, unsigned port)
{
	return (uint32_t)((port_elements(a, port) + CHUNK - 1) / CHUNK);
}

static void update(const struct pf_cpu_adamw *a, uint64_t count, const float *restrict dw, float *restrict w,
                   float *restrict m, float *restrict v)
{
	for (uint64_t i = 0; i < count; i++) {
		const float g = dw[i] * a->grad;
		m[i] = a->beta1 * m[i] + a->rest1 * g;
		v[i] = a->beta2 * v[i] + a->rest2 * (g * g);
		w[i] = a->keep * w[i] - a->rate * m[i] / (sqrtf(v[i]) * a->root + a->epsilon);
	}
}

static void turn_update(const void *context, uint32_t turn)
{
	const struct pf_cpu_adamw *a = context;
	unsigned p = 0;
	while (turn >= port_turns(a, p))
		turn -= port_turns(a, p++);
	const uint64_t first = (uint64_t)turn * CHUNK, left = port_elements(a, p) - first;
	update(a, left < CHUNK ? left : CHUNK, a->dweight[p] + first, a->weight[p] + first, a->moment1[p] + first,
	       a->moment2[p] + first);
}

void pf_cpu_head_adamw(struct pf_cpu_pool *pool, const struct pf_cpu_adamw *a)
{
	uint32_t turns = 0;
	for (unsigned p = 0; p < PF_WEIGHT_PORTS; p++)
		turns += port_turns(a, p);
	pf_cpu_pool_run(pool, turns, turn_update, a);
}

static double tree(const double x[SUMS])
{
	double y[SUMS];
	for (int i = 0; i < SUMS; i++)
		y[i] = x[i];
	for (int n = SUMS / 2; n > 0; n /= 2)
		for (int i = 0; i < n; i++)
			y[i] = y[2 * i] + y[2 * i + 1];
	return y[0];
}

static void turn_norm(const void *context, uint32_t port)
{
	const struct pf_cpu_adamw *a = context;
	const uint64_t count = port_elements(a, port);
	double sum[SUMS] = { 0 };
	for (uint64_t b = 0; b < count; b += LANES) {
		double square[SUMS];
		for (int l = 0; l < LANES; l++)
			square[l] = (double)a->dweight[port][b + l] * (double)a->dweight[port][b + l];
		const double next = sum[SUMS - 1] + tree(square);
		for (int i = SUMS - 1; i > 0; i--)
			sum[i] = sum[i - 1];
		sum[0] = next;
	}
	a->square[port] = tree(sum);
}

void pf_cpu_head_norm(struct pf_cpu_pool *pool, const struct pf_cpu_adamw *a)
{
	pf_cpu_pool_run(pool, PF_WEIGHT_PORTS, turn_norm, a);
}
