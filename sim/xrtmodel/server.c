#include "server.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "prefpga/internal/registers.h"

enum { PATH_BYTES = 4096 };
#define XML_BYTES_MAX ((size_t)16 << 20)

/* Why a request fails, or 0 with the reply's body written */
typedef int (*answer_fn)(struct pf_emu_server *server, const struct pf_wire_field *field,
                         struct pf_wire_reply *reply, struct pf_error *error);

static int yes(struct pf_wire_reply *reply)
{
	return pf_wire_value(reply, 1, 1);
}

/* A byte string as a C string; 0: too long or with a NUL inside */
static int text(const struct pf_wire_field *field, char path[PATH_BYTES])
{
	if (field->length >= PATH_BYTES || (field->length && memchr(field->bytes, 0, field->length)))
		return 0;
	if (field->length)
		memcpy(path, field->bytes, field->length);
	path[field->length] = '\0';
	return 1;
}

/* ---- images ---- */
static int read_layout(const char *path, struct pf_emu_layout *layout, struct pf_error *error)
{
	FILE *in = fopen(path, "rb");
	char *xml = malloc(XML_BYTES_MAX);
	size_t length = in && xml ? fread(xml, 1, XML_BYTES_MAX, in) : 0;
	int status = in && xml ? pf_emu_layout_parse(xml, length, layout, error)
	                       : pf_fail(error, -errno, "%s: %s", path, strerror(errno));
	if (in)
		fclose(in);
	free(xml);
	return status;
}

static int load(struct pf_emu_server *server, const struct pf_wire_field *field,
                struct pf_wire_reply *reply, struct pf_error *error)
{
	struct pf_emu_layout layout;
	char xml[PATH_BYTES], library[PATH_BYTES];
	if (!text(&field[1], xml) || !text(&field[2], library))
		return pf_fail(error, PF_E_FORMAT, "load: unusable path");
	if (!xml[0])                           /* XRT starts the process before it has an image */
		return yes(reply);
	if (server->cus && pf_emu_cus_busy(server->cus))
		return pf_fail(error, PF_E_DEVICE, "load: a compute unit is still running");
	int status = read_layout(xml, &layout, error);
	if (status != 0)
		return status;
	pf_emu_cus_close(server->cus);
	server->cus = NULL;
	status = pf_emu_cus_open(&layout, library, server->memory, server->fatal, &server->cus,
	                           error);
	return status ? status : yes(reply);
}

/* ---- memory ---- */
static int allocate(struct pf_emu_server *server, const struct pf_wire_field *field,
                    struct pf_wire_reply *reply, struct pf_error *error)
{
	char path[64];
	int status = pf_emu_alloc(server->memory, field[1].value, field[2].value);
	if (status == 0 && field[3].value)
		status = pf_emu_file(server->memory, field[1].value, path, sizeof path);
	if (status != 0)
		return pf_fail(error, status, "allocate 0x%llx bytes at 0x%llx: %s",
		               (unsigned long long)field[2].value,
		               (unsigned long long)field[1].value, pf_error_text(status));
	if (yes(reply) != 0)
		return -ENOMEM;
	return field[3].value ? pf_wire_bytes(reply, 2, path, strlen(path)) : 0;
}

static int release(struct pf_emu_server *server, const struct pf_wire_field *field,
                   struct pf_wire_reply *reply, struct pf_error *error)
{
	(void)error;
	pf_emu_free(server->memory, field[1].value);
	return yes(reply);
}

static int to_device(struct pf_emu_server *server, const struct pf_wire_field *field,
                     struct pf_wire_reply *reply, struct pf_error *error)
{
	void *at = pf_emu_at(server->memory, field[3].value, field[4].length);
	if (!at || field[5].value != field[4].length)
		return pf_fail(error, PF_E_RANGE, "copy to device: %zu bytes at 0x%llx (said: %llu)",
		               field[4].length, (unsigned long long)field[3].value,
		               (unsigned long long)field[5].value);
	if (field[4].length)
		memcpy(at, field[4].bytes, field[4].length);
	return pf_wire_value(reply, 1, field[4].length);
}

static int from_device(struct pf_emu_server *server, const struct pf_wire_field *field,
                       struct pf_wire_reply *reply, struct pf_error *error)
{
	const void *at = pf_emu_at(server->memory, field[4].value, field[5].value);
	if (!at || field[5].value > PF_WIRE_BODY_MAX)
		return pf_fail(error, PF_E_RANGE, "copy from device: %llu bytes at 0x%llx",
		               (unsigned long long)field[5].value,
		               (unsigned long long)field[4].value);
	if (pf_wire_value(reply, 1, field[5].value) != 0)
		return -ENOMEM;
	return pf_wire_bytes(reply, 2, at, (size_t)field[5].value);
}

/* ---- registers ---- */
static int write_at(struct pf_emu_server *server, uint64_t address,
                    const struct pf_wire_field *data, struct pf_wire_reply *reply,
                    struct pf_error *error)
{
	if (!server->cus
	    || pf_emu_cu_write(server->cus, address, data->bytes, data->length) != 0)
		return pf_fail(error, PF_E_RANGE, "%zu bytes written to 0x%llx: no compute unit there",
		               data->length, (unsigned long long)address);
	return yes(reply);
}

static int read_at(struct pf_emu_server *server, uint64_t address, struct pf_wire_reply *reply,
                   struct pf_error *error)
{
	uint32_t word;
	if (!server->cus || pf_emu_cu_read(server->cus, address, &word) != 0)
		return pf_fail(error, PF_E_RANGE, "register 0x%llx read: no compute unit there",
		               (unsigned long long)address);
	return yes(reply) ? -ENOMEM : pf_wire_bytes(reply, 2, &word, sizeof word);
}

static int write_control(struct pf_emu_server *server, const struct pf_wire_field *field,
                         struct pf_wire_reply *reply, struct pf_error *error)
{
	return write_at(server, field[2].value, &field[4], reply, error);
}

static int read_control(struct pf_emu_server *server, const struct pf_wire_field *field,
                        struct pf_wire_reply *reply, struct pf_error *error)
{
	return read_at(server, field[2].value, reply, error);
}

static int reg_write(struct pf_emu_server *server, const struct pf_wire_field *field,
                     struct pf_wire_reply *reply, struct pf_error *error)
{
	return write_at(server, field[1].value + field[2].value, &field[3], reply, error);
}

static int reg_read(struct pf_emu_server *server, const struct pf_wire_field *field,
                    struct pf_wire_reply *reply, struct pf_error *error)
{
	return read_at(server, field[1].value + field[2].value, reply, error);
}

/* ---- the rest ---- */
static int close_device(struct pf_emu_server *server, const struct pf_wire_field *field,
                        struct pf_wire_reply *reply, struct pf_error *error)
{
	(void)error;
	server->over = field[3].value != 0;
	return yes(reply);
}

static int acknowledge(struct pf_emu_server *server, const struct pf_wire_field *field,
                       struct pf_wire_reply *reply, struct pf_error *error)
{
	(void)server;
	(void)field;
	(void)error;
	return yes(reply);
}

static const struct { uint32_t api; answer_fn answer; } answers[] = {
	{ PF_WIRE_CLOSE, close_device }, { PF_WIRE_LOAD, load },
	{ PF_WIRE_ALLOC, allocate }, { PF_WIRE_FREE, release },
	{ PF_WIRE_TO_DEVICE, to_device }, { PF_WIRE_FROM_DEVICE, from_device },
	{ PF_WIRE_WRITE, write_control }, { PF_WIRE_READ, read_control },
	{ PF_WIRE_REG_WRITE, reg_write }, { PF_WIRE_REG_READ, reg_read },
	{ PF_WIRE_ENVIRONMENT, acknowledge }, { PF_WIRE_SETUP, acknowledge },
	{ PF_WIRE_VERSION, acknowledge },
};

int pf_emu_answer(struct pf_emu_server *server, uint32_t api,
                    const struct pf_wire_message *message, struct pf_wire_reply *reply,
                    struct pf_error *error)
{
	if (pf_wire_begin(reply) != 0)
		return pf_fail(error, -ENOMEM, "out of memory for a reply");
	for (size_t i = 0; i < sizeof answers / sizeof *answers; i++) {
		if (answers[i].api != api)
			continue;
		int status = answers[i].answer(server, message->field, reply, error);
		if (status == -ENOMEM)
			return pf_fail(error, status, "out of memory in call %u", api);
		if (status == 0)
			pf_wire_end(reply);
		return status;
	}
	return pf_fail(error, PF_E_UNSUPPORTED, "call %u is unknown to this device process; XRT is "
	               "newer than it, please report this with XRT's version", api);
}

int pf_emu_server_open(struct pf_emu_server *server, pf_emu_fatal fatal)
{
	*server = (struct pf_emu_server) { .fatal = fatal };
	return pf_emu_memory_open(PF_EMULATED_BANKS * PF_EMULATED_BANK_BYTES, &server->memory);
}

void pf_emu_server_close(struct pf_emu_server *server)
{
	pf_emu_cus_close(server->cus);
	pf_emu_memory_close(server->memory);
}
