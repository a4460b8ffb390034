/* Backend xrt without XRT: what is looked for before it is called, the pool of buffers, and the cure of its emulation
 * library. */
#include <elf.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include "driver/xrt_log.h"
#include "driver/xrt_place.h"
#include "driver/xrt_pool.h"
#include "sim/xrtmodel/swemu.h"
#include "tests/cmocka.h"
#include "tests/scratch.h"

#define OLD "/usr/lib/libxrt_coreutil.so.2.13.0"
#define NEW "/usr/lib/libxrt_coreutil.so.2.16.0"

static int check(struct pf_xrt_place place, const char *says)
{
	struct pf_error error = { 0 };
	int status = pf_xrt_place_check(&place, &error);
	if (says && !strstr(error.text, says))
		fail_msg("\"%s\" does not say \"%s\"", error.text, says);
	return status;
}

static void cards_need_their_shim(void **state)
{
	char root[1024];
	(void)state;
	scratch_open("xrt_place");
	snprintf(root, sizeof root, "%s", scratch_path("xrt"));
	struct pf_xrt_place place = { .library = OLD };
	assert_int_equal(check(place, "XILINX_XRT is not set, and XRT 2.13"), PF_E_ABSENT);
	place.root = root;
	assert_int_equal(check(place, "no lib/libxrt_core.so.2"), PF_E_ABSENT);
	scratch_tree("xrt/lib/libxrt_core.so.2", "");
	assert_int_equal(check(place, NULL), 0);
	place.mode = "hw_emu";
	assert_int_equal(check(place, "no lib/libxrt_hwemu.so.2"), PF_E_ABSENT);
	place.mode = "sw_emo";
	assert_int_equal(check(place, "XCL_EMULATION_MODE=sw_emo"), PF_E_UNSUPPORTED);
}

static void newer_versions_find_it_themselves(void **state)
{
	static const char *const newer[] = { NEW, "/a/libxrt_coreutil.so.3.1.0", "/a/libxrt_coreutil.so", "" };
	(void)state;
	for (size_t i = 0; i < sizeof newer / sizeof *newer; i++)
		assert_int_equal(check((struct pf_xrt_place) { .library = newer[i] }, NULL), 0);
}

static void emulation_needs_a_device_process(void **state)
{
	char vitis[1024];
	(void)state;
	scratch_open("xrt_place");
	snprintf(vitis, sizeof vitis, "%s", scratch_path("vitis"));
	struct pf_xrt_place place = { .library = NEW, .mode = "sw_emu" };
	assert_int_equal(check(place, "prefpga emulate"), PF_E_ABSENT);
	place.vitis = vitis;
	assert_int_equal(check(place, "prefpga emulate"), PF_E_ABSENT);
	scratch_tree("vitis/data/emulation/unified/cpu_em/generic_pcie/model/genericpciemodel", "");
	assert_int_equal(check(place, NULL), 0);
	place.library = OLD;
	assert_int_equal(check(place, "XILINX_XRT is not set"), PF_E_ABSENT);
}

static void images_have_a_place(void **state)
{
	char path[PF_PATH_BYTES];
	(void)state;
	pf_xrt_place_image(&(struct pf_xrt_place) { .root = "/r", .mode = "sw_emu" }, "/lib/x.so", path);
	assert_string_equal(path, "/r/prefpga.xclbin");
	pf_xrt_place_image(&(struct pf_xrt_place) { .root = "/r" }, "/lib/x.so", path);
	assert_string_equal(path, "/lib/prefpga/prefpga.xclbin");
	pf_xrt_place_image(&(struct pf_xrt_place) { 0 }, "x.so", path);
	assert_string_equal(path, "prefpga/prefpga.xclbin");
}

/* ---- what XRT says ---- */
static void the_last_message_is_quoted(void **state)
{
	char text[256];
	(void)state;
	assert_string_equal(pf_xrt_log_last(text, sizeof text), "");
	const char *path = pf_xrt_log_open();
	FILE *log = fopen(path, "a");
	assert_non_null(log);
	fputs("XRT build version: 2.13.0\n[now] [XRT] Tid: 12,  WARNING: one\n", log);
	for (int i = 0; i < 300; i++)
		fputs("noise noise noise noise\n", log);
	fputs("[now] [XRT] Tid: 12,  ERROR: No such kernel, 'x'\n", log);
	fflush(log);
	assert_string_equal(pf_xrt_log_last(text, sizeof text), ": XRT: ERROR: No such kernel, 'x'");
	assert_string_equal(pf_xrt_log_last(text, sizeof text), "");
	fputs("[now] [XRT] Tid: 12,  ERROR: again\n", log);
	fclose(log);
	assert_string_equal(pf_xrt_log_last(text, 14), ": XRT: ERROR:");
}

/* ---- the pool ---- */
static void sizes_are_few_and_large_enough(void **state)
{
	(void)state;
	assert_int_equal(pf_xrt_pool_round(1), 4096);
	assert_int_equal(pf_xrt_pool_round(4096), 4096);
	assert_int_equal(pf_xrt_pool_round(4097), 8192);
	assert_true(pf_xrt_pool_round(UINT64_MAX) == UINT64_MAX);
	unsigned sizes = 0;
	uint64_t last = 0;
	for (uint64_t bytes = 1; bytes < (uint64_t)1 << 40; bytes += 1 + bytes / 100) {
		uint64_t rounded = pf_xrt_pool_round(bytes);
		assert_true(rounded >= bytes && rounded - bytes <= (bytes / 8 > 4096 ? bytes / 8 : 4096));
		assert_true(pf_xrt_pool_round(rounded) == rounded && rounded >= last);
		sizes += rounded != last;
		last = rounded;
	}
	assert_true(sizes < 260);
}

static void buffers_come_back_by_size_and_group(void **state)
{
	struct pf_memory a = { .bytes = 4096, .group = 0 }, b = { .bytes = 4096, .group = 1 };
	struct pf_memory c = { .bytes = 8192, .group = 0 }, *pool = NULL;
	(void)state;
	pf_xrt_pool_put(&pool, &a);
	pf_xrt_pool_put(&pool, &b);
	pf_xrt_pool_put(&pool, &c);
	assert_null(pf_xrt_pool_take(&pool, 8192, 1));
	assert_ptr_equal(pf_xrt_pool_take(&pool, 4096, 0), &a);
	assert_null(pf_xrt_pool_take(&pool, 4096, 0));
	assert_non_null(pf_xrt_pool_any(&pool));
	assert_non_null(pf_xrt_pool_any(&pool));
	assert_null(pf_xrt_pool_any(&pool));
}

/* ---- the cure, on a small ELF file made here ---- */
struct elf {
	Elf64_Ehdr head;
	Elf64_Phdr part;
	Elf64_Shdr section[3];
	Elf64_Sym  symbol[2];
	char       names[64];
	uint8_t    code[64];
};
#define CODE_ADDRESS 0x1000u

/* The branch of Debian's build: store at 16, the tail at 23, "test rax, rax; jne" at 40 */
static struct elf shim(uint8_t jump)
{
	static const uint8_t store[] = { 0x48, 0x89, 0x83, 0x70, 0x06, 0, 0 };
	const uint8_t branch[] = { 0x48, 0x85, 0xc0, 0x75, jump };
	struct elf e;
	memset(&e, 0, sizeof e);
	memcpy(e.head.e_ident, ELFMAG, SELFMAG);
	e.head.e_ident[EI_CLASS] = ELFCLASS64;
	e.head.e_machine = EM_X86_64;
	e.head.e_phoff = offsetof(struct elf, part);
	e.head.e_phnum = 1;
	e.head.e_phentsize = sizeof e.part;
	e.head.e_shoff = offsetof(struct elf, section);
	e.head.e_shnum = 3;
	e.head.e_shentsize = sizeof *e.section;
	e.part = (Elf64_Phdr) { .p_type = PT_LOAD, .p_vaddr = CODE_ADDRESS, .p_filesz = sizeof e.code,
	                        .p_offset = offsetof(struct elf, code) };
	e.section[1] = (Elf64_Shdr) { .sh_type = SHT_DYNSYM, .sh_link = 2, .sh_size = sizeof e.symbol,
	                              .sh_offset = offsetof(struct elf, symbol) };
	e.section[2] = (Elf64_Shdr) { .sh_type = SHT_STRTAB, .sh_size = sizeof e.names,
	                              .sh_offset = offsetof(struct elf, names) };
	e.symbol[1] = (Elf64_Sym) { .st_name = 1, .st_value = CODE_ADDRESS, .st_size = sizeof e.code };
	strcpy(e.names + 1, "_ZN12xclcpuemhal29CpuemShim10alloc_voidEm");
	memset(e.code, 0x90, sizeof e.code);
	memcpy(e.code + 16, store, sizeof store);
	memcpy(e.code + 40, branch, sizeof branch);
	return e;
}

static enum pf_swemu_state examine(const struct elf *e, struct pf_swemu_cure *cure)
{
	return pf_swemu_examine((const uint8_t *)e, sizeof *e, cure);
}

static void the_branch_is_moved_onto_the_store(void **state)
{
	struct elf sick = shim((uint8_t)(23 - 45)), sound = shim((uint8_t)(16 - 45));
	struct elf odd = shim((uint8_t)(30 - 45)), ahead = shim(10);
	struct pf_swemu_cure cure;
	(void)state;
	assert_int_equal(examine(&sick, &cure), PF_SWEMU_DEFECTIVE);
	assert_int_equal(cure.at, offsetof(struct elf, code) + 44);
	((uint8_t *)&sick)[cure.at] = cure.value;
	assert_memory_equal(&sick, &sound, sizeof sick);
	assert_int_equal(examine(&sick, &cure), PF_SWEMU_SOUND);
	assert_int_equal(examine(&odd, &cure), PF_SWEMU_UNKNOWN);
	assert_int_equal(examine(&ahead, &cure), PF_SWEMU_SOUND);
}

static void other_files_are_left_alone(void **state)
{
	struct elf e = shim((uint8_t)(23 - 45));
	struct pf_swemu_cure cure;
	(void)state;
	e.names[20] = '?';
	assert_int_equal(examine(&e, &cure), PF_SWEMU_SOUND);
	e = shim((uint8_t)(23 - 45));
	e.head.e_machine = EM_AARCH64;
	assert_int_equal(examine(&e, &cure), PF_SWEMU_SOUND);
	assert_int_equal(pf_swemu_examine(NULL, 0, &cure), PF_SWEMU_SOUND);
}

/* Every byte set to 0, 0x7f, 0xff in turn, and every length: no read outside of the file (ASan) */
static void damaged_files_do_not_crash(void **state)
{
	static const uint8_t values[] = { 0, 0x7f, 0xff };
	struct elf e = shim((uint8_t)(23 - 45));
	struct pf_swemu_cure cure;
	(void)state;
	for (size_t length = 0; length <= sizeof e; length++) {
		uint8_t *copy = malloc(length + 1);
		memcpy(copy, &e, length);
		pf_swemu_examine(copy, length, &cure);
		for (size_t v = 0; v < sizeof values && length; v++) {
			copy[length - 1] = values[v];
			pf_swemu_examine(copy, length, &cure);
		}
		free(copy);
	}
	for (size_t i = 0; i < sizeof e; i++)
		for (size_t v = 0; v < sizeof values; v++) {
			struct elf damaged = e;
			((uint8_t *)&damaged)[i] = values[v];
			examine(&damaged, &cure);
		}
}

static void remedies(void **state)
{
	(void)state;
	assert_string_equal(pf_xrt_remedy(": XRT: nothing we know", "; otherwise"), "; otherwise");
	assert_non_null(strstr(pf_xrt_remedy(": XRT: Xclbin does not match shell on card.", ""), "prefpga doctor"));
	assert_non_null(strstr(pf_xrt_remedy(": XRT: Xclbin on card is in use, can't change.", ""), "another program"));
	assert_non_null(strstr(pf_xrt_remedy("AXI Firewall 0 tripped", ""), "xrt-smi reset"));
	assert_non_null(strstr(pf_xrt_remedy("Not enough host_mem for xclbin", ""), "--host-mem"));
	assert_non_null(strstr(pf_xrt_remedy("CU was deadlocked? Hardware is not stable", ""), "cold boot"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(cards_need_their_shim), cmocka_unit_test(newer_versions_find_it_themselves),
		cmocka_unit_test(emulation_needs_a_device_process), cmocka_unit_test(images_have_a_place),
		cmocka_unit_test(the_last_message_is_quoted), cmocka_unit_test(remedies),
		cmocka_unit_test(sizes_are_few_and_large_enough),
		cmocka_unit_test(buffers_come_back_by_size_and_group),
		cmocka_unit_test(the_branch_is_moved_onto_the_store),
		cmocka_unit_test(other_files_are_left_alone), cmocka_unit_test(damaged_files_do_not_crash),
	};
	return cmocka_run_group_tests_name("xrt_place", tests, NULL, NULL);
}
