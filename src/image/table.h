/*
 * table: a hash table from (scope, bytes) to a pointer; the keys come from hostile archives.
 *
 * Keys are hashed with a secret seed (SipHash-1-3), so that nobody can choose names that collide.
 * Key bytes are borrowed and must outlive their row. Order is never shown, so the seed does not
 * change what is made from the table.
 */
#pragma once

#include "base/err.h"
#include "base/span.h"

#include <stdint.h>

struct table_row {
	uint64_t hash;
	uint64_t scope;
	struct span key;
	void *value; /* NULL: the row is free */
};

struct table {
	uint64_t seed[2];
	struct table_row *rows;
	size_t size; /* a power of two, or 0 */
	size_t count;
};

void table_init(struct table *t, const uint64_t seed[2]);
void table_fini(struct table *t);
void table_clear(struct table *t);

void *table_get(const struct table *t, uint64_t scope, struct span key);

/* Adds or replaces; value is not NULL. -ENOMEM. */
_must_ int table_put(struct table *t, uint64_t scope, struct span key, void *value, struct err *e);
