/*
 * strings: a NULL-ended list of texts that grows to a maximum: arguments, an environment.
 *
 * Errors    -E2BIG: beyond the maximum; -ENOMEM. The list is then as it was
 * Owns      its items and the array
 */
#pragma once

#include "base/err.h"

#include <stddef.h>

struct strings {
	char **items; /* NULL while empty */
	size_t count, max;
};

void strings_init(struct strings *l, size_t max);
void strings_fini(struct strings *l);
_must_ int strings_add(struct strings *l, const char *text, size_t len, struct err *e);

/* "NAME=VALUE" in place of one of that name, or at the end. */
_must_ int strings_set_env(struct strings *l, const char *text, size_t len, struct err *e);

/* Adds all of a NULL-ended list; NULL is an empty one. */
_must_ int strings_add_all(struct strings *l, const char *const *from, struct err *e);
