/* A whole conversation with the emulated card: requests one after the other, answered by the server without an image.
 * Properties: fields lie inside their body; what is answered is well-formed. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include "prefpga/error.h"
#include "sim/xrtmodel/server.h"

static void fatal(const char *text)
{
	(void)text;
	abort();
}

static void check_fields(const struct pf_wire_message *message, const uint8_t *body, uint64_t length)
{
	for (int i = 0; i < PF_WIRE_FIELDS; i++) {
		const struct pf_wire_field *f = &message->field[i];
		if (f->bytes && (f->bytes < body || f->length > length
		                 || (size_t)(f->bytes - body) > length - f->length))
			abort();
	}
}

static void check_reply(const struct pf_wire_reply *reply)
{
	struct pf_wire_message message;
	if (reply->used < PF_WIRE_REPLY_HEAD
	    || pf_wire_parse(reply->data + PF_WIRE_REPLY_HEAD, reply->used - PF_WIRE_REPLY_HEAD, &message) != 0)
		abort();
}

/* Loads open files by name, and large reads only take time: the tests do these */
static int too_much(uint32_t api, const struct pf_wire_message *message)
{
	return api == PF_WIRE_LOAD || (api == PF_WIRE_FROM_DEVICE && message->field[5].value > 1 << 16);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct pf_emu_server server;
	struct pf_wire_reply reply = { 0 };
	if (pf_emu_server_open(&server, fatal) != 0)
		return 0;
	while (size >= PF_WIRE_HEAD && !server.over) {
		struct pf_wire_message message;
		struct pf_error error;
		uint32_t api;
		uint64_t length;
		if (pf_wire_head(data, &api, &length) != 0 || length > size - PF_WIRE_HEAD)
			break;
		const uint8_t *body = data + PF_WIRE_HEAD;
		if (pf_wire_parse(body, (size_t)length, &message) != 0)
			break;
		check_fields(&message, body, length);
		if (!too_much(api, &message) && pf_emu_answer(&server, api, &message, &reply, &error) == 0)
			check_reply(&reply);
		data += PF_WIRE_HEAD + length;
		size -= PF_WIRE_HEAD + (size_t)length;
	}
	free(reply.data);
	pf_emu_server_close(&server);
	return 0;
}
