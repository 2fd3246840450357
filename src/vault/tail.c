#include "vault/tail.h"

#include <errno.h>
#include <string.h>

enum { TAIL_FIRST = 256 }; /* bytes at first; most streams never need more */

void tail_free(struct tail *t)
{
	if (t->at)
		explicit_bzero(t->at, t->size);
	free(t->at);
	*t = (struct tail){ 0 };
}

int tail_keep(struct tail *t, const uint8_t *work, size_t len, size_t cut)
{
	size_t past = tail_past(cut);
	size_t need = past + len - cut;

	if (need > t->size) {
		size_t size = t->size > 0 ? t->size : TAIL_FIRST;
		uint8_t *at;

		while (size < need)
			size *= 2;
		at = malloc(size);
		if (!at)
			return -ENOMEM;
		tail_free(t);
		t->at = at;
		t->size = size;
	}
	if (need > 0)
		memcpy(t->at, work + cut - past, need);
	t->len = need;
	t->past = past;
	return 0;
}
