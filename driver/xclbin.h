/* xclbin.h: the container format of FPGA images (AMD's axlf, "xclbin2"), read and written here only.
 *
 * A reader never trusts the file: every count, offset and length is checked against the bytes at
 * hand, and a struct pf_xclbin only borrows them. Layout: XRT's xclbin.h (axlf, mem_topology,
 * ip_layout, connectivity); tests/xclbin.c holds these numbers against that header where installed.
 * Thread-safe: nothing here has state. */
#ifndef PF_DRIVER_XCLBIN_H
#define PF_DRIVER_XCLBIN_H
#include <stddef.h>
#include <stdint.h>
#include "prefpga/error.h"

enum pf_xclbin_mode {
	PF_XCLBIN_FLAT = 0, PF_XCLBIN_PR = 1, PF_XCLBIN_HW_EMU = 4, PF_XCLBIN_SW_EMU = 5,
};

enum pf_xclbin_kind {                          /* axlf_section_kind, those that matter here */
	PF_XCLBIN_BITSTREAM    = 0,
	PF_XCLBIN_KERNEL_XML   = 2,            /* EMBEDDED_METADATA */
	PF_XCLBIN_MEMORIES     = 6,            /* MEM_TOPOLOGY */
	PF_XCLBIN_LINKS        = 7,            /* CONNECTIVITY */
	PF_XCLBIN_IPS          = 8,            /* IP_LAYOUT */
	PF_XCLBIN_MANIFEST     = 16,           /* USER_METADATA: prefpga's manifest */
	PF_XCLBIN_GROUPS       = 26,           /* ASK_GROUP_TOPOLOGY: banks and groups of them */
};

enum { PF_XCLBIN_IP_KERNEL = 1 };              /* ip.type of a compute unit */
enum pf_xclbin_control { PF_XCLBIN_CTRL_HS = 0, PF_XCLBIN_CTRL_CHAIN = 1 };
enum pf_xclbin_memory_type { PF_XCLBIN_DDR4 = 1, PF_XCLBIN_HBM = 6 };

struct pf_xclbin_memory { uint8_t type, used; uint64_t bytes, base; char tag[17]; };
struct pf_xclbin_ip     { uint32_t type, control; uint64_t base; char name[65]; };
struct pf_xclbin_link   { int32_t arg, ip, memory; };  /* argument of an IP reaches a memory */

struct pf_xclbin {
	const uint8_t *data;
	size_t         bytes;
	uint16_t       mode;           /* enum pf_xclbin_mode */
	uint8_t        uuid[16];
	char           platform[65];
	uint32_t       sections;
};

/* Checks the header and that every section lies inside the file. `data` must outlive *xclbin;
 * errors name `path` */
int pf_xclbin_parse(const void *data, size_t bytes, const char *path, struct pf_xclbin *xclbin,
                    struct pf_error *error);
/* First section of a kind, or NULL; its bytes to *bytes */
const void *pf_xclbin_section(const struct pf_xclbin *xclbin, enum pf_xclbin_kind kind,
                              size_t *bytes);
/* Entry i of the tables. Return 1 and fill, or 0 past the last or where the section is cut short.
 * The name of a compute unit is "kernel:instance" */
int pf_xclbin_memory_at(const struct pf_xclbin *xclbin, uint32_t i,
                        struct pf_xclbin_memory *memory);
/* The same of ASK_GROUP_TOPOLOGY where the image has it: what XRT's memory groups count in */
int pf_xclbin_group_at(const struct pf_xclbin *xclbin, uint32_t i, struct pf_xclbin_memory *memory);
int pf_xclbin_ip_at(const struct pf_xclbin *xclbin, uint32_t i, struct pf_xclbin_ip *ip);
int pf_xclbin_link_at(const struct pf_xclbin *xclbin, uint32_t i, struct pf_xclbin_link *link);

/* What an image is made of. Sections whose pointer is NULL are left out */
struct pf_xclbin_plan {
	enum pf_xclbin_mode            mode;
	const char                    *platform;       /* at most 63 characters */
	const void                    *bitstream, *kernel_xml, *manifest;
	size_t                         bitstream_bytes, kernel_xml_bytes, manifest_bytes;
	const struct pf_xclbin_memory *memory;
	const struct pf_xclbin_ip     *ip;
	const struct pf_xclbin_link   *link;
	uint32_t                       memories, ips, links;
};
/* Builds the file in memory (*data: malloc, the caller frees). Equal plans give equal bytes: the
 * UUID is a hash of the contents and there is no time stamp */
int pf_xclbin_build(const struct pf_xclbin_plan *plan, void **data, size_t *bytes,
                    struct pf_error *error);
/* The image in `xclbin` with one more section (*data: malloc, the caller frees). PF_E_IMAGE: it is signed, or has a
 * section of that kind */
int pf_xclbin_add(const struct pf_xclbin *xclbin, enum pf_xclbin_kind kind, const void *section, size_t section_bytes,
                  void **data, size_t *bytes, struct pf_error *error);
#endif
