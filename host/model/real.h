/* real.h: the element type of a source that is compiled for float and for double. The including
 * file defines REAL_BITS as 32 or 64; REAL is the type, PF_T(name) is pf_name or pf_name_f64.
 * Deliberately without an include guard. */
#undef REAL
#undef PF_T
#if REAL_BITS == 64
#define REAL double
#define PF_T(name) pf_##name##_f64
#else
#define REAL float
#define PF_T(name) pf_##name
#endif
