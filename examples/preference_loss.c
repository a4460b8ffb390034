/* preference_loss [LOSS [DEVICE]]: value and gradient of a preference loss for two pairs.
 *
 *	cc preference_loss.c $(pkg-config --cflags --libs prefpga) -o preference_loss && ./preference_loss ipo sim */
#include <prefpga/prefpga.h>
#include <math.h>
#include <stdio.h>

static int64_t nats(double logp)
{
	return (int64_t)llround(logp * 0x1p32);        /* sums of log-probs are Q31.32 integers */
}

int main(int argc, char **argv)
{
	const struct pf_loss_item item[4] = {
		{ .policy = nats(-12.0), .reference = nats(-13.0), .n = 9, .kind = PF_KIND_CHOSEN, .weight = 1.0f },
		{ .policy = nats(-14.0), .reference = nats(-13.5), .n = 7, .kind = PF_KIND_REJECTED, .weight = 1.0f },
		{ .policy = nats(-30.0), .reference = nats(-28.0), .n = 21, .kind = PF_KIND_CHOSEN, .weight = 1.0f },
		{ .policy = nats(-22.0), .reference = nats(-25.0), .n = 20, .kind = PF_KIND_REJECTED, .weight = 1.0f },
	};
	static const uint32_t group[3] = { 0, 2, 4 };
	const struct pf_loss_batch batch = { .divisor = 2.0, .tokens = 30.0 };
	struct pf_loss_result result[4];
	struct pf_device *device;
	struct pf_loss loss;
	struct pf_error error;

	if (pf_loss_parse(argc > 1 ? argv[1] : "sigmoid:beta=0.1", &loss, &error) ||
	    pf_device_open(argc > 2 ? argv[2] : "sim", NULL, &device, &error) ||
	    pf_loss_evaluate(device, &loss, &batch, item, 4, group, 2, result, &error)) {
		fprintf(stderr, "%s\n", error.text);
		return 1;
	}
	printf("loss %.9f\n", pf_loss_total(&loss, &batch, result, 4, NULL));
	for (int i = 0; i < 4; i++)
		printf("pair %u, %s: dL/dlogp %+.9f\n", result[i].group, i % 2 ? "rejected" : "chosen  ",
		       result[i].grad);
	pf_device_close(device);
	return 0;
}
