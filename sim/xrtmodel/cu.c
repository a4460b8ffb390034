#include "cu.h"
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "library.h"
#include "prefpga/internal/registers.h"
#include "sim/flush.h"

enum { WORDS = PF_REGISTER_WINDOW / 4, STACK_BYTES = 16 << 20 };       /* pref keeps vectors there */

struct cu {
	struct pf_emu_unit    unit;
	struct pf_emu_memory *memory;
	const struct pf_level  *level;         /* of the image's library */
	pf_emu_fatal          fatal;
	pthread_t               thread;
	pthread_mutex_t         lock;          /* guards what follows */
	pthread_cond_t          wake;
	int                     started;       /* the thread exists */
	int                     waiting, running, stop;
	int                     done, seen;    /* seen: the host has read the done bit */
	uint32_t                word[WORDS];
};

struct pf_emu_cus {
	void                  *library;
	const struct pf_level *level;
	unsigned               count;
	struct cu              cu[];
};

/* ---- one run ---- */
static void die(const struct cu *cu, const char *what, unsigned arg)
{
	char text[256];
	snprintf(text, sizeof text, "compute unit %s: argument %s %s", cu->unit.name,
	         pf_kernel_rows[cu->unit.kernel].arg[arg].name, what);
	cu->fatal(text);
}

/* Where argument `arg` lies, from the registers and the scalars' bits in `value` */
static void *pointer(const struct cu *cu, const uint32_t *word, unsigned arg,
                     const uint32_t *value)
{
	const struct pf_kernel_row *row = &pf_kernel_rows[cu->unit.kernel];
	uint32_t first = pf_register_offset(row, arg) / 4;
	uint64_t address = word[first] | (uint64_t)word[first + 1] << 32;
	uint64_t elements = row->elements(arg, value);
	if (elements > UINT64_MAX / row->arg[arg].size)
		die(cu, "has more elements than a card can hold", arg);
	uint64_t bytes = elements * row->arg[arg].size;
	void *at = bytes ? pf_emu_allocated(cu->memory, address, bytes)
	                 : pf_emu_at(cu->memory, address, 0);
	if (!at)
		die(cu, "does not lie inside one allocation of the card's memory", arg);
	return at;
}

static void run(struct cu *cu, const uint32_t *word)
{
	const struct pf_kernel_row *row = &pf_kernel_rows[cu->unit.kernel];
	void *at[PF_ARGS_MAX] = { NULL };
	uint32_t value[PF_ARGS_MAX] = { 0 };
	for (unsigned i = 0; i < row->count; i++)
		if (row->arg[i].dir == PF_DIR_VAL)
			value[i] = word[pf_register_offset(row, i) / 4];
	for (unsigned i = 0; i < row->count; i++)
		if (row->arg[i].dir != PF_DIR_VAL)
			at[i] = pointer(cu, word, i, value);
	cu->level->call[cu->unit.kernel](at, value);
}

static int may_start(const struct cu *cu)
{
	return cu->waiting && !(cu->unit.chain && cu->done);
}

static void *cu_main(void *argument)
{
	struct cu *cu = argument;
	uint32_t word[WORDS];
	pf_flush_begin();
	pthread_mutex_lock(&cu->lock);
	for (;;) {
		while (!may_start(cu) && !cu->stop)
			pthread_cond_wait(&cu->wake, &cu->lock);
		if (cu->stop)
			break;
		memcpy(word, cu->word, sizeof word);
		cu->waiting = 0;
		cu->running = 1;
		pthread_mutex_unlock(&cu->lock);
		run(cu, word);
		pthread_mutex_lock(&cu->lock);
		cu->running = 0;
		cu->done = 1;
	}
	pthread_mutex_unlock(&cu->lock);
	return NULL;
}

/* ---- registers, with the lock held ---- */
static uint32_t control_read(struct cu *cu)
{
	if (cu->unit.chain) {
		cu->seen |= cu->done;
		return (cu->waiting ? PF_CONTROL_START : 0) | (cu->done ? PF_CONTROL_DONE : 0)
		       | (!cu->waiting && !cu->running && !cu->done ? PF_CONTROL_IDLE : 0);
	}
	if (cu->waiting || cu->running)
		return PF_CONTROL_START;
	uint32_t word = cu->done ? PF_CONTROL_DONE | PF_CONTROL_IDLE : PF_CONTROL_IDLE;
	cu->done = 0;
	return word;
}

/* XRT 2.13's emulation takes units of ap_ctrl_chain for ap_ctrl_hs and never writes continue, so a
 * start after a done that it has read counts as one */
static void control_write(struct cu *cu, uint32_t word)
{
	int start = word & PF_CONTROL_START ? 1 : 0;
	if (word & PF_CONTROL_CONTINUE || (start && (!cu->unit.chain || cu->seen)))
		cu->done = cu->seen = 0;
	cu->waiting |= start;
	pthread_cond_signal(&cu->wake);
}

static struct cu *find(struct pf_emu_cus *cus, uint64_t address, size_t bytes)
{
	for (unsigned i = 0; i < cus->count; i++) {
		uint64_t base = cus->cu[i].unit.base;
		if (address >= base && address - base <= PF_REGISTER_WINDOW
		    && bytes <= PF_REGISTER_WINDOW - (address - base))
			return &cus->cu[i];
	}
	return NULL;
}

int pf_emu_cu_write(struct pf_emu_cus *cus, uint64_t address, const uint8_t *data, size_t bytes)
{
	struct cu *cu = find(cus, address, bytes);
	if (!cu || (address - cu->unit.base) % 4 || bytes % 4)
		return PF_E_RANGE;
	size_t at = (address - cu->unit.base) / 4, skip = at == 0 && bytes ? 1 : 0;
	pthread_mutex_lock(&cu->lock);
	memcpy(cu->word + at + skip, data + skip * 4, bytes - skip * 4);
	if (skip) {
		uint32_t control;
		memcpy(&control, data, sizeof control);
		control_write(cu, control);
	}
	pthread_mutex_unlock(&cu->lock);
	return 0;
}

int pf_emu_cu_read(struct pf_emu_cus *cus, uint64_t address, uint32_t *word)
{
	struct cu *cu = find(cus, address, sizeof *word);
	if (!cu || (address - cu->unit.base) % 4)
		return PF_E_RANGE;
	size_t at = (address - cu->unit.base) / 4;
	pthread_mutex_lock(&cu->lock);
	*word = at ? cu->word[at] : control_read(cu);
	pthread_mutex_unlock(&cu->lock);
	return 0;
}

/* ---- life ---- */
static int start(struct cu *cu, const struct pf_emu_unit *unit, const struct pf_emu_cus *cus,
                 struct pf_error *error)
{
	cu->unit = *unit;
	cu->level = cus->level;
	if (!cu->level->call[unit->kernel])
		return pf_fail(error, PF_E_IMAGE, "the image's library lacks kernel %s",
		               pf_kernel_rows[unit->kernel].name);
	pthread_mutex_init(&cu->lock, NULL);
	pthread_cond_init(&cu->wake, NULL);
	pthread_attr_t attributes;
	pthread_attr_init(&attributes);
	pthread_attr_setstacksize(&attributes, STACK_BYTES);
	int status = pthread_create(&cu->thread, &attributes, cu_main, cu);
	pthread_attr_destroy(&attributes);
	cu->started = status == 0;
	return status ? pf_fail(error, -status, "cannot start a thread for %s", unit->name) : 0;
}

static int open_library(struct pf_emu_cus *cus, const char *path, struct pf_error *error)
{
	pf_emulated_kernels_fn kernels;
	cus->library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
	void *symbol = cus->library ? dlsym(cus->library, PF_EMULATED_KERNELS) : NULL;
	if (!symbol)
		return pf_fail(error, PF_E_IMAGE, "the image's library: %s", dlerror());
	memcpy(&kernels, &symbol, sizeof kernels);
	cus->level = kernels(PF_KERNEL_COUNT);
	return cus->level ? 0 : pf_fail(error, PF_E_IMAGE, "the image's library has another table of "
	                                "kernels; build the image again");
}

int pf_emu_cus_open(const struct pf_emu_layout *layout, const char *library,
                      struct pf_emu_memory *memory, pf_emu_fatal fatal,
                      struct pf_emu_cus **cus, struct pf_error *error)
{
	struct pf_emu_cus *c = calloc(1, sizeof *c + layout->count * sizeof *c->cu);
	if (!c)
		return pf_fail(error, -ENOMEM, "out of memory for %u compute units", layout->count);
	int status = open_library(c, library, error);
	for (unsigned i = 0; i < layout->count && status == 0; i++) {
		c->count = i + 1;
		c->cu[i].memory = memory;
		c->cu[i].fatal = fatal;
		status = start(&c->cu[i], &layout->unit[i], c, error);
	}
	if (status != 0)
		pf_emu_cus_close(c);
	else
		*cus = c;
	return status;
}

static int busy(struct cu *cu)
{
	pthread_mutex_lock(&cu->lock);
	int answer = cu->waiting || cu->running;
	pthread_mutex_unlock(&cu->lock);
	return answer;
}

int pf_emu_cus_busy(struct pf_emu_cus *cus)
{
	for (unsigned i = 0; i < cus->count; i++)
		if (cus->cu[i].started && busy(&cus->cu[i]))
			return 1;
	return 0;
}

static void stop(struct cu *cu)
{
	pthread_mutex_lock(&cu->lock);
	cu->stop = 1;
	pthread_cond_signal(&cu->wake);
	pthread_mutex_unlock(&cu->lock);
	pthread_join(cu->thread, NULL);
	pthread_mutex_destroy(&cu->lock);
	pthread_cond_destroy(&cu->wake);
}

void pf_emu_cus_close(struct pf_emu_cus *cus)
{
	if (!cus)
		return;
	for (unsigned i = 0; i < cus->count; i++)
		if (cus->cu[i].started)
			stop(&cus->cu[i]);
	if (cus->library)
		dlclose(cus->library);
	free(cus);
}
