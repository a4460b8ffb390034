/* dpo_step [DEVICE [STEPS]]: direct preference optimization in full, through public headers: log-probs of policy and
 * reference, the loss, its gradient, an update. The model is as small as one can be: a table W[V][V] whose row w holds
 * the logits of the character after w. It learns to prefer one answer of each pair.
 *
 *	cc dpo_step.c $(pkg-config --cflags --libs prefpga) -o dpo_step && ./dpo_step sim */
#include <prefpga/prefpga.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { V = 128, PAIRS = 3, SEQUENCES = 2 * PAIRS, ROWS_MAX = 256 };

/* chosen, rejected, chosen, ...: a prompt, and the answer behind the bar */
static const char *const text[SEQUENCES] = {
	"how are you?|fine, thanks.", "how are you?|go away!", "what is 2 and 2?|four.", "what is 2 and 2?|who cares!",
	"sort c a b|a b c", "sort c a b|no way!",
};

struct batch {
	int32_t  before[ROWS_MAX], target[ROWS_MAX];   /* the answers' characters, and those before them */
	uint64_t offset[SEQUENCES + 1];
};

static void pack(struct batch *b)
{
	uint64_t row = 0;
	for (int i = 0; i < SEQUENCES; i++) {
		b->offset[i] = row;
		for (const char *c = strchr(text[i], '|') + 1; *c; c++, row++) {
			b->before[row] = c[-1];
			b->target[row] = c[0];
		}
	}
	b->offset[SEQUENCES] = row;
}

/* Logits [rows, V] of a model, as any model makes them */
static void forward(const float w[V][V], const struct batch *b, float logits[][V])
{
	for (uint64_t row = 0; row < b->offset[SEQUENCES]; row++)
		memcpy(logits[row], w[b->before[row]], sizeof logits[row]);
}

static void backward_and_update(float w[V][V], const struct batch *b, const float dlogits[][V], float rate)
{
	for (uint64_t row = 0; row < b->offset[SEQUENCES]; row++)
		for (int v = 0; v < V; v++)
			w[b->before[row]][v] -= rate * dlogits[row][v];
}

static int logps(struct pf_device *device, const struct batch *b, float logits[][V], int64_t *sum,
                 struct pf_error *error)
{
	return pf_flat_logps(device, logits, PF_F32, b->offset[SEQUENCES], V, b->target, b->offset, SEQUENCES, sum,
	                     NULL, error->text, sizeof error->text);
}

/* The gradient of the loss takes the logits' place */
static int step(struct pf_device *device, const struct pf_loss *loss, const struct batch *b, const int64_t *reference,
                float logits[][V], double *value, struct pf_error *error)
{
	static const uint32_t group[PAIRS + 1] = { 0, 2, 4, 6 };
	const struct pf_loss_batch scalars = { .divisor = PAIRS };
	struct pf_loss_item item[SEQUENCES] = { { 0 } };
	struct pf_loss_result result[SEQUENCES];
	int64_t policy[SEQUENCES];
	double grad[SEQUENCES];
	int code = logps(device, b, logits, policy, error);

	for (int i = 0; i < SEQUENCES; i++)
		item[i] = (struct pf_loss_item){ .policy = policy[i],
			                         .reference = reference[i],
			                         .weight = 1.0f,
			                         .n = (uint32_t)(b->offset[i + 1] - b->offset[i]),
			                         .kind = i % 2 ? PF_KIND_REJECTED : PF_KIND_CHOSEN };
	if (!code)
		code = pf_loss_evaluate(device, loss, &scalars, item, SEQUENCES, group, PAIRS, result, error);
	if (code)
		return code;
	*value = pf_loss_total(loss, &scalars, result, SEQUENCES, NULL);
	for (int i = 0; i < SEQUENCES; i++)
		grad[i] = result[i].grad;
	return pf_flat_logps_grad(device, logits, PF_F32, b->offset[SEQUENCES], V, b->target, b->offset, SEQUENCES,
	                          grad, logits, error->text, sizeof error->text);
}

int main(int argc, char **argv)
{
	static float w[V][V], logits[ROWS_MAX][V];
	static struct batch batch;
	const int steps = argc > 2 ? atoi(argv[2]) : 10;
	int64_t reference[SEQUENCES];
	struct pf_device *device = NULL;
	struct pf_loss loss;
	struct pf_error error = { 0 };
	double value = 0.0;
	int code = pf_loss_parse("sigmoid:beta=0.1", &loss, &error);

	pack(&batch);
	if (!code)
		code = pf_device_open(argc > 1 ? argv[1] : "sim", NULL, &device, &error);
	if (!code) {
		forward(w, &batch, logits);
		code = logps(device, &batch, logits, reference, &error);        /* before any step: the frozen policy */
	}
	for (int s = 0; !code && s < steps; s++) {
		forward(w, &batch, logits);
		code = step(device, &loss, &batch, reference, logits, &value, &error);
		if (!code)
			printf("step %d: loss %.6f\n", s, value);
		backward_and_update(w, &batch, logits, 20.0f);
	}
	if (code)
		fprintf(stderr, "%s\n", error.text);
	pf_device_close(device);
	return code != 0;
}
