#include "buffer.h"
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int pf_buffer_reserve(struct pf_buffer *buffer, size_t more)
{
	size_t room = buffer->room ? buffer->room : 256;
	char *text;

	if (more > SIZE_MAX / 4 - buffer->length)
		return -ENOMEM;
	while (room - buffer->length < more)
		room *= 2;
	if (room == buffer->room)
		return 0;
	text = realloc(buffer->text, room);
	if (!text)
		return -ENOMEM;
	buffer->text = text;
	buffer->room = room;
	return 0;
}

int pf_buffer_append(struct pf_buffer *buffer, const char *bytes, size_t length)
{
	int status = pf_buffer_reserve(buffer, length);

	if (status)
		return status;
	if (length)
		memcpy(buffer->text + buffer->length, bytes, length);
	buffer->length += length;
	return 0;
}

void pf_buffer_free(struct pf_buffer *buffer)
{
	free(buffer->text);
	*buffer = (struct pf_buffer){ 0 };
}
