#include "replay_power.h"
#include <errno.h>
#include <stdlib.h>

/* From this time on so much more is drawn, or moved */
struct edge { double time, more; };

static int by_time(const void *a, const void *b)
{
	const struct edge *x = a, *y = b;
	return (x->time > y->time) - (x->time < y->time);
}

/* Joules of one job, the board at rest left out */
static int joule_of(const struct pf_energy_card *card, const struct pf_job *job, double *joule, struct pf_error *error)
{
	const struct pf_interval no_time = { 0, 0, 0 };
	struct pf_energy_modelled energy;
	const int code = pf_energy_of(card, 1, job, 1, no_time, &energy, error);
	*joule = energy.total.value;
	return code;
}

static int find_edges(const struct pf_energy_card *card, const struct pf_job *job, size_t jobs,
                      const struct pf_job_times *time, struct edge *edge, size_t *edges, struct pf_error *error)
{
	int code = 0;
	*edges = 0;
	for (size_t i = 0; !code && i < jobs; i++) {
		const double seconds = time[i].end - time[i].start;
		double joule;
		if (job[i].kind == PF_JOB_HOST || !(seconds > 0))
			continue;
		code = joule_of(card, &job[i], &joule, error);
		edge[(*edges)++] = (struct edge){ time[i].start, joule / seconds };
		edge[(*edges)++] = (struct edge){ time[i].end, -joule / seconds };
	}
	return code;
}

static void show(struct pf_trace *trace, const char *group, const char *name, const char *unit, double rest,
                 struct edge *edge, size_t edges)
{
	double now = rest;
	qsort(edge, edges, sizeof *edge, by_time);
	pf_trace_counter(trace, group, name, unit, 0, rest);
	for (size_t i = 0; i < edges; i++) {
		now += edge[i].more;
		if (i + 1 == edges || edge[i + 1].time > edge[i].time)
			pf_trace_counter(trace, group, name, unit, edge[i].time, i + 1 == edges ? rest : now);
	}
}

/* Bytes a second of the banks of each class, on average over a job */
static void show_banks(struct pf_trace *trace, const struct pf_job *job, size_t jobs, const struct pf_job_times *time,
                       struct edge *edge)
{
	static const char *const names[PF_CYCLES_CLASSES] = { "banks of logits and states, modelled",
		                                              "banks of weights, modelled",
		                                              "banks of the rest, modelled" };
	for (unsigned c = 0; c < PF_CYCLES_CLASSES; c++) {
		size_t edges = 0;
		for (size_t i = 0; i < jobs; i++) {
			const double seconds = time[i].end - time[i].start;
			const double bytes = job[i].kind == PF_JOB_RUN                         ? job[i].cost.bytes[c]
			                     : job[i].kind != PF_JOB_HOST && job[i].bank == c ? job[i].bytes
			                                                                      : 0;
			if (!(seconds > 0) || !(bytes > 0))
				continue;
			edge[edges++] = (struct edge){ time[i].start, 1e-9 * bytes / seconds };
			edge[edges++] = (struct edge){ time[i].end, -1e-9 * bytes / seconds };
		}
		show(trace, "banks, modelled", names[c], "GB/s", 0, edge, edges);
	}
}

int pf_replay_power(struct pf_trace *trace, const char *name, uint32_t devices, const struct pf_job *job, size_t jobs,
                    const struct pf_job_times *time, struct pf_error *error)
{
	struct pf_energy_card card;
	size_t edges = 0;
	struct edge *edge = calloc(2 * jobs + 1, sizeof *edge);
	int code = edge ? pf_energy_card(name, &card, error) : pf_fail(error, -ENOMEM, "no memory for a schedule");
	if (!code)
		code = find_edges(&card, job, jobs, time, edge, &edges, error);
	if (!code) {
		show(trace, "power, modelled", "cards, modelled", "W", devices * card.rest_w.value, edge, edges);
		show_banks(trace, job, jobs, time, edge);
	}
	free(edge);
	return code;
}
