#include "swemu.h"
#include <elf.h>
#include <string.h>

#define FUNCTION "CpuemShim10alloc_voidEm"             /* part of the mangled name */
enum { STORE_BYTES = 7 };                              /* mov [reg+disp32], rax */

struct image { const uint8_t *data; size_t bytes; };

/* Copies a struct of the file; 0 if it is not inside */
static int take(struct image file, uint64_t offset, void *to, size_t size)
{
	if (offset > file.bytes || size > file.bytes - offset)
		return 0;
	memcpy(to, file.data + offset, size);
	return 1;
}

static int section(struct image file, const Elf64_Ehdr *head, uint32_t i, Elf64_Shdr *section)
{
	return i < head->e_shnum && head->e_shentsize == sizeof *section
	       && head->e_shoff <= file.bytes
	       && take(file, head->e_shoff + (uint64_t)i * sizeof *section, section, sizeof *section);
}

static int named(struct image file, const Elf64_Shdr *strings, uint32_t name, const char *part)
{
	if (strings->sh_offset > file.bytes || strings->sh_size > file.bytes - strings->sh_offset
	    || name >= strings->sh_size)
		return 0;
	const char *text = (const char *)file.data + strings->sh_offset + name;
	size_t room = strings->sh_size - name, length = strnlen(text, room), want = strlen(part);
	for (size_t i = 0; i + want <= length; i++)
		if (memcmp(text + i, part, want) == 0)
			return 1;
	return 0;
}

/* The symbol of FUNCTION in the table of dynamic symbols */
static int find_symbol(struct image file, const Elf64_Ehdr *head, Elf64_Sym *symbol)
{
	Elf64_Shdr table, strings;
	for (uint32_t i = 0; section(file, head, i, &table); i++) {
		if (table.sh_type != SHT_DYNSYM || !section(file, head, table.sh_link, &strings)
		    || table.sh_offset > file.bytes || table.sh_size > file.bytes - table.sh_offset)
			continue;
		for (uint64_t at = 0; at + sizeof *symbol <= table.sh_size; at += sizeof *symbol)
			if (take(file, table.sh_offset + at, symbol, sizeof *symbol)
			    && named(file, &strings, symbol->st_name, FUNCTION))
				return 1;
	}
	return 0;
}

/* Where in the file the code at `address` lies */
static int find_code(struct image file, const Elf64_Ehdr *head, uint64_t address, size_t *offset)
{
	Elf64_Phdr part;
	for (uint32_t i = 0; i < head->e_phnum && head->e_phoff <= file.bytes; i++) {
		if (!take(file, head->e_phoff + (uint64_t)i * sizeof part, &part, sizeof part))
			return 0;
		if (part.p_type == PT_LOAD && address >= part.p_vaddr
		    && address - part.p_vaddr < part.p_filesz && part.p_offset < file.bytes) {
			*offset = part.p_offset + (address - part.p_vaddr);
			return *offset < file.bytes;
		}
	}
	return 0;
}

static int is_store(const uint8_t *code, size_t bytes, ptrdiff_t at)
{
	return at >= 0 && (size_t)at + STORE_BYTES <= bytes && code[at] == 0x48
	       && code[at + 1] == 0x89 && (code[at + 2] == 0x83 || code[at + 2] == 0x85);
}

/* test rax, rax; jne back: the branch after a successful realloc */
static enum pf_swemu_state examine_code(const uint8_t *code, size_t bytes,
                                        struct pf_swemu_cure *cure)
{
	static const uint8_t branch[] = { 0x48, 0x85, 0xc0, 0x75 };
	for (size_t i = 0; i + sizeof branch < bytes; i++) {
		if (memcmp(code + i, branch, sizeof branch) != 0 || code[i + 4] < 0x80)
			continue;
		ptrdiff_t target = (ptrdiff_t)i + 5 + (int8_t)code[i + 4];
		if (is_store(code, bytes, target))
			return PF_SWEMU_SOUND;
		if (!is_store(code, bytes, target - STORE_BYTES) || code[i + 4] < 0x80 + STORE_BYTES)
			return PF_SWEMU_UNKNOWN;
		*cure = (struct pf_swemu_cure) { i + 4, (uint8_t)(code[i + 4] - STORE_BYTES) };
		return PF_SWEMU_DEFECTIVE;
	}
	return PF_SWEMU_SOUND;
}

enum pf_swemu_state pf_swemu_examine(const uint8_t *data, size_t bytes, struct pf_swemu_cure *cure)
{
	struct image file = { data, bytes };
	Elf64_Ehdr head;
	Elf64_Sym symbol;
	size_t offset;
	if (!take(file, 0, &head, sizeof head) || memcmp(head.e_ident, ELFMAG, SELFMAG) != 0
	    || head.e_ident[EI_CLASS] != ELFCLASS64 || head.e_machine != EM_X86_64
	    || head.e_phentsize != sizeof(Elf64_Phdr) || !find_symbol(file, &head, &symbol)
	    || !find_code(file, &head, symbol.st_value, &offset))
		return PF_SWEMU_SOUND;
	size_t length = symbol.st_size < bytes - offset ? (size_t)symbol.st_size : bytes - offset;
	enum pf_swemu_state state = examine_code(data + offset, length, cure);
	cure->at += state == PF_SWEMU_DEFECTIVE ? offset : 0;
	return state;
}
