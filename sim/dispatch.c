#include <string.h>
#include "level.h"

#define PF_LEVEL(name) extern const struct pf_level pf_level_##name;
#include "levels.def"
#undef PF_LEVEL
#define PF_LEVEL(name) &pf_level_##name,
static const struct pf_level *const levels[] = {
#include "levels.def"
};
#undef PF_LEVEL
enum { LEVELS = sizeof levels / sizeof *levels };

static int pf_level_able(const struct pf_level *level)
{
#if defined(__x86_64__) && (defined(__GNUC__) || defined(__clang__))
	__builtin_cpu_init();
	int v3 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi") &&
	         __builtin_cpu_supports("bmi2");
	if (strcmp(level->name, "v3") == 0)
		return v3;
	if (strcmp(level->name, "v4") == 0)
		return v3 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
		       __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") &&
		       __builtin_cpu_supports("avx512vl");
#endif
	return level == levels[0];
}

const struct pf_level *pf_level_at(unsigned i)
{
	return i < LEVELS ? levels[i] : NULL;
}

const struct pf_level *pf_level_find(const char *name, int *able)
{
	for (unsigned i = LEVELS; i-- > 0;) {
		*able = pf_level_able(levels[i]);
		if (name[0] ? strcmp(levels[i]->name, name) == 0 : *able)
			return levels[i];
	}
	return NULL;
}
