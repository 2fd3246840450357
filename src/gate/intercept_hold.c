#include "gate/intercept_inner.h"

#include <string.h>

bool hold_add(struct intercepts *all, struct hold *h, struct span bytes)
{
	size_t size = h->size ? h->size : 4096;
	uint8_t *at;

	if (bytes.len == 0)
		return true;
	if (bytes.len > HOLD_MAX - h->len || all->stats.held_bytes + bytes.len > INTERCEPT_HELD_MAX)
		return false;
	if (h->from > 0 && h->size - h->from - h->len < bytes.len) {
		memmove(h->at, h->at + h->from, h->len);
		h->from = 0;
	}
	while (size - h->from - h->len < bytes.len)
		size *= 2;
	if (size != h->size) {
		at = realloc(h->at, size);
		if (!at)
			return false;
		h->at = at;
		h->size = size;
	}
	memcpy(h->at + h->from + h->len, bytes.at, bytes.len);
	h->len += bytes.len;
	all->stats.held_bytes += bytes.len;
	return true;
}

void hold_drop(struct intercepts *all, struct hold *h, size_t n)
{
	h->from += n;
	h->len -= n;
	all->stats.held_bytes -= n;
	if (h->len > 0)
		return;
	free(h->at);
	*h = (struct hold){ 0 };
}

void hold_free(struct intercepts *all, struct hold *h)
{
	hold_drop(all, h, h->len);
}
