#include "vault/slots.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

enum { SLOTS_FIRST = 16 };

void slots_init(struct slots *s, uint32_t max)
{
	*s = (struct slots){ .max = max };
}

void slots_fini(struct slots *s)
{
	free(s->at);
	*s = (struct slots){ 0 };
}

static bool grow(struct slots *s)
{
	uint32_t size = s->size ? 2 * s->size : SLOTS_FIRST;
	void **at = realloc(s->at, size * sizeof(*at));

	if (!at)
		return false;
	memset(at + s->size, 0, (size - s->size) * sizeof(*at));
	s->at = at;
	s->size = size;
	return true;
}

int slots_add(struct slots *s, void *thing, uint32_t *ret_number)
{
	if (s->count == s->max)
		return -ENFILE;
	if (s->count == s->size && !grow(s))
		return -ENOMEM;
	while (s->at[s->hint])
		s->hint++;
	s->at[s->hint] = thing;
	s->count++;
	*ret_number = s->hint + 1;
	return 0;
}

void *slots_find(const struct slots *s, uint32_t number)
{
	return number > 0 && number <= s->size ? s->at[number - 1] : NULL;
}

void slots_remove(struct slots *s, uint32_t number)
{
	assert(slots_find(s, number));
	s->at[number - 1] = NULL;
	s->count--;
	if (number - 1 < s->hint)
		s->hint = number - 1;
}

void *slots_next(const struct slots *s, uint32_t *number)
{
	while (*number <= s->size) {
		void *thing = s->at[*number - 1];

		++*number;
		if (thing)
			return thing;
	}
	return NULL;
}
