#include "xclbin.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "fnv.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "the format is read in place");

/* The file's structs, field by field; sizes and offsets are part of the format */
struct section_header {
	uint32_t kind;
	char     name[16];
	uint32_t pad;
	uint64_t offset, bytes;
};
struct file_header {
	char     magic[8];
	int32_t  signature_bytes;
	uint8_t  reserved[28];
	uint8_t  key_block[256];
	uint64_t unique_id;
	uint64_t bytes, time, rom_time;
	uint16_t patch;
	uint8_t  major, minor;
	uint16_t mode, action;
	uint8_t  rom_uuid[16];
	char     platform[64];
	uint8_t  uuid[16];
	char     debug[16];
	uint32_t sections, pad;
};
struct memory_entry {
	uint8_t  type, used, pad[6];
	uint64_t kib, base;
	char     tag[16];
};
struct ip_entry {
	uint32_t type, properties;
	uint64_t base;
	char     name[64];
};
struct link_entry { int32_t arg, ip, memory; };

#define AT(type, member, offset) \
	_Static_assert(offsetof(struct type, member) == offset, #type "." #member)
AT(section_header, offset, 24);
AT(file_header, bytes, 304);
AT(file_header, mode, 332);
AT(file_header, platform, 352);
AT(file_header, uuid, 416);
AT(file_header, sections, 448);
_Static_assert(sizeof(struct section_header) == 40 && sizeof(struct file_header) == 456, "heads");
_Static_assert(sizeof(struct memory_entry) == 40 && sizeof(struct ip_entry) == 80, "entries");
_Static_assert(sizeof(struct link_entry) == 12, "entries");

#define MAGIC         "xclbin2"
#define SECTIONS_MAX  0x10000u
#define CONTROL_SHIFT 8                        /* of ip_entry.properties */
#define MEMORY_HEAD   8u                       /* bytes before entry 0: the count, padded */
#define IP_HEAD       8u
#define LINK_HEAD     4u

static void section_at(const struct pf_xclbin *xclbin, uint32_t i, struct section_header *section)
{
	const uint8_t *first = xclbin->data + sizeof(struct file_header);
	memcpy(section, first + i * sizeof *section, sizeof *section);
}

static int check_sections(const struct pf_xclbin *xclbin, const char *path,
                          struct pf_error *error)
{
	for (uint32_t i = 0; i < xclbin->sections; i++) {
		struct section_header section;
		section_at(xclbin, i, &section);
		if (section.offset > xclbin->bytes || section.bytes > xclbin->bytes - section.offset)
			return pf_fail(error, PF_E_FORMAT,
			               "%s: section %u (kind %u) ends beyond the file; copy it again",
			               path, i, section.kind);
	}
	return 0;
}

static int check_header(const struct file_header *header, size_t bytes, const char *path,
                        struct pf_error *error)
{
	if (memcmp(header->magic, MAGIC, sizeof header->magic) != 0)
		return pf_fail(error, PF_E_FORMAT,
		               "%s: not an xclbin image (does not start with " MAGIC ")", path);
	if (header->bytes > bytes)
		return pf_fail(error, PF_E_FORMAT,
		               "%s: cut short, %zu of %llu bytes; copy it again", path, bytes,
		               (unsigned long long)header->bytes);
	if (header->sections > SECTIONS_MAX
	    || header->sections * sizeof(struct section_header) > bytes - sizeof *header)
		return pf_fail(error, PF_E_FORMAT, "%s: %u sections do not fit into the file", path,
		               header->sections);
	return 0;
}

int pf_xclbin_parse(const void *data, size_t bytes, const char *path, struct pf_xclbin *xclbin,
                    struct pf_error *error)
{
	struct file_header header;
	memset(xclbin, 0, sizeof *xclbin);
	if (bytes < sizeof header)
		return pf_fail(error, PF_E_FORMAT, "%s: %zu bytes are too few for an xclbin image",
		               path, bytes);
	memcpy(&header, data, sizeof header);
	if (check_header(&header, bytes, path, error) != 0)
		return PF_E_FORMAT;
	xclbin->data = data;
	xclbin->bytes = bytes;
	xclbin->mode = header.mode;
	xclbin->sections = header.sections;
	memcpy(xclbin->uuid, header.uuid, sizeof xclbin->uuid);
	memcpy(xclbin->platform, header.platform, sizeof header.platform);
	return check_sections(xclbin, path, error);
}

const void *pf_xclbin_section(const struct pf_xclbin *xclbin, enum pf_xclbin_kind kind,
                              size_t *bytes)
{
	for (uint32_t i = 0; i < xclbin->sections; i++) {
		struct section_header section;
		section_at(xclbin, i, &section);
		if (section.kind == (uint32_t)kind) {
			*bytes = section.bytes;
			return xclbin->data + section.offset;
		}
	}
	*bytes = 0;
	return NULL;
}

/* Copies entry i of a counted table; 0 if there is none */
static int entry_at(const struct pf_xclbin *xclbin, enum pf_xclbin_kind kind, size_t head,
                    size_t size, uint32_t i, void *entry)
{
	size_t bytes;
	int32_t count;
	const uint8_t *table = pf_xclbin_section(xclbin, kind, &bytes);
	if (!table || bytes < head)
		return 0;
	memcpy(&count, table, sizeof count);
	if (count < 0 || i >= (uint32_t)count || (bytes - head) / size <= i)
		return 0;
	memcpy(entry, table + head + i * size, size);
	return 1;
}

static int bank_at(const struct pf_xclbin *xclbin, enum pf_xclbin_kind kind, uint32_t i,
                   struct pf_xclbin_memory *memory)
{
	struct memory_entry entry;
	if (!entry_at(xclbin, kind, MEMORY_HEAD, sizeof entry, i, &entry))
		return 0;
	*memory = (struct pf_xclbin_memory) {
		.type = entry.type, .used = entry.used, .base = entry.base,
		.bytes = entry.kib > UINT64_MAX >> 10 ? UINT64_MAX : entry.kib << 10,
	};
	memcpy(memory->tag, entry.tag, sizeof entry.tag);
	return 1;
}

int pf_xclbin_memory_at(const struct pf_xclbin *xclbin, uint32_t i,
                        struct pf_xclbin_memory *memory)
{
	return bank_at(xclbin, PF_XCLBIN_MEMORIES, i, memory);
}

int pf_xclbin_group_at(const struct pf_xclbin *xclbin, uint32_t i, struct pf_xclbin_memory *memory)
{
	size_t bytes;
	int grouped = pf_xclbin_section(xclbin, PF_XCLBIN_GROUPS, &bytes) != NULL;
	return bank_at(xclbin, grouped ? PF_XCLBIN_GROUPS : PF_XCLBIN_MEMORIES, i, memory);
}

int pf_xclbin_ip_at(const struct pf_xclbin *xclbin, uint32_t i, struct pf_xclbin_ip *ip)
{
	struct ip_entry entry;
	if (!entry_at(xclbin, PF_XCLBIN_IPS, IP_HEAD, sizeof entry, i, &entry))
		return 0;
	*ip = (struct pf_xclbin_ip) {
		.type = entry.type, .base = entry.base,
		.control = entry.properties >> CONTROL_SHIFT & 0xff,
	};
	memcpy(ip->name, entry.name, sizeof entry.name);
	return 1;
}

int pf_xclbin_link_at(const struct pf_xclbin *xclbin, uint32_t i, struct pf_xclbin_link *link)
{
	struct link_entry entry;
	if (!entry_at(xclbin, PF_XCLBIN_LINKS, LINK_HEAD, sizeof entry, i, &entry))
		return 0;
	*link = (struct pf_xclbin_link) { entry.arg, entry.ip, entry.memory };
	return 1;
}

/* ---- writing ---- */
struct part { enum pf_xclbin_kind kind; const void *data; size_t bytes; };
enum { PARTS_MAX = 6 };

static size_t padded(size_t bytes)
{
	return (bytes + 7) & ~(size_t)7;
}

/* A counted table of `count` entries after `head` bytes; NULL: no memory */
static uint8_t *table_new(size_t head, size_t size, uint32_t count, size_t *bytes)
{
	*bytes = head + size * (count ? count : 1);    /* the format wants room for one entry */
	uint8_t *table = calloc(1, *bytes);
	if (table)
		memcpy(table, &(int32_t) { (int32_t)count }, sizeof(int32_t));
	return table;
}

static void *memory_table(const struct pf_xclbin_plan *plan, size_t *bytes)
{
	uint8_t *table = table_new(MEMORY_HEAD, sizeof(struct memory_entry), plan->memories, bytes);
	for (uint32_t i = 0; table && i < plan->memories; i++) {
		const struct pf_xclbin_memory *memory = &plan->memory[i];
		struct memory_entry entry = { .type = memory->type, .used = memory->used,
		                              .kib = memory->bytes >> 10, .base = memory->base };
		memcpy(entry.tag, memory->tag, sizeof entry.tag - 1);
		memcpy(table + MEMORY_HEAD + i * sizeof entry, &entry, sizeof entry);
	}
	return table;
}

static void *ip_table(const struct pf_xclbin_plan *plan, size_t *bytes)
{
	uint8_t *table = table_new(IP_HEAD, sizeof(struct ip_entry), plan->ips, bytes);
	for (uint32_t i = 0; table && i < plan->ips; i++) {
		const struct pf_xclbin_ip *ip = &plan->ip[i];
		struct ip_entry entry = { .type = ip->type, .base = ip->base,
		                          .properties = ip->control << CONTROL_SHIFT };
		memcpy(entry.name, ip->name, sizeof entry.name - 1);
		memcpy(table + IP_HEAD + i * sizeof entry, &entry, sizeof entry);
	}
	return table;
}

static void *link_table(const struct pf_xclbin_plan *plan, size_t *bytes)
{
	uint8_t *table = table_new(LINK_HEAD, sizeof(struct link_entry), plan->links, bytes);
	for (uint32_t i = 0; table && i < plan->links; i++) {
		const struct pf_xclbin_link *link = &plan->link[i];
		struct link_entry entry = { link->arg, link->ip, link->memory };
		memcpy(table + LINK_HEAD + i * sizeof entry, &entry, sizeof entry);
	}
	return table;
}

/* FNV-1a with a final mix (Stafford's variant 13), from a basis of the caller's */
static uint64_t hash(const uint8_t *data, size_t bytes, uint64_t h)
{
	for (size_t i = 0; i < bytes; i++)
		h = pf_fnv1a(h, data[i]);
	h = (h ^ h >> 30) * 0xbf58476d1ce4e5b9u;
	h = (h ^ h >> 27) * 0x94d049bb133111ebu;
	return h ^ h >> 31;
}

/* A version 8 UUID (RFC 9562: contents are the maker's own) from everything in the file */
static void set_uuid(struct file_header *header, const uint8_t *file, size_t bytes)
{
	uint64_t half[2] = { hash(file, bytes, PF_FNV_BASIS),
	                     hash(file, bytes, 0x9ae16a3b2f90404fu) };
	memcpy(header->uuid, half, sizeof half);
	header->uuid[6] = (uint8_t)(0x80 | (header->uuid[6] & 0x0f));
	header->uuid[8] = (uint8_t)(0x80 | (header->uuid[8] & 0x3f));
	header->unique_id = half[0];
}

static uint8_t *assemble(const struct pf_xclbin_plan *plan, const struct part *part,
                         unsigned parts, size_t *bytes)
{
	size_t at = padded(sizeof(struct file_header) + parts * sizeof(struct section_header));
	size_t total = at;
	for (unsigned i = 0; i < parts; i++)
		total += padded(part[i].bytes);
	uint8_t *file = calloc(1, total);
	if (!file)
		return NULL;
	struct file_header header = { .magic = MAGIC, .signature_bytes = -1, .bytes = total,
	                              .major = 2, .mode = (uint16_t)plan->mode,
	                              .sections = parts };
	memset(header.reserved, 0xff, sizeof header.reserved);
	memset(header.key_block, 0xff, sizeof header.key_block);
	memcpy(header.platform, plan->platform, strlen(plan->platform));
	for (unsigned i = 0; i < parts; i++) {
		struct section_header section = { .kind = part[i].kind, .offset = at,
		                                  .bytes = part[i].bytes };
		memcpy(file + sizeof header + i * sizeof section, &section, sizeof section);
		memcpy(file + at, part[i].data, part[i].bytes);
		at += padded(part[i].bytes);
	}
	memcpy(file, &header, sizeof header);
	set_uuid(&header, file, total);
	memcpy(file, &header, sizeof header);
	*bytes = total;
	return file;
}

int pf_xclbin_build(const struct pf_xclbin_plan *plan, void **data, size_t *bytes,
                    struct pf_error *error)
{
	if (strlen(plan->platform) >= sizeof ((struct file_header *)0)->platform)
		return pf_fail(error, PF_E_RANGE, "platform name %s is longer than 63 characters",
		               plan->platform);
	size_t memory_bytes, ip_bytes, link_bytes;
	void *memory = memory_table(plan, &memory_bytes), *ip = ip_table(plan, &ip_bytes);
	void *link = link_table(plan, &link_bytes);
	const struct part all[PARTS_MAX] = {
		{ PF_XCLBIN_BITSTREAM, plan->bitstream, plan->bitstream_bytes },
		{ PF_XCLBIN_KERNEL_XML, plan->kernel_xml, plan->kernel_xml_bytes },
		{ PF_XCLBIN_MEMORIES, memory, memory_bytes }, { PF_XCLBIN_LINKS, link, link_bytes },
		{ PF_XCLBIN_IPS, ip, ip_bytes },
		{ PF_XCLBIN_MANIFEST, plan->manifest, plan->manifest_bytes },
	};
	struct part part[PARTS_MAX];
	unsigned parts = 0;
	for (unsigned i = 0; i < PARTS_MAX; i++)
		if (all[i].data)
			part[parts++] = all[i];
	*data = memory && ip && link ? assemble(plan, part, parts, bytes) : NULL;
	free(memory);
	free(ip);
	free(link);
	return *data ? 0 : pf_fail(error, -ENOMEM, "out of memory while building an image");
}

/* ---- adding: the table of sections grows by a row, so everything behind it moves ---- */
int pf_xclbin_add(const struct pf_xclbin *xclbin, enum pf_xclbin_kind kind, const void *section, size_t section_bytes,
                  void **data, size_t *bytes, struct pf_error *error)
{
	struct file_header header;
	struct section_header row;
	size_t have, table = sizeof header + xclbin->sections * sizeof row, at = padded(xclbin->bytes) + sizeof row;
	memcpy(&header, xclbin->data, sizeof header);
	if (header.signature_bytes >= 0)
		return pf_fail(error, PF_E_IMAGE, "the image is signed: add to it before it is signed");
	if (pf_xclbin_section(xclbin, kind, &have))
		return pf_fail(error, PF_E_IMAGE,
			       "the image has a section of that kind already: begin with what v++ has built");
	*bytes = at + padded(section_bytes);
	uint8_t *file = calloc(1, *bytes);
	if (!file)
		return pf_fail(error, -ENOMEM, "out of memory while adding to an image");
	memcpy(file + table + sizeof row, xclbin->data + table, xclbin->bytes - table);
	for (uint32_t i = 0; i < xclbin->sections; i++) {
		section_at(xclbin, i, &row);
		row.offset += sizeof row;
		memcpy(file + sizeof header + i * sizeof row, &row, sizeof row);
	}
	row = (struct section_header) { .kind = kind, .offset = at, .bytes = section_bytes };
	memcpy(file + table, &row, sizeof row);
	memcpy(file + at, section, section_bytes);
	header.sections++;
	header.bytes = *bytes;
	memcpy(file, &header, sizeof header);
	*data = file;
	return 0;
}
