/* The emulated card without XRT: memory, compute units, answers. argv[1]: the kernel library. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include "prefpga/internal/registers.h"
#include "sim/xrtmodel/server.h"
#include "tests/cmocka.h"
#include "tests/emulated_xml.h"
#include "tests/scratch.h"

static const char *library;
enum { ROWS = 100 };

static _Noreturn void fatal(const char *text)
{
	fprintf(stderr, "%s\n", text);
	_exit(42);
}

/* ---- memory ---- */
static void memory_keeps_to_its_bounds(void **state)
{
	struct pf_emu_memory *memory;
	uint64_t bytes = PF_EMULATED_BANKS * PF_EMULATED_BANK_BYTES;
	(void)state;
	assert_int_equal(pf_emu_memory_open(bytes, &memory), 0);
	assert_non_null(pf_emu_at(memory, bytes - 1, 1));
	assert_non_null(pf_emu_at(memory, bytes, 0));
	assert_null(pf_emu_at(memory, bytes, 1));
	assert_null(pf_emu_at(memory, UINT64_MAX, 2));
	assert_null(pf_emu_at(memory, 1, UINT64_MAX));
	assert_int_equal(pf_emu_alloc(memory, 4096, 8192), 0);
	assert_int_equal(pf_emu_alloc(memory, 8192, 1), PF_E_RANGE);         /* overlaps */
	assert_int_equal(pf_emu_alloc(memory, bytes - 1, 2), PF_E_RANGE);
	assert_int_equal(pf_emu_alloc(memory, 16384, 3), 0);
	uint64_t kept = 0;
	assert_int_equal(pf_emu_kept(memory, &kept), 2);
	assert_int_equal(kept, 8192 + 3);
	pf_emu_free(memory, 16384);
	assert_non_null(pf_emu_allocated(memory, 4096, 8192));
	assert_non_null(pf_emu_allocated(memory, 12287, 1));
	assert_null(pf_emu_allocated(memory, 4095, 2));
	assert_null(pf_emu_allocated(memory, 12287, 2));
	assert_null(pf_emu_allocated(memory, 5000, UINT64_MAX));
	pf_emu_free(memory, 4096);
	pf_emu_free(memory, 4096);
	assert_null(pf_emu_allocated(memory, 4096, 1));
	assert_int_equal(pf_emu_kept(memory, &kept), 0);
	assert_int_equal(kept, 0);
	assert_int_equal(pf_emu_alloc(memory, 8192, 1), 0);
	pf_emu_memory_close(memory);
}

/* The host's copy is a file of its own: what the device has does not show there */
static void host_copies_are_separate(void **state)
{
	struct pf_emu_memory *memory;
	char path[64], other[64], byte = 0;
	(void)state;
	assert_int_equal(pf_emu_memory_open(1 << 20, &memory), 0);
	assert_int_equal(pf_emu_alloc(memory, 0, 4096), 0);
	assert_int_equal(pf_emu_file(memory, 0, path, sizeof path), 0);
	assert_int_equal(pf_emu_file(memory, 0, other, sizeof other), 0);
	assert_string_equal(path, other);
	assert_true(pf_emu_file(memory, 4096, other, sizeof other) < 0);
	*(char *)pf_emu_at(memory, 100, 1) = 7;
	FILE *in = fopen(path, "rb");
	assert_non_null(in);
	assert_int_equal(fseek(in, 100, SEEK_SET), 0);
	assert_int_equal(fread(&byte, 1, 1, in), 1);
	assert_int_equal(byte, 0);
	fclose(in);
	pf_emu_memory_close(memory);
}

/* ---- compute units: kernel coef, whose result is -grad everywhere ---- */
struct bench {
	struct pf_emu_memory *memory;
	struct pf_emu_cus    *cus;
	struct pf_emu_layout  layout;
	uint64_t                base;          /* of the first coef */
};
enum { ITEM = 0x10000, SPAN = 0x20000, OUT = 0x30000 };

static void bench_open(struct bench *b, enum pf_xclbin_control control)
{
	struct pf_error error = { 0 };
	size_t length;
	char *text = xml(control, "coef=2", &length);
	assert_int_equal(pf_emu_memory_open(1 << 20, &b->memory), 0);
	assert_int_equal(pf_emu_layout_parse(text, length, &b->layout, &error), 0);
	if (pf_emu_cus_open(&b->layout, library, b->memory, fatal, &b->cus, &error) != 0)
		fail_msg("%s", error.text);
	for (unsigned i = b->layout.count; i-- > 0;)
		if (b->layout.unit[i].kernel == PF_KERNEL_coef)
			b->base = b->layout.unit[i].base;
	pf_emu_alloc(b->memory, ITEM, sizeof(struct pf_item_out));
	pf_emu_alloc(b->memory, SPAN, sizeof(struct pf_span));
	pf_emu_alloc(b->memory, OUT, ROWS * 4);
	*(struct pf_span *)pf_emu_at(b->memory, SPAN, 16) = (struct pf_span) { 0, ROWS, ROWS, 0 };
	free(text);
}

static void bench_close(struct bench *b)
{
	pf_emu_cus_close(b->cus);
	pf_emu_memory_close(b->memory);
}

static void registers(uint32_t word[32], uint32_t control, uint64_t item, uint32_t rows)
{
	const struct pf_kernel_row *row = &pf_kernel_rows[PF_KERNEL_coef];
	float tail = 1;
	memset(word, 0, 32 * sizeof *word);
	word[0] = control;
	memcpy(&word[pf_register_offset(row, PF_ARG_coef_item) / 4], &item, 8);
	word[pf_register_offset(row, PF_ARG_coef_span) / 4] = SPAN;
	word[pf_register_offset(row, PF_ARG_coef_out) / 4] = OUT;
	word[pf_register_offset(row, PF_ARG_coef_rows) / 4] = rows;
	word[pf_register_offset(row, PF_ARG_coef_seqs) / 4] = 1;
	memcpy(&word[pf_register_offset(row, PF_ARG_coef_tail) / 4], &tail, 4);
}

/* As XRT does it: the whole map twice, first without the start bit */
static void begin(struct bench *b, uint64_t base, double grad)
{
	uint32_t word[32];
	((struct pf_item_out *)pf_emu_at(b->memory, ITEM, 32))->grad = grad;
	for (uint32_t control = 0; control < 2; control++) {
		registers(word, control, ITEM, ROWS);
		assert_int_equal(pf_emu_cu_write(b->cus, base, (void *)word, sizeof word), 0);
	}
}

static uint32_t poll_done(struct bench *b, uint64_t base)
{
	uint32_t word = 0;
	for (int i = 0; i < 10000 && !(word & PF_CONTROL_DONE); i++) {
		struct timespec pause = { 0, 1000000 };
		assert_int_equal(pf_emu_cu_read(b->cus, base, &word), 0);
		if (!(word & PF_CONTROL_DONE))
			nanosleep(&pause, NULL);
	}
	return word;
}

static void check_out(struct bench *b, double grad)
{
	const float *out = pf_emu_at(b->memory, OUT, ROWS * 4);
	for (int i = 0; i < ROWS; i++)
		assert_true(out[i] == (float)-grad);
}

static void units_of_ap_ctrl_hs(void **state)
{
	struct bench b;
	uint32_t word;
	(void)state;
	bench_open(&b, PF_XCLBIN_CTRL_HS);
	assert_int_equal(pf_emu_cu_read(b.cus, b.base, &word), 0);
	assert_int_equal(word, PF_CONTROL_IDLE);
	for (int round = 1; round < 4; round++) {
		uint64_t base = b.base + (uint64_t)(round % 2) * PF_EMULATED_STEP;
		begin(&b, base, round);
		assert_int_equal(poll_done(&b, base), PF_CONTROL_DONE | PF_CONTROL_IDLE);
		pf_emu_cu_read(b.cus, base, &word);
		assert_int_equal(word, PF_CONTROL_IDLE);       /* done shows once */
		check_out(&b, round);
	}
	assert_false(pf_emu_cus_busy(b.cus));
	bench_close(&b);
}

static void units_of_ap_ctrl_chain(void **state)
{
	static const uint8_t go_on[4] = { PF_CONTROL_CONTINUE };
	struct bench b;
	uint32_t word;
	(void)state;
	bench_open(&b, PF_XCLBIN_CTRL_CHAIN);
	begin(&b, b.base, 5);
	assert_int_equal(poll_done(&b, b.base), PF_CONTROL_DONE);
	assert_int_equal(poll_done(&b, b.base), PF_CONTROL_DONE);      /* stands until continue */
	pf_emu_cu_write(b.cus, b.base, go_on, sizeof go_on);
	pf_emu_cu_read(b.cus, b.base, &word);
	assert_int_equal(word, PF_CONTROL_IDLE);
	check_out(&b, 5);
	begin(&b, b.base, 6);
	poll_done(&b, b.base);
	begin(&b, b.base, 7);                  /* no continue: as XRT 2.13 does it */
	assert_int_equal(poll_done(&b, b.base), PF_CONTROL_DONE);
	check_out(&b, 7);
	bench_close(&b);
}

/* In a child, because a kernel that is given foreign memory ends the device process */
static int end_of(uint64_t item, uint32_t rows)
{
	int status = 0;
	pid_t child = fork();
	if (child == 0) {
		struct bench b;
		uint32_t word[32];
		bench_open(&b, PF_XCLBIN_CTRL_HS);
		registers(word, PF_CONTROL_START, item, rows);
		pf_emu_cu_write(b.cus, b.base, (void *)word, sizeof word);
		poll_done(&b, b.base);
		_exit(0);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void kernels_get_their_own_memory_only(void **state)
{
	(void)state;
	assert_int_equal(end_of(ITEM, ROWS), 0);
	assert_int_equal(end_of(ITEM - 64, ROWS), 42);
	assert_int_equal(end_of(ITEM + 64, ROWS), 42);
	assert_int_equal(end_of(UINT64_MAX, ROWS), 42);
	assert_int_equal(end_of(ITEM, ROWS + 1), 42);          /* out: one element too many */
}

static void registers_have_bounds(void **state)
{
	struct bench b;
	uint32_t word;
	uint8_t data[8] = { 0 };
	(void)state;
	bench_open(&b, PF_XCLBIN_CTRL_HS);
	assert_int_equal(pf_emu_cu_read(b.cus, b.base - 4, &word), PF_E_RANGE);
	assert_int_equal(pf_emu_cu_read(b.cus, b.base + 2, &word), PF_E_RANGE);
	assert_int_equal(pf_emu_cu_read(b.cus, b.base + PF_REGISTER_WINDOW, &word), PF_E_RANGE);
	assert_int_equal(pf_emu_cu_write(b.cus, b.base + PF_REGISTER_WINDOW - 4, data, 8), PF_E_RANGE);
	assert_int_equal(pf_emu_cu_write(b.cus, b.base + 16, data, 3), PF_E_RANGE);
	assert_int_equal(pf_emu_cu_write(b.cus, b.base + 16, data, 8), 0);
	assert_int_equal(pf_emu_cu_write(b.cus, 0, data, 8), PF_E_RANGE);
	bench_close(&b);
}

static void libraries_are_checked(void **state)
{
	struct pf_emu_layout layout = { 0 };
	struct pf_emu_cus *cus;
	struct pf_error error = { 0 };
	(void)state;
	scratch_open("xrt_model");
	assert_int_equal(pf_emu_cus_open(&layout, scratch_path("none.so"), NULL, fatal, &cus, &error),
	                 PF_E_IMAGE);
	assert_int_equal(pf_emu_cus_open(&layout, scratch_text("text.so", "no library"), NULL, fatal,
	                                   &cus, &error), PF_E_IMAGE);
}

/* ---- answers ---- */
static int answer(struct pf_emu_server *server, uint32_t api, struct pf_wire_message *message,
                  struct pf_wire_message *out)
{
	static struct pf_wire_reply reply;
	struct pf_error error = { 0 };
	int status = pf_emu_answer(server, api, message, &reply, &error);
	if (status != 0) {
		assert_true(error.text[0]);
		return status;
	}
	assert_int_equal(pf_wire_parse(reply.data + PF_WIRE_REPLY_HEAD,
	                               reply.used - PF_WIRE_REPLY_HEAD, out), 0);
	return 0;
}

static struct pf_wire_field text_field(const char *text)
{
	return (struct pf_wire_field) { 1, 0, (const uint8_t *)text, strlen(text) };
}

static void copies_through_the_server(struct pf_emu_server *server)
{
	struct pf_wire_message in = { 0 }, out;
	in.field[1].value = 4096;
	in.field[2].value = 4096;
	in.field[3].value = 1;
	assert_int_equal(answer(server, PF_WIRE_ALLOC, &in, &out), 0);
	assert_int_equal(out.field[1].value, 1);
	assert_memory_equal(out.field[2].bytes, "/proc/", 6);
	memset(&in, 0, sizeof in);
	in.field[3].value = 5000;
	in.field[4] = text_field("hello");
	in.field[5].value = 5;
	assert_int_equal(answer(server, PF_WIRE_TO_DEVICE, &in, &out), 0);
	in.field[5].value = 6;                 /* says more than it has */
	assert_int_equal(answer(server, PF_WIRE_TO_DEVICE, &in, &out), PF_E_RANGE);
	in.field[4].value = 5000;
	in.field[5].value = 5;
	assert_int_equal(answer(server, PF_WIRE_FROM_DEVICE, &in, &out), 0);
	assert_int_equal(out.field[2].length, 5);
	assert_memory_equal(out.field[2].bytes, "hello", 5);
	in.field[4].value = UINT64_MAX - 2;
	assert_int_equal(answer(server, PF_WIRE_FROM_DEVICE, &in, &out), PF_E_RANGE);
	in.field[4].value = 0;
	in.field[5].value = PF_WIRE_BODY_MAX + 1;
	assert_int_equal(answer(server, PF_WIRE_FROM_DEVICE, &in, &out), PF_E_RANGE);
}

static void loads_through_the_server(struct pf_emu_server *server)
{
	struct pf_wire_message in = { 0 }, out;
	size_t length;
	char *text = xml(PF_XCLBIN_CTRL_HS, "", &length);
	scratch_open("xrt_model");
	in.field[2].value = PF_EMULATED_BASE;
	assert_int_equal(answer(server, PF_WIRE_READ, &in, &out), PF_E_RANGE);         /* no image yet */
	memset(&in, 0, sizeof in);
	assert_int_equal(answer(server, PF_WIRE_LOAD, &in, &out), 0);  /* XRT's first, empty load */
	in.field[1] = text_field(scratch_bytes("kernel.xml", text, length));
	in.field[2] = text_field(library);
	for (int round = 0; round < 2; round++)
		assert_int_equal(answer(server, PF_WIRE_LOAD, &in, &out), 0);
	memset(&in, 0, sizeof in);
	in.field[2].value = PF_EMULATED_BASE;
	assert_int_equal(answer(server, PF_WIRE_READ, &in, &out), 0);
	assert_int_equal(out.field[2].length, 4);
	assert_int_equal(out.field[2].bytes[0], PF_CONTROL_IDLE);
	in.field[1] = text_field(scratch_path("none.xml"));
	in.field[2] = text_field(library);
	assert_true(answer(server, PF_WIRE_LOAD, &in, &out) < 0);
	free(text);
}

static void requests_are_answered(void **state)
{
	struct pf_emu_server server;
	struct pf_wire_message in = { 0 }, out;
	(void)state;
	assert_int_equal(pf_emu_server_open(&server, fatal), 0);
	copies_through_the_server(&server);
	loads_through_the_server(&server);
	assert_int_equal(answer(&server, 4711, &in, &out), PF_E_UNSUPPORTED);
	assert_int_equal(answer(&server, PF_WIRE_SETUP, &in, &out), 0);
	assert_int_equal(answer(&server, PF_WIRE_CLOSE, &in, &out), 0);
	assert_false(server.over);
	in.field[3].value = 1;
	assert_int_equal(answer(&server, PF_WIRE_CLOSE, &in, &out), 0);
	assert_true(server.over);
	pf_emu_server_close(&server);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(memory_keeps_to_its_bounds), cmocka_unit_test(host_copies_are_separate),
		cmocka_unit_test(units_of_ap_ctrl_hs), cmocka_unit_test(units_of_ap_ctrl_chain),
		cmocka_unit_test(kernels_get_their_own_memory_only), cmocka_unit_test(registers_have_bounds),
		cmocka_unit_test(libraries_are_checked), cmocka_unit_test(requests_are_answered),
	};
	library = argc > 1 ? argv[1] : "";
	return cmocka_run_group_tests_name("xrt_model", tests, NULL, NULL);
}
