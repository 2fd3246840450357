#include "agent/store.h"

#include <errno.h>
#include <sys/mman.h>

int store_new(size_t bytes, uint8_t **ret, struct err *e)
{
	void *at = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (at == MAP_FAILED)
		return err_sys(e, "map %zu bytes", bytes);
	(void)madvise(at, bytes, MADV_DONTFORK);
	*ret = at;
	return 0;
}

void store_trim(uint8_t *at, size_t bytes)
{
	(void)madvise(at, bytes, MADV_DONTNEED);
}
