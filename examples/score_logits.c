/* score_logits [DEVICE]: log-probs and the gradient of ready logits, on any device.
 *
 *	cc score_logits.c $(pkg-config --cflags --libs prefpga) -o score_logits && ./score_logits sim */
#include <prefpga/prefpga.h>
#include <stdio.h>

enum { T = 2, V = 5 };

int main(int argc, char **argv)
{
	static float z[T][V] = { { 0.5f, 2.0f, -1.0f, 0.0f, 1.0f }, { 3.0f, 3.0f, 3.0f, 3.0f, 3.0f } };
	static const int32_t target[T] = { 1, 4 };
	float logp[T], grad[T][V];
	struct pf_device *device;
	struct pf_error error;
	const struct pf_logprob what = {
		.logits = { z, T, V, V, PF_F32 }, .target = target, .logp = logp, .grad = grad
	};

	if (pf_device_open(argc > 1 ? argv[1] : "sim", NULL, &device, &error) || pf_logprob(device, &what, &error)) {
		fprintf(stderr, "%s\n", error.text);
		return 1;
	}
	for (int t = 0; t < T; t++)
		printf("token %d: logp %.6f, gradient %.6f %.6f %.6f %.6f %.6f\n", t, logp[t], grad[t][0], grad[t][1],
		       grad[t][2], grad[t][3], grad[t][4]);
	pf_device_close(device);
	return 0;
}
