#include "copy_loop.h"

void copy_loop(float *to, const float *from, size_t count)
{
	for (size_t i = 0; i < count; i++)
		to[i] = from[i];
}
