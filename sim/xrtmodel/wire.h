/* wire.h: the conversation between XRT's emulation shim (the host) and the device process.
 *
 * Over a stream socket, strictly one request, then one reply. A request is 14 bytes, 0x09, the
 * body's length as u64, 0x15, the call's number as u32, then the body; a reply is 9 bytes, 0x09 and
 * the length, then the body. Bodies are protobuf messages (proto2, unpacked); only the wire format
 * is needed: fields by number, varints and byte strings. Source: XRT, rpc_messages.proto.
 *
 * Parsing checks every length against the bytes that are there. Thread-safe: no state. */
#ifndef PF_XRTMODEL_WIRE_H
#define PF_XRTMODEL_WIRE_H
#include <stddef.h>
#include <stdint.h>

enum pf_wire_api {
	PF_WIRE_CLOSE       = 1,
	PF_WIRE_LOAD        = 3,
	PF_WIRE_ALLOC       = 4,
	PF_WIRE_FREE        = 5,
	PF_WIRE_TO_DEVICE   = 6,
	PF_WIRE_FROM_DEVICE = 7,
	PF_WIRE_WRITE       = 9,               /* kernel control space */
	PF_WIRE_READ        = 11,
	PF_WIRE_ENVIRONMENT = 20,
	PF_WIRE_SETUP       = 28,              /* routes of streams: none here */
	PF_WIRE_REG_WRITE   = 51,
	PF_WIRE_REG_READ    = 52,
	PF_WIRE_VERSION     = 53,
};

enum { PF_WIRE_HEAD = 14, PF_WIRE_REPLY_HEAD = 9, PF_WIRE_FIELDS = 10 };
#define PF_WIRE_BODY_MAX ((uint64_t)1 << 30)   /* XRT sends 8 MiB at a time unless told otherwise */

struct pf_wire_field {
	int            present;
	uint64_t       value;                  /* varint or fixed */
	const uint8_t *bytes;                  /* byte string; NULL otherwise. Borrowed */
	size_t         length;
};
/* Fields by number. Of a repeated field the last one; numbers at or beyond PF_WIRE_FIELDS are
 * skipped */
struct pf_wire_message { struct pf_wire_field field[PF_WIRE_FIELDS]; };

/* Return 0 or PF_E_FORMAT */
int pf_wire_head(const uint8_t head[PF_WIRE_HEAD], uint32_t *api, uint64_t *length);
int pf_wire_parse(const uint8_t *body, size_t length, struct pf_wire_message *message);

/* A reply under construction; zero-initialise, free `data` at the end */
struct pf_wire_reply {
	uint8_t *data;                         /* head and body */
	size_t   used, size;
};
/* Starts a new reply. Return 0 or -ENOMEM */
int pf_wire_begin(struct pf_wire_reply *reply);
int pf_wire_value(struct pf_wire_reply *reply, unsigned field, uint64_t value);
int pf_wire_bytes(struct pf_wire_reply *reply, unsigned field, const void *bytes, size_t length);
/* Writes the body's length into the head */
void pf_wire_end(struct pf_wire_reply *reply);
#endif
