/* The device process' half of the conversation: framing and protobuf, against bytes written down by hand. */
#include <stdlib.h>
#include <string.h>
#include "prefpga/error.h"
#include "sim/xrtmodel/wire.h"
#include "tests/cmocka.h"

static void heads(void **state)
{
	uint8_t head[PF_WIRE_HEAD] = { 0x09, 0x34, 0x12, 0, 0, 0, 0, 0, 0, 0x15, 7, 0, 0, 0 };
	uint32_t api;
	uint64_t length;
	(void)state;
	assert_int_equal(pf_wire_head(head, &api, &length), 0);
	assert_int_equal(api, PF_WIRE_FROM_DEVICE);
	assert_int_equal(length, 0x1234);
	head[8] = 1;                           /* 2^56 bytes */
	assert_int_equal(pf_wire_head(head, &api, &length), PF_E_FORMAT);
	head[8] = 0;
	head[9] = 0x16;
	assert_int_equal(pf_wire_head(head, &api, &length), PF_E_FORMAT);
	head[9] = 0x15;
	head[0] = 0x08;
	assert_int_equal(pf_wire_head(head, &api, &length), PF_E_FORMAT);
}

static void every_kind_of_field(void **state)
{
	/* 1: 300; 2: "ab"; 3: fixed32 1; 4: fixed64 2; 1 again: 5; 200: 1 (skipped) */
	static const uint8_t body[] = {
		0x08, 0xac, 0x02, 0x12, 2, 'a', 'b', 0x1d, 1, 0, 0, 0, 0x21, 2, 0, 0, 0, 0, 0, 0, 0,
		0x08, 5, 0xc0, 0x0c, 1,
	};
	struct pf_wire_message message;
	(void)state;
	assert_int_equal(pf_wire_parse(body, sizeof body, &message), 0);
	assert_int_equal(message.field[1].value, 5);
	assert_int_equal(message.field[2].length, 2);
	assert_memory_equal(message.field[2].bytes, "ab", 2);
	assert_int_equal(message.field[3].value, 1);
	assert_int_equal(message.field[4].value, 2);
	assert_false(message.field[5].present);
	assert_int_equal(pf_wire_parse(body, 0, &message), 0);
}

static void malformed_bodies(void **state)
{
	static const struct { size_t length; uint8_t bytes[12]; } bad[] = {
		{ 1, { 0x08 } },                                       /* no value */
		{ 2, { 0x08, 0x80 } },                                 /* varint without an end */
		{ 11, { 0x08, 255, 255, 255, 255, 255, 255, 255, 255, 255, 2 } },      /* 65 bits */
		{ 12, { 0x08, 128, 128, 128, 128, 128, 128, 128, 128, 128, 128, 1 } }, /* 11 bytes */
		{ 3, { 0x12, 2, 'a' } },                               /* string beyond the end */
		{ 11, { 0x12, 255, 255, 255, 255, 255, 255, 255, 255, 255, 1 } },
		{ 4, { 0x1d, 1, 0, 0 } },                              /* half a fixed32 */
		{ 8, { 0x21, 1, 0, 0, 0, 0, 0, 0 } },
		{ 1, { 0x0b } },                                       /* groups: not in proto2 messages of ours */
		{ 2, { 0x0f, 0 } },                                    /* wire type 7 */
	};
	struct pf_wire_message message;
	(void)state;
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
		assert_int_equal(pf_wire_parse(bad[i].bytes, bad[i].length, &message), PF_E_FORMAT);
}

static void the_largest_varint(void **state)
{
	static const uint8_t body[] = { 0x08, 255, 255, 255, 255, 255, 255, 255, 255, 255, 1 };
	struct pf_wire_message message;
	(void)state;
	assert_int_equal(pf_wire_parse(body, sizeof body, &message), 0);
	assert_true(message.field[1].value == UINT64_MAX);
}

static void replies(void **state)
{
	static const uint8_t want[] = { 0x09, 8, 0, 0, 0, 0, 0, 0, 0, 0x08, 0xac, 0x02, 0x12, 3, 'x', 'y', 'z' };
	struct pf_wire_reply reply = { 0 };
	(void)state;
	for (int round = 0; round < 2; round++) {
		assert_int_equal(pf_wire_begin(&reply), 0);
		assert_int_equal(pf_wire_value(&reply, 1, 300), 0);
		assert_int_equal(pf_wire_bytes(&reply, 2, "xyz", 3), 0);
		pf_wire_end(&reply);
		assert_int_equal(reply.used, sizeof want);
		assert_memory_equal(reply.data, want, sizeof want);
	}
	free(reply.data);
}

/* What is written is read, at the edges of varints and of buffer growth */
static void round_trips(void **state)
{
	static const uint64_t values[] = { 0, 1, 127, 128, 16383, 16384, UINT32_MAX, UINT64_MAX };
	struct pf_wire_reply reply = { 0 };
	struct pf_wire_message message;
	uint8_t *blob = calloc(1, 100000);
	(void)state;
	for (size_t i = 0; i < sizeof values / sizeof *values; i++)
		for (size_t length = 0; length < 100000; length = length * 3 + 1) {
			pf_wire_begin(&reply);
			pf_wire_value(&reply, 9, values[i]);
			pf_wire_bytes(&reply, 3, blob, length);
			pf_wire_end(&reply);
			assert_int_equal(pf_wire_parse(reply.data + PF_WIRE_REPLY_HEAD,
			                               reply.used - PF_WIRE_REPLY_HEAD, &message), 0);
			assert_true(message.field[9].value == values[i]);
			assert_int_equal(message.field[3].length, length);
		}
	free(blob);
	free(reply.data);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(heads), cmocka_unit_test(every_kind_of_field),
		cmocka_unit_test(malformed_bodies), cmocka_unit_test(the_largest_varint),
		cmocka_unit_test(replies), cmocka_unit_test(round_trips),
	};
	return cmocka_run_group_tests_name("xrt_wire", tests, NULL, NULL);
}
