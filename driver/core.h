/* core.h: the inside of a device, shared by driver/device*.c only.
 *
 * One lock per device guards every field below that is not marked constant; it is never held during a transfer, a run,
 * an abort or a log call. A worker thread belongs to one queue: one worker for each copy direction, one for each
 * compute unit of each kernel. A queue is a FIFO: its head waits until the work it depends on is done. Work depends
 * only on work submitted earlier, so the oldest unfinished work can always go on.
 *
 * Life of a struct pf_work: submitted (in a queue and in the list of unfinished work) -> running (in the list, held by
 * its worker) -> done (ticket written, out of the list) -> freed. Work that the watchdog gives up on is done while its
 * worker is still inside the backend; the worker frees it, and its buffers with it, should it return. */
#ifndef PF_DRIVER_CORE_H
#define PF_DRIVER_CORE_H
#include <pthread.h>
#include "prefpga/internal/backend.h"

enum { PF_QUEUE_IN = PF_KERNEL_COUNT, PF_QUEUE_OUT, PF_QUEUE_COUNT };    /* queue k < PF_KERNEL_COUNT runs kernel k */
enum { PF_TIMES_KEPT = 15, PF_SHAPES_KEPT = 16, PF_FAILURES_KEPT = 32, PF_COPY_TRIES = 3 };

struct pf_buf {
	struct pf_buf    *older, *newer;       /* all buffers of the device */
	struct pf_device *device;              /* constant */
	struct pf_memory *memory;              /* constant */
	uint64_t          bytes;               /* constant */
	enum pf_bank      bank;                /* constant */
	unsigned          pending;             /* work that holds it */
	int               freed;               /* by the user, while work held it */
};

struct pf_work {
	struct pf_work   *next;                /* in its queue */
	struct pf_work   *older, *newer;       /* unfinished work by submission */
	struct pf_work   *dependents, *sibling;        /* first that waits for this; next that waits for the same */
	struct pf_ticket *ticket;
	struct pf_device *device;
	unsigned          queue;
	int               blocked;             /* waits for earlier work */
	int               cause;               /* status of that work, if it failed */
	int               running, expired, abandoned;
	uint64_t          serial, after, beats;        /* after: serial of what it waits for */
	uint64_t          limit_ns, deadline_ns;       /* UINT64_MAX: none */
	uint64_t          ended_ns;            /* by the card's own event; 0: not known */
	struct pf_buf    *buf[PF_ARGS_MAX];
	struct pf_launch  launch;              /* a copy uses memory, offset and bytes of argument 0 */
	void             *host;                /* a copy's other end */
	struct pf_error   error;
};

/* A ring of the latest numbers */
struct pf_times {
	double   last[PF_TIMES_KEPT];
	unsigned count;                        /* so far */
};

/* How long runs took whose scalars were all the same */
struct pf_shape {
	uint32_t        value[PF_ARGS_MAX];
	struct pf_times ns;
	uint64_t        used;                  /* serial of the latest run */
};

struct pf_queue {
	struct pf_work *head, *tail;
	pthread_cond_t  ready;                 /* the head changed or got unblocked, or the device closes */
	struct pf_times rate;                  /* ns per beat, of runs of any shape */
	struct pf_shape shape[PF_SHAPES_KEPT]; /* those used latest; ns.count 0: free */
};

struct pf_worker {
	struct pf_device *device;
	unsigned          queue, cu;
	pthread_t         thread;
	struct pf_work   *work;                /* running and not abandoned */
};

struct pf_failure {
	const struct pf_ticket *ticket;
	struct pf_error         error;
};

struct pf_device {
	const struct pf_backend *backend;      /* constant, as are the next five */
	void                    *card;
	int                      opened;
	struct pf_device_options options;
	struct pf_device_facts   facts;
	uint32_t                 cus[PF_KERNEL_COUNT];
	pthread_mutex_t          lock;
	pthread_cond_t           done;         /* a ticket is done, a worker left or got stuck */
	pthread_cond_t           watch;        /* deadlines changed */
	pthread_t                watchdog;
	int                      watch_stop;
	struct pf_worker        *worker;
	unsigned                 workers;      /* entries of worker[] whose threads were started */
	unsigned                 alive, stuck; /* threads that have not left; those of them inside abandoned work */
	int                      closing, orphaned;    /* orphaned: the last worker to leave destroys the device */
	int                      failed;
	struct pf_error          failure;      /* why, if failed */
	struct pf_queue          queue[PF_QUEUE_COUNT];
	struct pf_work          *oldest, *newest;
	struct pf_buf           *bufs;
	struct pf_failure        kept[PF_FAILURES_KEPT];       /* texts of failed tickets, a ring */
	unsigned                 keep_next;
	uint64_t                 serial;
	struct pf_device_counts  counts;
	uint64_t               (*now)(void *context);
	void                    *now_context;
};

/* ---- device_check.c: no lock needed ---- */
/* Fills work->buf, launch and beats from a caller's arguments */
int pf_check_run(struct pf_work *work, int kernel, const struct pf_arg *args, unsigned count);
int pf_check_copy(struct pf_work *work, struct pf_buf *buf, uint64_t offset, const void *host, uint64_t bytes);

/* ---- device_queue.c: all but the worker's body with the lock held ---- */
void *pf_worker_main(void *worker);
/* The text of a ticket that failed is kept until the ring comes round or the ticket is used again */
void  pf_failure_keep(struct pf_device *device, const struct pf_ticket *ticket, const struct pf_error *error);
void  pf_failure_forget(struct pf_device *device, const struct pf_ticket *ticket);
const char *pf_failure_text(struct pf_device *device, const struct pf_ticket *ticket);
/* The list of unfinished work: adds the newest; finds that of a ticket, or NULL */
void  pf_work_link(struct pf_device *device, struct pf_work *work);
struct pf_work *pf_work_of(struct pf_device *device, const struct pf_ticket *ticket);
/* Text of work that is not started; a chain of such work hands on its first cause */
void  pf_work_lost(struct pf_work *work, int cause, const char *text);
/* Finishes everything that has not started */
void  pf_cancel_queued(struct pf_device *device, int code, const char *why);
/* Writes the ticket from work->error (code `code`), lets dependents go, leaves `work` to the caller */
void  pf_work_done(struct pf_work *work, int code);

/* ---- device_watch.c ---- */
uint64_t pf_device_now(const struct pf_device *device);
void *pf_watch_main(void *device);
/* With the lock held: the device refuses work from now on */
void  pf_device_fail(struct pf_device *device, const char *why);
/* With the lock held: sets limit and deadline of work that starts, wakes the watchdog */
void  pf_watch_start(struct pf_work *work);
/* With the lock held: gives running copies, which have no limit, one */
void  pf_watch_close(struct pf_device *device);
/* With the lock held: moves all deadlines */
void  pf_watch_extend(struct pf_device *device, uint64_t ns);
/* With the lock held: `work` ran to its end in this time, by which later runs are judged */
void  pf_watch_learn(const struct pf_work *work, uint64_t ns);

/* ---- device.c ---- */
void  pf_device_log(const struct pf_device *device, int level, const char *text);
void  pf_device_destroy(struct pf_device *device);
/* With the lock held: one piece of work less holds the buffer (which may be NULL) */
void  pf_buf_release(struct pf_buf *buf);
#endif
