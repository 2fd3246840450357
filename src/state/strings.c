#include "state/strings.h"

#include <errno.h>
#include <string.h>

void strings_init(struct strings *l, size_t max)
{
	*l = (struct strings){ .max = max };
}

void strings_fini(struct strings *l)
{
	for (size_t i = 0; i < l->count; i++)
		free(l->items[i]);
	free(l->items);
	*l = (struct strings){ 0 };
}

int strings_add(struct strings *l, const char *text, size_t len, struct err *e)
{
	_own_free_ char *copy = NULL;
	char **items;

	if (l->count >= l->max)
		return err_set(e, -E2BIG, "more than %zu of them", l->max);
	copy = strndup(text, len);
	items = realloc(l->items, (l->count + 2) * sizeof(*items));
	if (items)
		l->items = items;
	if (!items || !copy)
		return err_set(e, -ENOMEM, "out of memory");
	items[l->count++] = steal_ptr(&copy);
	items[l->count] = NULL;
	return 0;
}

int strings_set_env(struct strings *l, const char *text, size_t len, struct err *e)
{
	const char *equals = memchr(text, '=', len);
	size_t name = equals ? (size_t)(equals - text) + 1 : len;
	int r;

	for (size_t i = 0; i < l->count; i++) {
		if (strncmp(l->items[i], text, name) != 0)
			continue;
		r = strings_add(l, text, len, e);
		if (r < 0)
			return r;
		free(l->items[i]);
		l->items[i] = l->items[--l->count];
		l->items[l->count] = NULL;
		return 0;
	}
	return strings_add(l, text, len, e);
}

int strings_add_all(struct strings *l, const char *const *from, struct err *e)
{
	for (size_t i = 0; from && from[i]; i++) {
		int r = strings_add(l, from[i], strlen(from[i]), e);

		if (r < 0)
			return r;
	}
	return 0;
}
