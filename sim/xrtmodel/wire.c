#include "wire.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "prefpga/error.h"

enum { TAG_FIXED64_1 = 0x09, TAG_FIXED32_2 = 0x15 };   /* field 1, 64 bits; field 2, 32 bits */
enum { WIRE_VARINT = 0, WIRE_64 = 1, WIRE_BYTES = 2, WIRE_32 = 5 };

struct cursor { const uint8_t *at, *end; };

static uint64_t little(const uint8_t *bytes, unsigned count)
{
	uint64_t value = 0;
	for (unsigned i = 0; i < count; i++)
		value |= (uint64_t)bytes[i] << 8 * i;
	return value;
}

int pf_wire_head(const uint8_t head[PF_WIRE_HEAD], uint32_t *api, uint64_t *length)
{
	if (head[0] != TAG_FIXED64_1 || head[9] != TAG_FIXED32_2)
		return PF_E_FORMAT;
	*length = little(head + 1, 8);
	*api = (uint32_t)little(head + 10, 4);
	return *length <= PF_WIRE_BODY_MAX ? 0 : PF_E_FORMAT;
}

static int take_varint(struct cursor *in, uint64_t *value)
{
	*value = 0;
	for (unsigned shift = 0; shift < 64 && in->at < in->end; shift += 7) {
		uint8_t byte = *in->at++;
		if (shift == 63 && byte > 1)
			return PF_E_FORMAT;
		*value |= (uint64_t)(byte & 0x7f) << shift;
		if (!(byte & 0x80))
			return 0;
	}
	return PF_E_FORMAT;
}

static int take_fixed(struct cursor *in, unsigned count, uint64_t *value)
{
	if ((size_t)(in->end - in->at) < count)
		return PF_E_FORMAT;
	*value = little(in->at, count);
	in->at += count;
	return 0;
}

static int take_bytes(struct cursor *in, struct pf_wire_field *field)
{
	uint64_t length;
	if (take_varint(in, &length) != 0 || length > (uint64_t)(in->end - in->at))
		return PF_E_FORMAT;
	field->bytes = in->at;
	field->length = (size_t)length;
	in->at += length;
	return 0;
}

static int take_field(struct cursor *in, uint64_t *number, struct pf_wire_field *field)
{
	uint64_t tag;
	*field = (struct pf_wire_field) { .present = 1 };
	if (take_varint(in, &tag) != 0)
		return PF_E_FORMAT;
	*number = tag >> 3;
	switch (tag & 7) {
	case WIRE_VARINT:
		return take_varint(in, &field->value);
	case WIRE_64:
		return take_fixed(in, 8, &field->value);
	case WIRE_BYTES:
		return take_bytes(in, field);
	case WIRE_32:
		return take_fixed(in, 4, &field->value);
	}
	return PF_E_FORMAT;
}

int pf_wire_parse(const uint8_t *body, size_t length, struct pf_wire_message *message)
{
	struct cursor in = { body, body + length };
	memset(message, 0, sizeof *message);
	while (in.at < in.end) {
		struct pf_wire_field field;
		uint64_t number;
		if (take_field(&in, &number, &field) != 0)
			return PF_E_FORMAT;
		if (number < PF_WIRE_FIELDS)
			message->field[number] = field;
	}
	return 0;
}

/* ---- replies ---- */
static int reserve(struct pf_wire_reply *reply, size_t more)
{
	if (reply->size - reply->used >= more)
		return 0;
	size_t size = (reply->used + more) * 2;
	uint8_t *data = realloc(reply->data, size);
	if (!data)
		return -ENOMEM;
	reply->data = data;
	reply->size = size;
	return 0;
}

int pf_wire_begin(struct pf_wire_reply *reply)
{
	reply->used = 0;
	if (reserve(reply, PF_WIRE_REPLY_HEAD) != 0)
		return -ENOMEM;
	reply->used = PF_WIRE_REPLY_HEAD;
	return 0;
}

static void put_varint(struct pf_wire_reply *reply, uint64_t value)
{
	for (; value >= 0x80; value >>= 7)
		reply->data[reply->used++] = (uint8_t)(value | 0x80);
	reply->data[reply->used++] = (uint8_t)value;
}

int pf_wire_value(struct pf_wire_reply *reply, unsigned field, uint64_t value)
{
	if (reserve(reply, 20) != 0)           /* two varints */
		return -ENOMEM;
	put_varint(reply, (uint64_t)field << 3 | WIRE_VARINT);
	put_varint(reply, value);
	return 0;
}

int pf_wire_bytes(struct pf_wire_reply *reply, unsigned field, const void *bytes, size_t length)
{
	if (reserve(reply, 20 + length) != 0)
		return -ENOMEM;
	put_varint(reply, (uint64_t)field << 3 | WIRE_BYTES);
	put_varint(reply, length);
	if (length)
		memcpy(reply->data + reply->used, bytes, length);
	reply->used += length;
	return 0;
}

void pf_wire_end(struct pf_wire_reply *reply)
{
	uint64_t length = reply->used - PF_WIRE_REPLY_HEAD;
	reply->data[0] = TAG_FIXED64_1;
	for (unsigned i = 0; i < 8; i++)
		reply->data[1 + i] = (uint8_t)(length >> 8 * i);
}
