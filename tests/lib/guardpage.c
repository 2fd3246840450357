#include "guardpage.h"

#include <assert.h>
#include <string.h>
#include <sys/mman.h>

enum { PAGE_BYTES = 4096 };

/* Whole pages for len bytes, at least one, so that a pointer to nothing is still a pointer. */
static size_t room_for(size_t len)
{
	return (len / PAGE_BYTES + 1) * PAGE_BYTES;
}

uint8_t *guard_copy(const void *data, size_t len)
{
	size_t room = room_for(len);
	uint8_t *map = mmap(NULL, room + PAGE_BYTES, PROT_READ | PROT_WRITE,
	                    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int r;

	assert(map != MAP_FAILED);
	r = mprotect(map + room, PAGE_BYTES, PROT_NONE);
	assert(r == 0);
	memset(map, 0xa5, room - len); /* reading before the front is not silent zeroes either */
	if (len)
		memcpy(map + room - len, data, len);
	return map + room - len;
}

void guard_free(uint8_t *at, size_t len)
{
	size_t room = room_for(len);
	int r = munmap(at + len - room, room + PAGE_BYTES);

	assert(r == 0);
}
