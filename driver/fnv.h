/* fnv.h: the 64-bit FNV-1a hash, byte by byte (Fowler, Noll, Vo). Not against intent, only against accident. */
#ifndef PF_DRIVER_FNV_H
#define PF_DRIVER_FNV_H
#include <stdint.h>

#define PF_FNV_BASIS 0xcbf29ce484222325u       /* the hash of nothing */

static inline uint64_t pf_fnv1a(uint64_t hash, uint8_t byte)
{
	return (hash ^ byte) * 0x100000001b3u;
}
#endif
