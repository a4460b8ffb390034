/* server.h: answers XRT's requests: the device process without its socket.
 *
 * One thread. What cannot be answered truthfully is fatal: XRT's shim neither checks most replies
 * nor survives a device process that exits in the middle of a call, but it does notice one that
 * dies from a signal. */
#ifndef PF_XRTMODEL_SERVER_H
#define PF_XRTMODEL_SERVER_H
#include "cu.h"
#include "wire.h"

struct pf_emu_server {
	struct pf_emu_memory *memory;
	struct pf_emu_cus    *cus;           /* NULL until an image is loaded */
	pf_emu_fatal          fatal;
	int                     over;          /* the host has closed the device: exit after the reply */
};

/* Return 0 or an error; nothing to close after an error */
int  pf_emu_server_open(struct pf_emu_server *server, pf_emu_fatal fatal);
void pf_emu_server_close(struct pf_emu_server *server);
/* Answers one request with a complete reply (head and body) */
int  pf_emu_answer(struct pf_emu_server *server, uint32_t api,
                     const struct pf_wire_message *message, struct pf_wire_reply *reply,
                     struct pf_error *error);
#endif
